"""A server for the JavaScript client's tests, and beside it one that does things to it.

async with run_world() as world:
    await run_node("tests/races.test.mjs", world=world)
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any

import aiosqlite
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from tests.support.server import REPOSITORY, serve
from tidings import (
    Api,
    JWTAuthPlugin,
    RestApiPlugin,
    SocketIOPlugin,
    SocketLimits,
    SqlAlchemyPlugin,
)

PACKAGE = REPOSITORY / "clients" / "js"
SECRET = "a secret for tests, of 32 bytes or more"
TIGHT = SocketLimits(held_notifications=50, queue_bytes=4_096, user_factor=100)
"""A client that is told of more than 50 records at once has to refetch everything."""
MANY = 1_100
"""More records than one transaction tells one by one."""


def make_api(database: str, narrowed: set[str], limits: SocketLimits) -> Api:
    """Posts of rooms, so that any number of tests can use one server beside each other.

    Users in `narrowed` are told of published posts only.
    """
    api = Api(name="clients")
    api.use(RestApiPlugin())
    api.use(SqlAlchemyPlugin(database, create_tables=True))
    api.use(JWTAuthPlugin(secret=SECRET, revocation="database"))
    api.use(SocketIOPlugin(permission_seconds=0, limits=limits))
    api.add_resource("users", schema={"name": {"type": "string", "search": True}})
    api.add_resource(
        "posts",
        schema={
            "room": {"type": "string", "search": True},
            "title": {"type": "string"},
            "status": {"type": "string", "default": "draft", "search": True},
            "views": {"type": "integer"},
            "author_id": {"belongs_to": "users", "as_": "author", "search": True},
        },
    )

    @api.hook("subscription_filters")
    def narrow(context: Any) -> None:
        if context.subscription.resource == "posts" and context.auth.user_id in narrowed:
            context.subscription.filters["status"] = "published"

    return api


class World:
    """One api after another on the same database; `url` is that of the present one."""

    def __init__(self, folder: Path, limits: SocketLimits) -> None:
        self._limits = limits
        self._database = f"sqlite+aiosqlite:///{folder}/clients.db"
        self._stack = contextlib.AsyncExitStack()
        self._turn = asyncio.Lock()
        self._narrowed: set[str] = set()
        self.statements: list[str] = []
        """What SQLite was given, where `counted` was asked for."""
        self.url = ""
        self.control = ""
        self.api: Api

    async def start(self) -> None:
        """Begin a new history: cursors of the one before are of another epoch."""
        self.api = make_api(self._database, self._narrowed, self._limits)
        files = StaticFiles(directory=PACKAGE)
        app = _with_files(self.api.asgi(), files)
        self._stack.push_async_callback(self.api.close)
        self.url = await self._stack.enter_async_context(serve(app))

    async def stop(self) -> None:
        """End the present server, and what is connected to it."""
        stack, self._stack = self._stack, contextlib.AsyncExitStack()
        await stack.aclose()

    async def command(self, request: Request) -> Response:
        """What a test in Node asks to be done: ``POST /restart`` and the like."""
        given = json.loads(await request.body() or b"{}")
        do = getattr(self, f"do_{request.path_params['name']}")
        async with self._turn:
            result = await do(**given)
        return JSONResponse({"url": self.url, "result": result})

    async def do_restart(self) -> None:
        await self.stop()
        await self.start()

    async def do_narrow(self, user: str) -> None:
        """Change what a user may see."""
        self._narrowed.add(user)
        await self.api.permissions_changed(user_id=user)

    async def do_revoke(self, token: str) -> None:
        await self.api.revoke(token=token)

    async def do_patch(self, ids: list[str], title: str) -> None:
        """Change several records in one transaction."""
        async with self.api.transaction() as transaction:
            for one in ids:
                await self.api.resources.posts.patch(one, {"title": title}, transaction=transaction)

    async def do_churn(self, ids: list[str], times: int) -> None:
        """Change records one by one, again and again."""
        for number in range(times):
            for one in ids:
                await self.api.resources.posts.patch(one, {"title": f"c{number}"})

    async def do_spread(self, ids: list[str], title: str, seconds: float) -> None:
        """Change records one after the other, evenly over a time."""
        loop = asyncio.get_running_loop()
        begin = loop.time()
        for number, one in enumerate(ids):
            await asyncio.sleep(begin + seconds * number / len(ids) - loop.time())
            await self.api.resources.posts.patch(one, {"title": title})

    async def do_statements(self) -> dict[str, int]:
        """How many statements SQLite has been given so far."""
        return {"statements": len(self.statements)}

    async def do_subscriptions(self, user: str) -> dict[str, int]:
        """How many subscriptions the sockets of a user have."""
        subscribers = self.api.socket_server._subscribers.values()
        counts = [len(one.subscriptions) for one in subscribers if one.identity.user_id == user]
        return {"subscriptions": sum(counts)}

    async def do_bulk(self, room: str, status: str) -> None:
        """Change more records at once than are told one by one."""
        async with self.api.transaction() as transaction:
            posts = self.api.resources.posts
            for number in range(MANY):
                await posts.post(
                    {"room": room, "status": status, "title": f"b{number}"},
                    transaction=transaction,
                )


def _with_files(api: ASGIApp, files: ASGIApp) -> ASGIApp:
    """The package's own files under ``/package``, of the same origin as the api."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and scope["path"].startswith("/package/"):
            path = scope["path"].removeprefix("/package")
            await files({**scope, "path": path, "root_path": ""}, receive, send)
        else:
            await api(scope, receive, send)

    return app


@contextlib.asynccontextmanager
async def run_world(limits: SocketLimits = TIGHT) -> AsyncIterator[World]:
    """A server, and its control; both end with the block."""
    folder = Path(tempfile.mkdtemp(prefix="tidings-clients-"))
    world = World(folder, limits)
    app = Starlette(routes=[Route("/{name}", world.command, methods=["POST"])])
    try:
        async with serve(app) as world.control:
            await world.start()
            try:
                yield world
            finally:
                await world.stop()
    finally:
        shutil.rmtree(folder)


@contextlib.contextmanager
def counted(world: World) -> Iterator[None]:
    """Write down in ``world.statements`` whatever is sent to SQLite."""
    fetch = aiosqlite.Connection.execute_fetchall

    def counting(self: aiosqlite.Connection, sql: str, *parameters: Any) -> Any:
        world.statements.append(sql)
        return fetch(self, sql, *parameters)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(aiosqlite.Connection, "execute_fetchall", counting)
        yield


async def run_node(
    *arguments: str, world: World, env: Mapping[str, str] | None = None, patience: float = 300
) -> tuple[int, str]:
    """Run ``node`` in the package's folder; its exit code and all it wrote."""
    node = shutil.which("node")
    if node is None or not (PACKAGE / "dist" / "index.js").is_file():
        pytest.skip("needs Node.js 20 or later and the built client: run 'make setup-js'")
    process = await asyncio.create_subprocess_exec(
        node,
        *arguments,
        cwd=PACKAGE,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=None if "VERBOSE" in os.environ else asyncio.subprocess.STDOUT,
        env={
            **os.environ,
            "TIDINGS_URL": world.url,
            "TIDINGS_CONTROL": world.control,
            "TIDINGS_SECRET": SECRET,
            **(env or {}),
        },
    )
    try:
        async with asyncio.timeout(patience):
            output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode is not None
    return process.returncode, output.decode(errors="replace")

"""The application that is hurt: notes with filters, and scripts that run as one transaction."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse

from tests.sockets.kit import leftovers
from tidings import (
    Api,
    JWTAuthPlugin,
    PostgresFeedPlugin,
    RestApiPlugin,
    SocketIOPlugin,
    SqlAlchemyPlugin,
)
from tidings.errors import TidingsError
from tidings.realtime import SocketLimits
from tidings.storage import UnitOfWork

SECRET = "a secret of the chaos, which is long enough"
RESOURCE = "notes"
Step = Mapping[str, Any]


@dataclass(frozen=True)
class Setup:
    """What all processes have in common: a database, and Redis or PostgreSQL as their feed.

    Without either there can be one process only.
    """

    database: str
    redis: Mapping[str, Any] | None = None
    postgres: str | None = None

    def told(self) -> dict[str, Any]:
        """For another process, as JSON."""
        return asdict(self)


class RolledBack(Exception):
    """A script asked for it."""


def _make_api(setup: Setup) -> Api:
    api = Api(name="chaos")
    api.use(RestApiPlugin())
    api.use(SqlAlchemyPlugin(setup.database))
    api.use(JWTAuthPlugin(secret=SECRET, revocation="database"))
    limits = SocketLimits(subscribe_rate=1000, subscribe_burst=10_000, connections_per_user=0)
    api.use(SocketIOPlugin(anonymous=True, limits=limits))
    if setup.postgres is not None:
        api.use(PostgresFeedPlugin(setup.postgres))
    api.add_resource(
        RESOURCE,
        schema={
            "status": "string",
            "grp": "string",
            "rank": {"type": "integer", "default": 0},
            "version": {"type": "integer", "default": 0},
        },
        search_schema={
            "status": "string",
            "grp": "string",
            "rank": {"type": "integer", "filter_operator": ">"},
            "version": "integer",  # so that changes carry it
        },
        id_type="string",
        max_page_size=5000,
    )
    return api


def make_api(setup: Setup) -> Api:
    """The api alone."""
    return make_app(setup)[1]


def make_app(setup: Setup) -> tuple[Starlette, Api]:
    """The app to serve, and its api."""
    api = _make_api(setup)

    async def script(request: Request) -> JSONResponse:
        asked = await request.json()
        try:
            async with api.transaction() as uow:
                await _run(api, uow, asked["steps"])
                if asked.get("rollback"):
                    raise RolledBack
        except RolledBack:
            return JSONResponse({"committed": False})
        except TidingsError as error:
            return JSONResponse({"error": str(error)}, getattr(error, "status", 500))
        return JSONResponse({"committed": True})

    async def books(request: Request) -> JSONResponse:
        return JSONResponse(leftovers(api))

    async def revoke(request: Request) -> JSONResponse:
        await api.revoke(**await request.json())
        return JSONResponse({})

    app = Starlette()
    app.add_route("/script", script, methods=["POST"])
    app.add_route("/books", books)
    app.add_route("/revoke", revoke, methods=["POST"])
    api.install(app)
    api.start_socket_server(app, redis=setup.redis)
    return app, api


async def _run(api: Api, uow: UnitOfWork, steps: Sequence[Step]) -> None:
    notes = api.resources[RESOURCE]
    for step in steps:
        match step["do"]:
            case "create":
                await notes.post({"id": step["id"], **step["values"]}, transaction=uow)
            case "patch":
                await notes.patch(step["id"], step["values"], transaction=uow)
            case "delete":
                await notes.delete(step["id"], transaction=uow)
            case "sleep":
                await asyncio.sleep(step["seconds"])
            case "savepoint":
                await _savepoint(api, uow, step)
            case other:
                raise AssertionError(other)


async def _savepoint(api: Api, uow: UnitOfWork, step: Step) -> None:
    try:
        async with uow.savepoint():
            await _run(api, uow, step["steps"])
            if step.get("undo"):
                raise RolledBack
    except RolledBack:
        pass

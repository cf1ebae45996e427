"""Random schedules against ``tidings.client``: ``python -m tests.clients.python_schedules``.

Each opens a list at some moment while four writers change records, the line is slow and cut, the
server restarts, rights change and clients fall behind. When all is quiet the list must be what the
server answers, in its order, and stay so.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from random import Random
from typing import Any

import jwt

from tests.clients.line import Line
from tests.support.server import serve
from tidings import (
    Api,
    Conflict,
    Identity,
    JWTAuthPlugin,
    MemoryFeedPlugin,
    NotFound,
    RestApiPlugin,
    SocketIOPlugin,
    SocketLimits,
    SqlAlchemyPlugin,
)
from tidings.client import Client, ClientError, LiveList

SECRET = "a secret for tests, of 32 bytes or more"
PATIENCE = 60.0
TIGHT = SocketLimits(held_notifications=20, queue_bytes=2_048, user_factor=1_000)
"""A client that falls behind by more than twenty records has to refetch everything."""
WRITERS = 4
PORTION = 50
SHAPES: tuple[dict[str, Any], ...] = (
    {},
    {"filters": {"status": "on"}},
    {"filters": {"views": {"gte": 2}}},
    {"filters": {"status": "on"}, "sort": ["-views", "title"]},
    {"sort": ["title"]},
    {"filters": {"id": [str(number) for number in range(1, 60, 2)]}},
    {"filters": {"author": "Ada"}, "include": ["author"]},
    {"filters": {"status": "on"}, "fields": {"posts": ["title", "views"]}},
)


def make_api(folder: Path, narrowed: set[str]) -> Api:
    """Posts by authors; who is narrowed sees only posts that are on."""
    api = Api(name="schedules")
    api.use(RestApiPlugin())
    api.use(SqlAlchemyPlugin(f"sqlite+aiosqlite:///{folder}/posts.db", create_tables=True))
    api.use(MemoryFeedPlugin(window=40))
    api.use(JWTAuthPlugin(secret=SECRET))
    origin = {"origin": ["https://example.org"]}
    api.use(
        SocketIOPlugin(
            cors=origin, limits=TIGHT, permission_seconds=0, expiry_warning=0.3, drain_seconds=0
        )
    )
    api.add_resource("users", {"name": {"type": "string"}})
    api.add_resource(
        "posts",
        {
            "title": {"type": "string"},
            "status": {"type": "string", "search": True},
            "views": {"type": "integer", "default": 0},
            "author_id": {"belongs_to": "users", "as_": "author"},
        },
        search_schema={
            "views": {"operators": ["gte"]},
            "author": {"actual_field": "author.name"},
        },
        row_policy=lambda columns, identity: (
            columns.status == "on" if identity.user_id in narrowed else columns.id.is_not(None)
        ),
        page_size=20,
        max_page_size=25,
    )
    return api


class World:
    """A server that can be restarted, behind a line, and what happens to both."""

    def __init__(self, folder: Path, random: Random) -> None:
        self.random = random
        self.line = Line(0, random, random.choice((0, 0.01, 0.06)))
        self.narrowed: set[str] = set()
        self.tokens = 0
        self.resyncs: Counter[str] = Counter()
        self._folder = folder
        self._stack = AsyncExitStack()
        self._turn = asyncio.Lock()
        self._is_running = False
        self._begun: list[asyncio.Future[None]] = []
        self.api: Api

    async def start(self) -> None:
        self.api = make_api(self._folder, self.narrowed)
        url = await self._stack.enter_async_context(serve(self.api.asgi(), log_level="critical"))
        self._is_running = True
        self.line.target = int(url.rpartition(":")[2])

    async def stop(self) -> None:
        if self._is_running:
            self.resyncs.update(self.api.socket_server.statistics().resyncs)
        self._is_running = False
        stack, self._stack = self._stack, AsyncExitStack()
        await stack.aclose()

    def token(self, _is_refused: bool) -> str:
        """A token that may end before the schedule does."""
        self.tokens += 1
        seconds = self.random.choice((0.6, 1.5, 600.0))
        return jwt.encode({"sub": "ann", "exp": time.time() + seconds}, SECRET, "HS256")

    # What happens

    async def write(self, count: int) -> None:
        for _ in range(count):
            async with self._turn:  # the server is not restarted in the midst of a write
                await self._write_one()
            await asyncio.sleep(self.random.random() * 0.01)

    async def _write_one(self) -> None:
        random, posts = self.random, self.api.resources.posts
        known = [one["id"] for one in await posts.query(sort="-id", size=10)]
        values = {
            "title": random.choice("abcdef"),
            "views": random.randint(0, 4),
            "status": random.choice(("on", "off")),
            "author": random.choice(("1", "2", None)),
        }
        act = random.random()
        with suppress(NotFound, Conflict):  # another writer was faster
            if act < 0.35 or not known:
                await posts.post(values)
            elif act < 0.7:
                name = random.choice(tuple(values))
                await posts.patch(random.choice(known), {name: values[name]})
            elif act < 0.85:
                await posts.delete(random.choice(known))
            elif act < 0.93:
                async with self.api.transaction() as uow:
                    for key in random.sample(known, min(5, len(known))):
                        await posts.patch(key, values, transaction=uow)
            elif act < 0.97:
                name = random.choice(("Ada", "Bob"))
                await self.api.resources.users.patch(random.choice("12"), {"name": name})
            else:
                async with self.api.transaction() as uow:
                    # Now and then more than are told one by one.
                    for number in range(random.choice((30, 60, 60, 60, 60, 60, 60, 1_001))):
                        title = f"many {number}"
                        await posts.post({**values, "title": title}, transaction=uow)

    async def cut(self) -> None:
        await self.line.cut(self.random.random() * 0.2)

    async def restart(self) -> None:
        async with self._turn:
            await self.stop()
            await self.start()

    async def narrow(self) -> None:
        (self.narrowed.clear if self.narrowed else lambda: self.narrowed.add("ann"))()
        async with self._turn:
            await self.api.permissions_changed(user_id="ann")

    async def happen(self, kinds: Counter[str]) -> None:
        """Four writers write, and meanwhile one thing after the other goes wrong."""
        disturbing = asyncio.create_task(self.disturb(kinds))
        await asyncio.gather(*(self.write(20) for _ in range(WRITERS)))
        disturbing.cancel()
        await asyncio.gather(disturbing, return_exceptions=True)
        await asyncio.gather(*self._begun)

    async def disturb(self, kinds: Counter[str]) -> None:
        """One thing after the other, for as long as it is let."""
        acts: dict[str, Callable[[], Awaitable[None]]] = {
            "cut": self.cut,
            "restart": self.restart,
            "narrow": self.narrow,
        }
        while True:
            await asyncio.sleep(self.random.random() * 0.15)
            kind = self.random.choices(tuple(acts), (6, 2, 2))[0]
            kinds[kind] += 1
            # What has begun ends, since a server half restarted is no server.
            begun = asyncio.ensure_future(acts[kind]())
            self._begun.append(begun)
            await asyncio.shield(begun)

    async def answer(self, shape: dict[str, Any]) -> list[tuple[str, Any]]:
        """What the server's list is, by another way than the client's."""
        found: list[tuple[str, Any]] = []
        page = 1
        while True:
            some = await self.api.resources.posts.query(
                shape.get("filters", {}),
                sort=shape.get("sort") or "id",
                page=page,
                size=500,
                auth=Identity(user_id="ann"),
            )
            found += [(one["id"], (one["title"], one["views"])) for one in some]
            if page * 500 >= some.total:
                return found
            page += 1


@asynccontextmanager
async def make_world(random: Random) -> AsyncIterator[World]:
    with tempfile.TemporaryDirectory(prefix="tidings-schedule-") as folder:
        world = World(Path(folder), random)
        await world.start()
        for name in ("Ada", "Bob"):
            await world.api.resources.users.post({"name": name})
        try:
            async with world.line.opened():
                yield world
        finally:
            await world.stop()  # once more does nothing


def shown(found: LiveList) -> list[tuple[str, Any]]:
    return [
        (one["id"], (one["attributes"]["title"], one["attributes"]["views"])) for one in found.data
    ]


async def play(seed: int, kinds: Counter[str]) -> None:
    """Play one schedule.

    Raises:
        AssertionError: the list is not what the server answers; the message has the seed.
    """
    random = Random(seed)
    shape = random.choice(SHAPES)
    async with make_world(random) as world:
        await world.write(random.randint(0, 25))
        url = f"http://127.0.0.1:{world.line.port}"
        async with Client(url, token=world.token) as client:
            happening = asyncio.create_task(world.happen(kinds))
            await asyncio.sleep(random.random() * 0.1)
            async with asyncio.timeout(PATIENCE), client.live("posts", **shape) as found:
                await happening
                await held_against(world, shape, found, seed)
                kinds["schedules"] += 1
                await world.stop()
                kinds.update({f"resync {why}": some for why, some in world.resyncs.items()})
                kinds["records"] += len(found.records)
                kinds["tokens"] += world.tokens


async def held_against(world: World, shape: dict[str, Any], found: LiveList, seed: int) -> None:
    """Wait until the list is the server's answer, and see that it stays so when nothing comes."""
    wanted = await world.answer(shape)
    deadline = time.monotonic() + PATIENCE / 2
    while not (found.is_current and shown(found) == wanted):
        if time.monotonic() > deadline or found.error is not None:
            raise AssertionError(described(seed, shape, found, wanted))
        await asyncio.sleep(0.005)
    # The last word over the same socket: what was told before it has been taken in by then.
    last = await world.api.resources.posts.post({"title": "z", "status": "on", "views": 9})
    if "id" in shape.get("filters", {}) or "author" in shape.get("filters", {}):
        return
    while last["id"] not in found.records:
        if time.monotonic() > deadline + PATIENCE / 4:
            raise AssertionError(described(seed, shape, found, await world.answer(shape)))
        await asyncio.sleep(0.005)
    assert shown(found) == await world.answer(shape), described(
        seed, shape, found, await world.answer(shape)
    )


def described(
    seed: int, shape: dict[str, Any], found: LiveList, wanted: list[tuple[str, Any]]
) -> str:
    has = shown(found)
    return (
        f"seed {seed}, {shape}: current {found.is_current}, error {found.error}\n"
        f"  too many: {[one for one in has if one not in wanted]}\n"
        f"  missing:  {[one for one in wanted if one not in has]}\n"
        f"  order:    {[one[0] for one in has]}\n  wanted:   {[one[0] for one in wanted]}"
    )


async def play_all(schedules: int, seed: int, beside: int) -> tuple[Counter[str], list[str]]:
    """Play schedules with the seeds from `seed` on; what happened, and what went wrong.

    Each has a server of its own, so that `beside` of them take turns on one processor, and are
    slowed down by each other as much as by their lines.
    """
    seeds = iter(range(seed, seed + schedules))
    kinds: Counter[str] = Counter()
    failures: list[str] = []

    async def work() -> None:
        for number in seeds:
            try:
                await play(number, kinds)
            except (AssertionError, TimeoutError, ClientError) as error:
                failures.append(
                    f"seed {number}: {error!r}"
                    if not isinstance(error, AssertionError)
                    else str(error)
                )

    await asyncio.gather(*(work() for _ in range(beside)))
    return kinds, failures


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--schedules", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--beside", type=int, default=6, help="so many at a time")
    given = parser.parse_args()
    logging.disable(logging.CRITICAL)
    wrong = 0
    for done in range(0, given.schedules, PORTION):
        begin, count = time.monotonic(), min(PORTION, given.schedules - done)
        kinds, failures = asyncio.run(play_all(count, given.seed + done, given.beside))
        wrong += len(failures)
        for failure in failures:
            print(failure)  # noqa: T201  it is a command
        seconds = time.monotonic() - begin
        print(f"{dict(kinds)} in {seconds:.0f} s, {wrong} wrong so far", flush=True)  # noqa: T201
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())

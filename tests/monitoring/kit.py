"""A log in memory that apis of one test share, and that may be away; who watches over them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import httpx

from tidings import Api, RestApiPlugin, SocketIOPlugin, SqlAlchemyPlugin
from tidings.api import FeedOptions
from tidings.feed import Batch, Cursor, Entry, FeedUnavailable

PATIENCE = 10.0


class MemoryLog:
    """What a server would keep, for the apis of one test; `is_away` stands for its absence."""

    where = "memory://test"

    def __init__(self) -> None:
        self.entries: list[bytes] = []
        self.is_away = False
        self.opened = 0
        self._keys: set[str] = set()

    async def open(self) -> None:
        self.opened += 1

    async def close(self) -> None:
        self.opened -= 1

    async def head(self) -> Cursor:
        self._check()
        return Cursor("memory", len(self.entries))

    async def append(self, batches: Sequence[Batch]) -> None:
        self._check()
        for batch in batches:
            if batch.key not in self._keys:
                self._keys.add(batch.key)
                self.entries += batch.entries

    async def follow(self, after: Cursor, limit: int) -> Sequence[Entry]:
        self._check()
        if after.offset >= len(self.entries):
            await asyncio.sleep(0.005)
        return await self.between(after, len(self.entries), limit)

    async def between(self, after: Cursor, until: int, limit: int) -> Sequence[Entry]:
        self._check()
        found = list(enumerate(self.entries, 1))[after.offset : until]
        return found[:limit]

    def _check(self) -> None:
        if self.is_away:
            raise FeedUnavailable("it is away")


def make_api(
    database: Path | str | None = None,
    *plugins: Any,
    log: MemoryLog | None = None,
    outbox: bool = False,
    prefix: str = "/api",
) -> Api:
    api = Api(name="watched", version="1.2")
    api.use(RestApiPlugin(prefix))
    url = "sqlite+aiosqlite://" if database is None else str(database)
    if "://" not in url:
        url = f"sqlite+aiosqlite:///{url}"
    api.use(SqlAlchemyPlugin(url, create_tables=True))
    api.use(SocketIOPlugin(anonymous=True, cors={"origin": "https://example.org"}))
    if log is not None or outbox:
        api.set_feed(FeedOptions(log=log, outbox=outbox))
    for plugin in plugins:
        api.use(plugin)
    api.add_resource(
        "posts", schema={"title": "string", "status": {"type": "string", "search": True}}
    )
    return api


@contextlib.asynccontextmanager
async def client(app: Any) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
        yield http


async def eventually(holds: Callable[[], bool]) -> None:
    """Wait for something that has no signal of its own."""
    async with asyncio.timeout(PATIENCE):
        while not holds():
            await asyncio.sleep(0.005)

"""A log in memory that apis of one test share, and that may be away; who watches over them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx

from tests.support.memory_log import MemoryLog
from tidings import Api, RestApiPlugin, SocketIOPlugin, SqlAlchemyPlugin
from tidings.api import FeedOptions

PATIENCE = 10.0


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

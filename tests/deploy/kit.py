"""Processes of the app, and the clients that they share."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx

from tests.support.node import NodeClient, NodeClientError
from tests.support.redis import RedisServer
from tests.support.server import RunningServer, run_server

APP = "tests.deploy.app:app"
SERVE = ["-m", "tidings", "serve", APP]
TIMEOUT = 20.0
EVERY_TRANSPORT = ("polling", None, "websocket")


def settings(directory: Path, redis: RedisServer, **more: str) -> dict[str, str]:
    """The environment of a process."""
    return {
        "DATABASE": f"sqlite+aiosqlite:///{directory}/app.db",
        "REDIS": f"redis://127.0.0.1:{redis.port}/0",
        **more,
    }


@contextlib.asynccontextmanager
async def two_processes(env: dict[str, str]) -> AsyncIterator[list[RunningServer]]:
    async with contextlib.AsyncExitStack() as stack:
        # One after the other: the first makes the tables.
        yield [
            await stack.enter_async_context(run_server(SERVE, env=env, ready_path="/process"))
            for _ in range(2)
        ]


class Writer:
    """Posts; ``offsets`` are how many have been made."""

    def __init__(self, url: str, source: str | None = None) -> None:
        self.http = httpx.AsyncClient(
            base_url=url, transport=httpx.AsyncHTTPTransport(local_address=source), timeout=15
        )
        self.ids: list[str] = []

    async def post(self, title: str = "a post") -> httpx.Response:
        answer = await self.http.post(
            "/api/posts",
            json={"data": {"type": "posts", "attributes": {"title": title}}},
            headers={"Content-Type": "application/vnd.api+json"},
        )
        if answer.status_code == 201:
            self.ids.append(answer.json()["data"]["id"])
        return answer


async def process_of(url: str, source: str | None = None) -> int:
    """Which process a request comes to."""
    transport = httpx.AsyncHTTPTransport(local_address=source)
    async with httpx.AsyncClient(base_url=url, transport=transport) as http:
        return int((await http.get("/process")).text)


async def sources(url: str, pids: set[int]) -> dict[int, str]:
    """For each process an address of this host from which requests come to it."""
    found: dict[int, str] = {}
    for number in range(1, 200):
        address = f"127.0.{number}.1"
        found.setdefault(await process_of(url, address), address)
        if set(found) == pids:
            return found
    raise AssertionError(f"of the processes {pids} only {set(found)} get anything")


async def who(node: NodeClient, socket: str = "main") -> int:
    """Which process a socket has come to."""
    answer = await node.emit("who", socket=socket)
    assert answer is not None
    return int(answer[0])


async def told(node: NodeClient, count: int, *, socket: str = "main") -> Any:
    """The ids that a client has been told of when these are ``count`` different ones."""
    seen: list[str] = []

    async def enough() -> bool:
        updates = await node.events("subscription.update", socket=socket)
        seen[:] = [update.data["id"] for update in updates]
        return len(set(seen)) >= count

    await eventually(enough, lambda: f"{len(set(seen))} of {count}")
    return Counter(seen)


async def moved(node: NodeClient, pid: int, *, socket: str = "main") -> None:
    """Wait until a socket is connected to this process."""

    async def is_there() -> bool:
        try:
            return await who(node, socket) == pid
        except NodeClientError:
            return False

    await eventually(is_there, lambda: f"{socket} has not come to {pid}")


async def eventually(holds: Callable[[], Awaitable[bool]], what: Callable[[], str]) -> None:
    """Wait for something that has no signal of its own."""
    clock = asyncio.get_running_loop().time
    until = clock() + TIMEOUT
    while not await holds():
        assert clock() < until, what()
        await asyncio.sleep(0.02)

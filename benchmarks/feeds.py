"""feeds: what sharing changes among processes costs the writer, and how long they take."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Final

from benchmarks.machine import Effort
from benchmarks.requests import HttpConnection, post
from benchmarks.servers import HOST, Server, Unavailable, free_port, python_server
from benchmarks.sockets import SocketClient
from benchmarks.tables import Table, median, percentile

KINDS: Final = {
    "memory": "one process: memory",
    "outbox": "one process: memory, outbox",
    "redis-memory": "two processes: Redis, no outbox",
    "redis": "two processes: Redis, outbox",
}
_AT_ONCE: Final = 16
_PATIENCE: Final = 30.0
_REQUEST: Final = post(
    "/api/posts",
    {"data": {"type": "posts", "attributes": {"title": "x", "body": "x" * 200, "status": "on"}}},
)


@dataclass(slots=True)
class _Watcher:
    """A subscriber of one process, and when it was last notified."""

    at: int = 0
    event: asyncio.Event = field(default_factory=asyncio.Event)

    async def watch(self, server: Server) -> SocketClient:
        socket = await SocketClient.open(server, self._notified)
        answer = await socket.call("subscribe", {"resource": "posts", "filters": {"status": "on"}})
        assert "data" in answer, answer
        return socket

    def _notified(self) -> None:
        self.at = time.perf_counter_ns()
        self.event.set()


@dataclass(slots=True)
class _Figures:
    alone: list[float] = field(default_factory=list)
    together: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    here: list[float] = field(default_factory=list)
    there: list[float] = field(default_factory=list)


async def run(effort: Effort) -> Table:
    """Run the benchmark; the kinds take turns, so that the machine's moods are everybody's."""
    figures = {kind: _Figures() for kind in KINDS}
    async with redis_server() as url:
        for _ in range(effort.rounds):
            for kind, found in figures.items():
                await _round(kind, url, effort, found)
    table = Table(
        f"feeds: POST to SQLite, one subscriber per process, {effort.rounds} rounds",
        ["POST/s x1", f"POST/s x{_AT_ONCE}", "CPU ms", "here p50", "here p99", "there p50", "p99"],
        notes=[
            "CPU: of the writing server, per POST. here, there: ms from the response to the",
            "notification, of a socket of the writing process and of one of the other.",
        ],
    )
    for kind, found in figures.items():
        row = {
            "POST/s x1": median(found.alone),
            f"POST/s x{_AT_ONCE}": median(found.together),
            "CPU ms": median(found.cpu),
            "here p50": percentile(found.here, 50),
            "here p99": percentile(found.here, 99),
        }
        if found.there:
            row |= {"there p50": percentile(found.there, 50), "p99": percentile(found.there, 99)}
        table.add(KINDS[kind], row)
    return table


async def _round(kind: str, url: str, effort: Effort, figures: _Figures) -> None:
    async with AsyncExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="tidings-bench-"))
        environment = {"BENCH_DATABASE": f"{directory}/bench.db", "BENCH_FEED": f"{kind} {url}"}
        count = 2 if kind.startswith("redis") else 1
        servers = [
            await stack.enter_async_context(python_server("feed_app", environment=environment))
            for _ in range(count)
        ]
        watchers = [_Watcher() for _ in servers]
        for watcher, server in zip(watchers, servers, strict=True):
            stack.callback((await watcher.watch(server)).close)
        connections = [await HttpConnection.open(servers[0]) for _ in range(_AT_ONCE)]
        for connection in connections:
            stack.callback(connection.close)
        for number in range(effort.notifications // effort.rounds + 20):
            spans = await _latency(connections[0], watchers)
            if number >= 20:  # the first ones warm the servers up
                figures.here.append(spans[0])
                figures.there.extend(spans[1:])
        begun = servers[0].processor_seconds()
        alone = await _rate(connections[:1], effort.seconds)
        together = await _rate(connections, effort.seconds)
        spent = servers[0].processor_seconds() - begun
        figures.alone.append(alone / effort.seconds)
        figures.together.append(together / effort.seconds)
        figures.cpu.append(1000 * spent / (alone + together))


async def _latency(connection: HttpConnection, watchers: list[_Watcher]) -> list[float]:
    for watcher in watchers:
        watcher.event.clear()
    await connection.send(_REQUEST)
    answered = time.perf_counter_ns()
    async with asyncio.timeout(_PATIENCE):
        for watcher in watchers:
            await watcher.event.wait()
    return [(watcher.at - answered) / 1e6 for watcher in watchers]


async def _rate(connections: list[HttpConnection], seconds: float) -> int:
    """How many POSTs are answered in so many seconds."""
    ends = time.perf_counter() + seconds

    async def work(connection: HttpConnection) -> int:
        done = 0
        while time.perf_counter() < ends:
            await connection.send(_REQUEST)
            done += 1
        return done

    return sum(await asyncio.gather(*map(work, connections)))


@asynccontextmanager
async def redis_server() -> AsyncIterator[str]:
    """A private Redis, by its URL.

    Raises:
        Unavailable: it is not installed.
    """
    binary = shutil.which("redis-server")
    if binary is None:
        raise Unavailable("redis-server is not installed")
    with tempfile.TemporaryDirectory(prefix="tidings-bench-") as directory:
        port = free_port()
        command = [binary, "--port", str(port), "--bind", HOST, "--save", "", "--dir", directory]
        process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.DEVNULL)
        try:
            await _accepting(port)
            yield f"redis://{HOST}:{port}/0"
        finally:
            process.kill()
            await process.wait()


async def _accepting(port: int) -> None:
    async with asyncio.timeout(_PATIENCE):
        while True:
            with suppress(OSError):
                _, writer = await asyncio.open_connection(HOST, port)
                writer.close()
                return
            await asyncio.sleep(0.05)

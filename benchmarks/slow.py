"""slow: what clients that have stopped reading cost the server, and the others."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from benchmarks.machine import Effort, resident_bytes
from benchmarks.requests import JSON_API, HttpConnection, post
from benchmarks.servers import Server, python_server
from benchmarks.sockets import SocketClient, open_many
from benchmarks.tables import Table, median, percentile

_PATIENCE = 60.0
_STALLED = 20
"""One in so many sockets stops reading."""
_EXTRA = 20
"""So many more subscriptions the stalled ones have, to all posts, so that they fall behind soon."""
_LONG = "x" * 180
_FILL = 600
"""Changes after which the system's own buffers are full, too: 20 x 0.4 kB each."""
_COLUMNS = ["p50 ms", "p99 ms", "KiB each stalled"]
_NEW = post("/api/posts", {"data": {"type": "posts", "attributes": {"title": "x", "status": "w"}}})


def _patch(number: int) -> bytes:
    record = str(1 + number % 20)
    attributes = {"status": "w", "views": number}
    made = post(
        f"/api/posts/{record}",
        {"data": {"type": "posts", "id": record, "attributes": attributes}},
        JSON_API,
    )
    return made.replace(b"POST", b"PATCH", 1)


@dataclass(slots=True)
class _Audience:
    """When each of the sockets that are waited for has heard of the latest change."""

    missing: int = 0
    begun: float = 0.0
    waits: list[float] = field(default_factory=list)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)

    def notified(self) -> None:
        if self.missing:
            self.waits.append(1000 * (time.perf_counter() - self.begun))
            self.missing -= 1
            if not self.missing:
                self.arrived.set()

    def expect(self, count: int) -> None:
        self.missing, self.begun = count, time.perf_counter()
        self.arrived.clear()


@dataclass(slots=True)
class _Case:
    """One state of the stalled sockets, and the change that is made meanwhile."""

    name: str
    stalls: bool
    request: Callable[[int], bytes]
    p50: list[float] = field(default_factory=list)
    p99: list[float] = field(default_factory=list)
    memory: float = math.nan


class _Run:
    def __init__(
        self,
        server: Server,
        connection: HttpConnection,
        audience: _Audience,
        others: list[SocketClient],
        stalled: list[SocketClient],
    ) -> None:
        self.server = server
        self.connection = connection
        self.audience = audience
        self.others = others
        self.stalled = stalled
        self.resting = math.nan

    async def round(self, case: _Case, changes: int) -> None:
        """Stall, fill what can be filled, and see how long the others wait for each change."""
        if case.stalls:
            for socket in self.stalled:
                socket.stall()
            for number in range(_FILL):
                await self.connection.send(case.request(number))
        self.audience.waits.clear()
        for number in range(changes):
            self.audience.expect(len(self.others))
            await self.connection.send(case.request(number))
            async with asyncio.timeout(_PATIENCE):
                await self.audience.arrived.wait()
        case.p50.append(percentile(self.audience.waits, 50))
        case.p99.append(percentile(self.audience.waits, 99))
        grown = resident_bytes(self.server.pid) - self.resting
        if case.stalls and math.isnan(case.memory):
            case.memory = grown / 1024 / len(self.stalled)
        await self.wake()

    async def wake(self) -> None:
        """Have all read again, until they are up to date."""
        for socket in self.stalled:
            socket.resume()
        async with asyncio.timeout(_PATIENCE):
            await asyncio.gather(*(socket.call("unsubscribe", {}) for socket in self.stalled))


async def run(effort: Effort) -> Table:
    """Run the benchmark."""
    audience = _Audience()
    async with python_server("tidings_app") as server:
        connection = await HttpConnection.open(server)
        for _ in range(10_000):  # as many changes as the server remembers
            await connection.send(_NEW)
        count = effort.sockets // _STALLED
        stalled = await open_many(server, count, lambda: None)
        others = await open_many(server, effort.sockets - count, audience.notified)
        await _subscribe(stalled, others)
        this = _Run(server, connection, audience, others, stalled)
        cases = [
            _Case("none stalled", False, lambda number: _NEW),
            _Case("5 % stalled, 20 records change", True, _patch),
            _Case("5 % stalled, each record is new", True, lambda number: _NEW),
        ]
        await this.round(_Case("warm up", False, _patch), effort.changes)
        this.resting = resident_bytes(server.pid)
        for _ in range(effort.rounds):
            for case in cases:
                await this.round(case, effort.changes)
        connection.close()
    table = Table(f"slow: one write at a time, {len(others)} sockets that read", [*_COLUMNS])
    for case in cases:
        figures = (median(case.p50), median(case.p99), case.memory)
        table.add(case.name, dict(zip(_COLUMNS, figures, strict=True)))
    table.notes.append(
        "From the request to the notification. Memory is what the server process has"
    )
    table.notes.append(
        f"grown by, in the first round; stalled ones have {_EXTRA + 1} subscriptions."
    )
    return table


async def _subscribe(stalled: list[SocketClient], others: list[SocketClient]) -> None:
    watched = {"resource": "posts", "filters": {"status": "w"}}
    for number, socket in enumerate([*stalled, *others]):
        answer = await socket.call("subscribe", {**watched, "subscriptionId": f"mine-{number}"})
        assert "data" in answer, answer
    for number, socket in enumerate(stalled):
        for extra in range(_EXTRA):
            name = f"{_LONG}-{number}-{extra}"
            answer = await socket.call("subscribe", {"resource": "posts", "subscriptionId": name})
            assert "data" in answer, answer

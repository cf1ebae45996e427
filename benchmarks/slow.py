"""slow: what clients that have stopped reading cost the server, and the others."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from benchmarks.machine import Effort, resident_bytes
from benchmarks.requests import HttpConnection, post
from benchmarks.servers import Server, python_server
from benchmarks.sockets import SocketClient, open_many
from benchmarks.tables import Table, median, percentile

_PATIENCE = 60.0
_STALLED = 20
"""One in so many sockets stops reading."""
_EXTRA = 20
"""So many more subscriptions the stalled ones have, to all posts, so that they fall behind soon."""
_LONG = "x" * 180
_CHANGES = 10
_FILL = 150
"""Changes of 20 x 0.4 kB each, after which the buffers of server and system are full."""
_COLUMNS = ["p50 ms", "p99 ms", "KiB each stalled"]
_SEEN = {"data": {"type": "posts", "attributes": {"title": "x", "status": "w"}}}
_UNSEEN = {"data": {"type": "posts", "attributes": {"title": "x"}}}


def _new(number: int, is_seen: bool) -> bytes:
    """A new record; unless it ``is_seen``, only the extra subscriptions hear of it."""
    return post("/api/posts", _SEEN if is_seen else _UNSEEN)


def _same(number: int, is_seen: bool) -> bytes:
    """A change of one of twenty records."""
    record = str(1 + number % 20 + 20 * is_seen)
    attributes = {"views": number} | ({"status": "w"} if is_seen else {})
    document = {"data": {"type": "posts", "id": record, "attributes": attributes}}
    return post(f"/api/posts/{record}", document).replace(b"POST", b"PATCH", 1)


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
    request: Callable[[int, bool], bytes]
    p50: list[float] = field(default_factory=list)
    p99: list[float] = field(default_factory=list)
    memory: float = math.nan


class _Run:
    def __init__(
        self,
        server: Server,
        audience: _Audience,
        others: list[SocketClient],
        stalled: list[SocketClient],
    ) -> None:
        self.server = server
        self.audience = audience
        self.others = others
        self.stalled = stalled
        self.resting = math.nan

    async def round(self, case: _Case) -> None:
        """Stall, fill what can be filled, and see how long the others wait for each change."""
        if case.stalls:
            for socket in self.stalled:
                socket.stall()
            await self._send([case.request(number, False) for number in range(_FILL)])
        await self._change(case.request(0, True))  # when that has come, the others have, too
        self.audience.waits.clear()
        for number in range(_CHANGES):
            await self._change(case.request(number, True))
        case.p50.append(percentile(self.audience.waits, 50))
        case.p99.append(percentile(self.audience.waits, 99))
        grown = resident_bytes(self.server.pid) - self.resting
        if case.stalls and math.isnan(case.memory):
            case.memory = grown / 1024 / len(self.stalled)
        await self.wake()

    async def _change(self, request: bytes) -> None:
        """Make a change, and wait until all that read have heard of it."""
        connection = await HttpConnection.open(self.server)
        self.audience.expect(len(self.others))
        await connection.send(request)
        connection.close()
        async with asyncio.timeout(_PATIENCE):
            await self.audience.arrived.wait()

    async def _send(self, requests: list[bytes]) -> None:
        connection = await HttpConnection.open(self.server)
        for request in requests:
            await connection.send(request)
        connection.close()

    async def wake(self) -> None:
        """Have all read again, until they are up to date."""
        for socket in self.stalled:
            socket.resume()
        async with asyncio.timeout(_PATIENCE):
            await asyncio.gather(*(socket.call("unsubscribe", {}) for socket in self.stalled))


async def run(effort: Effort) -> Table:
    """Run the benchmark."""
    audience = _Audience()
    async with python_server("tidings_app", narrow=True) as server:
        count = effort.sockets // _STALLED
        # As many changes as the server remembers, so that it does not grow by those that follow.
        await _Run(server, audience, [], [])._send([_new(0, False)] * 10_000)
        stalled = await open_many(server, count, lambda: None)
        others = await open_many(server, effort.sockets - count, audience.notified)
        await _subscribe(stalled, others)
        this = _Run(server, audience, others, stalled)
        cases = [
            _Case("none stalled", False, _new),
            _Case("5 % stalled, 40 records change", True, _same),
            _Case("5 % stalled, each record is new", True, _new),
        ]
        await this.round(_Case("warm up", False, _same))
        this.resting = resident_bytes(server.pid)
        for _ in range(effort.rounds):
            for case in cases:
                await this.round(case)
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

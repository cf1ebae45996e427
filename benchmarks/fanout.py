"""fanout: one change to many sockets, against a room broadcast of the Socket.IO libraries."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

from benchmarks.machine import Effort
from benchmarks.requests import HttpConnection, post
from benchmarks.servers import (
    PORTABLE,
    Server,
    Unavailable,
    node_server,
    python_server,
)
from benchmarks.sockets import SocketClient, open_many
from benchmarks.tables import Table, median

_PATIENCE = 30.0
_COLUMNS = ["CPU µs each", "ms to the last", "CPU µs each of ten", "ms to the last of ten"]
_BURST = 10


@dataclass(slots=True)
class _Audience:
    """The sockets of one server, and how many notifications they still wait for."""

    missing: int = 0
    arrived: asyncio.Event = field(default_factory=asyncio.Event)

    def notified(self) -> None:
        self.missing -= 1
        if self.missing == 0:
            self.arrived.set()

    def expect(self, count: int) -> None:
        self.missing = count
        self.arrived.clear()


@dataclass(slots=True)
class _Contender:
    """One way to tell everybody: requests that make the server do it, and what that took.

    ``burst`` makes it tell everybody of ten changes in one turn.
    """

    name: str
    server: Server
    request: bytes
    burst: bytes
    audience: _Audience
    figures: dict[str, list[float]] = field(
        default_factory=lambda: {column: [] for column in _COLUMNS}
    )

    async def round(self, sockets: int, changes: int) -> None:
        """So many changes, one after the other; each waits until the last socket has it."""
        connection = await HttpConnection.open(self.server)
        await self._ask(connection, self.request, sockets, changes, *_COLUMNS[:2])
        tens = max(1, changes // _BURST)
        await self._ask(connection, self.burst, sockets * _BURST, tens, *_COLUMNS[2:])
        connection.close()

    async def _ask(
        self, connection: HttpConnection, request: bytes, told: int, times: int, cpu: str, wall: str
    ) -> None:
        busy = self.server.processor_seconds()
        for _ in range(times):
            self.audience.expect(told)
            begin = time.perf_counter()
            await connection.send(request)
            async with asyncio.timeout(_PATIENCE):
                await self.audience.arrived.wait()
            self.figures[wall].append(1000 * (time.perf_counter() - begin))
        used = self.server.processor_seconds() - busy
        self.figures[cpu].append(1e6 * used / (told * times))


async def run(effort: Effort) -> Table:
    """Run the benchmark."""
    count = effort.sockets
    table = Table(f"fanout: one change to {count:,} WebSockets", [*_COLUMNS])
    async with AsyncExitStack() as stack:
        contenders = await _tidings(stack, count)
        contenders += await _tidings(stack, count, PORTABLE)
        contenders.append(await _room(stack, "python-socketio, room", "room_app", count))
        try:
            contenders.append(await _room(stack, "Node socket.io 4.8, room", None, count))
        except Unavailable as reason:
            table.notes.append(f"Node's socket.io was left out: {reason}.")
        for contender in contenders:
            await contender.round(count, 3)
            for figures in contender.figures.values():
                figures.clear()
        for _ in range(effort.rounds):
            for contender in contenders:
                await contender.round(count, effort.changes)
    for contender in contenders:
        found = {name: median(figures) for name, figures in contender.figures.items()}
        table.add(contender.name, found)
    table.notes.append("tidings' figures hold the whole write (HTTP, SQL, matching); the rooms' an")
    table.notes.append("empty POST. CPU is the server's, per notification that arrived; of ten:")
    table.notes.append("ten changes in one transaction, or ten emits in one turn.")
    return table


async def _tidings(stack: AsyncExitStack, count: int, ws: str | None = None) -> list[_Contender]:
    server = await stack.enter_async_context(python_server("tidings_app", ws=ws))
    audience = _Audience()
    sockets = await open_many(server, count, audience.notified)
    await _subscribe(sockets, lambda number: {"filters": {"status": "equal"}})
    await _subscribe(
        sockets,
        lambda number: {"filters": {"status": "own"}, "subscriptionId": f"mine-{number}"},
    )
    return [
        _Contender(
            f"tidings, {what}" + ("" if ws is None else ", any server"),
            server,
            post("/api/posts", {"data": {"type": "posts", "attributes": _post(status)}}),
            post(f"/burst?status={status}"),
            audience,
        )
        for what, status in (("equal subscriptions", "equal"), ("own subscription ids", "own"))
    ]


def _post(status: str) -> dict[str, object]:
    return {"title": "x", "status": status}


async def _subscribe(
    sockets: list[SocketClient], request: Callable[[int], dict[str, object]]
) -> None:
    answers = await asyncio.gather(
        *(
            socket.call("subscribe", {"resource": "posts", **request(number)})
            for number, socket in enumerate(sockets)
        )
    )
    refused = [answer for answer in answers if "data" not in answer]
    assert not refused, refused[0]


async def _room(stack: AsyncExitStack, name: str, app: str | None, count: int) -> _Contender:
    running = node_server() if app is None else python_server(app)
    server = await stack.enter_async_context(running)
    audience = _Audience()
    await open_many(server, count, audience.notified)
    return _Contender(name, server, post("/emit"), post("/burst"), audience)

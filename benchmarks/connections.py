"""connections: what one socket costs: to connect, and while it is idle."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import jwt

from benchmarks.machine import Effort, resident_bytes
from benchmarks.servers import (
    PORTABLE,
    Server,
    Unavailable,
    node_server,
    python_server,
)
from benchmarks.sockets import open_many
from benchmarks.tables import Table, median

_COLUMNS: Final = ["CPU µs to connect", "connects/s", "KiB each"]
_SECRET: Final = "a secret of the benchmarks, which is long enough"
_SETTLE: Final = 1.0
"""Seconds until what was only needed to connect is gone."""
_REQUEST: Final = {"resource": "posts", "filters": {"status": "draft"}}


@dataclass(slots=True)
class _Contender:
    """A server, and whether its sockets show a token and subscribe."""

    name: str
    start: Callable[[], AbstractAsyncContextManager[Server]]
    subscribes: bool = True
    figures: dict[str, list[float]] = field(
        default_factory=lambda: {column: [] for column in _COLUMNS}
    )

    async def round(self, count: int) -> None:
        """Connect so many sockets to a new process."""
        tokens = iter([self._token(number) for number in range(count + 100)])
        loop = asyncio.get_running_loop()
        async with self.start() as server:
            # The first ones pay for what is loaded and made once.
            await self._connect(server, 100, tokens)
            memory, busy = resident_bytes(str(server.pid)), server.processor_seconds()
            begin = loop.time()
            await self._connect(server, count, tokens)
            seconds = loop.time() - begin
            used = server.processor_seconds() - busy
            await asyncio.sleep(_SETTLE)
            grown = resident_bytes(str(server.pid)) - memory
        figures = (1e6 * used / count, count / seconds, grown / 1024 / count)
        for column, figure in zip(_COLUMNS, figures, strict=True):
            self.figures[column].append(figure)

    def _token(self, number: int) -> str | None:
        return jwt.encode({"sub": f"u{number}"}, _SECRET, "HS256") if self.subscribes else None

    async def _connect(self, server: Server, count: int, tokens: Iterator[str | None]) -> None:
        sockets = await open_many(server, count, lambda: None, tokens)
        if self.subscribes:
            answers = await asyncio.gather(*(one.call("subscribe", _REQUEST) for one in sockets))
            assert all("data" in answer for answer in answers), answers[0]


async def run(effort: Effort) -> Table:
    """Run the benchmark."""
    count = effort.sockets
    table = Table(f"connections: {count:,} WebSockets to one process", [*_COLUMNS])
    environment = {"BENCH_SECRET": _SECRET}
    tidings = partial(python_server, "tidings_app", environment=environment)
    contenders = [
        _Contender("tidings", partial(tidings, ws=None)),
        _Contender("tidings, any server", partial(tidings, ws=PORTABLE)),
        _Contender("Node socket.io 4.8", node_server, subscribes=False),
        _Contender("python-socketio", partial(python_server, "room_app"), subscribes=False),
    ]
    for _ in range(effort.rounds):
        for contender in list(contenders):
            try:
                await contender.round(count)
            except Unavailable as reason:
                table.notes.append(f"{contender.name} was left out: {reason}.")
                contenders.remove(contender)
    for contender in contenders:
        found = {name: median(figures) for name, figures in contender.figures.items()}
        table.add(contender.name, found)
    table.notes.append(
        "tidings' sockets have shown a token, all the same one, and have subscribed;"
    )
    table.notes.append("the others' are in a room. KiB: what the process grew by, per socket.")
    return table

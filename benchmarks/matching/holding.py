"""Holding subscriptions: what each costs, and how long the garbage collector stops everything.

The real service and its objects, with sockets that lead nowhere.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from random import Random
from typing import Any, Final

from benchmarks.machine import Effort, in_a_process_of_its_own, resident_bytes
from benchmarks.tables import Table
from tidings import Api, RestApiPlugin, SocketIOPlugin, SqlAlchemyPlugin
from tidings.identity import Identity
from tidings.realtime.freezer import EVERY, Freezer
from tidings.realtime.messages import Event
from tidings.realtime.service import SubscriptionService
from tidings.realtime.subscriptions import Message, Subscriber, Subscription

_COLUMNS: Final = [
    "subscribe µs",
    "bytes each",
    "longest stop ms",
    "unsubscribe µs",
    "blocks each",
    "blocks left each",
    "longest stop then ms",
]
_PER_SOCKET: Final = 100
_NEVER: Final = 2**60


async def run(effort: Effort) -> Table:
    """Run the benchmark."""
    size = effort.subscriptions[-1]
    table = Table(
        f"subscriptions: {size:,} different ones, of {size // _PER_SOCKET:,} sockets",
        [*_COLUMNS],
        notes=[
            "Stops are the garbage collector's: while they come, then while they go in any order.",
            "Blocks are what Python's allocator has given out; those left are of empty tables.",
            "bytes each: of the process, as the system sees it.",
        ],
    )
    for name, every in (("tidings", EVERY), ("never frozen", _NEVER)):
        table.add(name, in_a_process_of_its_own(measure, size, every))
    return table


def measure(size: int, every: int) -> dict[str, float]:
    """The figures of so many subscriptions."""
    return asyncio.run(_measure(size, every))


async def _measure(size: int, every: int) -> dict[str, float]:
    service = _service()
    service._freezer = Freezer(every)
    sockets = [
        Subscriber(str(number), Identity(), _Nowhere()) for number in range(size // _PER_SOCKET)
    ]
    empty, no_blocks = resident_bytes(), sys.getallocatedblocks()
    with _stops() as coming:
        begin = time.perf_counter()
        for number in range(size):
            request = {"resource": "posts", "filters": {"author": str(number)}}
            await service.subscribe(sockets[number // _PER_SOCKET], request)
        subscribed = time.perf_counter() - begin
    full, blocks = resident_bytes(), sys.getallocatedblocks()
    Random(1).shuffle(sockets)
    with _stops() as going:
        begin = time.perf_counter()
        for socket in sockets:
            service.forget(socket)
        unsubscribed = time.perf_counter() - begin
    left = sys.getallocatedblocks()
    figures = (
        1e6 * subscribed / size,
        (full - empty) / size,
        max(coming, default=0.0),
        1e6 * unsubscribed / size,
        (blocks - no_blocks) / size,
        (left - no_blocks) / size,
        max(going, default=0.0),
    )
    return dict(zip(_COLUMNS, figures, strict=True))


class _Nowhere:
    """A connection to nobody."""

    def send(self, event: Event) -> None:
        pass

    def finish(self, last: Sequence[Event], *, for_good: bool = False) -> None:
        pass

    def notify(self, subscription: Subscription, message: Message) -> None:
        pass

    def forget(self) -> None:
        pass


def _service() -> SubscriptionService:
    api = Api(name="bench")
    api.use(RestApiPlugin())
    api.use(SqlAlchemyPlugin("sqlite+aiosqlite://"))
    api.use(SocketIOPlugin(anonymous=True))
    api.add_resource("posts", schema={"author": {"type": "string", "search": True}})
    return api.socket_server._service


@contextmanager
def _stops() -> Iterator[list[float]]:
    """The milliseconds of each of the garbage collector's stops meanwhile."""
    took: list[float] = []
    begin = 0.0

    def note(phase: str, _info: dict[str, Any]) -> None:
        nonlocal begin
        if phase == "start":
            begin = time.perf_counter()
        else:
            took.append(1000 * (time.perf_counter() - begin))

    gc.callbacks.append(note)
    try:
        yield took
    finally:
        gc.callbacks.remove(note)

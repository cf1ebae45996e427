"""latency: from a write to its notification, for one subscriber."""

from __future__ import annotations

import asyncio
import time

from benchmarks.machine import Effort
from benchmarks.requests import HttpConnection, post
from benchmarks.servers import python_server
from benchmarks.sockets import SocketClient
from benchmarks.tables import Table, percentile

_PATIENCE = 30.0
_REQUEST = post(
    "/api/posts", {"data": {"type": "posts", "attributes": {"title": "x", "status": "watched"}}}
)


class _Arrivals:
    """When the latest notification came."""

    def __init__(self) -> None:
        self.at = 0
        self.event = asyncio.Event()

    def notified(self) -> None:
        self.at = time.perf_counter_ns()
        self.event.set()


async def run(effort: Effort) -> Table:
    """Run the benchmark."""
    arrivals = _Arrivals()
    spans: list[tuple[float, float, float]] = []
    async with python_server("tidings_app") as server:
        socket = await SocketClient.open(server, arrivals.notified)
        answer = await socket.call(
            "subscribe", {"resource": "posts", "filters": {"status": "watched"}}
        )
        assert "data" in answer, answer
        connection = await HttpConnection.open(server)
        for number in range(effort.notifications + 50):
            span = await _measure(connection, arrivals)
            if number >= 50:  # the first ones warm the server up
                spans.append(span)
        connection.close()
        socket.close()
    table = Table(
        f"latency: one write at a time, one subscriber, n = {effort.notifications}",
        ["p50 ms", "p99 ms"],
        notes=[
            "Both ends on one machine and one clock. A notification may overtake the response,",
            "so that the last line can be negative.",
        ],
    )
    names = ("request to response", "request to notification", "response to notification")
    for index, name in enumerate(names):
        values = [span[index] for span in spans]
        table.add(name, {"p50 ms": percentile(values, 50), "p99 ms": percentile(values, 99)})
    return table


async def _measure(connection: HttpConnection, arrivals: _Arrivals) -> tuple[float, float, float]:
    arrivals.event.clear()
    begin = time.perf_counter_ns()
    await connection.send(_REQUEST)
    answered = time.perf_counter_ns()
    async with asyncio.timeout(_PATIENCE):
        await arrivals.event.wait()
    return (
        (answered - begin) / 1e6,
        (arrivals.at - begin) / 1e6,
        (arrivals.at - answered) / 1e6,
    )

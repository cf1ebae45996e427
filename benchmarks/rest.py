"""rest: requests per second and processor time per request, against the same without tidings."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from benchmarks.machine import Effort
from benchmarks.requests import HttpConnection, get, post
from benchmarks.servers import Server, python_server
from benchmarks.tables import Table, median

CONCURRENCIES = (1, 16)
_VALUES = {
    "title": "A new post",
    "body": "Lorem ipsum dolor sit amet. " * 8,
    "status": "review",
    "views": 0,
}
_DOCUMENT = {"data": {"type": "posts", "attributes": _VALUES}}
# POST comes last: it makes the table larger.
_OPERATIONS = {
    "GET one": (get("/api/posts/500"), get("/posts/500")),
    "GET list of 20, filtered": (
        get("/api/posts?filter[status]=published"),
        get("/posts?status=published"),
    ),
    "POST": (post("/api/posts", _DOCUMENT), post("/posts", _VALUES, "application/json")),
}


@dataclass(frozen=True, slots=True)
class Round:
    """What one round of requests came to."""

    per_second: float
    processor_ms: float


async def run(effort: Effort) -> Table:
    """Run the benchmark."""
    table = Table(
        "rest: HTTP requests, SQLite file, one uvicorn process",
        ["tidings/s", "plain/s", "ratio", "tidings CPU ms", "plain CPU ms", "CPU ratio"],
        notes=[
            "plain: Starlette + SQLAlchemy Core + aiosqlite, no framework on top.",
            "ratio: tidings to plain; more is better for requests, less for CPU.",
        ],
    )
    async with python_server("tidings_app") as tidings, python_server("plain_app") as plain:
        for what, (ours, theirs) in _OPERATIONS.items():
            for connections in CONCURRENCIES:
                rounds: list[tuple[Round, Round]] = []
                for _ in range(effort.rounds):
                    mine = await _round(tidings, ours, connections, effort.seconds)
                    rounds.append((mine, await _round(plain, theirs, connections, effort.seconds)))
                table.add(f"{what}, {connections} at once", _figures(rounds))
        floor = [
            await _round(plain, get("/nothing"), 1, effort.seconds) for _ in range(effort.rounds)
        ]
    table.add(
        "empty answer (uvicorn + Starlette alone)",
        {
            "plain/s": median(each.per_second for each in floor),
            "plain CPU ms": median(each.processor_ms for each in floor),
        },
    )
    return table


async def _round(server: Server, request: bytes, connections: int, seconds: float) -> Round:
    opened = [await HttpConnection.open(server) for _ in range(connections)]
    await asyncio.gather(*(connection.send(request) for connection in opened))
    busy, begin = server.processor_seconds(), time.perf_counter()
    end = begin + seconds
    counts = await asyncio.gather(*(_repeat(connection, request, end) for connection in opened))
    took, used = time.perf_counter() - begin, server.processor_seconds() - busy
    for connection in opened:
        connection.close()
    return Round(sum(counts) / took, 1000 * used / sum(counts))


async def _repeat(connection: HttpConnection, request: bytes, end: float) -> int:
    count = 0
    while time.perf_counter() < end:
        await connection.send(request)
        count += 1
    return count


def _figures(rounds: list[tuple[Round, Round]]) -> dict[str, float]:
    ours, theirs = zip(*rounds, strict=True)
    return {
        "tidings/s": median(each.per_second for each in ours),
        "plain/s": median(each.per_second for each in theirs),
        "ratio": median(mine.per_second / other.per_second for mine, other in rounds),
        "tidings CPU ms": median(each.processor_ms for each in ours),
        "plain CPU ms": median(each.processor_ms for each in theirs),
        "CPU ratio": median(mine.processor_ms / other.processor_ms for mine, other in rounds),
    }

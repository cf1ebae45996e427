"""rest: processor time per request and requests per second, beside other ways to do it.

Every request brings a token, which every server verifies.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Final

import jwt

from benchmarks.databases import private
from benchmarks.machine import Effort
from benchmarks.requests import JSON_API, HttpConnection, get, post
from benchmarks.servers import Server, Unavailable, python_server, rest_peer
from benchmarks.tables import Table, median

CONCURRENCIES: Final = (1, 16)
_VALUES: Final = {
    "title": "A new post",
    "body": "Lorem ipsum dolor sit amet. " * 8,
    "status": "review",
    "views": 0,
}
_DOCUMENT: Final = {"data": {"type": "posts", "attributes": _VALUES}}
PEERS: Final = ("reference", "express", "plain", "outbox")


@dataclass(frozen=True, slots=True)
class Round:
    """What one round of requests came to."""

    per_second: float
    processor_ms: float


async def run(effort: Effort) -> Table:
    """On SQLite, beside Node's servers and a plain one of Python's."""
    async with AsyncExitStack() as stack:
        secret = secrets.token_hex(32)
        environment = {"BENCH_SECRET": secret}
        servers = await _of_python(stack, environment)
        notes = [
            "tidings: under uvicorn, with uvloop and httptools where they are installed.",
            "reference: json-rest-api 1.0.26 on Express, knex and better-sqlite3.",
            "express: Express and better-sqlite3 with nothing on top.",
            "plain: Starlette, SQLAlchemy Core and aiosqlite with nothing on top.",
        ]
        for name in ("reference", "express"):
            try:
                servers[name] = await stack.enter_async_context(rest_peer(name, environment))
            except Unavailable as error:
                notes.append(f"{name} is not here: {error}")
        return await _measured("SQLite file", servers, _token(secret), effort, notes)


async def run_postgres(effort: Effort) -> Table:
    """On PostgreSQL, beside a plain server; and with an outbox, which several processes need."""
    async with AsyncExitStack() as stack:
        secret = secrets.token_hex(32)
        notes = [
            "outbox: tidings with each change in the outbox, too, in the same transaction.",
            "plain: Starlette, SQLAlchemy Core and asyncpg with nothing on top.",
            "CPU is of the process that serves HTTP; the database's own is not in it.",
        ]
        servers: dict[str, Server] = {}
        try:
            urls = [stack.enter_context(private("postgresql")) for _ in range(3)]
        except Exception as error:  # noqa: BLE001  a baseline that cannot be had
            notes.append(f"PostgreSQL is not here: {error}")
        else:
            environment = {"BENCH_SECRET": secret}
            servers |= await _of_python(
                stack, environment | {"BENCH_URL": urls[0]}, environment | {"BENCH_URL": urls[1]}
            )
            with_outbox = {**environment, "BENCH_URL": urls[2], "BENCH_OUTBOX": "1"}
            servers["outbox"] = await stack.enter_async_context(
                python_server("tidings_app", environment=with_outbox)
            )
        return await _measured("PostgreSQL", servers, _token(secret), effort, notes)


async def _of_python(
    stack: AsyncExitStack,
    environment: Mapping[str, str],
    of_plain: Mapping[str, str] | None = None,
) -> dict[str, Server]:
    started = (("tidings", environment), ("plain", of_plain or environment))
    return {
        name: await stack.enter_async_context(python_server(f"{name}_app", environment=given))
        for name, given in started
    }


async def _measured(
    database: str, servers: Mapping[str, Server], token: str, effort: Effort, notes: list[str]
) -> Table:
    peers = [name for name in PEERS if name in servers]
    table = Table(
        f"HTTP requests with a token, {database}, one process each",
        ["tidings/s", "CPU ms", *(f"{peer} CPU ms" for peer in peers), *map("to {}".format, peers)],
        notes=[*notes, "to ...: tidings' CPU per request to the other's; less is better."],
    )
    if not servers:
        return table
    for what, requests in _operations(token).items():
        for connections in CONCURRENCIES:
            rounds = [
                {
                    name: await _round(server, requests[name], connections, effort.seconds)
                    for name, server in servers.items()
                }
                for _ in range(effort.rounds)
            ]
            table.add(f"{what}, {connections} at once", _figures(rounds))
    return table


def _token(secret: str) -> str:
    claims = {"sub": "1", "iat": time.time(), "exp": time.time() + 3600, "roles": ["editor"]}
    return jwt.encode(claims, secret, "HS256")


def _operations(token: str) -> dict[str, dict[str, bytes]]:
    """By operation and server the request; POST comes last, since it makes the table larger."""
    one = get("/api/posts/500", token)
    page = get("/api/posts?filter[status]=published", token)
    made = post("/api/posts", _DOCUMENT, JSON_API, token)
    plain = post("/posts", _VALUES, "application/json", token)
    plain_one, plain_page = get("/posts/500", token), get("/posts?status=published", token)
    return {
        "GET one": _by_server(one, plain_one),
        "GET list of 20, filtered": _by_server(page, plain_page),
        "POST": _by_server(made, plain),
    }


def _by_server(json_api: bytes, plain: bytes) -> dict[str, bytes]:
    json_apis = dict.fromkeys(("tidings", "reference", "outbox"), json_api)
    return {**json_apis, "express": plain, "plain": plain}


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


def _figures(rounds: Sequence[Mapping[str, Round]]) -> dict[str, float]:
    figures = {
        "tidings/s": median(each["tidings"].per_second for each in rounds),
        "CPU ms": median(each["tidings"].processor_ms for each in rounds),
    }
    for peer in PEERS:
        if peer in rounds[0]:
            figures[f"{peer} CPU ms"] = median(each[peer].processor_ms for each in rounds)
            figures[f"to {peer}"] = median(
                each["tidings"].processor_ms / each[peer].processor_ms for each in rounds
            )
    return figures

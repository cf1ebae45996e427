"""A process with writers of an application: each commits rows, and appends what it has committed.

python -m tests.feed.writers URL KIND SEED WRITERS

``KIND`` is ``log`` or ``naive``. Between them are pauses, rollbacks and savepoints. In the end it
prints the keys of all rows that it has committed, as JSON.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from importlib import import_module
from typing import Any

from tidings.feed import Batch
from tidings.feed.postgres import PostgresLog

TRANSACTIONS = 6
LOGS = 4
Append = Callable[[str], Awaitable[None]]


def libpq_url(url: str) -> str:
    """What asyncpg itself wants to have."""
    return url.replace("postgresql+asyncpg", "postgresql")


async def connect(url: str) -> Any:
    return await import_module("asyncpg").connect(libpq_url(url))


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Any]:
    """A connection of asyncpg, given up in the end."""
    connection = await connect(url)
    try:
        yield connection
    finally:
        connection.terminate()
        await asyncio.sleep(0)


async def execute(url: str, *statements: str) -> None:
    async with connected(url) as connection:
        for sql in statements:
            await connection.execute(sql)


async def write(connection: Any, name: str, append: Append, chance: random.Random) -> list[str]:
    """Some transactions of one writer; the keys of the rows that are committed."""
    committed = []
    for number in range(TRANSACTIONS):
        key = f"{name}-{number}"
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute("INSERT INTO writes VALUES ($1)", key)
        if chance.random() < 0.5:
            savepoint = connection.transaction()
            await savepoint.start()
            await connection.execute("INSERT INTO writes VALUES ($1)", f"{key} undone")
            await asyncio.sleep(chance.uniform(0, 0.01))
            await savepoint.rollback()
        await asyncio.sleep(chance.uniform(0, 0.01))
        if chance.random() < 0.25:
            await transaction.rollback()
            continue
        await transaction.commit()
        await append(key)
        committed.append(key)
    return committed


async def main(url: str, kind: str, seed: str, writers: int) -> None:
    connections = [await connect(url) for _ in range(writers)]
    logs = [PostgresLog(url, timeout=30) for _ in range(LOGS)]

    def appending(number: int) -> Append:
        async def naive(key: str) -> None:
            # As in the application's own transaction: ids are given in one order, and become
            # visible in another.
            own = connections[number]
            await own.execute("INSERT INTO naive_feed (entry) VALUES ($1)", key.encode())

        async def log(key: str) -> None:
            await logs[number % LOGS].append([Batch(key, [key.encode()])])

        return log if kind == "log" else naive

    tasks = [
        write(connections[n], f"{seed}-{n}", appending(n), random.Random(f"{seed}-{n}"))
        for n in range(writers)
    ]
    committed = await asyncio.gather(*tasks)
    for closing in (*logs, *connections):
        await closing.close()
    sys.stdout.write(json.dumps([key for keys in committed for key in keys]))


if __name__ == "__main__":
    _, url, kind, seed, writers = sys.argv
    asyncio.run(main(url, kind, seed, int(writers)))

"""What is committed is read: once, after its commit, in one order, whoever writes beside."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import pytest

from tests.feed.writers import connected, execute
from tidings.feed import Cursor, Entry
from tidings.feed.postgres import PostgresLog

ROOT = Path(__file__).parent.parent.parent
PROCESSES, WRITERS = 2, 32

# The commit of whoever inserts takes a while, and not always the same.
SLOW_COMMITS = """
CREATE FUNCTION wait_a_while() RETURNS trigger LANGUAGE plpgsql AS
    'BEGIN PERFORM pg_sleep(random() * 0.004); RETURN NULL; END';
CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON tidings_feed DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION wait_a_while();
CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON naive_feed DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION wait_a_while();
"""


class Follower(Protocol):
    async def follow(self, after: Cursor, limit: int) -> Sequence[Entry]: ...


class NaiveFollower:
    """The mutant: reads by "id > cursor" what a sequence has numbered."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    async def follow(self, after: Cursor, limit: int) -> Sequence[Entry]:
        sql = "SELECT id, entry FROM naive_feed WHERE id > $1 ORDER BY id LIMIT $2"
        return [
            (row["id"], row["entry"])
            for row in await self._connection.fetch(sql, after.offset, limit)
        ]


class Reader:
    """Follows, and notes what it has read and what was not committed when it did."""

    def __init__(self, follower: Follower, application: Any, start: Cursor) -> None:
        self._follower, self._application = follower, application
        self._place = start
        self.read: list[str] = []
        self.offsets: list[int] = []
        self.early: list[str] = []

    async def run(self) -> None:
        while True:
            await self.step()

    async def step(self) -> int:
        entries = await self._follower.follow(self._place, 10)
        keys = [entry.decode() for _, entry in entries]
        there = {row["key"] for row in await self._application.fetch("SELECT key FROM writes")}
        self.early += [key for key in keys if key not in there]
        self.read += keys
        self.offsets += [offset for offset, _ in entries]
        if entries:
            self._place = Cursor(self._place.epoch, entries[-1][0])
        return len(entries)


async def writers(url: str, kind: str) -> list[str]:
    """Run the processes; what they have committed."""
    processes = [
        await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.feed.writers", url, kind, f"p{n}", str(WRITERS)),
            cwd=ROOT,
            stdout=asyncio.subprocess.PIPE,
        )
        for n in range(PROCESSES)
    ]
    results = await asyncio.gather(*(process.communicate() for process in processes))
    assert [process.returncode for process in processes] == [0] * PROCESSES
    return [key for output, _ in results for key in json.loads(output)]


async def follow_writers(
    url: str, kind: str, follower: Follower, start: Cursor
) -> tuple[Reader, list[str]]:
    async with connected(url) as application:
        reader = Reader(follower, application, start)
        reading = asyncio.create_task(reader.run())
        committed = await writers(url, kind)
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        while await reader.step():
            pass
    return reader, committed


@pytest.fixture
async def log(postgres_url: str) -> AsyncIterator[PostgresLog]:
    log = PostgresLog(postgres_url)
    await log.open()
    await execute(
        postgres_url,
        "CREATE TABLE writes (key text PRIMARY KEY)",
        "CREATE TABLE naive_feed (id bigserial PRIMARY KEY, entry bytea)",
        SLOW_COMMITS,
    )
    yield log
    await log.close()


async def test_64_writers_skip_nothing_and_nothing_comes_before_its_commit(
    log: PostgresLog, postgres_url: str
) -> None:
    start = await log.head()
    reader, committed = await follow_writers(postgres_url, "log", log, start)
    assert len(committed) > PROCESSES * WRITERS
    assert reader.early == []
    assert sorted(reader.read) == sorted(committed)
    assert reader.offsets == list(range(1, len(committed) + 1))
    assert await log.head() == Cursor(start.epoch, len(committed))


async def test_a_reader_by_ids_of_a_sequence_would_skip(
    log: PostgresLog, postgres_url: str
) -> None:
    async with connected(postgres_url) as connection:
        follower = NaiveFollower(connection)
        reader, committed = await follow_writers(postgres_url, "naive", follower, Cursor("", 0))
    assert set(committed) - set(reader.read)

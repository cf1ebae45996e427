"""PostgresLog while its server is killed, started again, frozen, emptied, turned back in time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress

import pytest

from tests.feed.conformance import PATIENCE, batch, follow_until, opened, texts
from tests.feed.faults import Faults
from tests.feed.writers import connected, execute
from tests.support.databases import MissingServer, postgresql
from tidings.feed import Cursor, FeedGap, FeedUnavailable, SharedFeed
from tidings.feed.change import Change
from tidings.feed.codec import encode_notice
from tidings.feed.log import Batch, Log
from tidings.feed.postgres import PostgresLog
from tidings.feed.postgres import log as log_module


@pytest.fixture(scope="module")
def faults() -> Iterator[Faults]:
    """A server of this module's own."""
    try:
        with postgresql() as server:
            faults = Faults(server)
            faults.stop()
            # Then a crash loses nothing that was written; the tests set it otherwise.
            faults.start(fsync="on")
            yield faults
            faults.close()
    except MissingServer as missing:
        pytest.skip(str(missing))


@pytest.fixture
def url(faults: Faults) -> Iterator[str]:
    with faults.server.database() as url:
        # It does not wait for the disk otherwise, and a crash would undo how it was emptied.
        faults.server.execute("CHECKPOINT")
        yield url


@pytest.fixture(autouse=True)
def _short_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_module, "_POLL_SECONDS", 0.3)


@pytest.fixture
async def log(url: str) -> AsyncIterator[PostgresLog]:
    log = PostgresLog(url, timeout=1.0)
    async with opened(log):
        yield log
    assert len(asyncio.all_tasks()) <= 2  # this one, and that which runs the tests


async def head_of(log: PostgresLog) -> Cursor:
    """Its head, as soon as the server answers."""
    async with asyncio.timeout(PATIENCE):
        while True:
            with suppress(FeedUnavailable):
                return await log.head()
            await asyncio.sleep(0.05)


async def append_at_last(log: Log, batch: Batch) -> None:
    """As whoever publishes does: again, until it is known to be there."""
    while True:
        with suppress(FeedUnavailable):
            return await log.append([batch])
        await asyncio.sleep(0.01)


@asynccontextmanager
async def waiting(log: PostgresLog, after: Cursor) -> AsyncIterator[asyncio.Future[object]]:
    """A reader who has nothing to read, and waits."""
    assert await log.follow(after, 10) == []
    reader = asyncio.ensure_future(log.follow(after, 10))
    await asyncio.sleep(0)
    assert not reader.done()
    try:
        yield reader
    finally:
        reader.cancel()
        await asyncio.gather(reader, return_exceptions=True)


async def failures(log: PostgresLog) -> list[str]:
    """What all that one can ask of it is answered with, while nothing can be answered."""
    place = Cursor("any", 0)
    calls = [log.head(), log.append([batch("x")]), log.between(place, 1, 1), log.follow(place, 1)]
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(outcome, FeedUnavailable) for outcome in outcomes), outcomes
    return [str(outcome) for outcome in outcomes]


TERMINATE = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE application_name = 'tidings feed' AND datname = current_database()
"""


async def test_a_reader_is_told_at_once_when_its_connection_is_ended(
    log: PostgresLog, url: str
) -> None:
    start = await log.head()
    async with waiting(log, start) as reader:
        await execute(url, TERMINATE)
        with pytest.raises(FeedUnavailable):
            await reader
    # Those who write and ask connect again, as soon as they see that theirs has ended, too.
    await append_at_last(log, batch("a", 3))
    assert await log.head() == Cursor(start.epoch, 3)
    assert texts(await follow_until(log, start, 3)) == ["a/0", "a/1", "a/2"]


async def test_connections_that_are_ended_all_the_time_lose_nothing(
    log: PostgresLog, url: str
) -> None:
    start = await log.head()
    is_over = False

    async def append() -> None:
        for number in range(60):
            await append_at_last(log, batch(f"b{number}", 2))
            await asyncio.sleep(0.01)

    async def terminate() -> None:
        while not is_over:
            await execute(url, TERMINATE)
            await asyncio.sleep(0.1)

    async def follow() -> list[str]:
        found: list[str] = []
        while len(found) < 120:
            with suppress(FeedUnavailable):
                found += texts(await log.follow(Cursor(start.epoch, len(found)), 100))
        return found

    async with asyncio.timeout(PATIENCE):
        terminating = asyncio.create_task(terminate())
        found, _ = await asyncio.gather(follow(), append())
        is_over = True
        await terminating
    assert found == [f"b{number}/{index}" for number in range(60) for index in range(2)]


async def test_a_crash_loses_nothing_that_was_appended(
    log: PostgresLog, url: str, faults: Faults
) -> None:
    start = await log.head()
    async with waiting(log, start):
        # The server is set not to wait for the disk at a commit.
        await log.append([batch("a", 100)])
        faults.crash()
        for _ in range(2):
            await failures(log)
        faults.start(fsync="on")
    assert await head_of(log) == Cursor(start.epoch, 100)
    await log.append([batch("a", 100), batch("b")])
    assert len(await follow_until(log, start, 101)) == 101


async def test_a_server_that_need_not_have_written_anything_begins_another_epoch(
    log: PostgresLog, faults: Faults
) -> None:
    start = await log.head()
    faults.crash()
    faults.start(fsync="off")
    try:
        without = await head_of(log)
        assert without.epoch != start.epoch
        faults.crash()
        faults.start(fsync="off")
        assert (await head_of(log)).epoch not in (start.epoch, without.epoch)
    finally:
        faults.crash()
        faults.start(fsync="on")


async def test_a_replica_that_takes_over_begins_another_epoch(
    log: PostgresLog, url: str, faults: Faults
) -> None:
    await log.append([batch("a", 5)])
    start = await log.head()
    async with waiting(log, start):
        faults.crash()
        (faults.data / "standby.signal").touch()
        faults.start(fsync="on")
        await failures(log)  # of connections that were there before
        for reason in await failures(log):
            assert "recovery" in reason or "read-only" in reason
        await execute(url, "SELECT pg_promote()")
    taken_over = await head_of(log)
    assert taken_over.epoch != start.epoch
    with pytest.raises(FeedGap) as caught:
        await log.follow(start, 10)
    assert caught.value.reason == "epoch"
    await log.append([batch("a", 5), batch("c")])
    assert texts(await log.between(taken_over, 1, 10)) == ["c/0"]


async def test_a_frozen_server_is_noticed(log: PostgresLog, faults: Faults) -> None:
    start = await log.head()
    await log.append([batch("a")])
    async with waiting(log, Cursor(start.epoch, 1)) as reader, asyncio.timeout(PATIENCE):
        with faults.frozen():
            calls = [log.append([batch("b")]) for _ in range(5)]
            calls += [log.head(), log.between(start, 1, 1), reader]
            for outcome in await asyncio.gather(*calls, return_exceptions=True):
                assert isinstance(outcome, FeedUnavailable)
            # Nor can it be connected to.
            with pytest.raises(FeedUnavailable, match="in time"):
                await log.head()
            await log.close()
            assert len(asyncio.all_tasks()) <= 2
    await log.open()
    assert (await head_of(log)).epoch == start.epoch
    await log.append([batch("b")])
    assert texts(await follow_until(log, start, 2)) == ["a/0", "b/0"]


@pytest.mark.parametrize(
    "sql",
    [
        "TRUNCATE tidings_feed_state, tidings_feed, tidings_feed_keys",
        "TRUNCATE tidings_feed_state",
        "DELETE FROM tidings_feed_state",
        "DROP TABLE tidings_feed_state, tidings_feed, tidings_feed_keys",
        # As after a restore of an older dump into the same tables, or of a disk's snapshot.
        'DELETE FROM tidings_feed WHERE "offset" > 3; UPDATE tidings_feed_state SET "offset" = 3',
        # As after a restore into other tables, of the newest state.
        "CREATE TABLE a AS SELECT * FROM tidings_feed_state; TRUNCATE tidings_feed_state; "
        "INSERT INTO tidings_feed_state SELECT * FROM a; DROP TABLE a",
    ],
)
@pytest.mark.parametrize("first", ["the reader", "another", "another's append"])
async def test_a_log_that_was_emptied_or_turned_back_is_another_epoch(
    log: PostgresLog, url: str, sql: str, first: str
) -> None:
    other = PostgresLog(url)
    async with opened(other):
        await other.append([batch("a", 5)])
        start = await log.head()
        assert await log.follow(start, 10) == []
        await execute(url, sql)
        if first == "another" or "DROP" in sql:
            await other.head()
        elif first == "another's append":
            # Its process follows as well, so it has seen as much as any.
            await other.append([batch(f"b{number}") for number in range(9)])
        with pytest.raises(FeedGap) as caught:
            for _ in range(3):
                assert await log.follow(start, 10) == []
        assert caught.value.reason == "epoch"
        resume = caught.value.resume
        assert resume.epoch != start.epoch
        assert await log.head() == await other.head() == resume
        await other.append([batch("c")])
        assert texts(await follow_until(log, resume, resume.offset + 1)) == ["c/0"]


async def test_entries_that_somebody_has_deleted_are_a_gap(log: PostgresLog, url: str) -> None:
    start = await log.head()
    await log.append([batch("a", 10)])
    await execute(url, 'DELETE FROM tidings_feed WHERE "offset" IN (4, 9, 10)')
    for after, resume in ((0, 10), (3, 4), (8, 10)):
        with pytest.raises(FeedGap) as caught:
            await log.follow(Cursor(start.epoch, after), 10)
            await log.follow(Cursor(start.epoch, 8), 10)
        assert caught.value.reason == "window"
        assert caught.value.resume.offset >= min(resume, 8)
    await execute(url, "TRUNCATE tidings_feed")
    with pytest.raises(FeedGap) as caught:
        await log.follow(start, 10)
    assert caught.value.resume == Cursor(start.epoch, 10)
    await log.append([batch("b")])
    assert texts(await log.follow(Cursor(start.epoch, 10), 10)) == ["b/0"]


async def test_entries_beyond_the_state_begin_another_epoch(log: PostgresLog, url: str) -> None:
    await log.append([batch("a", 5)])
    start = await log.head()
    await execute(url, 'UPDATE tidings_feed_state SET "offset" = 2')
    other = PostgresLog(url)
    async with opened(other):
        await other.append([batch("b")])
        head = await other.head()
        assert (head.epoch != start.epoch, head.offset) == (True, 1)


async def test_a_row_that_is_locked_makes_an_append_fail_in_time(
    log: PostgresLog, url: str
) -> None:
    start = await log.head()
    await log.append([batch("a")])
    async with connected(url) as connection, connection.transaction():
        await connection.execute("SELECT FROM tidings_feed_state FOR UPDATE")
        with pytest.raises(FeedUnavailable, match="lock timeout"):
            await log.append([batch("b")])
        assert texts(await log.between(start, 1, 1)) == ["a/0"]
        assert texts(await log.follow(start, 1)) == ["a/0"]
    await log.append([batch("b")])


async def test_a_shared_feed_waits_for_the_server_and_catches_up(
    url: str, faults: Faults, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "tidings")
    faults.crash()
    feed = SharedFeed(PostgresLog(url, timeout=1.0))
    await feed.open()
    assert not feed.is_connected
    faults.start(fsync="on")
    async with asyncio.timeout(PATIENCE):
        while not feed.is_connected:
            await asyncio.sleep(0.02)
        start = feed.position
        for number in range(2):
            change = Change("notes", str(number), "post", None, {"id": number})
            await append_at_last(feed.log, Batch(f"b{number}", [encode_notice(change)]))
            [(offset, read)] = await feed.read(Cursor(start.epoch, number), 10)
            assert (offset, read) == (number + 1, change)
            if not number:
                faults.crash()
                faults.start(fsync="on")
        await feed.close()
    assert len(asyncio.all_tasks()) <= 2
    assert "right-password" not in caplog.text

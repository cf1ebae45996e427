"""SharedFeed over a real Redis: it follows, for as long as it takes, and tells what it missed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import count

import pytest

from tests.feed.conformance import PATIENCE
from tests.support.memory_log import MemoryLog
from tests.support.redis import RedisServer
from tidings import ConfigurationError
from tidings.feed import (
    Batch,
    Change,
    Cursor,
    FeedGap,
    FeedUnavailable,
    Place,
    SharedFeed,
    encode_notice,
)
from tidings.feed.redis import redis_log

_numbers = count()


def changes(*ids: int) -> Batch:
    """A batch that no other is like."""
    notices = [Change("notes", str(number), "post", None, {"id": number}) for number in ids]
    return Batch(f"batch {next(_numbers)}", [encode_notice(notice) for notice in notices])


@asynccontextmanager
async def following(
    server: RedisServer, number: int = 1, *, window: int = 10_000, max_length: int = 100_000
) -> AsyncIterator[list[SharedFeed]]:
    """Feeds of one Redis, as in several processes."""
    feeds = [
        SharedFeed(redis_log(server.redis(max_length=max_length)), window) for _ in range(number)
    ]
    async with AsyncExitStack() as stack, asyncio.timeout(PATIENCE):
        for feed in feeds:
            stack.push_async_callback(feed.close)
            await feed.open()
        yield feeds


def ids(places: Sequence[Place]) -> list[tuple[int, str]]:
    return [(offset, notice.id) for offset, notice in places if isinstance(notice, Change)]


async def read(feed: SharedFeed, after: Cursor, until: int) -> list[tuple[int, str]]:
    """What a reader gets from ``after`` on, up to this offset."""
    found: list[tuple[int, str]] = []
    while after.offset < until:
        places = await feed.read(after, 100)
        found += ids(places)
        after = Cursor(after.epoch, places[-1][0])
    return found


async def gap(feed: SharedFeed, after: Cursor) -> FeedGap:
    """The gap that a reader comes upon who has read up to ``after``."""
    while True:
        try:
            places = await feed.read(after, 100)
        except FeedGap as found:
            return found
        after = Cursor(after.epoch, places[-1][0])


async def append_through(feed: SharedFeed, batch: Batch) -> None:
    while True:
        try:
            return await feed.append([batch])
        except FeedUnavailable:
            await asyncio.sleep(0.02)


async def until(feed: SharedFeed, *, connected: bool) -> None:
    while feed.is_connected is not connected:
        await asyncio.sleep(0.01)


async def test_all_feeds_read_the_same(redis: RedisServer) -> None:
    async with following(redis, 3) as feeds:
        start = feeds[0].position
        assert start.offset == 0
        for number in range(30):
            await feeds[number % 3].append([changes(number, number + 100)])
        expected = [
            (2 * number + 1 + more, str(number + 100 * more))
            for number in range(30)
            for more in range(2)
        ]
        for feed in feeds:
            assert await read(feed, start, 60) == expected
            assert feed.position == Cursor(start.epoch, 60)
            assert ids(feed.recent(Cursor(start.epoch, 57))) == expected[57:]
            assert await feed.changes_of("notes", "129", 5) != []


async def test_a_feed_begins_where_the_log_is(redis: RedisServer) -> None:
    async with following(redis) as [first]:
        await first.append([changes(1, 2, 3)])
        async with following(redis) as [second]:
            assert second.position == Cursor(first.position.epoch, 3)
            assert await read(first, Cursor(first.position.epoch, 0), 3) == [
                (1, "1"), (2, "2"), (3, "3")
            ]  # fmt: skip
            await first.append([changes(4)])
            assert await read(second, second.position, 4) == [(4, "4")]


async def test_connections_that_are_cut_off_go_unnoticed_by_readers(redis: RedisServer) -> None:
    async with following(redis, 2) as [one, two]:
        start = one.position
        readers = [asyncio.ensure_future(read(feed, start, 200)) for feed in (one, two)]
        for number in range(200):
            if number % 10 == 0:
                redis.drop_connections()
            await append_through(one, changes(number))
        expected = [(number + 1, str(number)) for number in range(200)]
        assert await asyncio.gather(*readers) == [expected, expected]


async def test_a_feed_waits_for_a_server_that_is_not_there_yet(own_redis: RedisServer) -> None:
    own_redis.kill()
    async with following(own_redis) as [feed]:
        alone = feed.position
        assert not feed.is_connected
        with pytest.raises(FeedUnavailable):
            await feed.append([changes(1)])
        reader = asyncio.ensure_future(gap(feed, alone))
        own_redis.start()
        found = await reader
        assert found.reason == "epoch"
        assert found.resume == feed.position != alone
        assert feed.is_connected
        await feed.append([changes(2)])
        assert await read(feed, found.resume, 1) == [(1, "2")]


async def test_a_feed_outlives_its_server(
    own_redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with following(own_redis, 2) as [one, two]:
        for number in range(3):
            await append_through(one, changes(number))
            position = Cursor(one.position.epoch, 1 if number == 0 else 2)
            await read(one, Cursor(position.epoch, 0), position.offset)
            reader = asyncio.ensure_future(gap(one, position))
            with caplog.at_level(logging.INFO, "tidings.feed"):
                own_redis.restart()
                assert (await reader).reason == "epoch"
            await until(two, connected=True)
            while two.position.epoch != one.position.epoch:
                await asyncio.sleep(0.01)
            with pytest.raises(FeedGap) as caught:
                await two.since(position, 100)
            assert caught.value.reason == "epoch"
            start = Cursor(one.position.epoch, 0)
            await append_through(two, changes(7))
            assert await read(one, start, 1) == await read(two, start, 1) == [(1, "7")]
    assert "cannot be followed" in caplog.text
    assert "following the feed at redis://127.0.0.1" in caplog.text


async def test_a_log_that_is_emptied_is_told(redis: RedisServer) -> None:
    async with following(redis, 2) as [one, two]:
        start = Cursor(one.position.epoch, 2)
        await one.append([changes(1, 2)])
        for feed in (one, two):
            await read(feed, Cursor(start.epoch, 0), 2)
        readers = [asyncio.ensure_future(gap(feed, start)) for feed in (one, two)]
        redis.execute("FLUSHALL")
        gaps = await asyncio.gather(*readers)
        assert [found.reason for found in gaps] == ["epoch", "epoch"]
        assert one.position.epoch == two.position.epoch != start.epoch
        await two.append([changes(3)])
        assert await read(one, Cursor(one.position.epoch, 0), 1) == [(1, "3")]


async def test_a_server_that_hangs_is_said_to_and_waited_for(own_redis: RedisServer) -> None:
    async with following(own_redis) as [feed]:
        start = feed.position
        own_redis.freeze()
        await until(feed, connected=False)
        own_redis.thaw()
        await append_through(feed, changes(1))
        assert await read(feed, start, 1) == [(1, "1")]
        assert feed.position.epoch == start.epoch


async def test_what_is_older_is_read_as_far_as_it_is_not_too_much(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    log = MemoryLog()
    feed = SharedFeed(log, 2)  # type: ignore[arg-type]  # its words are strings
    await feed.open()
    try:
        start = feed.position
        for number in range(40):
            text = str(number).ljust(1_000)
            change = Change("posts", str(number), "post", None, {"text": text})
            await feed.append([Batch(str(number), [encode_notice(change)])])
        await feed.catch_up()
        assert len(await feed.since(start, 100)) == 40
        monkeypatch.setattr("tidings.feed.shared._OLDER_BYTES", 20_000)
        with pytest.raises(FeedGap) as caught:
            await feed.since(start, 100)
        assert caught.value.reason == "window"
        assert len(await feed.since(Cursor(start.epoch, 30), 100)) == 10
    finally:
        await feed.close()


async def test_what_is_older_than_the_window_comes_from_the_log(redis: RedisServer) -> None:
    async with following(redis, window=10) as [feed]:
        start = feed.position
        await feed.append([changes(*range(1, 1201))])
        while feed.position.offset < 1200:
            await asyncio.sleep(0.01)
        expected = [(number, str(number)) for number in range(1, 1201)]
        assert ids(await feed.since(start, 2000)) == expected
        assert ids(await feed.since(Cursor(start.epoch, 600), 600)) == expected[600:]
        assert ids(await feed.since(Cursor(start.epoch, 1195), 600)) == expected[1195:]
        with pytest.raises(FeedGap, match="1200"):
            await feed.since(start, 1199)
        with pytest.raises(FeedGap) as caught:
            feed.recent(start)
        assert caught.value.reason == "window"


async def test_what_the_log_has_no_more_is_a_gap(redis: RedisServer) -> None:
    async with following(redis, window=10, max_length=100) as [feed]:
        start = feed.position
        for _ in range(10):
            await feed.append([changes(*range(100))])
        while feed.position.offset < 1000:
            await asyncio.sleep(0.01)
        with pytest.raises(FeedGap) as caught:
            await feed.since(start, 2000)
        assert caught.value.reason == "window"
        assert len(await feed.since(Cursor(start.epoch, 900), 2000)) == 100


async def test_a_feed_that_was_left_behind_says_so_and_goes_on(own_redis: RedisServer) -> None:
    async with following(own_redis, 2, max_length=100) as [slow, other]:
        await other.append([changes(1)])
        await read(slow, Cursor(slow.position.epoch, 0), 1)
        start = slow.position
        reader = asyncio.ensure_future(gap(slow, start))
        # Not awaited in between: the slow one cannot read while it is trimmed away.
        own_redis.execute("DEL", "tidings:{feed}:entries")
        for offset in range(400, 403):
            place = ("tidings:{feed}:entries", f"{offset}-1", start.epoch, "not read")
            own_redis.execute("XADD", *place)
        own_redis.execute("HSET", "tidings:{feed}:state", "offset", 402)
        found = await reader
        assert found.reason == "window"
        assert slow.position == found.resume == Cursor(start.epoch, 402)
        await other.append([changes(5)])
        assert await read(slow, found.resume, 403) == [(403, "5")]


async def test_a_cursor_of_a_process_that_is_ahead_is_no_gap(redis: RedisServer) -> None:
    async with following(redis) as [feed]:
        behind = SharedFeed(redis_log(redis.redis()))
        await feed.append([changes(1)])
        start = feed.position.epoch
        # It has the epoch, and does not follow: as a process that is slow for the moment.
        await behind.log.open()
        try:
            await behind._synchronise()
            await feed.append([changes(2, 3)])
            assert await behind.since(Cursor(start, 2), 10) == []
            with pytest.raises(FeedGap) as caught:
                await behind.since(Cursor(start, 9), 10)
            assert caught.value.resume == Cursor(start, 3)
        finally:
            await behind.close()


async def test_catch_up_waits_for_what_the_log_holds() -> None:
    log = MemoryLog()
    feed = SharedFeed(log)  # type: ignore[arg-type]  # its words are strings
    await feed.open()
    try:
        await feed.catch_up()
        await log.append([changes(1, 2, 3)])
        assert feed.position.offset == 0
        async with asyncio.timeout(PATIENCE):
            await feed.catch_up()
        assert feed.position.offset == 3
    finally:
        await feed.close()


async def test_a_wrong_password_ends_the_start(redis: RedisServer) -> None:
    feed = SharedFeed(redis_log(redis.redis(password="x")))
    with pytest.raises(ConfigurationError):
        await feed.open()
    await feed.close()

"""What every `Log` must do, whatever server keeps it.

class TestRedisLog(LogConformance):
    @pytest.fixture
    def make_log(self, ...) -> MakeLog: ...

``make_log()`` gives another log each time, not opened yet, all of them the clients of one and the
same log on one server, which was empty before the test.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from itertools import count
from typing import Protocol

import pytest

from tidings.feed import Batch, Cursor, Entry, FeedGap, FeedUnavailable, Log

PATIENCE = 30.0
"""Seconds after which something that is waited for is taken to never come."""


class MakeLog(Protocol):
    """Makes a log that keeps about ``max_length`` entries: no fewer, and not many times more."""

    def __call__(self, *, max_length: int = 100_000) -> Log: ...


@asynccontextmanager
async def opened(*logs: Log) -> AsyncIterator[None]:
    """Logs that are open, and closed in the end."""
    async with AsyncExitStack() as stack:
        for log in logs:
            stack.push_async_callback(log.close)
            await log.open()
        yield


async def follow_until(log: Log, after: Cursor, offset: int) -> list[Entry]:
    """Everything beyond ``after`` up to ``offset``, as `Log.follow` gives it."""
    found: list[Entry] = []
    async with asyncio.timeout(PATIENCE):
        while after.offset < offset:
            found += await log.follow(after, 500)
            after = Cursor(after.epoch, found[-1][0] if found else after.offset)
    return found


async def gap_of(log: Log, after: Cursor) -> FeedGap:
    """The gap that following from ``after`` comes upon."""
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                assert await log.follow(after, 500) == []
            except FeedGap as gap:
                return gap


async def all_of(log: Log, after: Cursor, until: int, limit: int = 500) -> list[Entry]:
    """Everything beyond ``after`` up to ``until``, as `Log.between` gives it."""
    found: list[Entry] = []
    while after.offset < until:
        part = await log.between(after, until, limit)
        assert 0 < len(part) <= limit
        found += part
        after = Cursor(after.epoch, part[-1][0])
    return found


async def append_until_trimmed(log: Log, start: Cursor) -> None:
    """Append until the entry behind ``start`` is gone."""
    numbers = count()
    async with asyncio.timeout(PATIENCE):
        while True:
            await log.append([batch(f"filler {next(numbers)}", 100) for _ in range(5)])
            with suppress(FeedGap):
                await log.between(start, start.offset + 1, 1)
                continue
            return


def batch(key: str, size: int = 1) -> Batch:
    """A batch whose entries tell where they come from."""
    return Batch(key, [f"{key}/{number}".encode() for number in range(size)])


def texts(entries: Sequence[Entry]) -> list[str]:
    return [entry.decode() for _, entry in entries]


def is_contiguous(entries: Sequence[Entry], first: int) -> bool:
    return [offset for offset, _ in entries] == list(range(first, first + len(entries)))


class LogConformance:
    """The tests; a subclass gives the fixture ``make_log``."""

    async def test_a_new_log_is_an_epoch_without_entries(self, make_log: MakeLog) -> None:
        one, two = make_log(), make_log()
        async with opened(one, two):
            head = await one.head()
            assert head.offset == 0
            assert 1 <= len(head.epoch) <= 16
            assert Cursor.parse(str(head)) == head
            assert await one.head() == await two.head() == head

    async def test_logs_that_open_together_agree_on_the_epoch(self, make_log: MakeLog) -> None:
        logs = [make_log() for _ in range(4)]
        async with AsyncExitStack() as stack:
            for log in logs:
                stack.push_async_callback(log.close)
            await asyncio.gather(*(log.open() for log in logs))
            heads = await asyncio.gather(*(log.head() for log in logs))
            assert len(set(heads)) == 1

    async def test_entries_are_followed_in_order_and_without_gaps(self, make_log: MakeLog) -> None:
        log = make_log()
        async with opened(log):
            start = await log.head()
            await log.append([batch("a", 2), batch("b", 3)])
            await log.append([batch("c")])
            assert await log.head() == Cursor(start.epoch, 6)
            entries = await follow_until(log, start, 6)
            assert is_contiguous(entries, 1)
            assert texts(entries) == ["a/0", "a/1", "b/0", "b/1", "b/2", "c/0"]
            assert await log.follow(Cursor(start.epoch, 2), 2) == entries[2:4]

    async def test_every_log_reads_what_any_appended(self, make_log: MakeLog) -> None:
        one, two = make_log(), make_log()
        async with opened(one, two):
            start = await one.head()
            await one.append([batch("a")])
            await two.append([batch("b")])
            assert texts(await follow_until(one, start, 2)) == ["a/0", "b/0"]
            assert await follow_until(two, start, 2) == await two.between(start, 2, 10)

    async def test_following_waits_for_what_comes(self, make_log: MakeLog) -> None:
        one, two = make_log(), make_log()
        async with opened(one, two):
            start = await one.head()
            for number, writer in enumerate((one, two, one)):
                after = Cursor(start.epoch, number)
                reader = asyncio.ensure_future(follow_until(one, after, number + 1))
                async with asyncio.timeout(PATIENCE):
                    await writer.append([batch(f"b{number}")])
                    assert texts(await reader) == [f"b{number}/0"]

    async def test_following_ends_by_itself_where_nothing_comes(self, make_log: MakeLog) -> None:
        log = make_log()
        async with opened(log), asyncio.timeout(PATIENCE):
            start = await log.head()
            assert await log.follow(start, 10) == []
            await log.append([batch("a")])
            assert texts(await log.follow(start, 10)) == ["a/0"]
            assert await log.follow(Cursor(start.epoch, 1), 10) == []

    async def test_following_can_be_given_up_and_taken_up_again(self, make_log: MakeLog) -> None:
        log = make_log()
        async with opened(log):
            start = await log.head()
            assert await log.follow(start, 1) == []
            for _ in range(3):
                reader = asyncio.ensure_future(log.follow(start, 10))
                await asyncio.sleep(0.05)
                reader.cancel()
                await asyncio.gather(reader, return_exceptions=True)
            await log.append([batch("a")])
            assert texts(await follow_until(log, start, 1)) == ["a/0"]

    async def test_an_append_that_is_given_up_harms_no_other(self, make_log: MakeLog) -> None:
        log = make_log()
        async with opened(log):
            start = await log.head()
            for number in range(10):
                writer = asyncio.ensure_future(log.append([batch("given up", 50)]))
                for _ in range(number):
                    await asyncio.sleep(0)
                writer.cancel()
                await asyncio.gather(writer, return_exceptions=True)
            await log.append([batch("given up", 50), batch("a")])
            assert await follow_until(log, start, 51) == await all_of(log, start, 51)
            assert texts(await log.between(start, 51, 100)) == [
                *(f"given up/{number}" for number in range(50)),
                "a/0",
            ]

    async def test_between_gives_a_part_of_the_log(self, make_log: MakeLog) -> None:
        log = make_log()
        async with opened(log):
            start = await log.head()
            await log.append([batch("a", 20)])
            entries = await log.between(start, 20, 100)
            assert is_contiguous(entries, 1)
            assert len(entries) == 20
            for after, until, limit in [(0, 20, 3), (4, 9, 100), (19, 20, 5), (7, 8, 1)]:
                part = await log.between(Cursor(start.epoch, after), until, limit)
                assert part == entries[after : min(until, after + limit)]
            for after, until in [(20, 20), (5, 5)]:
                assert await log.between(Cursor(start.epoch, after), until, 10) == []

    async def test_a_batch_is_appended_once(self, make_log: MakeLog) -> None:
        one, two = make_log(), make_log()
        async with opened(one, two):
            start = await one.head()
            await one.append([batch("a", 2), batch("b"), batch("a", 2)])
            await one.append([batch("b"), batch("c")])
            await two.append([batch("a", 2), batch("c"), batch("d")])
            assert await two.head() == Cursor(start.epoch, 5)
            found = texts(await one.between(start, 5, 10))
            assert found == ["a/0", "a/1", "b/0", "c/0", "d/0"]

    async def test_a_batch_is_appended_once_though_all_do_so_at_once(
        self, make_log: MakeLog
    ) -> None:
        logs = [make_log() for _ in range(3)]
        batches = [batch(f"b{number}", 3) for number in range(40)]
        async with opened(*logs):
            start = await logs[0].head()
            await asyncio.gather(
                *(
                    log.append(batches[number : number + 5])
                    for number in range(0, 40, 5)
                    for log in logs
                )
            )
            assert await logs[0].head() == Cursor(start.epoch, 120)
            found = texts(await all_of(logs[1], start, 120))
            assert sorted(found) == sorted(entry.decode() for b in batches for entry in b.entries)
            assert all(is_whole(found[i : i + 3]) for i in range(0, 120, 3))

    async def test_writers_side_by_side_keep_their_order_and_batches_are_whole(
        self, make_log: MakeLog
    ) -> None:
        logs = [make_log() for _ in range(3)]

        async def write(log: Log, name: str) -> None:
            for number in range(20):
                await log.append([batch(f"{name}-{number:03}", 3)])

        async with opened(*logs):
            start = await logs[0].head()
            readers = [asyncio.ensure_future(follow_until(log, start, 360)) for log in logs]
            await asyncio.gather(*(write(logs[n % 3], f"w{n}") for n in range(6)))
            first, *others = await asyncio.gather(*readers)
            assert all(other == first for other in others)
            assert is_contiguous(first, 1)
            found = texts(first)
            assert all(is_whole(found[i : i + 3]) for i in range(0, 360, 3))
            for n in range(6):
                own = [text for text in found if text.startswith(f"w{n}-")]
                assert own == sorted(own)

    async def test_nothing_is_appended_where_nothing_is_given(self, make_log: MakeLog) -> None:
        log = make_log()
        async with opened(log):
            start = await log.head()
            await log.append([])
            await log.append([Batch("empty", [])])
            assert await log.head() == start
            await log.append([Batch("another", []), batch("a"), Batch("empty", [])])
            assert texts(await log.between(start, 1, 10)) == ["a/0"]

    async def test_an_entry_is_any_bytes(self, make_log: MakeLog) -> None:
        log = make_log()
        entries = [b"", bytes(range(256)), b"\r\n$-1\r\n", "ä€😀".encode(), b"x" * 1_000_000]
        async with opened(log):
            start = await log.head()
            await log.append([Batch("odd: 'ä' \x00 \"; {key}", entries)])
            expected = list(enumerate(entries, 1))
            assert list(await log.between(start, 5, 10)) == expected
            assert await follow_until(log, start, 5) == expected

    async def test_a_large_append_is_there_from_end_to_end(self, make_log: MakeLog) -> None:
        log = make_log()
        async with opened(log):
            start = await log.head()
            await log.append([batch("small"), batch("large", 12_000), batch("last")])
            assert await log.head() == Cursor(start.epoch, 12_002)
            entries = await all_of(log, start, 12_002, limit=1_000)
            assert is_contiguous(entries, 1)
            assert texts(entries) == [
                "small/0",
                *(f"large/{number}" for number in range(12_000)),
                "last/0",
            ]
            await log.append([batch("large", 12_000), batch("last"), batch("more")])
            assert texts(await follow_until(log, Cursor(start.epoch, 12_002), 12_003)) == ["more/0"]

    async def test_what_was_trimmed_is_a_gap(self, make_log: MakeLog) -> None:
        log = make_log(max_length=300)
        async with opened(log):
            start = await log.head()
            await append_until_trimmed(log, start)
            head = await log.head()
            assert head.epoch == start.epoch
            for gap in (await gap_of(log, start), await between_gap(log, start)):
                assert gap.reason == "window"
                assert gap.resume.epoch == start.epoch
                assert start.offset < gap.resume.offset <= head.offset
                await follow_until(log, gap.resume, head.offset)
            kept = Cursor(start.epoch, head.offset - 300)
            assert is_contiguous(await all_of(log, kept, head.offset), kept.offset + 1)

    async def test_another_epoch_is_a_gap(self, make_log: MakeLog) -> None:
        log = make_log()
        async with opened(log):
            start = await log.head()
            await log.append([batch("a", 5)])
            for offset in (0, 3, 5, 7):
                other = Cursor("other", offset)
                for gap in (await gap_of(log, other), await between_gap(log, other)):
                    assert gap.reason == "epoch"
                    assert gap.resume.epoch == start.epoch
                    assert 0 <= gap.resume.offset <= 5

    async def test_a_place_that_has_not_been_yet_is_a_gap(self, make_log: MakeLog) -> None:
        log = make_log()
        async with opened(log):
            start = await log.head()
            await log.append([batch("a", 5)])
            gap = await gap_of(log, Cursor(start.epoch, 9))
            assert gap.resume == Cursor(start.epoch, 5)

    async def test_a_closed_log_waits_for_nothing(self, make_log: MakeLog) -> None:
        log = make_log()
        await log.open()
        reader = asyncio.ensure_future(log.follow(await log.head(), 10))
        await asyncio.sleep(0.05)
        async with asyncio.timeout(PATIENCE):
            await log.close()
            with suppress(FeedUnavailable, asyncio.CancelledError):
                await reader
            await log.close()

    async def test_a_closed_log_can_be_opened_again(self, make_log: MakeLog) -> None:
        log = make_log()
        async with opened(log):
            start = await log.head()
            await log.append([batch("a")])
        async with opened(log):
            assert await log.head() == Cursor(start.epoch, 1)
            await log.append([batch("b")])
            assert texts(await follow_until(log, start, 2)) == ["a/0", "b/0"]

    async def test_a_log_that_was_never_opened_can_be_closed(self, make_log: MakeLog) -> None:
        await make_log().close()


async def between_gap(log: Log, after: Cursor) -> FeedGap:
    with pytest.raises(FeedGap) as caught:
        await log.between(after, after.offset + 1, 10)
    return caught.value


def is_whole(entries: list[str]) -> bool:
    """Whether these are all entries of one batch of three, in order."""
    keys = {entry.rpartition("/")[0] for entry in entries}
    return len(keys) == 1 and [entry[-2:] for entry in entries] == ["/0", "/1", "/2"]

"""The feed: one order, a window, and a gap that is told."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidings.feed import Change, Cursor, FeedGap, MemoryFeed


def changes(*ids: int) -> list[Change]:
    return [Change("notes", str(number), "post", None, {"id": number}) for number in ids]


async def ids(feed: MemoryFeed, after: int, limit: int = 100) -> list[tuple[int, str]]:
    places = await feed.read(Cursor(feed.position.epoch, after), limit)
    return [(offset, change.id) for offset, change in places]


async def test_changes_get_their_places() -> None:
    feed = MemoryFeed()
    assert feed.position.offset == 0
    feed.publish(changes(1, 2))
    feed.publish(changes(3))
    feed.publish([])
    assert feed.position.offset == 3
    assert await ids(feed, 0) == [(1, "1"), (2, "2"), (3, "3")]
    assert await ids(feed, 2) == [(3, "3")]
    assert await ids(feed, 0, limit=2) == [(1, "1"), (2, "2")]


async def test_a_reader_waits_for_what_comes() -> None:
    feed = MemoryFeed()
    readers = [asyncio.ensure_future(ids(feed, 0)) for _ in range(3)]
    await asyncio.sleep(0)
    assert not any(reader.done() for reader in readers)
    feed.publish(changes(1))
    assert await asyncio.gather(*readers) == [[(1, "1")]] * 3
    late = asyncio.ensure_future(ids(feed, 1))
    await asyncio.sleep(0)
    assert not late.done()
    feed.publish(changes(2))
    assert await late == [(2, "2")]


async def test_a_reader_that_is_cancelled_disturbs_no_other() -> None:
    feed = MemoryFeed()
    one, two = asyncio.ensure_future(ids(feed, 0)), asyncio.ensure_future(ids(feed, 0))
    await asyncio.sleep(0)
    one.cancel()
    feed.publish(changes(1))
    assert await two == [(1, "1")]


async def test_what_is_older_than_the_window_is_a_gap() -> None:
    feed = MemoryFeed(window=3)
    feed.publish(changes(1, 2))
    feed.publish(changes(3, 4, 5))
    assert await ids(feed, 2) == [(3, "3"), (4, "4"), (5, "5")]
    for after in (0, 1):
        with pytest.raises(FeedGap) as caught:
            await ids(feed, after)
        assert caught.value.resume.offset == 2
        assert caught.value.reason == "window"
    assert await ids(feed, caught.value.resume.offset, 1) == [(3, "3")]
    feed.publish(changes(*range(6, 20)))
    with pytest.raises(FeedGap, match="up to offset 16 are gone"):
        await ids(feed, 5)
    assert await ids(feed, 16) == [(17, "17"), (18, "18"), (19, "19")]


async def test_a_place_that_has_not_been_yet_is_a_gap_too() -> None:
    feed = MemoryFeed()
    feed.publish(changes(1))
    with pytest.raises(FeedGap) as caught:
        await ids(feed, 2)
    assert caught.value.resume == feed.position


def test_each_feed_is_an_epoch_of_its_own() -> None:
    epochs = {MemoryFeed().position.epoch for _ in range(5)}
    assert len(epochs) == 5
    for epoch in epochs:
        assert Cursor.parse(f"{epoch}.7") == Cursor(epoch, 7)


@given(st.text(st.characters(categories=["L"]), min_size=1, max_size=20), st.integers(0, 2**62))
def test_a_cursor_reads_what_it_writes(epoch: str, offset: int) -> None:
    cursor = Cursor(epoch, offset)
    assert Cursor.parse(str(cursor)) == cursor


@pytest.mark.parametrize(
    "text",
    [None, 7, "", ".", "a", "a.", ".1", "a.b", "a.-1", "a.+1", "a. 1", "a.1.2", "a.1 ", "a.\u0661",
     "a.²", "a.1e3", "a." + "1" * 63, b"a.1", ["a.1"], {"a": 1}],
)  # fmt: skip
def test_anything_else_is_no_cursor(text: object) -> None:
    assert Cursor.parse(text) is None


@given(st.text() | st.integers() | st.none())
def test_no_text_is_too_odd_for_a_cursor(text: object) -> None:
    cursor = Cursor.parse(text)
    assert cursor is None or (isinstance(text, str) and cursor.offset >= 0)


def test_a_change_has_its_time() -> None:
    (change,) = changes(1)
    assert change.at.utcoffset() is not None
    assert change.at.utcoffset().total_seconds() == 0  # type: ignore[union-attr]

"""What changes weigh is bounded: each of them, those of a transaction, and those that are kept."""

from __future__ import annotations

import tracemalloc
from typing import Any

import pytest

from tests.realtime.kit import delivered, make_api, running, subscriber
from tidings import Api, ConfigurationError, MemoryFeedPlugin, SqlAlchemyPlugin
from tidings.feed import MAX_VALUE, Change, FeedGap, MemoryFeed, bounded, weight
from tidings.feed.weight import MAX_IMAGE
from tidings.storage.change_log import ChangeLog

pytestmark = pytest.mark.anyio


def change(before: dict[str, Any] | None, after: dict[str, Any] | None) -> Change:
    return Change("posts", "1", "patch", before, after)


def test_what_is_too_long_is_left_out_and_said_to_be() -> None:
    long, short = "x" * MAX_VALUE, "y" * (MAX_VALUE - 100)
    for before, after in ((long, "a"), ("a", long), (None, long), (long, None)):
        found = bounded(change({"t": before, "n": 1}, {"t": after, "n": 2}))
        assert (found.before, found.after) == ({"t": None, "n": 1}, {"t": None, "n": 2})
        assert found.unknown == {"t"}
    kept = bounded(change({"t": short}, {"t": "b"}))
    assert kept.unknown == set()
    assert kept.before == {"t": short}
    # What counts is what it takes while it is held, not how it is written.
    for array in ([1] * MAX_VALUE, [{} for _ in range(MAX_VALUE // 60)], "\U0001f600" * 20_000):
        assert bounded(change(None, {"t": array, "n": 1})).unknown == {"t"}


def test_many_long_values_are_too_long_together() -> None:
    image = {f"c{number}": "x" * (20_000 + number) for number in range(20)}
    found = bounded(change(image, image))
    assert weight(found) < MAX_IMAGE + 10_000
    assert "c19" in found.unknown, "the longest go first"
    assert "c0" not in found.unknown


def test_what_stays_as_it_is_is_held_once() -> None:
    found = bounded(change({"t": "".join(["x"] * 9_000)}, {"t": "".join(["x"] * 9_000)}))
    assert found.before is not None
    assert found.after is not None
    assert found.before["t"] is found.after["t"]
    assert weight(found) < 10_000
    kept = bounded(change({"t": "a" * 600, "n": True}, {"t": "a" * 600, "n": 1}))
    assert kept.after is not None
    assert kept.after["n"] is not True


def test_a_window_holds_so_many_bytes() -> None:
    feed = MemoryFeed(window=1_000, max_bytes=1_000_000)
    start = feed.position
    for number in range(100):
        feed.publish([change(None, {"t": str(number).ljust(50_000)})])
        assert feed.weight <= 1_000_000
    with pytest.raises(FeedGap):
        feed.recent(start)
    kept = feed.recent(type(start)(start.epoch, 90))
    assert len(kept) == 10


def test_texts_that_are_the_same_are_held_once() -> None:
    feed = MemoryFeed()
    tracemalloc.start()
    try:
        for number in range(300):
            text = "x".ljust(60_000)
            feed.publish([change({"t": text, "n": number}, {"t": text, "n": number + 1})])
        used, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert used < 3_000_000, "and not 18 MB"


def test_a_transaction_holds_so_many_bytes() -> None:
    log = ChangeLog()
    for number in range(400):
        log.record(Change("posts", str(number), "post", None, {"t": str(number).ljust(60_000)}))
        log.record(Change("tags", str(number), "post", None, {"n": number}))
    taken = log.take()
    assert sum(isinstance(one, Change) for one in taken) == 400
    assert [one.resource for one in taken if not isinstance(one, Change)] == ["posts"]


async def test_whoever_looks_at_what_is_too_long_refetches_and_others_are_told() -> None:
    api = make_api()
    api.add_resource(
        "pages",
        {"body": "text", "status": "string"},
        search_schema={"body": {"filter_operator": "like"}, "status": "string"},
    )
    async with running(api):
        person, wire = subscriber()
        for name, filters in (("b", {"body": "x"}), ("s", {"status": "open"})):
            asked = {"resource": "pages", "filters": filters, "subscriptionId": name}
            await api.socket_server._service.subscribe(person, asked)
        await api.resources.pages.post({"body": "x" * 100_000, "status": "open"})
        await delivered(api)
        assert [one["subscriptionId"] for one in wire.events()] == ["s"]
        [resync] = wire.events("subscription.resync")
        assert (resync["subscriptionId"], resync["reason"]) == ("b", "bulk")


@pytest.mark.parametrize("wrong", [0, 999_999, True, 1.5e9, "64 MB"])
def test_a_wrong_window_is_refused(wrong: Any) -> None:
    with pytest.raises(ConfigurationError, match="window_bytes"):
        MemoryFeedPlugin(window_bytes=wrong)


def test_a_window_can_be_set() -> None:
    api = Api()
    api.use(SqlAlchemyPlugin("sqlite+aiosqlite://"))
    api.use(MemoryFeedPlugin(window=5, window_bytes=2_000_000))
    assert api._feed._window._max_bytes == 2_000_000

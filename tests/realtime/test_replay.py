"""Who comes back with a cursor is told what it has missed, by its net effect; or to refetch."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.realtime.kit import Wire, delivered, make_api, running, subscriber
from tests.support.memory_log import MemoryLog
from tidings import Api
from tidings.api import FeedOptions
from tidings.feed import Cursor, MemoryFeed
from tidings.realtime.subscriptions import Subscriber

SUBSCRIBED = {"resource": "posts", "filters": {"status": "published"}}


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    async with running() as opened:
        yield opened


async def restore(
    api: Api, *entries: dict[str, Any], person: Subscriber | None = None
) -> tuple[dict[str, Any], list[tuple[str, dict[str, Any]]]]:
    """The answer, and the events that come after it."""
    return await ask(api, "restore-subscriptions", {"subscriptions": list(entries)}, person)


async def ask(
    api: Api, event: str, payload: dict[str, Any], person: Subscriber | None = None
) -> tuple[dict[str, Any], list[tuple[str, dict[str, Any]]]]:
    server = api.socket_server
    if person is None:
        person, _ = subscriber()
    wire = person.connection
    assert isinstance(wire, Wire)
    server._subscribers[person.id] = person
    answer, then = await server.handle(person.id, event, payload)
    before = len(wire.frames)
    then()
    events = [json.loads(str(frame.encode())[2:]) for frame in wire.frames[before:]]
    return answer, [(name, given) for name, given in events]


def entry(cursor: Cursor | str, name: str = "a", **more: Any) -> dict[str, Any]:
    return {**SUBSCRIBED, "subscriptionId": name, "cursor": str(cursor), **more}


def ways(events: list[tuple[str, dict[str, Any]]]) -> list[tuple[str, str, str]]:
    assert {event for event, _ in events} <= {"subscription.update"}
    return [(one["id"], one["action"], one["meta"]["change"]) for _, one in events]


async def test_what_was_missed_comes_after_the_ack_by_its_net_effect(api: Api) -> None:
    posts = api.resources.posts
    for status in ("published", "published", "draft", "published"):
        await posts.post({"status": status})
    seen = api._feed.position
    await posts.patch(1, {"title": "x"})
    await posts.patch(2, {"status": "draft"})  # left
    await posts.patch(3, {"status": "published"})  # came
    await posts.post({"status": "published"})  # 5: came and went
    await posts.delete(5)
    await posts.post({"status": "published"})  # 6: made, and changed since
    await posts.patch(6, {"title": "y"})
    await posts.delete(4)  # gone
    await posts.patch(1, {"title": "z"})  # 1: last
    await posts.post({"status": "draft"})  # 7: never seen
    await delivered(api)
    answer, events = await restore(api, entry(seen))
    assert answer == {"success": True, "restored": ["a"], "failed": []}
    assert ways(events) == [
        ("2", "patch", "leave"),
        ("3", "patch", "enter"),
        ("6", "post", "enter"),
        ("4", "delete", "leave"),
        ("1", "patch", "update"),
    ]
    types = [one["type"] for _, one in events]
    assert types == [
        f"resource.{k}" for k in ("updated", "updated", "created", "deleted", "updated")
    ]
    cursors = [Cursor.parse(one["meta"]["cursor"]) for _, one in events]
    assert [cursor.offset for cursor in cursors if cursor] == sorted(
        cursor.offset for cursor in cursors if cursor
    )
    assert all(set(one) == {"type", "resource", "id", "action", "subscriptionId", "meta"}
               for _, one in events)  # fmt: skip


async def test_several_subscriptions_are_told_in_the_order_of_the_feed(api: Api) -> None:
    seen = api._feed.position
    await api.resources.posts.post({"status": "published"})
    middle = api._feed.position
    await api.resources.posts.post({"status": "draft", "views": 7})
    await api.resources.posts.post({"status": "published", "views": 7})
    await delivered(api)
    popular = {"resource": "posts", "filters": {"views": 5}, "subscriptionId": "b"}
    _, events = await restore(api, {**popular, "cursor": str(middle)}, entry(seen))
    told = [(one["subscriptionId"], one["id"]) for _, one in events]
    assert told == [("a", "1"), ("b", "2"), ("b", "3"), ("a", "3")]


async def test_a_break_before_the_missed_notifications_loses_none(api: Api) -> None:
    """What `subscription.created` gives is what is restored next, were this the last to come."""
    seen = api._feed.position
    await api.resources.posts.post({"status": "published"})
    await delivered(api)
    person, wire = subscriber()
    _, first = await restore(api, entry(seen), person=person)
    (created,) = wire.events("subscription.created")
    _, again = await restore(api, created)
    assert [one["id"] for _, one in first] == [one["id"] for _, one in again] == ["1"]

    person, wire = subscriber()
    _, first = await restore(api, entry("other.1"), person=person)
    (created,) = wire.events("subscription.created")
    _, again = await restore(api, created)
    assert [one["reason"] for _, one in first] == [one["reason"] for _, one in again] == ["epoch"]

    person, wire = subscriber()
    await restore(api, entry(api._feed.position), person=person)
    (created,) = wire.events("subscription.created")
    assert created["cursor"] == str(api._feed.position)


async def test_nothing_missed_is_nothing_told(api: Api) -> None:
    await api.resources.posts.post({"status": "published"})
    await delivered(api)
    _, events = await restore(api, entry(api._feed.position))
    assert events == []


async def test_a_subscribe_with_a_cursor_replays_too(api: Api) -> None:
    """GET, then subscribe with the cursor of the response: there is no gap between the two."""
    transport = httpx.ASGITransport(app=api.asgi())
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
        document = (await http.get("/api/posts")).json()
        await api.resources.posts.post({"status": "published"})
        item = (await http.get("/api/posts/1")).json()
    await delivered(api)
    person, _ = subscriber()
    payload = {**SUBSCRIBED, "cursor": document["meta"]["cursor"]}
    answer, events = await ask(api, "subscribe", payload, person)
    assert answer["success"]
    assert ways(events) == [("1", "post", "enter")]
    _, events = await restore(api, entry(item["meta"]["cursor"]), person=person)
    assert events == []


@pytest.mark.parametrize(
    ("cursor", "reason"), [("zzzzz.1", "epoch"), ("nonsense", "window"), (7, "window")]
)
async def test_a_cursor_that_says_nothing_is_told_to_refetch(
    api: Api, cursor: Any, reason: str
) -> None:
    _, events = await restore(api, {**entry(""), "cursor": cursor})
    assert [(event, one["reason"]) for event, one in events] == [("subscription.resync", reason)]
    (_, one), = events  # fmt: skip
    assert one["cursor"] == str(api._feed.position)


async def test_a_place_that_has_not_been_yet_is_told_to_refetch(api: Api) -> None:
    _, events = await restore(api, entry(Cursor(api._feed.position.epoch, 10**9)))
    assert [one["reason"] for _, one in events] == ["window"]


async def test_what_is_older_than_the_window_is_told_to_refetch() -> None:
    api = make_api()
    api._feed = MemoryFeed(window=3)
    async with running(api):
        seen = api._feed.position
        for _ in range(4):
            await api.resources.posts.post({"status": "published"})
        await delivered(api)
        later = Cursor(seen.epoch, 1)
        _, events = await restore(api, entry(seen), entry(later, "b"))
        assert events[0][1]["reason"] == "window"
        assert ways(events[1:]) == [(f"{n}", "post", "enter") for n in (2, 3, 4)]


async def test_very_many_changes_at_once_are_one_resync(api: Api) -> None:
    seen = api._feed.position
    async with api.transaction() as uow:
        for _ in range(1_001):
            await api.resources.posts.post({"status": "draft"}, transaction=uow)
    person, wire = subscriber()
    await api.socket_server._service.subscribe(person, SUBSCRIBED)
    await delivered(api)
    _, events = await restore(api, entry(seen))
    assert [(event, one["reason"]) for event, one in events] == [("subscription.resync", "bulk")]
    async with api.transaction() as uow:
        for _ in range(1_001):
            await api.resources.posts.post({"status": "draft"}, transaction=uow)
    await delivered(api)
    assert [one["reason"] for one in wire.events("subscription.resync")] == ["bulk"]
    assert wire.events() == []


async def test_who_has_been_told_by_another_process_is_not_told_again() -> None:
    """Its cursor is ahead of what this process has matched."""
    log = MemoryLog()
    one, other = make_api(), make_api()
    for each in (one, other):
        each.set_feed(FeedOptions(log))  # type: ignore[arg-type]
    async with one, other:
        await one.resources.posts.post({"status": "published"})

        async def reached(offset: int, *apis: Api) -> None:
            async with asyncio.timeout(5):
                while any(api.socket_server._dispatcher.delivered.offset < offset for api in apis):
                    await asyncio.sleep(0.005)

        await reached(1, one, other)
        held, go_on = asyncio.Event(), asyncio.Event()
        dispatcher = other.socket_server._dispatcher
        deliver = dispatcher._deliver_or_resync

        async def hold(service: Any, change: Any) -> None:
            held.set()
            await go_on.wait()
            await deliver(service, change)

        dispatcher._deliver_or_resync = hold  # type: ignore[method-assign]
        await one.resources.posts.post({"status": "published"})
        await held.wait()  # the other is at 2, and has not told of it
        await one.resources.posts.post({"status": "published"})
        await one.resources.posts.post({"status": "published"})
        await reached(4, one)
        person, wire = subscriber()
        answer, events = await restore(other, entry(Cursor(log.epoch, 3)), person=person)
        assert answer["restored"] == ["a"]
        assert events == []
        go_on.set()
        await reached(4, other)
        assert [one["meta"]["cursor"] for one in wire.events()] == [f"{log.epoch}.4"]


async def test_another_history_begins_anew_for_everybody() -> None:
    log = MemoryLog()
    api = make_api()
    api.set_feed(FeedOptions(log))  # type: ignore[arg-type]
    async with api:
        for _ in range(5):
            await api.resources.posts.post({"status": "draft"})
        person, wire = subscriber()
        async with asyncio.timeout(5):
            while api.socket_server._dispatcher.delivered.offset < 5:
                await asyncio.sleep(0.005)
        await api.socket_server._service.subscribe(person, SUBSCRIBED)
        log.restart_empty()
        async with asyncio.timeout(5):
            while not wire.events("subscription.resync"):
                await asyncio.sleep(0.005)
        await api.resources.posts.post({"status": "published"})
        async with asyncio.timeout(5):
            while not wire.events():
                await asyncio.sleep(0.005)
    (resync,) = wire.events("subscription.resync")
    assert (resync["reason"], resync["cursor"]) == ("epoch", f"{log.epoch}.0")
    assert [one["meta"]["cursor"] for one in wire.events()] == [f"{log.epoch}.1"]


async def test_one_that_was_active_all_along_has_missed_nothing(api: Api) -> None:
    person, wire = subscriber()
    seen = api._feed.position
    await restore(api, entry(seen), person=person)
    await api.resources.posts.post({"status": "published"})
    await delivered(api)
    _, events = await restore(api, entry(seen), person=person)
    assert events == []
    assert len(wire.events()) == 1


async def test_what_was_missed_is_held_against_what_one_may_see_now() -> None:
    api = make_api()
    api.add_resource(
        "notes",
        schema={"text": "string", "owner": "string"},
        row_policy=lambda columns, identity: columns.owner == identity.user_id,
    )
    async with running(api):
        seen = api._feed.position
        for owner in ("u1", "u2"):
            await api.resources.notes.post({"text": "a", "owner": owner})
        await api.resources.notes.patch(1, {"owner": "u2"})
        await api.resources.notes.patch(2, {"owner": "u1"})
        await delivered(api)
        notes = {"resource": "notes", "subscriptionId": "n", "cursor": str(seen)}
        _, events = await restore(api, notes)
        # The first was made and given away meanwhile: at no time was it to be seen.
        assert [(one["id"], one["meta"]["change"]) for _, one in events] == [("2", "enter")]


steps = st.lists(
    st.tuples(
        st.sampled_from(["post", "publish", "withdraw", "retitle", "delete"]), st.integers(0, 4)
    ),
    max_size=25,
)


@given(steps, st.integers(0, 25))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_who_was_away_ends_with_the_same_view_as_who_was_not(some: Any, away_from: int) -> None:
    asyncio.run(compare(some, away_from))


async def compare(some: list[tuple[str, int]], away_from: int) -> None:
    """Views fold what they are told: `enter` adds, `leave` removes; and know what was updated."""
    async with running() as api:
        posts = api.resources.posts
        person, wire = subscriber()
        await api.socket_server._service.subscribe(person, SUBSCRIBED)
        seen, before = api._feed.position, 0
        living: list[str] = []
        for number, (step, which) in enumerate(some):
            if number == away_from:
                await delivered(api)
                seen, before = api._feed.position, len(wire.events())
            if step == "post":
                living.append(
                    (await posts.post({"status": "published" if which else "draft"}))["id"]
                )
            elif living:
                record = living[which % len(living)]
                if step == "delete":
                    living.remove(record)
                    await posts.delete(record)
                else:
                    values = {"publish": {"status": "published"}, "withdraw": {"status": "draft"}}
                    await posts.patch(record, values.get(step, {"title": str(number)}))
        await delivered(api)
        at_hand = [(one["id"], one["meta"]["change"]) for one in wire.events()]
        _, events = await restore(api, entry(seen, "late"), person=person)
        missed = [(one["id"], one["meta"]["change"]) for _, one in events]
    view: set[str] = set()
    for record, way in at_hand[:before]:
        (view.add if way != "leave" else view.discard)(record)
    late = set(view)
    concerned = set()
    for record, way in at_hand[before:]:
        (view.add if way != "leave" else view.discard)(record)
        concerned.add(record)
    for record, way in missed:
        # Told of exactly what it is: what it did not have enters, what it had does not.
        assert (record in late) == (way != "enter")
        (late.add if way != "leave" else late.discard)(record)
    assert late == view
    assert len({record for record, _ in missed}) == len(missed)
    assert {record for record, _ in missed} <= concerned
    # Whatever was updated while it was away and is still there is told.
    assert {record for record, _ in missed} >= {r for r in concerned if r in view}

"""Who comes back with a cursor is told what it has missed, by its net effect; or to refetch."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.realtime.kit import Wire, delivered, make_api, running, spoken, subscriber
from tests.support.memory_log import MemoryLog
from tidings import Api, Identity, SocketLimits
from tidings.api import FeedOptions
from tidings.feed import Change, Cursor, MemoryFeed, Recheck
from tidings.filters import Atom
from tidings.matching import Matcher
from tidings.realtime.limits import Allowance, Buckets
from tidings.realtime.subscriptions import Subscriber

SUBSCRIBED = {"resource": "posts", "filters": {"status": "published"}}


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    async with running() as opened:
        yield opened


async def restore(
    api: Api, *entries: dict[str, Any], person: Subscriber | None = None
) -> tuple[dict[str, Any], list[tuple[str, dict[str, Any]]]]:
    """The answer, and what comes after it."""
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
    events = [spoken(event) for event in wire.frames[before:]]
    # Word that a subscription has caught up comes last; what it says is looked at where it counts.
    told = [(name, given) for name, given in events if name != "subscription.created"]
    assert events[: len(told)] == told
    return answer, told


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
        ("5", "delete", "leave"),
        ("6", "post", "enter"),
        ("4", "delete", "leave"),
        ("1", "patch", "update"),
    ]
    types = [one["type"] for _, one in events]
    assert types == [
        f"resource.{k}d" for k in ("update", "update", "delete", "create", "delete", "update")
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
    created = wire.events("subscription.created")[0]
    _, again = await restore(api, created)
    assert [one["id"] for _, one in first] == [one["id"] for _, one in again] == ["1"]

    person, wire = subscriber()
    _, first = await restore(api, entry("other.1"), person=person)
    created = wire.events("subscription.created")[0]
    _, again = await restore(api, created)
    assert [one["reason"] for _, one in first] == [one["reason"] for _, one in again] == ["epoch"]

    person, wire = subscriber()
    await restore(api, entry(api._feed.position), person=person)
    (created,) = wire.events("subscription.created")
    assert created["cursor"] == str(api._feed.position)


@pytest.mark.parametrize("since", ["here", "other.1"])
async def test_who_has_been_told_what_was_missed_is_not_told_again(api: Api, since: str) -> None:
    """A client that stores what `subscription.created` gave, and nothing else, moves on."""
    seen = str(api._feed.position) if since == "here" else since
    for _ in range(3):
        await api.resources.posts.post({"status": "published"})
    await delivered(api)
    person, wire = subscriber()
    _, told = await restore(api, entry(seen), person=person)
    assert len(told) == (3 if since == "here" else 1)
    first, last = wire.events("subscription.created")
    assert (first["cursor"], last["cursor"]) == (seen, str(api._feed.position))
    assert {**first, "cursor": None} == {**last, "cursor": None}
    _, again = await restore(api, last)
    assert again == []


async def test_one_that_is_active_is_told_what_it_missed_before_it_was(api: Api) -> None:
    """What a client sent while it was offline overtakes its restore."""
    seen = api._feed.position
    for status in ("published", "draft", "published"):
        await api.resources.posts.post({"status": status})
    await delivered(api)
    person, wire = subscriber()
    await api.socket_server._service.subscribe(person, {**SUBSCRIBED, "subscriptionId": "a"})
    await api.resources.posts.patch(1, {"status": "draft"})
    await delivered(api)
    assert [one["meta"]["change"] for one in wire.events()] == ["leave"]
    answer, events = await restore(api, entry(seen), person=person)
    assert answer["restored"] == ["a"]
    assert ways(events) == [("3", "post", "enter"), ("1", "patch", "leave")], "all there was"
    assert wire.events("subscription.created")[-1]["cursor"] == str(api._feed.position)
    _, again = await restore(api, entry(seen), person=person)
    assert again == [], "it has been told by now"
    for unknown, reason in (("other.1", "epoch"), ("nonsense", "window")):
        _, events = await restore(api, entry(unknown), person=person)
        assert [one["reason"] for _, one in events] == [reason]


async def test_a_subscribe_that_is_sent_again_is_one_subscription(api: Api) -> None:
    person, wire = subscriber()
    asked = {**SUBSCRIBED, "subscriptionId": "a"}
    answers = [(await ask(api, "subscribe", asked, person))[0] for _ in range(3)]
    assert answers[0]["success"]
    assert answers[0] == answers[1] == answers[2]
    assert len(person.subscriptions) == 1
    await api.resources.posts.post({"status": "published"})
    await delivered(api)
    assert len(wire.events()) == 1
    for other in ({"filters": {"status": "draft"}}, {"fields": {"posts": ["title"]}}):
        answer, _ = await ask(api, "subscribe", {**asked, **other}, person)
        assert answer["error"]["code"] == "SUBSCRIPTION_EXISTS"


async def test_what_has_no_place_is_not_looked_at(api: Api) -> None:
    asked: list[str] = []

    @api.hook("subscription_filters")
    def note(context: Any) -> None:
        asked.append(context.subscription.resource)

    person, _ = subscriber()
    many = [entry(api._feed.position, f"s{number}") for number in range(150)]
    answer, _ = await restore(api, {"resource": 5}, *many, person=person)
    assert len(answer["restored"]) == 100
    assert len(asked) == 100
    codes = [one["error"]["code"] for one in answer["failed"]]
    assert codes == ["RESOURCE_REQUIRED", *["SUBSCRIPTION_LIMIT_EXCEEDED"] * 50]
    answer, _ = await restore(api, many[0], many[-1], person=person)
    assert (answer["restored"], len(answer["failed"])) == (["s0"], 1)


async def test_a_restore_reads_the_window_once_and_lets_others_go_on(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = api._feed.position
    changes = [
        Change("posts", str(n % 1500), "patch", *[{"id": n % 1500, "status": "x", "views": 1}] * 2)
        for n in range(9_000)
    ]
    api._feed.publish(changes)  # type: ignore[union-attr]
    await delivered(api)
    matched, turns = 0, 0
    steps = Matcher.steps

    def counted(self: Matcher, change: Change) -> Any:
        nonlocal matched
        matched += 1
        return steps(self, change)

    async def tick() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    monkeypatch.setattr(Matcher, "steps", counted)
    others = asyncio.create_task(tick())
    entries = [entry(seen, f"s{n}", filters={"views": n}) for n in range(100)]
    answer, events = await restore(api, *entries)
    others.cancel()
    assert (len(answer["restored"]), events[:1]) == (100, events[:1])
    assert matched == 9000, "each change once, whatever looks at it"
    assert turns >= 9_000 / 50 + 1500 / 50


async def test_cursors_that_differ_are_read_as_far_as_that_is_reasonable(api: Api) -> None:
    start = api._feed.position
    image = {"id": 1, "status": "published", "views": 1, "title": None}
    api._feed.publish([Change("posts", "1", "patch", image, image)] * 9_000)  # type: ignore[union-attr]
    await delivered(api)
    entries = [entry(Cursor(start.epoch, 10 * n), f"s{n}") for n in range(20)]
    _, events = await restore(api, *entries)
    told = {event: sum(event == one for one, _ in events) for event, _ in events}
    assert told == {"subscription.update": 4, "subscription.resync": 16}, "the newest ones first"
    assert {one["subscriptionId"] for name, one in events if name == "subscription.update"} == {
        "s19", "s18", "s17", "s16",
    }  # fmt: skip


async def test_whoever_has_missed_very_much_refetches(api: Api) -> None:
    seen = api._feed.position
    for number in range(2_100):
        image = {"id": number, "status": "published", "views": number % 2, "title": None}
        api._feed.publish([Change("posts", str(number), "post", None, image)])  # type: ignore[union-attr]
    await delivered(api)
    _, events = await restore(api, entry(seen), entry(seen, "b", filters={"views": 0}))
    resyncs = [one for name, one in events if name == "subscription.resync"]
    assert [(one["subscriptionId"], one["reason"]) for one in resyncs] == [("a", "overflow")]
    assert len(events) == 1 + 1050


async def test_reading_again_has_a_price(api: Api) -> None:
    seen = api._feed.position
    image = {"id": 1, "status": "published", "views": 1, "title": None}
    api._feed.publish([Change("posts", "1", "patch", image, image)] * 400)  # type: ignore[union-attr]
    await delivered(api)
    person, _ = subscriber()
    person.allowance = Allowance(Buckets(SocketLimits(replay_burst=1000, replay_rate=1)))
    kinds = []
    for number in range(3):
        _, [(kind, _)] = await restore(api, entry(seen, f"s{number}"), person=person)
        kinds.append(kind)
    assert kinds == ["subscription.update", "subscription.update", "subscription.resync"]


def guarded() -> Api:
    api = make_api()
    api.add_resource(
        "notes",
        schema={"text": "string", "team": "string"},
        row_policy=lambda columns, identity: columns.team == identity.team,
    )
    return api


async def gone(api: Api) -> dict[str, Any]:
    """A subscription's entry from before a note of team red was made and deleted."""
    await api.resources.notes.post({"text": "a", "team": "red"})
    await delivered(api)
    seen = str(api._feed.position)
    await api.resources.notes.delete(1)
    await delivered(api)
    return {"resource": "notes", "subscriptionId": "n", "cursor": seen}


def member(issued: float | None, team: str = "red") -> Subscriber:
    person, _ = subscriber()
    issued_at = None if issued is None else time.time() + issued
    person.identity = Identity(user_id="u1", claims={"team": team}, issued_at=issued_at)
    return person


@pytest.mark.parametrize("issued", [5.0, 0.0, None])
async def test_who_has_been_granted_rights_since_is_not_told_what_was_before(
    issued: float | None,
) -> None:
    """The token is newer than the change, or may be: with the last one it was none of theirs."""
    api = guarded()
    async with running(api):
        _, events = await restore(api, await gone(api), person=member(issued))
        assert [one["reason"] for _, one in events] == ["permission"]


async def test_who_had_the_same_rights_all_along_is_told_what_is_gone() -> None:
    api = guarded()
    async with running(api):
        note = await gone(api)
        _, events = await restore(api, note, person=member(-60))
        assert ways(events) == [("1", "delete", "leave")]
        _, events = await restore(api, note, person=member(-60, "blue"))
        assert events == []


async def test_rights_that_have_changed_meanwhile_are_no_reason_to_tell() -> None:
    api = guarded()
    async with running(api):
        note = await gone(api)
        for user, expected in (("u2", "subscription.update"), ("u1", "subscription.resync")):
            api._feed.publish([Recheck(user, "notes")])  # type: ignore[union-attr]
            await delivered(api)
            _, [(kind, one)] = await restore(api, note, person=member(-60))
            assert kind == expected
            assert one.get("reason", "permission") == "permission"


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
        # Somebody watches there, or it would pass over the changes.
        other.socket_server._matcher.acquire("posts", Atom("status", "=", "another"))
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
        # The first was made and given away meanwhile: this client may have fetched it.
        assert [name for name, _ in events] == ["subscription.resync"], (
            "or not: of old nothing is known"
        )
        person, _ = subscriber()
        person.identity = Identity(user_id="u1", issued_at=time.time() - 60)
        _, events = await restore(api, notes, person=person)
        assert ways(events) == [("1", "patch", "leave"), ("2", "patch", "enter")]
        person.identity = Identity(user_id="u3", issued_at=time.time() - 60)
        person, _ = subscriber(user="u3")
        assert (await restore(api, notes, person=person))[1] == []


steps = st.lists(
    st.tuples(
        st.sampled_from(["post", "publish", "withdraw", "retitle", "delete"]), st.integers(0, 4)
    ),
    max_size=25,
)


@given(steps, st.integers(0, 25), st.integers(0, 25))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_who_was_away_ends_with_the_same_view_as_who_was_not(
    some: Any, away_from: int, fetched_at: int
) -> None:
    asyncio.run(compare(some, away_from, fetched_at))


async def compare(some: list[tuple[str, int]], away_from: int, fetched_at: int) -> None:
    """Views fold what they are told: `enter` adds, `leave` removes; and know what was updated.

    Another one was read over HTTP while its client was away.
    """
    async with running() as api:
        posts = api.resources.posts
        person, wire = subscriber()
        await api.socket_server._service.subscribe(person, SUBSCRIBED)
        seen, before = api._feed.position, 0
        living: list[str] = []
        fetched: set[str] | None = None
        for number, (step, which) in enumerate(some):
            if number == max(away_from, fetched_at):
                rows = await posts.query(filters={"status": "published"}, size=100)
                fetched = {row["id"] for row in rows}
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
    fetched = set(view) if fetched is None else fetched
    concerned = set()
    for record, way in at_hand[before:]:
        (view.add if way != "leave" else view.discard)(record)
        concerned.add(record)
    for record, way in missed:
        # What it had does not enter, and only what it had is updated. It may have fetched what
        # leaves, whatever it had.
        assert way == "leave" or (record in late) == (way == "update")
        assert way != "leave" or record in concerned
        (late.add if way != "leave" else late.discard)(record)
        (fetched.add if way != "leave" else fetched.discard)(record)
    assert late == view
    assert fetched == view or len(some) <= max(away_from, fetched_at)
    assert len({record for record, _ in missed}) == len(missed)
    assert {record for record, _ in missed} <= concerned
    # Whatever was updated while it was away and is still there is told.
    assert {record for record, _ in missed} >= {r for r in concerned if r in view}

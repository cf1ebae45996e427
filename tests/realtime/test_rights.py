"""Rights that change and checks that take their time: nobody is told by old rights, or waits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.realtime.kit import SECRET, Wire, delivered, subscriber
from tidings import Api, Identity, JWTAuthPlugin, RestApiPlugin, SocketIOPlugin, SqlAlchemyPlugin
from tidings.feed import Cursor, FeedGap, Recheck
from tidings.realtime.subscriptions import Subscriber

pytestmark = pytest.mark.anyio


class Slow:
    """Checks that answer when they are let; ``stuck`` names the users whose checks do not."""

    def __init__(self) -> None:
        self.stuck: set[str] = set()
        self.denied: set[str] = set()
        self.let_go = asyncio.Event()

    async def __call__(self, context: Any) -> bool:
        if context.method == "query" and context.auth.user_id in self.stuck:
            await self.let_go.wait()
        return context.auth.user_id not in self.denied


@asynccontextmanager
async def guarded(check: Any, *, seconds: float = 3600, **options: Any) -> AsyncIterator[Api]:
    api = Api(name="rights", check_timeout=seconds)
    api.use(RestApiPlugin())
    api.use(SqlAlchemyPlugin("sqlite+aiosqlite://", create_tables=True))
    api.use(JWTAuthPlugin(secret=SECRET))
    api.use(SocketIOPlugin(permission_seconds=0, **options))
    api.add_resource("notes", {"title": "string"}, check_permissions=check)
    api.add_resource("words", {"title": "string"})
    async with api:
        yield api


async def watch(api: Api, person: Subscriber, resource: str, **more: Any) -> None:
    api.socket_server._sessions.add(person)
    await api.socket_server._service.subscribe(person, {"resource": resource, **more})


async def until(condition: Any) -> None:
    while not condition():
        await asyncio.sleep(0.001)


def titles(wire: Wire) -> list[tuple[str, str]]:
    return [(event["resource"], event["id"]) for event in wire.events()]


async def test_a_check_that_does_not_answer_keeps_nobody_else_waiting() -> None:
    slow = Slow()
    async with guarded(slow) as api:
        people = {}
        for name in ("ann", "ben"):
            people[name] = subscriber(name, name)
            await watch(api, people[name][0], "notes", subscriptionId="n")
            await watch(api, people[name][0], "words", subscriptionId="w")
        slow.stuck.add("ann")
        await api.resources.notes.post({"title": "a"})
        await api.resources.words.post({"title": "b"})
        await api.resources.notes.post({"title": "c"})
        await delivered(api)
        await until(lambda: len(people["ben"][1].events()) == 3)
        assert titles(people["ben"][1]) == [("notes", "1"), ("words", "1"), ("notes", "2")]
        assert titles(people["ann"][1]) == [], "what comes after waits, for the sake of the order"
        slow.let_go.set()
        await until(lambda: len(people["ann"][1].events()) == 3)
        assert titles(people["ann"][1]) == [("notes", "1"), ("words", "1"), ("notes", "2")]


async def test_a_check_that_never_answers_denies(caplog: pytest.LogCaptureFixture) -> None:
    slow = Slow()
    async with guarded(slow, seconds=0.05) as api:
        ann, wire = subscriber("ann", "ann")
        await watch(api, ann, "notes", subscriptionId="n")
        await watch(api, ann, "words", subscriptionId="w")
        slow.stuck.add("ann")
        await api.resources.notes.post({"title": "a"})
        await api.resources.words.post({"title": "b"})
        await until(lambda: wire.events())
        assert titles(wire) == [("words", "1")]
        assert [one["reason"] for one in wire.events("subscription.resync")] == ["permission"]
        assert "gave no answer in 0.05 s" in caplog.text


async def test_what_waits_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tidings.realtime.waiting.MOST_WAITING", 5)
    slow = Slow()
    async with guarded(slow) as api:
        ann, wire = subscriber("ann", "ann")
        await watch(api, ann, "notes", subscriptionId="n")
        await watch(api, ann, "words", subscriptionId="w")
        slow.stuck.add("ann")
        await api.resources.notes.post({"title": "a"})
        for _ in range(20):
            await api.resources.words.post({"title": "b"})
        await delivered(api)
        slow.let_go.set()
        await until(lambda: len(wire.events("subscription.resync")) >= 2)
        told = wire.events("subscription.resync")
        assert {(one["subscriptionId"], one["reason"]) for one in told} == {
            ("n", "overflow"),
            ("w", "overflow"),
        }
        assert len(wire.events()) <= 5
        await api.resources.words.post({"title": "c"})
        await delivered(api)
        assert titles(wire)[-1] == ("words", "21"), "then it goes on"


@asynccontextmanager
async def teams(members: set[str], asked: asyncio.Event | None = None) -> AsyncIterator[Api]:
    """An api whose hook lets only members see anything; it can be held in the middle."""
    api = Api(name="teams")
    api.use(RestApiPlugin())
    api.use(SqlAlchemyPlugin("sqlite+aiosqlite://", create_tables=True))
    api.use(JWTAuthPlugin(secret=SECRET))
    api.use(SocketIOPlugin())
    api.add_resource("tags", {"name": "string"})
    api.add_resource(
        "notes",
        {"title": "string", "tag_id": {"belongs_to": "tags"}},
        search_schema={"tag": {"actual_field": "tag.name"}},
    )

    @api.hook("subscription_filters")
    async def narrowed(context: Any) -> None:
        is_member = context.auth.user_id in members
        if asked is not None and not is_member:
            await asked.wait()
        if not is_member:
            context.subscription.require({"id": -1})

    async with api:
        yield api


async def test_nothing_that_is_committed_after_the_call_is_told_by_old_rights() -> None:
    members, asked = {"ann"}, asyncio.Event()
    async with teams(members, asked) as api:
        ann, wire = subscriber("ann", "ann")
        await watch(api, ann, "notes", subscriptionId="n")
        await api.resources.notes.post({"title": "before"})
        await delivered(api)
        members.clear()
        changing = asyncio.create_task(api.permissions_changed(user_id="ann"))
        await asyncio.sleep(0)
        # The hook has not even answered yet.
        for _ in range(8):
            await api.resources.notes.post({"title": "after"})
        await delivered(api)
        assert titles(wire) == [("notes", "1")]
        asked.set()
        await changing
        await delivered(api)
        assert titles(wire) == [("notes", "1")]
        assert [one["reason"] for one in wire.events("subscription.resync")] == ["permission"]


async def test_what_comes_while_rights_are_checked_is_told_where_they_stay() -> None:
    async with teams({"ann"}) as api:
        ann, wire = subscriber("ann", "ann")
        await watch(api, ann, "notes", subscriptionId="n")
        rechecks = api.socket_server.begin_recheck(Recheck("ann", None))
        await api.resources.notes.post({"title": "meanwhile"})
        await asyncio.gather(*rechecks)
        await delivered(api)
        assert titles(wire) == [("notes", "1")]
        assert wire.events("subscription.resync") == []


async def test_a_notice_in_the_feed_counts_from_its_place() -> None:
    """As another process writes it: no change behind it is told by old rights."""
    members: set[str] = {"ann"}
    async with teams(members) as api:
        ann, wire = subscriber("ann", "ann")
        await watch(api, ann, "notes", subscriptionId="n")
        members.clear()
        api._feed.publish([Recheck("ann", None)])  # type: ignore[union-attr]
        for _ in range(5):
            await api.resources.notes.post({"title": "after"})
        await delivered(api)
        await until(lambda: wire.events("subscription.resync"))
        assert titles(wire) == []


async def test_a_gap_counts_as_a_notice_for_everybody(caplog: pytest.LogCaptureFixture) -> None:
    members: set[str] = {"ann"}
    async with teams(members) as api:
        ann, wire = subscriber("ann", "ann")
        await watch(api, ann, "notes", subscriptionId="n")
        members.clear()
        server = api.socket_server
        await server._dispatcher._start_anew(
            server._service, FeedGap(Cursor(api._feed.position.epoch, 0))
        )
        await api.resources.notes.post({"title": "after"})
        await delivered(api)
        await until(lambda: not len(server._dispatcher.lines))
        assert titles(wire) == []


async def test_a_resource_that_is_looked_into_concerns_those_who_look() -> None:
    members: set[str] = {"ann"}
    async with teams(members) as api:
        ann, wire = subscriber("ann", "ann")
        await watch(api, ann, "notes", subscriptionId="by tag", filters={"tag": "a"})
        await watch(api, ann, "notes", subscriptionId="all")
        members.clear()
        await api.permissions_changed(resource="tags")
        told = [one["subscriptionId"] for one in wire.events("subscription.resync")]
        assert told == ["by tag"]


async def test_kept_policies_have_an_age(monkeypatch: pytest.MonkeyPatch) -> None:
    open_to = {"ann"}
    api = Api(name="ages")
    api.use(RestApiPlugin())
    api.use(SqlAlchemyPlugin("sqlite+aiosqlite://", create_tables=True))
    api.add_resource("notes", {"title": "string"}, row_policy=lambda c, i: i.user_id in open_to)
    async with api:
        await api.resources.notes.post({"title": "a"})
        ann = Identity("ann")
        assert len(await api.resources.notes.query(auth=ann)) == 1
        open_to.clear()
        assert len(await api.resources.notes.query(auth=ann)) == 1, "it is kept for a while"
        policies = api._assembled.operations.policies
        monkeypatch.setattr(policies, "_clock", lambda: 1e12)
        assert len(await api.resources.notes.query(auth=ann)) == 0

"""Restoring is one step, hooks cannot open what they should close, and nothing hangs."""

from __future__ import annotations

import asyncio
from typing import Any

import jwt
import pytest
import socketio

from tests.realtime.kit import SECRET, delivered, make_api, running, subscriber
from tests.support.server import serve
from tidings import (
    Api,
    ConfigurationError,
    FilterLimits,
    Identity,
    InvalidRequest,
    PermissionDenied,
)
from tidings.feed import Change
from tidings.filters import Atom
from tidings.matching import Matcher

pytestmark = pytest.mark.anyio


async def test_restoring_is_one_step_after_all_hooks() -> None:
    """A write between the hooks of two entries is missed by both, and told after the ack."""
    api = make_api()
    asked, answer = asyncio.Event(), asyncio.Event()

    @api.hook("subscription_filters")
    async def second_waits(context: Any) -> None:
        if context.subscription.requested_filters.get("status") == "second":
            asked.set()
            await answer.wait()

    async with running(api):
        person, wire = subscriber()
        entries = [
            {"resource": "posts", "subscriptionId": "a", "filters": {"status": "first"}},
            {"resource": "posts", "subscriptionId": "b", "filters": {"status": "second"}},
        ]
        cursor = str(api._feed.position)
        payload = {"subscriptions": [{**entry, "cursor": cursor} for entry in entries]}
        restoring = asyncio.create_task(api.socket_server._service.restore(person, payload))
        await asked.wait()
        await api.resources.posts.post({"status": "first"})
        await delivered(api)
        assert not wire.frames
        answer.set()
        restored, failed = await restoring
        assert [one.resync_reason for one in restored] == [None, None]
        told = [[(missed.way, missed.change.id) for missed in one.missed] for one in restored]
        assert told == [[("enter", "1")], []]
        assert not failed


async def test_a_restored_entry_without_a_cursor_is_told_to_refetch() -> None:
    async with running() as api:
        person, _ = subscriber()
        entry = {"resource": "posts", "subscriptionId": "a"}
        restored, _ = await api.socket_server._service.restore(person, {"subscriptions": [entry]})
        assert restored[0].resync_reason == "window"


async def test_one_that_ends_while_it_is_restored_is_made_anew() -> None:
    api = make_api()
    asked, answer = asyncio.Event(), asyncio.Event()
    async with running(api):
        service = api.socket_server._service
        person, wire = subscriber()
        await service.subscribe(person, {"resource": "posts", "subscriptionId": "a"})

        async def wait(_: object) -> None:
            asked.set()
            await answer.wait()

        api.add_hook("subscription_filters", "wait", wait)
        entry = {"resource": "posts", "subscriptionId": "a"}
        restoring = asyncio.create_task(service.restore(person, {"subscriptions": [entry]}))
        await asked.wait()
        await service.unsubscribe(person, {"subscriptionId": "a"})
        answer.set()
        await restoring
        await api.resources.posts.post({"title": "x"})
        await delivered(api)
        assert [event["subscriptionId"] for event in wire.events()] == ["a"]


async def test_a_list_far_too_long_is_refused_unread() -> None:
    async with running() as api:
        person, _ = subscriber()
        with pytest.raises(InvalidRequest) as caught:
            await api.socket_server._service.restore(person, {"subscriptions": [0] * 490_000})
        assert caught.value.code == "INVALID_DATA"


async def test_an_empty_clause_refuses_instead_of_allowing_everything() -> None:
    api = make_api()

    @api.hook("subscription_filters")
    def scope(context: Any) -> None:
        context.subscription.require(context.auth.claims.get("scope", {}))

    async with running(api):
        person, _ = subscriber()
        with pytest.raises(PermissionDenied):
            await api.socket_server._service.subscribe(person, {"resource": "posts"})


async def test_hooks_cannot_change_the_rows_that_are_matched() -> None:
    api = make_api()
    refused: list[type] = []

    @api.hook("before_write")
    def tamper(context: Any) -> None:
        if context.record is not None:
            try:
                context.record["status"] = "other"
            except TypeError as error:
                refused.append(type(error))

    async with running(api):
        person, wire = subscriber()
        service = api.socket_server._service
        await service.subscribe(person, {"resource": "posts", "filters": {"status": "x"}})
        await api.resources.posts.post({"status": "x"})
        await api.resources.posts.patch(1, {"title": "b"})
        await delivered(api)
        assert refused == [TypeError]
        assert [event["meta"]["change"] for event in wire.events()] == ["enter", "update"]


async def test_what_cannot_be_delivered_is_told_as_resync(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with running() as api:
        person, wire = subscriber()
        await api.socket_server._service.subscribe(person, {"resource": "posts"})
        steps = api.socket_server._matcher.steps

        def fail_once(change: Change) -> Any:
            api.socket_server._matcher.steps = steps  # type: ignore[method-assign]
            raise RuntimeError("broken")

        api.socket_server._matcher.steps = fail_once  # type: ignore[method-assign]
        await api.resources.posts.post({"title": "lost"})
        await api.resources.posts.post({"title": "told"})
        await delivered(api)
        assert len(wire.events("subscription.resync")) == 1
        assert [event["id"] for event in wire.events()] == ["2"]
        assert "could not be delivered" in caplog.text


def test_an_api_with_sockets_works_in_one_event_loop_after_another() -> None:
    api = make_api()

    async def once() -> int:
        async with running(api):
            person, wire = subscriber()
            await api.socket_server._service.subscribe(person, {"resource": "posts"})
            await api.resources.posts.post({"title": "x"})
            async with asyncio.timeout(5):
                await delivered(api)
            api.socket_server._service.forget(person)
            return len(wire.events())

    assert [asyncio.run(once()), asyncio.run(once())] == [1, 1]


async def test_matching_much_gives_others_their_turn() -> None:
    async with running() as api:
        matcher = api.socket_server._matcher
        for number in range(3000):
            matcher.acquire("posts", Atom("title", "!=", str(number)))
        async with api.transaction() as uow:
            for _ in range(200):
                await api.resources.posts.post({"title": None}, transaction=uow)
        turns = 0
        while api.socket_server._dispatcher.position.offset < 200:
            await asyncio.sleep(0)
            turns += 1
        assert turns > 5


@pytest.mark.parametrize("value", [{"foo": 1}, {"lat": None}])
async def test_a_value_that_a_custom_filter_cannot_use_is_refused(value: Any) -> None:
    api = make_api()
    api.add_resource(
        "places",
        schema={"n": "number"},
        search_schema={
            "near": {
                "type": "object",
                "filter_operator": lambda columns, given: columns.n > given["lat"] + 1,
                "filter_record": lambda record, given: record["n"] > given["lat"] + 1,
            }
        },
    )
    async with running(api):
        person, _ = subscriber()
        with pytest.raises(Exception, match="Invalid filter values") as caught:
            await api.socket_server._service.subscribe(
                person, {"resource": "places", "filters": {"near": value}}
            )
        assert "near" in caught.value.details


def hidden_key(api: Api) -> None:
    api.add_resource("users", schema={"name": "string"})
    api.add_resource(
        "notes",
        schema={
            "text": "string",
            "secret_id": {"type": "id", "belongs_to": "users", "hidden": True},
        },
    )


async def test_a_hidden_key_has_no_relationship() -> None:
    api = make_api()
    hidden_key(api)
    async with running(api):
        user = await api.resources.users.post({"name": "x"})
        note = await api.resources.notes.post({"text": "t", "secret_id": user["id"]})
        with pytest.raises(InvalidRequest):
            await api.resources.notes.query(include=["secret"], auth=Identity(user_id="1"))
        assert note["secret_id"] == 1


def test_a_relationship_over_a_hidden_key_is_a_mistake() -> None:
    api = make_api()
    with pytest.raises(ConfigurationError, match="hidden"):
        api.add_resource(
            "notes",
            schema={"key": {"type": "id", "hidden": True}},
            relationships={
                "secret": {"type": "belongsTo", "target": "posts", "foreign_key": "key"}
            },
        )


async def test_a_cancelled_write_in_a_transaction_leaves_no_row_without_its_change() -> None:
    async with running() as api:
        for delay in range(60):
            published = api._feed.position.offset
            async with api.transaction() as uow:
                writing = asyncio.create_task(
                    api.resources.posts.post({"title": f"t{delay}"}, transaction=uow)
                )
                for _ in range(delay):
                    await asyncio.sleep(0)
                writing.cancel()
                await asyncio.gather(writing, return_exceptions=True)
            rows = await api.resources.posts.query(where={"title": f"t{delay}"})
            assert len(rows) == api._feed.position.offset - published


def test_ranges_too_narrow_for_a_grid_are_found() -> None:
    matcher = Matcher()
    node = matcher.acquire("x", Atom("n", "between", (0.0, 1e-310)))
    assert matcher.match(Change("x", "1", "post", None, {"n": 5e-311})).enter == [node]


async def test_long_lists_of_words_are_bounded_by_what_a_statement_takes() -> None:
    api = make_api(filter_limits=FilterLimits(searches=3_000))
    api.add_resource(
        "texts",
        schema={"a": "text", "b": "text", "c": "text"},
        search_schema={
            "q": {
                "type": "string",
                "filter_operator": "like",
                "one_of": ["a", "b", "c"],
                "split_by": ",",
            }
        },
    )
    async with running(api):
        words = ",".join(f"w{number}" for number in range(160))
        await api.resources.texts.query({"q": words})
        with pytest.raises(Exception, match="Invalid filter"):
            await api.resources.texts.query({"q": ",".join(map(str, range(200)))})


async def test_a_slow_hook_does_not_keep_a_clients_pongs_waiting() -> None:
    api = make_api()

    @api.hook("subscription_filters")
    async def slow(_: object) -> None:
        await asyncio.sleep(3)

    async with serve(api.asgi()) as url:
        options = api.socket_server.io.options
        options.ping_interval, options.ping_timeout = 1, 1
        client = socketio.AsyncClient(reconnection=False)
        token = jwt.encode({"sub": "u1"}, SECRET)
        await client.connect(url, auth={"token": token}, transports=["websocket"])
        answer = await client.call("subscribe", {"resource": "posts"}, timeout=10)
        assert answer["success"]
        await client.disconnect()

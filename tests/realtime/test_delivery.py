"""From the commit to the wires: once per room, in order, beside the writer, whoever fails."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import httpx
import pytest

from tests.realtime.kit import delivered, make_api, running, subscriber
from tidings import Api, InvalidRequest
from tidings.feed import MemoryFeed
from tidings.realtime.messages import Event

pytestmark = pytest.mark.anyio


async def test_equal_subscriptions_share_a_node_and_an_encoded_packet() -> None:
    async with running() as api:
        service = api.socket_server._service
        people = [subscriber(f"s{number}") for number in range(3)]
        made = [
            await service.subscribe(person, {"resource": "posts", "filters": {"status": "x"}})
            for person, _ in people
        ]
        assert len({done.subscription.id for done in made}) == 1
        assert len({id(done.subscription.node) for done in made}) == 1
        await api.resources.posts.post({"title": "a", "status": "x"})
        await delivered(api)
        frames = [wire.frames[0] for _, wire in people]
        assert all(frame is frames[0] for frame in frames)


async def test_ids_of_their_own_share_the_node_but_not_the_packet() -> None:
    async with running() as api:
        service = api.socket_server._service
        (ann, ann_wire), (ben, ben_wire) = subscriber("a"), subscriber("b")
        await service.subscribe(ann, {"resource": "posts", "subscriptionId": "mine"})
        await service.subscribe(ben, {"resource": "posts", "subscriptionId": "yours"})
        assert len(api.socket_server._matcher) == 1
        await api.resources.posts.post({"title": "a"})
        await delivered(api)
        assert ann_wire.events()[0]["subscriptionId"] == "mine"
        assert ben_wire.events()[0]["subscriptionId"] == "yours"


async def test_the_writers_response_does_not_wait_for_the_fan_out() -> None:
    """The write is answered while delivery is stuck in the middle of its first packet."""
    async with running() as api:
        service = api.socket_server._service
        stuck, let_go = asyncio.Event(), asyncio.Event()
        deliver = api.socket_server._dispatcher._send

        async def slow(*handed: Any, **options: Any) -> int:
            stuck.set()
            await let_go.wait()
            return await deliver(*handed, **options)

        api.socket_server._dispatcher._send = slow  # type: ignore[method-assign,assignment]
        person, wire = subscriber()
        await service.subscribe(person, {"resource": "posts"})
        transport = httpx.ASGITransport(app=api.asgi())
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            body = {"data": {"type": "posts", "attributes": {"title": "a"}}}
            headers = {"content-type": "application/vnd.api+json"}
            for _ in range(2):
                answer = await client.post("/api/posts", json=body, headers=headers)
                assert answer.status_code == 201
        await stuck.wait()
        assert wire.events() == []
        let_go.set()
        await delivered(api)
        assert [event["id"] for event in wire.events()] == ["1", "2"]


async def test_nothing_is_sent_before_the_commit_nor_after_a_rollback() -> None:
    async with running() as api:
        person, wire = subscriber()
        await api.socket_server._service.subscribe(person, {"resource": "posts"})
        with pytest.raises(ZeroDivisionError):
            async with api.transaction() as uow:
                await api.resources.posts.post({"title": "never"}, transaction=uow)
                1 / 0  # noqa: B018
        async with api.transaction() as uow:
            await api.resources.posts.post({"title": "kept"}, transaction=uow)
            with pytest.raises(ZeroDivisionError):
                async with uow.savepoint():
                    await api.resources.posts.post({"title": "dropped"}, transaction=uow)
                    1 / 0  # noqa: B018
            await api.resources.posts.patch(1, {"title": "kept, too"}, transaction=uow)
            for _ in range(5):
                await asyncio.sleep(0)
            assert wire.events() == []
        await delivered(api)
        assert [event["action"] for event in wire.events()] == ["post"]


async def test_a_record_enters_is_updated_and_leaves() -> None:
    async with running() as api:
        person, wire = subscriber()
        service = api.socket_server._service
        await service.subscribe(person, {"resource": "posts", "filters": {"status": "x"}})
        posts = api.resources.posts
        await posts.post({"title": "a", "status": "y"})
        await posts.patch(1, {"status": "x"})
        await posts.patch(1, {"title": "b"})
        await posts.put(1, {"title": "c", "status": "x"})
        await posts.patch(1, {"status": "y"})
        await posts.patch(1, {"status": "x"})
        await posts.delete(1)
        await delivered(api)
        seen = [(e["type"], e["action"], e["meta"]["change"]) for e in wire.events()]
        assert seen == [
            ("resource.updated", "patch", "enter"),
            ("resource.updated", "patch", "update"),
            ("resource.updated", "update", "update"),
            ("resource.updated", "patch", "leave"),
            ("resource.updated", "patch", "enter"),
            ("resource.deleted", "delete", "leave"),
        ]
        offsets = [int(e["meta"]["cursor"].split(".")[1]) for e in wire.events()]
        assert offsets == sorted(offsets)


async def test_one_wire_that_breaks_costs_the_others_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with running() as api:
        service = api.socket_server._service
        (broken, _), (fine, wire) = subscriber("broken"), subscriber("fine")

        def fail(_: Event) -> None:
            raise OSError("gone")

        broken.connection.send = fail  # type: ignore[method-assign]
        await service.subscribe(broken, {"resource": "posts"})
        await service.subscribe(fine, {"resource": "posts"})
        await api.resources.posts.post({"title": "a"})
        await delivered(api)
        assert [event["id"] for event in wire.events()] == ["1"]
        assert any(record.levelno == logging.ERROR for record in caplog.records)


async def test_a_reader_that_fell_out_of_the_window_is_told_to_refetch() -> None:
    api = make_api()
    api._feed = MemoryFeed(window=3)
    async with running(api):
        person, wire = subscriber()
        await api.socket_server._service.subscribe(person, {"resource": "posts"})
        async with api.transaction() as uow:
            for number in range(10):
                await api.resources.posts.post({"title": str(number)}, transaction=uow)
        await delivered(api)
        while not wire.events():
            await asyncio.sleep(0)
        assert [e["reason"] for e in wire.events("subscription.resync")] == ["window"]
        assert [event["id"] for event in wire.events()] == ["8", "9", "10"]


async def test_a_socket_that_closes_while_it_subscribes_leaves_nothing() -> None:
    api = make_api()
    asked, answer = asyncio.Event(), asyncio.Event()

    @api.hook("subscription_filters")
    async def slow(_: object) -> None:
        asked.set()
        await answer.wait()

    async with running(api):
        service = api.socket_server._service
        person, _ = subscriber()
        subscribing = asyncio.create_task(service.subscribe(person, {"resource": "posts"}))
        await asked.wait()
        service.forget(person)
        answer.set()
        with pytest.raises(InvalidRequest):
            await subscribing
        assert not person.subscriptions
        assert len(api.socket_server._matcher) == 0


async def test_an_unsubscribed_member_gets_nothing_although_the_fan_out_has_begun() -> None:
    async with running() as api:
        service = api.socket_server._service
        people = [subscriber(f"s{number}") for number in range(600)]
        for person, _ in people:
            await service.subscribe(person, {"resource": "posts"})
        await api.resources.posts.post({"title": "a"})
        while not people[0][1].frames:
            await asyncio.sleep(0)
        assert not people[-1][1].frames  # others get a turn before the last one's
        last = people[-1][0]
        await service.unsubscribe(last, {"subscriptionId": next(iter(last.subscriptions))})
        await delivered(api)
        while not people[-2][1].frames:
            await asyncio.sleep(0)
        assert not people[-1][1].frames


async def test_debug_log_follows_a_change_and_is_silent_by_default(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def one_change(api: Api) -> None:
        person, _ = subscriber()
        service = api.socket_server._service
        await service.subscribe(person, {"resource": "posts", "filters": {"status": "x"}})
        await api.resources.posts.post({"title": "a", "status": "x"})
        await delivered(api)

    async with running(make_api(cors={"origin": "https://example.org"})) as api:
        await one_change(api)
    assert not caplog.records
    caplog.set_level("DEBUG", logger="tidings")
    async with running() as api:
        await one_change(api)
    text = caplog.text
    for trace in ("subscribed posts-", "held until commit", "matched 1", "notified of"):
        assert trace in text, trace


def test_a_packet_is_under_two_hundred_bytes() -> None:
    from tidings.feed import Change
    from tidings.realtime.notifications import encoder

    encode = encoder(Change("posts", "12345", "update", {}, {}), "k3f9x.104217")
    event = encode("update", "posts-abcde")
    assert event.name == "subscription.update"
    assert len(event.payload) < 200


async def test_records_are_watched_by_id_without_a_declaration() -> None:
    api = make_api()
    api.add_resource("plain", {"name": "string"})
    async with running(api):
        person, wire = subscriber()
        for resource in ("posts", "plain"):
            filters = {"id": ["1", "3"]}
            request = {"resource": resource, "filters": filters}
            await api.socket_server._service.subscribe(person, request)
            for _ in range(3):
                await api.resources[resource].post({})
            await api.resources[resource].patch(2, {})
            await api.resources[resource].delete(3)
        await delivered(api)
        told = [(event["resource"], event["id"], event["action"]) for event in wire.events()]
        ways = (("1", "post"), ("3", "post"), ("3", "delete"))
        assert told == [(resource, *way) for resource in ("posts", "plain") for way in ways]

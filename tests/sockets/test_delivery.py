"""Delivery over real sockets: when, in which order, to whom, and at whose cost.

Delivery without a network is tested in ``tests/realtime``.
"""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

import pytest
import socketio
from tests.http.kit import Client, document, token, watched_logs
from tests.sockets.kit import (
    NOTHING,
    Polling,
    Socket,
    eventually,
    leftovers,
    live_api,
    polling,
    served,
)

from tidings import Identity, SocketLimits
from tidings.realtime.messages import Event
from tidings.realtime.subscriptions import Message, Subscriber, Subscription
from tidings.socketio import Frame, Session

UPDATE = "subscription.update"


class Wire:
    """A connection that keeps what it gets."""

    def __init__(self) -> None:
        self.frames: list[Event] = []

    def send(self, event: Event) -> None:
        self.frames.append(event)

    def notify(self, subscription: Subscription, message: Message) -> None:
        self.send(message.event(subscription))

    def forget(self) -> None:
        pass


async def ids(socket: Socket, count: int) -> list[str]:
    return [(await socket.event(UPDATE))["id"] for _ in range(count)]


async def test_a_post_answers_although_the_fan_out_stands_still() -> None:
    """500 subscribers and a dispatcher that is held in the middle of them."""
    api = live_api()
    held, reached = asyncio.Event(), asyncio.Event()

    async with served(api) as url, Client(f"{url}/api") as http:
        sockets = api.socket_server
        wires = []
        for number in range(500):
            wires.append(Wire())
            subscriber = Subscriber(f"s{number}", Identity(user_id="u1"), wires[-1])
            await sockets._service.subscribe(subscriber, {"resource": "posts"})
        send = sockets._dispatcher._send

        async def hold(*handed: Any, **options: Any) -> int:
            reached.set()
            await held.wait()
            return await send(*handed, **options)

        sockets._dispatcher._send = hold  # type: ignore[method-assign]
        made = await http.made("posts", {"title": "a"})
        await reached.wait()
        assert not any(wire.frames for wire in wires)
        again = await http.write("PATCH", f"/posts/{made['id']}", change(made["id"], title="b"))
        assert again.status_code == 200
        assert (await http.delete(f"/posts/{made['id']}")).status_code == 204
        assert not any(wire.frames for wire in wires)
        held.set()
        await eventually(lambda: all(len(wire.frames) == 3 for wire in wires))
        # One encoded frame for all 500, not 500 equal ones.
        for number in range(3):
            assert len({id(wire.frames[number]) for wire in wires}) == 1


def change(record: str, **attributes: Any) -> dict[str, Any]:
    return document("posts", attributes, record)


async def test_who_reads_everything_at_once_is_never_behind_however_large_a_commit() -> None:
    """A batch leaves in pieces: none is longer than the bound that a slow client has."""
    api = live_api(limits=SocketLimits(queue_bytes=20_000))
    async with served(api) as url, await Socket.connected(url) as socket:
        await socket.call("subscribe", {"resource": "posts"})
        async with api.transaction() as uow:
            for number in range(300):  # 60 KB of notifications
                await api.resources.posts.post({"title": str(number)}, transaction=uow)
        assert await ids(socket, 300) == [str(number + 1) for number in range(300)]
        assert api.socket_server._slow.behind == 0


async def test_equal_subscriptions_of_sockets_share_one_frame(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    api = live_api()
    given: list[Frame] = []
    async with (
        served(api) as url,
        await Socket.connected(url) as first,
        await Socket.connected(url, user="u2") as second,
        await Socket.connected(url) as third,
    ):
        same = {"resource": "posts", "filters": {"views": 1, "status": "a"}}
        answers = [
            await first.call("subscribe", same),
            await second.call("subscribe", {**same, "filters": {"status": "a", "views": "1"}}),
            await third.call("subscribe", {**same, "subscriptionId": "own"}),
        ]
        made_ids = [answer["data"]["subscriptionId"] for answer in answers]
        assert made_ids[0] == made_ids[1]
        assert made_ids[2] == "own"
        assert len(api.socket_server._matcher) == 1
        tell = Session.tell

        def keep(session: Session, frame: Frame) -> None:
            given.append(frame)
            tell(session, frame)

        monkeypatch.setattr(Session, "tell", keep)
        await api.resources.posts.post({"status": "a", "views": 5})
        for socket, made in zip((first, second, third), made_ids, strict=True):
            assert (await socket.event(UPDATE))["subscriptionId"] == made
    updates = [frame for frame in given if UPDATE in frame.text]
    assert len(updates) == 3
    assert len({id(frame) for frame in updates}) == 2


async def test_order_is_that_of_the_commits_on_every_transport() -> None:
    api = live_api()
    async with served(api) as url, polling(url) as http, await Socket.connected(url) as socket:
        poller = await Polling.connected(http)
        await socket.call("subscribe", {"resource": "posts"})
        await poller.post('421["subscribe",{"resource":"posts"}]')
        await poller.until("431[")
        handles = api.resources.posts

        async def work(number: int) -> None:
            made = await handles.post({"views": number})
            for views in range(3):
                await handles.patch(made["id"], {"views": views})
            await handles.delete(made["id"])

        await asyncio.gather(*(work(number) for number in range(20)))
        heard = [await socket.event(UPDATE) for _ in range(100)]
        offsets = [int(update["meta"]["cursor"].split(".")[1]) for update in heard]
        assert offsets == list(range(1, 101))
        for record in {update["id"] for update in heard}:
            actions = [update["action"] for update in heard if update["id"] == record]
            assert actions == ["post", "patch", "patch", "patch", "delete"]
        polled: list[Any] = []
        while len(polled) < 100:
            packets = [
                json.loads(packet[2:]) for packet in await poller.get() if packet[:2] == "42"
            ]
            polled += [payload for name, payload in packets if name == UPDATE]
        for one, other in zip(heard, polled, strict=True):
            assert one == other
        await poller.post("1")


async def test_nothing_before_the_commit_nothing_after_a_rollback_no_dropped_savepoint() -> None:
    api = live_api()
    async with served(api) as url, await Socket.connected(url) as socket:
        await socket.call("subscribe", {"resource": "posts"})
        handles = api.resources.posts
        with pytest.raises(RuntimeError):
            async with api.transaction() as uow:
                await handles.post({"title": "rolled back"}, transaction=uow)
                raise RuntimeError
        async with api.transaction() as uow:
            first = await handles.post({"title": "kept"}, transaction=uow)
            with pytest.raises(RuntimeError):
                async with uow.savepoint():
                    await handles.post({"title": "dropped"}, transaction=uow)
                    await handles.patch(first["id"], {"title": "dropped"}, transaction=uow)
                    raise RuntimeError
            async with uow.savepoint():
                second = await handles.post({"title": "kept too"}, transaction=uow)
            # The barrier: had anything been sent, it would come before this answer.
            await socket.assert_healthy()
            assert [name for name, _ in socket.events if name == UPDATE] == []
        await handles.delete(first["id"])
        told = [await socket.event(UPDATE) for _ in range(3)]
        # SQLite gives a dropped record's id again, so the ids alone would not show it.
        assert [(update["action"], update["id"]) for update in told] == [
            ("post", first["id"]),
            ("post", second["id"]),
            ("delete", first["id"]),
        ]
        assert [int(update["meta"]["cursor"].split(".")[1]) for update in told] == [1, 2, 3]
        assert len((await handles.query()).records) == 1


async def test_a_connection_that_dies_in_the_middle_of_a_fan_out_harms_nobody() -> None:
    api = live_api()
    with watched_logs() as records:
        async with served(api) as url:
            sockets = [await Socket.connected(url) for _ in range(30)]
            for socket in sockets:
                await socket.call("subscribe", {"resource": "posts"})
            made = []
            for number in range(10):
                made.append((await api.resources.posts.post({"views": number}))["id"])
                if number % 2:
                    sockets[number].wire.transport.abort()
            for number, socket in enumerate(sockets):
                if number not in (1, 3, 5, 7, 9):
                    assert await ids(socket, 10) == made
                    await socket.close()
            await eventually(lambda: leftovers(api) == NOTHING)
    assert [record for record in records if record.levelno >= logging.WARNING] == []


async def test_a_broken_wire_among_whole_ones() -> None:
    class Broken(Wire):
        def send(self, event: Event) -> None:
            raise OSError("gone")

    api = live_api()
    async with served(api) as url, await Socket.connected(url) as socket:
        for wire in (Broken(), Broken()):
            subscriber = Subscriber("s", Identity(user_id="u1"), wire)
            await api.socket_server._service.subscribe(subscriber, {"resource": "posts"})
        await socket.call("subscribe", {"resource": "posts"})
        with watched_logs():
            made = [(await api.resources.posts.post({"views": 1}))["id"] for _ in range(3)]
            assert await ids(socket, 3) == made


async def test_polling_clients_and_upgraded_ones_are_told() -> None:
    api = live_api()
    async with served(api) as url, Client(f"{url}/api") as http:
        for transports in (["polling"], ["websocket"], ["polling", "websocket"]):
            client = socketio.AsyncSimpleClient()
            await client.connect(url, auth={"token": token()}, transports=transports)
            await client.call("subscribe", {"resource": "posts", "filters": {"views": 1}})
            await http.made("posts", {"views": 1})
            made = await http.made("posts", {"views": 2})
            while (received := await client.receive(timeout=10))[0] != UPDATE:
                pass
            assert received[1]["id"] == made["id"]
            await client.disconnect()
        await eventually(lambda: leftovers(api) == NOTHING)


async def test_the_debug_log_tells_the_whole_story_and_the_default_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    api = live_api()

    async def story(url: str) -> None:
        async with await Socket.connected(url) as socket, Client(f"{url}/api") as http:
            await socket.call("subscribe", {"resource": "posts", "filters": {"views": 1}})
            await socket.call("subscribe", {"resource": "nothing"})
            await http.made("posts", {"views": 2})
            await ids(socket, 1)
            with pytest.raises(RuntimeError):
                async with api.transaction() as uow:
                    await api.resources.posts.post({"views": 3}, transaction=uow)
                    raise RuntimeError
            await socket.assert_healthy()

    async with served(api) as url:
        with watched_logs() as records:
            await story(url)
        assert [record for record in records if record.name.startswith("tidings")] == []
        with caplog.at_level(logging.DEBUG, logger="tidings"):
            await story(url)
    lines = [record.getMessage() for record in caplog.records if record.name != "tidings.storage"]
    storage = [record.getMessage() for record in caplog.records if record.name == "tidings.storage"]
    told = "\n".join(lines)
    for part in ("connected as u1", "subscribed posts-", "refused: RESOURCE_NOT_FOUND"):
        assert part in told
    assert any("match" in line or "enter" in line for line in lines)
    assert any("notified of posts-" in line for line in lines)
    assert any("1 changes dropped: rolled back" in line for line in storage)
    assert any("held until" in line or "deferred" in line for line in [*lines, *storage]), storage

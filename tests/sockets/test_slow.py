"""Clients that do not read: what they cost, what they are told when they read again, and others.

What is held and how it folds is tested in ``tests/realtime/test_backlog.py``.
"""

from __future__ import annotations

import asyncio
import json
import logging
import socket as sockets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest
from tests.http.kit import token, watched_logs
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

from tidings import Api, SocketLimits
from tidings.realtime.connection import SocketConnection
from tidings.realtime.messages import Event
from tidings.realtime.subscriptions import Subscriber

UPDATE, RESYNC = "subscription.update", "subscription.resync"
QUEUE, HELD = 8_000, 50
MOST = 2 * QUEUE + 2_000


class Stalled:
    """A client that is connected, and reads when it is told to."""

    def __init__(self, api: Api, sid: str) -> None:
        self.subscriber: Subscriber = api.socket_server._subscribers[sid]
        self.number = 0
        self.heard: list[str] = []

    @property
    def connection(self) -> SocketConnection:
        assert isinstance(self.subscriber.connection, SocketConnection)
        return self.subscriber.connection

    @property
    def unsent(self) -> int:
        return self.connection.unsent

    async def send(self, *frames: str) -> None:
        """Send without waiting for anything."""
        raise NotImplementedError

    async def read(self) -> list[str]:
        """Read some frames."""
        raise NotImplementedError

    async def until(self, last: str) -> list[tuple[str, Any]]:
        """Read until a frame begins with this; gives all events."""
        while not any(frame.startswith(last) for frame in self.heard):
            self.heard += await self.read()
        return [tuple(json.loads(frame[2:])) for frame in self.heard if frame.startswith("42")]

    async def call(self, event: str, data: Any) -> int:
        """Ask, and leave the answer unread; gives its number."""
        self.number += 1
        await self.send(f"42{self.number}{json.dumps([event, data])}")
        return self.number

    async def all(self) -> list[tuple[str, Any]]:
        """Read everything there is: answers overtake what is held, so that comes first."""
        while self.connection.held:
            self.heard += await self.read()
        number = await self.call("unsubscribe", {})
        return await self.until(f"43{number}[")


class StalledWebSocket(Stalled):
    def __init__(self, api: Api, socket: Socket, sid: str) -> None:
        super().__init__(api, sid)
        self.socket = socket
        socket.wire.transport.pause_reading()

    async def send(self, *frames: str) -> None:
        for frame in frames:
            await self.socket.send(frame)

    async def read(self) -> list[str]:
        self.socket.wire.transport.resume_reading()
        return [await self.socket.receive()]


class StalledPolling(Stalled):
    def __init__(self, api: Api, client: Polling, sid: str) -> None:
        super().__init__(api, sid)
        self.client = client

    async def send(self, *frames: str) -> None:
        await self.client.post(*frames)

    async def read(self) -> list[str]:
        return await self.client.get()


@asynccontextmanager
async def stalled(api: Api, url: str, transport: str, **claims: Any) -> AsyncIterator[Stalled]:
    """A client with tiny buffers that does not read."""
    before = set(api.socket_server._subscribers)
    if transport == "polling":
        async with polling(url) as http:
            client = await Polling.connected(http, **claims)
            (sid,) = set(api.socket_server._subscribers) - before
            yield StalledPolling(api, client, sid)
            await client.post("1")
        return
    with sockets.socket() as raw:
        raw.setsockopt(sockets.SOL_SOCKET, sockets.SO_RCVBUF, 4096)
        raw.setblocking(False)
        address = urlsplit(url)
        await asyncio.get_running_loop().sock_connect(raw, (address.hostname, address.port))
        async with await Socket.open(url, sock=raw) as socket:
            await socket.connect({"token": token(**claims)})
            (sid,) = set(api.socket_server._subscribers) - before
            yield StalledWebSocket(api, socket, sid)
            socket.wire.transport.abort()


def slow_api() -> Api:
    return live_api(limits=SocketLimits(queue_bytes=QUEUE, held_notifications=HELD))


async def fill(*clients: Stalled) -> None:
    """Send until nothing more goes out: the buffers of the server and of the system are full."""
    await asyncio.gather(*(_fill(client) for client in clients))


async def _fill(client: Stalled) -> None:
    filler = Event.of("filler", {"x": "x" * QUEUE})
    full = 0
    while full < 20:
        full += 1
        while client.unsent < QUEUE:
            client.connection.send(filler)
            full = 0
        await asyncio.sleep(0.001 if full > 4 else 0)


async def delivered(api: Api) -> None:
    await eventually(lambda: api.socket_server._dispatcher.delivered == api._feed.position)


def offsets(events: list[tuple[str, Any]]) -> list[int]:
    return [int(data["meta"]["cursor"].split(".")[1]) for name, data in events if name == UPDATE]


TRANSPORTS = pytest.mark.parametrize("transport", ["websocket", "polling"])


@TRANSPORTS
async def test_it_is_told_the_net_effect_when_it_reads_again(transport: str) -> None:
    api = slow_api()
    async with (
        served(api) as url,
        await Socket.connected(url) as reader,
        stalled(api, url, transport) as client,
    ):
        await reader.call("subscribe", {"resource": "posts", "filters": {"status": "x"}})
        request = {"resource": "posts", "filters": {"status": "x"}, "subscriptionId": "x"}
        await client.call("subscribe", request)
        await fill(client)
        posts = api.resources.posts
        made = [(await posts.post({"status": "x"}))["id"] for _ in range(6)]
        for number in range(60):
            await posts.patch(made[0], {"title": str(number)})
        await posts.put(made[1], {"status": "x", "title": "new"})
        await posts.delete(made[2])
        await posts.patch(made[3], {"status": "y"})
        await posts.patch(made[4], {"status": "y"})
        await posts.patch(made[4], {"status": "x"})
        await posts.patch(made[5], {"title": "last"})
        heard = [await reader.event(UPDATE) for _ in range(72)]
        assert client.connection.held <= HELD
        assert client.unsent < MOST
        told = await client.all()
        assert RESYNC not in [name for name, _ in told]
        assert offsets(told) == sorted(set(offsets(told)))
        mine = [data for name, data in told if name == UPDATE]
        assert [(one["id"], one["action"], one["meta"]["change"]) for one in mine] == [
            (made[0], "post", "enter"),
            (made[1], "post", "enter"),
            (made[2], "delete", "leave"),
            (made[3], "patch", "leave"),
            (made[4], "patch", "enter"),
            (made[5], "post", "enter"),
        ]
        # At the place, and with the cursor, of the last change of each.
        latest = {one["id"]: one["meta"] for one in heard}
        for one in mine:
            assert one["meta"]["cursor"] == latest[one["id"]]["cursor"]
            assert one["meta"]["timestamp"] == latest[one["id"]]["timestamp"]
        await posts.patch(made[0], {"title": "and now at once"})
        client.heard.clear()
        assert (await client.until(f'42["{UPDATE}"'))[-1][1]["id"] == made[0]
    assert api.socket_server.slow.overflows == 0


@TRANSPORTS
async def test_too_much_is_one_resync_for_each_subscription(transport: str) -> None:
    api = slow_api()
    async with (
        served(api) as url,
        await Socket.connected(url) as reader,
        stalled(api, url, transport) as client,
    ):
        await reader.call("subscribe", {"resource": "posts"})
        requests: list[dict[str, Any]] = [
            {"resource": "posts", "subscriptionId": "all"},
            {"resource": "posts", "subscriptionId": "x", "filters": {"status": "x"}},
            {"resource": "posts", "subscriptionId": "quiet", "filters": {"status": "y"}},
            {"resource": "posts", "subscriptionId": "ended"},
        ]
        for request in requests:
            await client.call("subscribe", request)
        await fill(client)
        reader.events.clear()
        posts = api.resources.posts
        made = [(await posts.post({"status": "x"}))["id"] for _ in range(300)]
        heard: list[str] = []
        while len(heard) < len(made):
            data = await reader.event(UPDATE)
            if data["id"] in made and data["action"] == "post":
                heard.append(data["id"])
            assert client.connection.held <= HELD + len(requests)
            assert client.unsent < MOST
        assert heard == made
        ack = await client.call("unsubscribe", {"subscriptionId": "ended"})
        # Where it cannot answer yet, the answer waits, and so does the end of the subscription.
        told = await client.until(f"43{ack}[")
        after = len(client.heard)
        await client.all()
        rest = [frame for frame in client.heard[after:] if '"ended"' in frame]
        assert rest == []
        told = await client.all()
        resyncs = [data for name, data in told if name == RESYNC]
        assert sorted(
            data["subscriptionId"] for data in resyncs if data["subscriptionId"] != "ended"
        ) == ["all", "x"]
        assert {data["reason"] for data in resyncs} == {"overflow"}
        assert {data["cursor"] for data in resyncs} == {str(api._feed.position)}
        assert offsets(told) == sorted(offsets(told))
        assert (await posts.post({"status": "x"}))["id"] not in made
        client.heard.clear()
        told = await client.all()
        assert sorted(data["subscriptionId"] for _, data in told) == ["all", "x"]
    assert api.socket_server.slow.overflows
    await eventually(lambda: leftovers(api) == NOTHING)


async def test_many_that_do_not_read_disturb_nobody() -> None:
    """Everybody else hears everything at once; each of those costs a bounded number of bytes."""
    api = slow_api()
    async with served(api) as url, await Socket.connected(url) as reader:
        await reader.call("subscribe", {"resource": "posts"})
        waiting = [stalled(api, url, "websocket") for _ in range(10)]
        clients = [await one.__aenter__() for one in waiting]
        for client in clients:
            await client.call("subscribe", {"resource": "posts"})
        await fill(*clients)
        await reader.assert_healthy()
        reader.events.clear()
        for _ in range(200):
            made = await api.resources.posts.post({})
            assert (await reader.event(UPDATE))["id"] == made["id"]
            assert max(client.unsent for client in clients) < MOST
            assert max(client.connection.held for client in clients) <= HELD + 1
            assert api.socket_server.io.engine.unsent < len(clients) * MOST + MOST
        for one in waiting:
            await one.__aexit__(None, None, None)
    await eventually(lambda: leftovers(api) == NOTHING)


@TRANSPORTS
async def test_who_asks_and_does_not_read_is_not_answered_for_ever(transport: str) -> None:
    api = live_api(
        limits=SocketLimits(
            queue_bytes=QUEUE, message_burst=100_000, subscribe_burst=100_000, subscribe_rate=1e6
        )
    )
    async with (
        served(api) as url,
        await Socket.connected(url) as reader,
        stalled(api, url, transport) as client,
    ):
        request = {"resource": "posts", "filters": {"status": "x" * 500}, "subscriptionId": "s"}
        await fill(client)
        asking = asyncio.create_task(_ask(client, request, 80))
        inbox = await _inbox(api, client)
        await eventually(lambda: client.unsent >= 2 * QUEUE)
        for _ in range(20):
            await reader.assert_healthy()
        assert client.unsent < MOST
        assert len(inbox._waiting) <= 256
        assert inbox._size <= 1_100_000
        await client.until("43160[")
        await asking
        acks = [frame for frame in client.heard if frame.startswith("43")]
        numbers = [int(frame[2 : frame.index("[")]) for frame in acks]
        assert numbers == list(range(1, 161))
        assert all('"success":true' in frame for frame in acks)


async def _ask(client: Stalled, request: dict[str, Any], times: int) -> None:
    for _ in range(times):
        await client.call("subscribe", request)
        await client.call("unsubscribe", {"subscriptionId": "s"})


async def _inbox(api: Api, client: Stalled) -> Any:
    state = client.connection._socket.session.state
    await eventually(lambda: state._inbox is not None)
    return state._inbox


async def test_answers_beyond_all_measure_end_the_connection() -> None:
    api = live_api()
    api.socket_server.io.options.unsent_bytes = 50_000
    with watched_logs() as records:
        async with (
            served(api) as url,
            polling(url) as http,
            await Socket.connected(url) as reader,
        ):
            sleeper = await Polling.connected(http)
            entries = [
                {"resource": "posts", "subscriptionId": f"{number}-" + "x" * 150, "filters": {}}
                for number in range(100)
            ]
            for one in entries:
                one["filters"] = {"status": "y" * 500}
            await sleeper.post(
                "421" + json.dumps(["restore-subscriptions", {"subscriptions": entries}])
            )
            await eventually(lambda: len(api.socket_server._subscribers) == 1)
            assert (await http.get(sleeper.url)).status_code in (200, 400)
            await reader.assert_healthy()
        await eventually(lambda: leftovers(api) == NOTHING)
    told = [record.getMessage() for record in records if record.levelno >= logging.WARNING]
    assert len(told) == 1
    assert "too slow" in told[0]
    assert api.socket_server.slow.dropped == 1


async def test_a_token_that_ends_ends_what_is_held() -> None:
    api = slow_api()
    async with served(api) as url, stalled(api, url, "polling") as client:
        await client.call("subscribe", {"resource": "posts"})
        await fill(client)
        for _ in range(20):
            await api.resources.posts.post({})
        await delivered(api)
        assert client.connection.held > 10
        await api.revoke(user_id="u1")
        await eventually(lambda: client.connection.held == 0)
        frames: list[str] = []
        while "41" not in frames:
            frames += await client.read()
        assert frames[-3:] == [
            '42["auth.revoked",{"message":"Token revoked"}]',
            "41",
            "1",
        ]
        await eventually(lambda: leftovers(api) == NOTHING)


@TRANSPORTS
async def test_another_resync_takes_the_place_of_what_is_held(transport: str) -> None:
    seen = {"status": "x"}
    api = slow_api()

    @api.hook("subscription_filters")
    def clause(context: Any) -> None:
        if context.subscription.requested_filters:
            context.subscription.require(dict(seen))

    async with served(api) as url, stalled(api, url, transport) as client:
        await client.call("subscribe", {"resource": "posts", "subscriptionId": "other"})
        request = {"resource": "posts", "subscriptionId": "s", "filters": {"views": -1}}
        await client.call("subscribe", request)
        await fill(client)
        posts = api.resources.posts
        made = [(await posts.post({"status": "x"}))["id"] for _ in range(5)]
        await delivered(api)
        assert client.connection.held >= 10
        seen["status"] = "y"
        await api.permissions_changed()
        await posts.patch(made[0], {"status": "y"})
        told = await client.all()
        mine = [
            (name, data)
            for name, data in told
            if (data.get("subscriptionId") == "s" and "id" in data) or name == RESYNC
        ]
        assert [(name, data["reason"], data["subscriptionId"]) for name, data in mine] == [
            (RESYNC, "permission", "s")
        ]
        others = [
            data["id"]
            for name, data in told
            if name == UPDATE and data["subscriptionId"] == "other"
        ]
        assert set(made) <= set(others)

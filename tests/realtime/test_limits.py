"""Limits: messages, subscriptions and connections, per socket, user and address."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import jwt
import pytest
import socketio

from tests.http.kit import SECRET as HTTP_SECRET
from tests.realtime.kit import SECRET, running, subscriber
from tests.sockets.kit import Polling, Socket, live_api, polling, served
from tests.support.server import serve
from tidings import (
    Api,
    ConfigurationError,
    Conflict,
    FilterLimits,
    JWTAuthPlugin,
    RateLimited,
    RestApiPlugin,
    SocketIOPlugin,
    SocketLimits,
    SqlAlchemyPlugin,
)
from tidings.realtime.limits import Allowance, Allowances, Buckets, Connections, Rate, TokenBucket

pytestmark = pytest.mark.anyio


def test_a_bucket_lets_a_burst_through_and_then_so_many_a_second() -> None:
    now = [100.0]
    bucket = TokenBucket(Rate(2, 5, lambda: now[0]))
    assert [bucket.take() for _ in range(6)] == [True] * 5 + [False]
    now[0] += 0.9
    assert [bucket.take(), bucket.take()] == [True, False]
    now[0] += 1000
    assert not bucket.take(6), "never more than a burst"
    assert bucket.take(5)


def test_a_restore_counts_each_entry() -> None:
    allowance = Allowance(Buckets(SocketLimits(subscribe_burst=10, subscribe_rate=1)))
    allowance.spend("restore-subscriptions", {"subscriptions": [{}] * 9})
    allowance.spend("subscribe", {})
    allowance.spend("unsubscribe", {})
    for event, payload in (("subscribe", {}), ("restore-subscriptions", {"subscriptions": [1]})):
        with pytest.raises(RateLimited):
            allowance.spend(event, payload)


def test_a_new_connection_brings_no_fresh_allowance() -> None:
    now = [0.0]
    limits = SocketLimits(message_burst=10, message_rate=1, user_factor=2)
    users = Allowances(limits, lambda: now[0])

    def sent(allowance: Allowance) -> int:
        for count in range(100):
            try:
                allowance.spend("unsubscribe", {})
            except RateLimited:
                return count
        return 100

    assert [sent(users.open("ann", "a")) for _ in range(4)] == [10, 10, 0, 0]
    assert sent(users.open("ben", "a")) == 10
    now[0] += 3
    assert sent(users.open("ann", "b")) == 6, "twice what a socket may, for all of hers"
    assert sent(users.open(None, "a")) == sent(users.open(None, "a")) == 10
    by_address = Allowances(SocketLimits(message_burst=10, message_rate=1, user_factor=1,
                                         connections_per_address=5), lambda: now[0])  # fmt: skip
    assert [sent(by_address.open(None, "a")), sent(by_address.open(None, "a"))] == [10, 0]


def test_users_are_forgotten_when_they_have_asked_nothing_for_long() -> None:
    now = [0.0]
    users = Allowances(SocketLimits(), lambda: now[0])
    held = users.open("holds", None)
    held.hold(5)
    for number in range(1000):
        users.open(str(number), None).spend("subscribe", {})
    assert len(users) == 1001
    now[0] += 1e6
    for number in range(2000):
        users.open(f"later{number}", None).spend("subscribe", {})
    assert len(users) < 2010
    now[0] += 1e6
    users.open("one more", None)
    held.release(5)


def test_a_renewal_costs_what_is_checked_for_it() -> None:
    allowance = Allowance(Buckets(SocketLimits(subscribe_burst=100, subscribe_rate=1)))
    allowance.spend("authenticate", {"token": "x"}, 90)
    with pytest.raises(RateLimited):
        allowance.spend("authenticate", {"token": "x"}, 90)
    allowance.spend("authenticate", {"token": "x"}, 5)


async def test_filters_weigh() -> None:
    async with running() as api:
        service = api.socket_server._service
        ann, _ = subscriber()
        limits = SocketLimits(filter_bytes=1000, user_factor=2)
        user = Buckets(limits, limits.user_factor)
        ann.allowance = Allowance(Buckets(limits), user)
        asked = {"resource": "posts", "filters": {"title": "x" * 400}}
        made = [await service.subscribe(ann, asked) for _ in range(2)]
        with pytest.raises(Conflict) as caught:
            await service.subscribe(ann, asked)
        assert caught.value.code == "SUBSCRIPTION_LIMIT_EXCEEDED"
        assert caught.value.details == {"filterBytes": 1000}
        await service.unsubscribe(ann, {"subscriptionId": made[0].subscription.id})
        await service.subscribe(ann, asked)
        other, _ = subscriber("s2")
        other.allowance = Allowance(Buckets(limits), user)
        made = [await service.subscribe(other, asked) for _ in range(2)]
        third, _ = subscriber("s3")
        third.allowance = Allowance(Buckets(limits), user)
        with pytest.raises(Conflict):
            for _ in range(2):
                await service.subscribe(third, asked)
        for person in (ann, other, third):
            service.forget(person)
        assert user.filter_bytes == 0


def test_connections_are_counted_by_user_and_address() -> None:
    connections = Connections(SocketLimits(connections_per_user=2, connections_per_address=3))
    made = [object() for _ in range(4)]
    assert connections.enter(made[0], "ann", "a")
    assert connections.enter(made[0], "ann", "a"), "again over one connection: still one"
    assert connections.enter(made[1], "ann", "a")
    assert not connections.enter(made[2], "ann", "b")
    assert connections.enter(made[2], "ben", "a")
    assert not connections.enter(made[3], "eve", "a")
    connections.leave(made[3])
    connections.leave(made[0])
    connections.leave(made[0])
    assert connections.enter(made[3], "ann", "a")
    for connection in made:
        connections.leave(connection)
    assert not connections._counts


@pytest.mark.parametrize(
    "options",
    [
        {"message_rate": 0},
        {"message_rate": float("inf")},
        {"subscribe_burst": "x"},
        {"connections_per_user": -1},
        {"polling": True},
        {"frame_size": 0},
        {"malformed_frames": 1.5},
    ],
)
def test_limits_that_are_none_are_named(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        SocketLimits(**options)


async def test_too_many_messages_are_answered_and_do_nothing() -> None:
    async with running() as api:
        server = api.socket_server
        ann, wire = subscriber()
        server._subscribers[ann.id] = ann
        ann.allowance = Allowance(Buckets(SocketLimits(subscribe_burst=3, subscribe_rate=1)))
        answers = [
            (await server.handle(ann.id, "subscribe", {"resource": "posts"}))[0] for _ in range(4)
        ]
        assert [answer.get("error", {}).get("code") for answer in answers] == [
            None,
            None,
            None,
            "RATE_LIMITED",
        ]
        assert len(ann.subscriptions) == 3
        assert wire.events("subscription.error")[0]["code"] == "RATE_LIMITED"


async def test_connections_beyond_the_limit_are_refused_and_given_back() -> None:
    api = Api(name="limited")
    api.use(RestApiPlugin())
    api.use(SqlAlchemyPlugin("sqlite+aiosqlite://", create_tables=True))
    api.use(JWTAuthPlugin(secret=SECRET))
    api.use(SocketIOPlugin(limits=SocketLimits(connections_per_user=2)))
    api.add_resource("posts", {"title": "string"})
    auth = {"token": jwt.encode({"sub": "u"}, SECRET, "HS256")}

    async def connect(url: str) -> socketio.AsyncSimpleClient:
        client = socketio.AsyncSimpleClient()
        await client.connect(url, auth=auth, transports=["websocket"])
        return client

    async with serve(api.asgi()) as url:
        first, second = await connect(url), await connect(url)
        with pytest.raises(socketio.exceptions.ConnectionError):
            await connect(url)
        await first.disconnect()
        for _ in range(100):
            if sum(api.socket_server._connections._counts.values()) <= 2:
                break
            await asyncio.sleep(0.02)
        third = await connect(url)
        for client in (second, third):
            await client.disconnect()


async def test_limits_on_frames_and_messages_can_be_set() -> None:
    limits = SocketLimits(message_size=400, frame_size=800, malformed_frames=2)
    async with served(live_api(limits=limits)) as url:
        async with await Socket.connected(url) as socket:
            fits = await socket.call("subscribe", {"resource": "x" * 100})
            assert fits["error"]["code"] == "RESOURCE_NOT_FOUND"
            too_large = await socket.call("subscribe", {"resource": "x" * 400})
            assert too_large["error"]["code"] == "PAYLOAD_TOO_LARGE"
            # Two are let pass, and no third one; frames and the packets in them are counted apart.
            for frame in ("9", "9"):
                await socket.send(frame)
            await socket.assert_healthy()
            await socket.send("9")
            await socket.ended()
        async with await Socket.connected(url) as socket:
            for packet in ("42nonsense", "42[7]"):
                await socket.send(packet)
            await socket.assert_healthy()
            await socket.send("42{}")
            await socket.ended()
        async with await Socket.connected(url) as socket:
            await socket.send("4" + "2" * 800)
            await socket.ended()
        async with polling(url) as http:
            session = await Polling.connected(http)
            assert (await session.post("4" + "2" * 800)).status_code == 413
            await session.post("1")


async def test_limits_on_filters_are_the_same_over_http_and_sockets() -> None:
    api = Api(name="limited", filter_limits=FilterLimits(values=2, comparisons=3, text=5))
    api.use(RestApiPlugin())
    api.use(SqlAlchemyPlugin("sqlite+aiosqlite://", create_tables=True))
    api.use(JWTAuthPlugin(secret=HTTP_SECRET))
    api.use(SocketIOPlugin())
    search = {name: {"filter_operator": "in"} for name in ("a", "b")}
    api.add_resource("posts", {"a": "string", "b": "string"}, search_schema=search)
    cases: list[tuple[dict[str, list[str]], str]] = [
        ({"a": ["x", "y"], "b": ["z"]}, ""),
        ({"a": ["x", "y", "z"]}, "at most 2 values"),
        ({"a": ["x", "y"], "b": ["z", "z2"]}, "more than 3 comparisons"),
        ({"a": ["123456"]}, "at most 5 characters"),
    ]
    async with (
        serve(api.asgi()) as url,
        await Socket.connected(url) as socket,
        httpx.AsyncClient(base_url=url) as http,
    ):
        for filters, message in cases:
            params = {f"filter[{name}]": ",".join(values) for name, values in filters.items()}
            over_http = await http.get("/api/posts", params=params)
            over_socket = await socket.call("subscribe", {"resource": "posts", "filters": filters})
            assert over_http.status_code == (400 if message else 200)
            assert ("error" in over_socket) == bool(message)
            assert message in over_http.text
            assert message in str(over_socket)


async def test_any_origin_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    async with running():
        pass
    assert "pages of any origin" in caplog.text

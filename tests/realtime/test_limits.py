"""Limits: messages, subscriptions and connections, per socket, user and address."""

from __future__ import annotations

import asyncio
from typing import Any

import jwt
import pytest
import socketio

from tests.realtime.kit import SECRET, running, subscriber
from tests.support.server import serve
from tidings import (
    Api,
    ConfigurationError,
    JWTAuthPlugin,
    RateLimited,
    RestApiPlugin,
    SocketIOPlugin,
    SocketLimits,
    SqlAlchemyPlugin,
)
from tidings.realtime.limits import Allowance, Connections, TokenBucket

pytestmark = pytest.mark.anyio


def test_a_bucket_lets_a_burst_through_and_then_so_many_a_second() -> None:
    now = [100.0]
    bucket = TokenBucket(2, 5, lambda: now[0])
    assert [bucket.take() for _ in range(6)] == [True] * 5 + [False]
    now[0] += 0.9
    assert [bucket.take(), bucket.take()] == [True, False]
    now[0] += 1000
    assert not bucket.take(6), "never more than a burst"
    assert bucket.take(5)


def test_a_restore_counts_each_entry() -> None:
    allowance = Allowance(SocketLimits(subscribe_burst=10, subscribe_rate=1))
    allowance.spend("restore-subscriptions", {"subscriptions": [{}] * 9})
    allowance.spend("subscribe", {})
    allowance.spend("unsubscribe", {})
    for event, payload in (("subscribe", {}), ("restore-subscriptions", {"subscriptions": [1]})):
        with pytest.raises(RateLimited):
            allowance.spend(event, payload)


def test_connections_are_counted_by_user_and_address() -> None:
    connections = Connections(SocketLimits(connections_per_user=2, connections_per_address=3))
    made: list[dict[str, Any]] = [{} for _ in range(4)]
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
    for environ in [*made, None]:
        connections.leave(environ)
    assert not connections._counts


@pytest.mark.parametrize(
    "options",
    [{"message_rate": 0}, {"subscribe_burst": "x"}, {"connections_per_user": -1}],
)
def test_limits_that_are_none_are_named(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        SocketLimits(**options)


async def test_too_many_messages_are_answered_and_do_nothing() -> None:
    async with running() as api:
        server = api.socket_server
        ann, wire = subscriber()
        server._subscribers[ann.id] = ann
        server._allowances[ann.id] = Allowance(SocketLimits(subscribe_burst=3, subscribe_rate=1))
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


async def test_any_origin_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    async with running():
        pass
    assert "pages of any origin" in caplog.text

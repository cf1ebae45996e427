"""Two processes as one: what is written at one, revoked at one, is known at the other."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import jwt
import pytest

from tests.chaos.app import SECRET, Setup
from tests.chaos.field import Field, field_of
from tests.chaos.follower import following
from tests.support.redis import RedisServer


@pytest.fixture
async def place(tmp_path: Path, redis: RedisServer) -> AsyncIterator[Field]:
    setup = Setup(f"sqlite+aiosqlite:///{tmp_path}/c.db", redis=redis.redis())
    async with field_of(setup, "processes") as made:
        yield made


def token(user: str, seconds: float = 600.0) -> str:
    claims = {"sub": user, "exp": time.time() + seconds, "jti": user, "iat": time.time() - 1}
    return jwt.encode(claims, SECRET, "HS256")


async def connected(place: Field, slot: int, bearer: str) -> aiohttp.ClientWebSocketResponse:
    """A socket of a user, with a subscription to all notes."""
    url = f"{place.cluster.urls[slot]}/socket.io/?EIO=4&transport=websocket"
    ws = await place.http.ws_connect(url)
    await ws.send_str("40" + json.dumps({"token": bearer}))
    await until(ws, "connected")
    await ws.send_str('42["subscribe",{"resource":"notes","subscriptionId":"s"}]')
    await until(ws, "subscription.created")
    return ws


async def until(ws: aiohttp.ClientWebSocketResponse, event: str) -> Any:
    while True:
        message = await ws.receive(timeout=20)
        assert message.type is aiohttp.WSMsgType.TEXT, message
        if message.data.startswith("42"):
            name, payload = json.loads(message.data[2:])
            if name == event:
                return payload


async def ended(ws: aiohttp.ClientWebSocketResponse) -> float:
    """When the server has closed the connection."""
    while True:
        message = await ws.receive(timeout=20)
        if message.type is not aiohttp.WSMsgType.TEXT:
            return time.time()


async def test_a_write_at_one_reaches_the_sockets_of_both_once(place: Field) -> None:
    place.follow(14, lambda number: [place.cluster.urls[number // 7]])
    place.write(2)
    async with following(place.followers):
        for writer in place.writers:
            for _ in range(30):
                await writer.write()
        tally = await place.account()
    assert not tally.faults, tally.faults[:10]
    assert tally.told == tally.due, tally


async def test_a_revocation_at_one_ends_the_sockets_of_the_other(place: Field) -> None:
    sockets = [await connected(place, slot, token("u")) for slot in (0, 1)]
    bystander = await connected(place, 1, token("v"))
    revoked = time.time()
    async with place.http.post(f"{place.cluster.urls[0]}/revoke", json={"user_id": "u"}) as answer:
        assert answer.status == 200
    for ws in sockets:
        assert await until(ws, "auth.revoked") == {"message": "Token revoked"}
        # What is read every 0.5 s, and closed within 0.5 s; the rest is for a busy machine.
        assert await ended(ws) - revoked < 5
    assert not bystander.closed
    await bystander.close()


async def test_an_expiry_ends_the_sockets_of_every_process(place: Field) -> None:
    soon = token("u", 2.0)
    expires = jwt.decode(soon, SECRET, ["HS256"])["exp"]
    sockets = [await connected(place, slot, soon) for slot in (0, 1)]
    for ws in sockets:
        assert await until(ws, "auth.expired") == {"message": "Token expired"}
        assert 0 <= await ended(ws) - expires < 5

"""What the application knows of somebody beyond the token: the same over HTTP and sockets."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import httpx
import jwt
import pytest

from tests.realtime.kit import SECRET, Wire, delivered, subscriber
from tidings import (
    Api,
    AuthenticationError,
    ConfigurationError,
    Identity,
    JWTAuthPlugin,
    RestApiPlugin,
    SocketIOPlugin,
    SqlAlchemyPlugin,
)
from tidings.realtime.subscriptions import Subscriber

pytestmark = pytest.mark.anyio


class Directory:
    """Who is in which team, and how often that was asked."""

    def __init__(self) -> None:
        self.teams: dict[str, str] = {"ann": "red", "ben": "red"}
        self.asked: list[str | None] = []
        self.wait: asyncio.Event | None = None
        self.error: Exception | None = None
        self.roles: frozenset[str] = frozenset()

    async def __call__(self, identity: Identity) -> Identity | None:
        self.asked.append(identity.user_id)
        team = self.teams.get(identity.user_id or "")
        if self.wait is not None:
            await self.wait.wait()
        if self.error is not None:
            raise self.error
        if team is None:
            return None
        claims = {**identity.claims, "team": team}
        return replace(identity, claims=claims, roles=identity.roles | self.roles)


@asynccontextmanager
async def serving(
    directory: Any, *, seconds: float = 3600, patience: float = 3600
) -> AsyncIterator[Api]:
    api = Api(name="identify", check_timeout=patience)
    api.use(RestApiPlugin())
    api.use(SqlAlchemyPlugin("sqlite+aiosqlite://", create_tables=True))
    api.use(JWTAuthPlugin(secret=SECRET, identify=directory, identify_seconds=seconds))
    api.use(SocketIOPlugin())
    api.add_resource(
        "notes",
        {"title": "string", "team": "string"},
        row_policy=lambda columns, identity: columns.team == identity.team,
    )
    async with api:
        yield api


@asynccontextmanager
async def web(api: Api, user: str = "ann") -> AsyncIterator[httpx.AsyncClient]:
    claims = {"sub": user, "exp": time.time() + 3600}
    headers = {"Authorization": f"Bearer {jwt.encode(claims, SECRET)}"}
    transport = httpx.ASGITransport(app=api.asgi())
    async with httpx.AsyncClient(
        transport=transport, base_url="http://x", headers=headers
    ) as client:
        yield client


async def titles(client: httpx.AsyncClient) -> list[str]:
    answer = await client.get("/api/notes")
    assert answer.status_code == 200, answer.text
    return [one["attributes"]["title"] for one in answer.json()["data"]]


async def join(api: Api, user: str) -> tuple[Subscriber, Wire]:
    found, wire = subscriber(user, user)
    found.identity = await api._authority.identify(found.identity)
    api.socket_server._sessions.add(found)
    await api.socket_server._service.subscribe(found, {"resource": "notes"})
    return found, wire


async def test_requests_ask_once_in_a_while_and_anew_when_rights_change() -> None:
    directory = Directory()
    async with serving(directory) as api, web(api) as ann:
        for team in ("red", "blue"):
            await api.resources.notes.post({"title": team, "team": team})
        assert await titles(ann) == ["red"]
        assert await titles(ann) == ["red"]
        assert directory.asked == ["ann"]
        directory.teams["ann"] = "blue"
        assert await titles(ann) == ["red"], "it is kept for a while"
        await api.permissions_changed(user_id="ann")
        assert await titles(ann) == ["blue"]
        assert directory.asked == ["ann", "ann"]


async def test_nothing_is_kept_where_that_is_asked_for() -> None:
    directory = Directory()
    async with serving(directory, seconds=0) as api, web(api) as ann:
        await titles(ann)
        await titles(ann)
        assert directory.asked == ["ann", "ann"]


async def test_requests_that_come_at_once_wait_for_one_answer() -> None:
    directory = Directory()
    async with serving(directory, seconds=0) as api, web(api) as ann:
        directory.wait = asyncio.Event()
        asking = [asyncio.create_task(titles(ann)) for _ in range(5)]
        while not directory.asked:
            await asyncio.sleep(0)
        asking[0].cancel()
        await asyncio.sleep(0.01)
        directory.wait.set()
        assert await asyncio.gather(*asking[1:]) == [[]] * 4
        assert directory.asked == ["ann"]


async def test_a_removed_member_is_told_nothing_more_and_a_new_one_is() -> None:
    directory = Directory()
    async with serving(directory) as api:
        _, ann = await join(api, "ann")
        _, ben = await join(api, "ben")
        directory.teams["ann"] = "blue"
        await api.permissions_changed(user_id="ann")
        [resync] = ann.events("subscription.resync")
        assert resync["reason"] == "permission"
        await api.resources.notes.post({"title": "a", "team": "red"})
        await api.resources.notes.post({"title": "b", "team": "blue"})
        await delivered(api)
        assert [event["id"] for event in ann.events()] == ["2"]
        assert [event["id"] for event in ben.events()] == ["1"]


async def test_roles_may_be_given_and_what_the_token_says_stays() -> None:
    directory = Directory()
    directory.roles = frozenset({"editor"})
    async with serving(directory) as api:
        token = jwt.encode({"sub": "ann", "jti": "t1", "exp": 4e9, "iat": 5}, SECRET)
        found = await api._authority.of_header(f"Bearer {token}")
        assert found.has_role("editor")
        assert (found.token_id, found.expires_at, found.issued_at) == ("t1", 4e9, 5)
        await api.revoke(jti="t1")
        with pytest.raises(AuthenticationError):
            await api._authority.of_header(f"Bearer {token}")


async def test_tokens_that_say_the_same_are_still_two() -> None:
    """As are two that were signed in the same second, with a key whose signatures differ."""
    directory = Directory()
    async with serving(directory) as api:
        one, other = (Identity(user_id="ann", token_id=name) for name in ("a", "b"))
        assert one == other
        found = [await api._authority.identify(each) for each in (one, other, one)]
        assert [each.token_id for each in found] == ["a", "b", "a"]


async def test_who_is_not_known_any_more_is_refused_and_disconnected() -> None:
    directory = Directory()
    async with serving(directory) as api, web(api) as client:
        _, ann = await join(api, "ann")
        del directory.teams["ann"]
        await api.permissions_changed(user_id="ann")
        assert [event["message"] for event in ann.events("auth.revoked")]
        await api.resources.notes.post({"title": "a", "team": "red"})
        await delivered(api)
        assert ann.events() == []
        answer = await client.get("/api/notes")
        assert answer.status_code == 401
        assert answer.json()["errors"][0]["code"] == "USER_UNKNOWN"


@pytest.mark.parametrize("fault", ["raises", "hangs"])
async def test_what_cannot_be_said_denies_and_may_be_tried_again(
    fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    directory = Directory()
    async with serving(directory, patience=0.05) as api, web(api) as client:
        ann, wire = await join(api, "ann")
        if fault == "raises":
            directory.error = OSError("the directory is away")
        else:
            directory.wait = asyncio.Event()
        await api.permissions_changed()
        assert not ann.is_open
        assert wire.ended, "it comes back, and is asked then"
        answer = await client.get("/api/notes")
        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "1"
        assert answer.json()["errors"][0]["code"] == "IDENTITY_UNAVAILABLE"
        assert "identify failed for user 'ann'" in caplog.text
        directory.error = directory.wait = None
        assert await titles(client) == []
        caplog.clear()


async def test_another_users_identity_is_a_fault(caplog: pytest.LogCaptureFixture) -> None:
    async with serving(lambda identity: Identity(user_id="root")) as api, web(api) as client:
        assert (await client.get("/api/notes")).status_code == 500
        assert "identify=" in caplog.text
        caplog.clear()


async def test_nobody_in_particular_is_not_asked_for() -> None:
    directory = Directory()
    async with serving(directory) as api:
        transport = httpx.ASGITransport(app=api.asgi())
        async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
            assert (await client.get("/api/notes")).status_code == 200
        assert directory.asked == []


@pytest.mark.parametrize("wrong", [5, "x", lambda: None, lambda a, b: None])
def test_what_is_no_such_function_is_refused(wrong: Any) -> None:
    with pytest.raises(ConfigurationError, match="identify"):
        JWTAuthPlugin(secret=SECRET, identify=wrong)

"""Who may look: those whom the application names, and nobody else, whatever goes wrong."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from starlette.requests import Request

from tests.http.kit import bearer
from tests.inspector.kit import ADMIN, inspected, look
from tests.sockets.kit import live_api, served
from tidings import ConfigurationError, Identity, InspectorPlugin, MissingDependencyError

pytestmark = pytest.mark.anyio
ANSWERS = ("/inspector/data", "/inspector/explain?cursor=x.1")
FILES = ("/inspector", "/inspector/inspector.js", "/inspector/inspector.css", "/inspector/icon.svg")


async def test_it_is_not_there_unless_it_is_asked_for():
    async with served(live_api()) as url, httpx.AsyncClient(base_url=url) as http:
        for path in (*ANSWERS, *FILES):
            assert (await http.get(path, headers=ADMIN)).status_code == 404
        assert live_api()._observer is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "say who may look"),
        ({"role": "admin", "allow": lambda who: True}, "one of both"),
        ({"role": ""}, "role is the name of a role"),
        ({"role": True}, "role is the name of a role"),
        ({"allow": "admin"}, "allow is a function"),
        ({"role": "admin", "identify": "cookie"}, "identify is a function"),
        ({"role": "admin", "path": "inspector"}, "start it with '/'"),
        ({"role": "admin", "path": "/"}, "end it without"),
        ({"role": "admin", "changes": 0}, "changes is a number from 1 to 10,000"),
        ({"role": "admin", "changes": True}, "changes is a number"),
        ({"role": "admin", "change_bytes": 10}, "change_bytes is a number from 100,000"),
    ],
)
def test_options_that_cannot_be_used_are_named(options: dict[str, Any], message: str):
    with pytest.raises(ConfigurationError, match=message):
        InspectorPlugin(**options)


def test_it_needs_sockets():
    from tests.http.kit import make_api

    with pytest.raises(MissingDependencyError, match="socketio"):
        make_api().use(InspectorPlugin(role="admin"))


async def test_only_those_with_the_role_may_look():
    async with served(inspected()) as url, httpx.AsyncClient(base_url=url) as http:
        for path in ANSWERS:
            for headers, status in [
                ({}, 401),
                ({"authorization": "Bearer nonsense"}, 401),
                ({"authorization": "Basic cm9vdDpyb290"}, 401),
                (bearer("ann"), 403),
                (bearer("ann", roles=["Admin", "administrator"]), 403),
                (bearer("root", roles=["admin"], exp=1), 401),
            ]:
                answer = await http.get(path, headers=headers)
                assert answer.status_code == status, (path, headers, answer.text)
                assert set(answer.json()) <= {"message", "code"}
                assert answer.headers["cache-control"] == "no-store"
            assert (await http.post(path, headers=ADMIN)).status_code == 405
        await look(http)


async def never(_: Identity) -> bool:
    await asyncio.sleep(60)
    return True


def fails(_: Identity) -> bool:
    raise RuntimeError("the database of rights is away")


@pytest.mark.parametrize(
    "allow", [fails, never, lambda who: 1, lambda who: None, lambda who: "yes", lambda who: False]
)
async def test_what_is_not_a_plain_yes_denies(allow: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("tidings.inspector.access._SECONDS", 0.05)
    async with served(inspected(allow=allow)) as url, httpx.AsyncClient(base_url=url) as http:
        for path in ANSWERS:
            answer = await http.get(path, headers=ADMIN)
            assert answer.status_code == 403, answer.text
            assert "rights" not in answer.text


async def test_a_function_decides_and_nobody_without_an_identity_is_asked_about():
    asked: list[str | None] = []

    async def allow(who: Identity) -> bool:
        asked.append(who.user_id)
        return who.has_permission("inspect")

    async with served(inspected(allow=allow)) as url, httpx.AsyncClient(base_url=url) as http:
        await look(http, bearer("ann", permissions=["inspect"]))
        assert (await http.get(ANSWERS[0], headers=bearer("ben"))).status_code == 403
        assert (await http.get(ANSWERS[0])).status_code == 401
    assert asked == ["ann", "ben"]


async def test_a_revoked_token_opens_nothing_any_more():
    api = inspected()
    async with served(api) as url, httpx.AsyncClient(base_url=url) as http:
        await look(http)
        await api.revoke(token=ADMIN["authorization"].removeprefix("Bearer "))
        assert (await http.get(ANSWERS[0], headers=ADMIN)).status_code == 401


async def test_a_cookie_of_the_application_is_taken_where_it_says_whose_it_is():
    async def identify(request: Request) -> Identity | None:
        if request.cookies.get("session") != "of-root":
            return None
        return Identity("root", roles=frozenset({"admin"}))

    async with served(inspected(identify=identify)) as url, httpx.AsyncClient(base_url=url) as http:
        assert 'data-knows="cookie"' in (await http.get("/inspector")).text
        await look(http, {"cookie": "session=of-root"})
        for headers, status in [
            ({"cookie": "session=stolen"}, 401),
            ({}, 401),
            # A token that is sent counts, and not the cookie.
            ({"cookie": "session=of-root", **bearer("ann")}, 403),
        ]:
            assert (await http.get(ANSWERS[0], headers=headers)).status_code == status


async def test_the_page_is_for_everybody_and_holds_nothing():
    async with (
        served(inspected(path="/a b/<look>")) as url,
        httpx.AsyncClient(base_url=url) as http,
    ):
        page = await http.get("/a b/<look>")
        assert page.status_code == 200
        assert 'src="%3Clook%3E/inspector.js"' in page.text
        assert "<look>" not in page.text
        assert 'data-knows="token"' in page.text
        policy = page.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "http" not in policy
        for name in ("inspector.js", "inspector.css", "icon.svg"):
            found = await http.get(f"/a b/<look>/{name}")
            assert found.status_code == 200
            assert found.headers["x-content-type-options"] == "nosniff"
        assert (await http.get("/a b/<look>/plugin.py")).status_code == 404

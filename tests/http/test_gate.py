"""An api whose lifespan nobody runs: opened by the first request, or it serves nobody."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount
from tests.http.kit import SECRET, token

from tidings import Api, JWTAuthPlugin, RestApiPlugin, SocketIOPlugin, SqlAlchemyPlugin

pytestmark = pytest.mark.anyio


def make(url: str, *, create: bool = True) -> Api:
    api = Api(name="gate")
    api.use(RestApiPlugin())
    api.use(SqlAlchemyPlugin(url, create_tables=create))
    api.use(JWTAuthPlugin(secret=SECRET, revocation="database"))
    api.use(SocketIOPlugin())
    api.add_resource("posts", {"title": "string"})
    return api


def client(app: Any) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://x")


HANDSHAKE = "/socket.io/?EIO=4&transport=polling"


@pytest.mark.parametrize("path", ["/api/posts", HANDSHAKE])
@pytest.mark.parametrize("mounted", [False, True])
async def test_the_first_request_opens_it_with_one_warning(
    path: str, mounted: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    api = make(f"sqlite+aiosqlite:///{tmp_path / 'a.db'}")
    app: Any = Starlette(routes=[Mount("/v1", app=api.asgi())]) if mounted else api.asgi()
    try:
        async with client(app) as http:
            prefix = "/v1" if mounted else ""
            answers = await asyncio.gather(*(http.get(prefix + path) for _ in range(5)))
            assert [answer.status_code for answer in answers] == [200] * 5
        assert api.state == "open"
        assert len([line for line in caplog.messages if "opened by its first request" in line]) == 1
    finally:
        await api.close()


async def test_a_token_that_was_revoked_before_is_refused(tmp_path: Path) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path / 'a.db'}"
    shown = token(sub="7")
    async with make(url) as before:
        await before.revoke(token=shown)
    api = make(url)
    try:
        async with client(api.asgi()) as http:
            headers = {"Authorization": f"Bearer {shown}"}
            assert (await http.get("/api/posts", headers=headers)).status_code == 401
    finally:
        await api.close()


@pytest.mark.parametrize("path", ["/api/posts", HANDSHAKE])
async def test_one_that_has_been_closed_serves_nobody(path: str) -> None:
    api = make("sqlite+aiosqlite://")
    async with client(api.asgi()) as http:
        async with api:
            assert (await http.get(path)).status_code == 200
        answer = await http.get(path)
        assert answer.status_code == 503
        assert answer.json()["errors"][0]["code"] == "NOT_OPEN"
        assert "retry-after" in answer.headers
        async with api:
            assert (await http.get(path)).status_code == 200


async def test_one_that_cannot_be_opened_says_so_once_in_a_while(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    api = make(f"sqlite+aiosqlite:///{tmp_path / 'no' / 'such' / 'folder' / 'a.db'}")
    async with client(api.asgi()) as http:
        for _ in range(3):
            assert (await http.get("/api/posts")).status_code == 503
    assert len([line for line in caplog.messages if "cannot be opened" in line]) == 1
    caplog.clear()

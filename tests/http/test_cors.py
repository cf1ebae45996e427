"""CorsPlugin: one place for HTTP and sockets, alone and beside a host's own middleware."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from fastapi import Depends, FastAPI
from fastapi.middleware.cors import CORSMiddleware
from tests.http.kit import SECRET, bearer, check_document
from tests.support.server import serve

from tidings import (
    Api,
    ConfigurationError,
    CorsPlugin,
    Identity,
    JWTAuthPlugin,
    NotFound,
    PermissionDenied,
    RestApiPlugin,
    SocketIOPlugin,
    SqlAlchemyPlugin,
)

APP = "https://app.example.org"
POLL = "/socket.io/?EIO=4&transport=polling"


def make(plugin: CorsPlugin | None = None, **sockets: Any) -> Api:
    api = Api(name="test")
    api.use(RestApiPlugin())
    api.use(SqlAlchemyPlugin("sqlite+aiosqlite://", create_tables=True))
    api.use(JWTAuthPlugin(secret=SECRET))
    api.use(SocketIOPlugin(**sockets))
    if plugin is not None:
        api.use(plugin)
    api.add_resource("posts", {"title": "string"})
    return api


@asynccontextmanager
async def asking(app: Any) -> AsyncIterator[httpx.AsyncClient]:
    async with serve(app) as url, httpx.AsyncClient(base_url=url) as http:
        yield http


def allowed(answer: httpx.Response) -> list[str]:
    return answer.headers.get_list("access-control-allow-origin")


async def preflight(http: httpx.AsyncClient, origin: str, method: str = "PATCH") -> httpx.Response:
    asked = {
        "origin": origin,
        "access-control-request-method": method,
        "access-control-request-headers": "authorization, content-type, if-match",
    }
    return await http.options("/api/posts/1", headers=asked)


async def test_http_and_sockets() -> None:
    async with asking(make(CorsPlugin([APP], headers=["X-Trace"], expose=["X-Id"])).asgi()) as http:
        answer = await preflight(http, APP)
        assert answer.status_code == 200
        assert allowed(answer) == [APP]
        assert "PATCH" in answer.headers["access-control-allow-methods"]
        sent = answer.headers["access-control-allow-headers"].lower()
        assert "if-match" in sent
        assert "x-trace" in sent
        assert answer.headers["access-control-max-age"] == "600"
        for method in ("GET", "PUT", "DELETE", "POST", "HEAD"):
            assert (await preflight(http, APP, method)).status_code == 200
        assert (await preflight(http, "https://evil.example")).status_code == 400
        for path in ("/api/posts", "/api/nothing", POLL):
            answer = await http.get(path, headers={"origin": APP})
            assert allowed(answer) == [APP], path
            assert "Origin" in answer.headers["vary"]
            other = await http.get(path, headers={"origin": "https://evil.example"})
            assert allowed(other) == [], path
        read = (await http.get("/api/posts", headers={"origin": APP})).headers
        exposed = read["access-control-expose-headers"]
        assert {"ETag", "Location", "Tidings-Cursor", "X-Id"} <= set(exposed.split(", "))
        assert "access-control-allow-credentials" not in read
        refused = await http.get(POLL, headers={"origin": "https://evil.example"})
        assert refused.status_code == 400


async def test_any_origin() -> None:
    async with asking(make(CorsPlugin(["*"])).asgi()) as http:
        for path in ("/api/posts", POLL):
            answer = await http.get(path, headers={"origin": APP})
            assert allowed(answer) == ["*"]
            assert "access-control-allow-credentials" not in answer.headers


async def test_without_it_no_header_is_sent() -> None:
    async with asking(make().asgi()) as http:
        assert allowed(await http.get("/api/posts", headers={"origin": APP})) == []
        assert (await preflight(http, APP)).status_code == 405


async def test_beside_a_hosts_own_middleware_each_header_is_there_once() -> None:
    app = FastAPI()
    app.add_middleware(CORSMiddleware, allow_origins=[APP], allow_methods=["*"])
    make(CorsPlugin([APP])).install(app)
    async with asking(app) as http:
        for path in ("/api/posts", POLL):
            assert allowed(await http.get(path, headers={"origin": APP})) == [APP], path
        assert allowed(await preflight(http, APP)) in ([APP], [])


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"origins": []}, "name at least one origin"),
        ({"origins": ["https://example.org/"]}, "not an origin as browsers send it"),
        ({"origins": ["*.example.org"]}, "not an origin"),
        ({"origins": ["*"], "credentials": True}, "credentials need origins by name"),
        ({"origins": [APP], "max_age": -1}, "max_age is in seconds"),
    ],
)
def test_wrong_options(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(says)):
        CorsPlugin(**options)


def test_origins_named_twice() -> None:
    api = make(CorsPlugin([APP]), cors={"origin": [APP]})
    with pytest.raises(ConfigurationError, match="origins are named twice"):
        _ = api.socket_server


async def test_a_hosts_own_routes_refuse_and_ask_who_as_tidings_does() -> None:
    app = FastAPI()
    api = make()

    @app.get("/me")
    async def me(who: Identity = Depends(api.identity)) -> dict[str, Any]:  # noqa: B008
        return {"id": who.user_id}

    @app.get("/missing")
    async def missing() -> None:
        raise NotFound("There is no such page")

    @app.get("/denied")
    def denied() -> None:
        raise PermissionDenied("Not for you")

    @app.get("/post")
    async def post() -> Any:
        return await api.resources.posts.get("99")

    api.install(app)
    async with asking(app) as http:
        assert (await http.get("/me")).json() == {"id": None}
        assert (await http.get("/me", headers=bearer("ann"))).json() == {"id": "ann"}
        wrong = await http.get("/me", headers={"authorization": "Bearer x"})
        assert wrong.status_code == 401
        assert wrong.headers["www-authenticate"] == "Bearer"
        check_document(wrong)
        for path, status in (("/missing", 404), ("/denied", 403), ("/post", 404)):
            answer = await http.get(path)
            assert answer.status_code == status
            check_document(answer)
        parameters = (await http.get("/openapi.json")).json()["paths"]["/me"]["get"]
        assert "parameters" not in parameters

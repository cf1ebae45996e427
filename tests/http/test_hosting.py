"""An api in the company of others: FastAPI, Starlette, plain ASGI apps, proxies, lifespans."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import socketio
import uvicorn
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route
from tests.http.kit import (
    SECRET,
    WITHOUT_LOG,
    Client,
    check_document,
    make_api,
    token,
    tracebacks,
    watched_logs,
)
from tests.support.server import serve
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from tidings import Api, JWTAuthPlugin, RestApiPlugin, SocketIOPlugin, SqlAlchemyPlugin
from tidings.errors import ConfigurationError, MissingDependencyError, TidingsError

ORIGIN = "https://app.example"

# An app without a lifespan never closes its api, and old versions of aiosqlite find the loop gone.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")


def live_api(**options: Any) -> Api:
    """An api with sockets and one resource."""
    api = make_api(jwt_auth=True)
    api.use(SocketIOPlugin(**options))
    api.add_resource("posts", schema={"title": "string"})
    return api


@contextlib.asynccontextmanager
async def hosted(app: Any, **config: Any) -> AsyncIterator[str]:
    """The url of an app that must run and end without anything unforeseen."""
    with watched_logs() as records:
        async with serve(app, **{**WITHOUT_LOG, **config}) as url:
            yield url
    assert tracebacks(records) == []


async def works(url: str, prefix: str = "/api", socket_path: str = "/socket.io") -> None:
    """Write over HTTP and hear of it over a socket."""
    base = url + prefix.removesuffix("/")
    client = socketio.AsyncSimpleClient()
    async with Client(base) as http:
        await client.connect(url, auth={"token": token()}, socketio_path=socket_path)
        try:
            answer = await client.call("subscribe", {"resource": "posts"})
            assert answer["success"] is True
            made = await http.made("posts", {"title": "heard"})
            assert made["links"]["self"].endswith(f"{prefix}/posts/{made['id']}")
            while True:
                event, payload = await client.receive(timeout=10)
                if event == "subscription.update":
                    break
            assert payload["id"] == made["id"]
        finally:
            await client.disconnect()


async def polls(url: str) -> None:
    async with httpx.AsyncClient(base_url=url) as http:
        response = await http.get("/socket.io/?EIO=4&transport=polling")
        assert response.text.startswith("0{")


def fastapi_host(**options: Any) -> FastAPI:
    app = FastAPI(**options)

    @app.get("/host")
    def host() -> dict[str, bool]:
        return {"host": True}

    return app


# install


async def test_install_into_fastapi_keeps_the_hosts_routes() -> None:
    app = fastapi_host()
    api = live_api()
    api.install(app, prefix="/v1/data")
    async with hosted(app) as url:
        await works(url, "/v1/data")
        async with httpx.AsyncClient(base_url=url) as http:
            assert (await http.get("/host")).json() == {"host": True}
            assert (await http.get("/openapi.json")).status_code == 200
            assert (await http.get("/nowhere")).json() == {"detail": "Not Found"}
            check_document(await http.get("/v1/data/nothing"))


async def test_install_into_starlette_with_a_catch_all_route() -> None:
    async def everything(request: Any) -> PlainTextResponse:
        return PlainTextResponse("the host's")

    catch_all = Route("/{path:path}", everything)
    api = live_api()
    app = Starlette()
    api.install(app)
    app.router.routes.append(catch_all)
    async with hosted(app) as url:
        await works(url)
        async with httpx.AsyncClient(base_url=url) as http:
            assert (await http.get("/elsewhere")).text == "the host's"
    # One that was there before hides the resources, as any route declared first; not the sockets.
    api = live_api()
    app = Starlette(routes=[catch_all])
    api.install(app)
    async with hosted(app) as url:
        await polls(url)


async def test_install_runs_the_hosts_lifespan_once_inside_the_apis_own() -> None:
    seen: list[str] = []
    api = live_api()
    api.add_hook("startup", "note", lambda _: seen.append("api up"))
    api.add_hook("shutdown", "note", lambda _: seen.append("api down"))

    @contextlib.asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[dict[str, str]]:
        await api.resources.posts.post({"title": "the api is open here"})
        seen.append("host up")
        yield {"state": "kept"}
        await api.resources.posts.post({"title": "and here"})
        seen.append("host down")

    app = FastAPI(lifespan=lifespan)

    @app.get("/state")
    async def state(request: Any = None) -> int:
        return (await api.resources.posts.query()).total

    api.install(app)
    async with hosted(app) as url, httpx.AsyncClient(base_url=url) as http:
        assert (await http.get("/state")).json() == 1
        assert seen == ["api up", "host up"]
    assert seen == ["api up", "host up", "host down", "api down"]


async def test_cors_headers_are_not_doubled() -> None:
    api = live_api(cors={"origin": [ORIGIN]})
    middleware = [Middleware(CORSMiddleware, allow_origins=[ORIGIN], allow_credentials=True)]
    app = Starlette(middleware=middleware)
    api.install(app)
    async with hosted(app) as url, httpx.AsyncClient(base_url=url) as http:
        for path in ("/api/posts", "/socket.io/?EIO=4&transport=polling"):
            response = await http.get(path, headers={"origin": ORIGIN})
            assert response.status_code == 200
            assert response.headers.get_list("access-control-allow-origin") == [ORIGIN]
        response = await http.get("/api/posts", headers={"origin": "https://evil.example"})
        assert "access-control-allow-origin" not in response.headers


async def test_install_takes_starlette_apps_and_paths_only() -> None:
    async def plain(scope: Any, receive: Any, send: Any) -> None: ...

    with pytest.raises(ConfigurationError, match="Starlette or FastAPI"):
        make_api().install(plain)
    for prefix in ("api", "/api/", "", "/"):
        with pytest.raises(ConfigurationError, match="prefix"):
            make_api().install(Starlette(), prefix=prefix)


# Proxies, mounts, prefixes


async def test_behind_a_proxy_that_strips_its_prefix() -> None:
    """uvicorn's root_path is put before the path, as ASGI asks for."""
    api = live_api()
    async with (
        hosted(api.asgi(), root_path="/svc") as url,
        Client(f"{url}/api") as http,
    ):
        made = await http.made("posts", {"title": "a"})
        assert made["links"]["self"] == f"/svc/api/posts/{made['id']}"
        body = (await http.get("/posts")).json()
        assert body["links"]["first"].startswith("/svc/api/posts?")
        await polls(url)


async def test_fastapi_with_a_root_path_of_its_own() -> None:
    """FastAPI(root_path=...) sets the root path and leaves the path as it came."""
    api = live_api()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # FastAPI has begun to advise against it
        app = fastapi_host(root_path="/svc")
    api.install(app)
    async with hosted(app) as url, Client(f"{url}/api") as http:
        made = await http.made("posts", {"title": "a"})
        assert made["links"]["self"] == f"/svc/api/posts/{made['id']}"
        await polls(url)


async def test_mounted_by_hand_below_a_path() -> None:
    api = live_api()

    @contextlib.asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[None]:
        async with api:
            yield

    app = Starlette(routes=[Mount("/mounted", app=api.asgi())], lifespan=lifespan)
    async with hosted(app) as url:
        await works(url, "/mounted/api", "/mounted/socket.io")


async def test_prefix_and_socket_path_of_the_plugins() -> None:
    api = make_api(jwt_auth=True, prefix="/a/b-c")
    api.use(SocketIOPlugin(path="/live/"))
    api.add_resource("posts", schema={"title": "string"})
    async with hosted(api.asgi()) as url:
        await works(url, "/a/b-c", "/live")
        async with httpx.AsyncClient(base_url=url) as http:
            for path in ("/", "/a", "/api/posts", "/a/b-cd/posts", "/socket.io/", "/a%2Fb-c/posts"):
                response = await http.get(path)
                assert response.status_code == 404
                check_document(response)


async def test_a_websocket_that_is_not_the_sockets_is_refused() -> None:
    async with hosted(live_api().asgi()) as url:
        for path in ("/", "/api/posts", "/elsewhere"):
            with pytest.raises(InvalidStatus):
                await connect(url.replace("http", "ws") + path)


# start_socket_server


async def test_start_socket_server_on_the_apis_own_app() -> None:
    api = live_api()
    app = api.asgi()
    assert api.start_socket_server(app, path="/rt", cors={"origin": ORIGIN}) is app
    async with hosted(app) as url:
        await works(url, socket_path="/rt")
        async with httpx.AsyncClient(base_url=url) as http:
            poll = "/rt/?EIO=4&transport=polling"
            assert (await http.get(poll, headers={"origin": ORIGIN})).status_code == 200
            assert (await http.get(poll, headers={"origin": "http://x"})).status_code == 400


async def test_start_socket_server_on_fastapi_before_or_after_install() -> None:
    for order in ("before", "after"):
        api = live_api()
        app = fastapi_host()
        if order == "before":
            api.start_socket_server(app)
        api.install(app)
        if order == "after":
            api.start_socket_server(app)
        opened: list[str] = []
        api.add_hook("startup", "count", lambda _, opened=opened: opened.append("up"))
        async with hosted(app) as url:
            await works(url)
            async with httpx.AsyncClient(base_url=url) as http:
                assert (await http.get("/host")).json() == {"host": True}
        assert opened == ["up"]


def plain_app(kind: str) -> Any:
    """A bare ASGI app that does with the lifespan what such apps do."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            if kind == "asserts":
                raise AssertionError("only http")
            if kind == "returns":
                return
            assert (await receive())["type"] == "lifespan.startup"
            if kind == "fails":
                await send({"type": "lifespan.startup.failed", "message": "not today"})
                return
            await send({"type": "lifespan.startup.complete"})
            assert (await receive())["type"] == "lifespan.shutdown"
            await send({"type": "lifespan.shutdown.complete"})
            return
        assert scope["type"] == "http"
        headers = [(b"content-type", b"text/plain")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"plain"})

    return app


@pytest.mark.parametrize("kind", ["asserts", "returns", "serves"])
async def test_start_socket_server_on_a_plain_asgi_app(kind: str) -> None:
    api = live_api()
    app = api.start_socket_server(plain_app(kind))
    async with hosted(app) as url:
        async with httpx.AsyncClient(base_url=url) as http:
            assert (await http.get("/")).text == "plain"
        client = socketio.AsyncSimpleClient()
        await client.connect(url, auth={"token": token()})
        assert (await client.call("subscribe", {"resource": "posts"}))["success"] is True
        made = await api.resources.posts.post({"title": "a"})
        while (received := await client.receive(timeout=10))[0] != "subscription.update":
            pass
        assert received[1]["id"] == made["id"]
        await client.disconnect()


def test_start_socket_server_asks_for_what_it_needs() -> None:
    api = make_api()
    with pytest.raises(MissingDependencyError, match="SocketIOPlugin"):
        api.start_socket_server(api.asgi())
    api = live_api()
    api.start_socket_server(api.asgi())
    with pytest.raises(ConfigurationError, match="already"):
        api.start_socket_server(api.asgi())
    for cors in ({"origins": "*"}, {"origin": 5}, {"origin": [1]}):
        with pytest.raises(ConfigurationError, match="cors"):
            live_api().start_socket_server(live_api().asgi(), cors=cors)


async def test_nobody_is_allowed_by_an_empty_list_of_origins() -> None:
    api = live_api(cors={"origin": []})
    async with hosted(api.asgi()) as url, httpx.AsyncClient(base_url=url) as http:
        poll = "/socket.io/?EIO=4&transport=polling"
        assert (await http.get(poll, headers={"origin": ORIGIN})).status_code == 400
        assert (await http.get(poll)).status_code == 200


# Lifespan


async def starts(app: Any) -> bool:
    """Whether uvicorn would go on after the app's startup (if not, it ends the process)."""
    config = uvicorn.Config(app, log_config=None)
    config.load()
    lifespan = config.lifespan_class(config)
    with watched_logs():
        await lifespan.startup()
        if not lifespan.should_exit:
            await lifespan.shutdown()
    return not lifespan.should_exit


async def test_a_database_that_cannot_be_opened_ends_the_server(tmp_path: Any) -> None:
    for host in (False, True):
        api = Api()
        api.use(RestApiPlugin())
        api.use(SqlAlchemyPlugin(f"sqlite+aiosqlite:///{tmp_path}/no/such/folder/app.db"))
        api.use(JWTAuthPlugin(secret=SECRET))
        api.use(SocketIOPlugin())
        api.add_resource("posts", schema={"title": "string"})
        app: Any = api.asgi()
        if host:
            app = fastapi_host()
            api.install(app)
        assert not await starts(app)


@pytest.mark.parametrize("kind", ["fails", "asserts", "serves"])
async def test_a_failing_api_beside_a_plain_app_ends_the_server(kind: str) -> None:
    api = live_api()

    @api.hook("startup")
    def broken(_: Any) -> None:
        if kind != "fails":
            raise TidingsError("not today")

    app = api.start_socket_server(plain_app(kind))
    assert not await starts(app)


async def test_a_failing_startup_hook_closes_what_was_opened(tmp_path: Any) -> None:
    api = make_api(tmp_path / "app.db")
    api.add_resource("posts", schema={"title": "string"})
    fail = [True]

    @api.hook("startup")
    def broken(_: Any) -> None:
        if fail[0]:
            raise TidingsError("not today")

    with pytest.raises(TidingsError, match="not today"):
        await api.open()
    fail[0] = False
    async with api:
        await api.resources.posts.post({"title": "a"})


async def test_an_api_may_be_opened_again(tmp_path: Any) -> None:
    api = live_api()
    for _ in range(2):
        async with hosted(api.asgi()) as url:
            await works(url)

"""Lists of tidings.client, one promise at a time; at random in `test_python_schedules`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiosqlite
import jwt
import pytest
from starlette.responses import JSONResponse

from tests.support.server import serve
from tidings import Api, JWTAuthPlugin, RestApiPlugin, SocketIOPlugin, SqlAlchemyPlugin
from tidings.client import Change, Client, ClientError, LiveList
from tidings.client.changes import Changes, is_covered

pytestmark = pytest.mark.anyio
SECRET = "a secret for tests, of 32 bytes or more"
PATIENCE = 30.0


def make_api(
    url: str = "sqlite+aiosqlite://", blocked: frozenset[str] | set[str] = frozenset()
) -> Api:
    api = Api(name="lists")
    api.use(RestApiPlugin())
    api.use(SqlAlchemyPlugin(url, create_tables=True))
    api.use(JWTAuthPlugin(secret=SECRET))
    api.use(SocketIOPlugin(cors={"origin": ["https://example.org"]}, permission_seconds=0))
    api.add_resource("users", {"name": "string"})
    api.add_resource(
        "posts",
        {
            "title": {"type": "string", "search": True},
            "status": {"type": "string", "search": True},
            "views": {"type": "integer", "default": 0},
        },
        check_permissions=lambda context: context.auth.user_id not in blocked,
    )
    api.add_resource("codes", {"label": "string"}, id_type="string", client_ids=True)
    return api


def token(user: str = "ann") -> str:
    return jwt.encode({"sub": user, "exp": time.time() + 600}, SECRET, "HS256")


@asynccontextmanager
async def connected(
    api: Api | None = None, app: Any = None, **options: Any
) -> AsyncIterator[tuple[Api, Client]]:
    api = make_api() if api is None else api
    async with (
        api,
        serve(api.asgi() if app is None else app, log_level="critical") as url,
        Client(url, **({"token": token()} | options)) as client,
    ):
        yield api, client


async def until(test: Any) -> None:
    async with asyncio.timeout(PATIENCE):
        while not test():
            await asyncio.sleep(0.005)


def titles(found: LiveList) -> list[str]:
    return [one["attributes"]["title"] for one in found.data]


def counting(client: Client) -> list[str]:
    """The URLs of the requests from now on."""
    urls: list[str] = []

    async def note(request: Any) -> None:
        urls.append(str(request.url))

    client.http.event_hooks = {"request": [note]}
    return urls


async def test_the_order_is_that_of_the_ids() -> None:
    async with connected() as (api, client):
        for number in range(12):
            status = "on" if number != 1 else "off"
            await api.resources.posts.post({"title": str(number + 1), "status": status})
        async with client.live("posts", status="on") as found:
            await api.resources.posts.patch("2", {"status": "on"})
            await until(lambda: len(found.records) == 12)
            assert titles(found) == [str(number + 1) for number in range(12)]


async def test_texts_are_ids_too() -> None:
    async with connected() as (api, client), client.live("codes") as found:
        for key in ("b", "a,c", "10", "a", "9", "Z"):
            await api.resources.codes.post({"id": key})
        await until(lambda: len(found.records) == 6)
        page = await api.resources.codes.query(sort="id")
        assert list(found.records) == [one["id"] for one in page]
        await api.resources.codes.patch("a,c", {"label": "x"})
        await until(lambda: found.records["a,c"]["attributes"]["label"] == "x")


async def test_a_sorted_list_keeps_its_order() -> None:
    async with connected() as (api, client):
        for title in "bdf":
            await api.resources.posts.post({"title": title})
        async with client.live("posts", sort=["-title"]) as found:
            assert titles(found) == ["f", "d", "b"]
            await api.resources.posts.post({"title": "e"})
            await until(lambda: titles(found) == ["f", "e", "d", "b"])
            await api.resources.posts.patch("1", {"title": "g"})
            await until(lambda: titles(found) == ["g", "f", "e", "d"])
            urls = counting(client)
            await api.resources.posts.patch("1", {"views": 7})
            await until(lambda: found.data[0]["attributes"]["views"] == 7)
            # What stays where it is costs one request, and not the list.
            assert len(urls) == 1
            assert "filter%5Bid%5D" in urls[0]


async def test_there_is_one_request_at_a_time() -> None:
    async with connected() as (api, client), client.live("posts") as found:
        running, most, urls = 0, 0, counting(client)

        async def begins(request: Any) -> None:
            nonlocal running, most
            running += 1
            most = max(most, running)

        async def ends(response: Any) -> None:
            nonlocal running
            await response.aread()
            running -= 1

        client.http.event_hooks["request"].append(begins)
        client.http.event_hooks = {**client.http.event_hooks, "response": [ends]}
        async with api.transaction() as uow:
            for number in range(50):
                await api.resources.posts.post({"title": str(number)}, transaction=uow)
        await until(lambda: len(found.records) == 50)
        assert most == 1
        assert len(urls) < 20


async def test_what_leaves_costs_no_request() -> None:
    async with connected() as (api, client):
        for _ in range(3):
            await api.resources.posts.post({"status": "on"})
        async with client.live("posts", {"status": "on"}) as found:
            urls = counting(client)
            await api.resources.posts.delete("1")
            await api.resources.posts.patch("2", {"status": "off"})
            await until(lambda: list(found.records) == ["3"])
            assert urls == []


async def test_what_was_read_already_is_not_read_again() -> None:
    """The line to the socket is slower than a request: what it tells is known by then."""
    async with connected() as (api, client), client.live("posts") as found:
        await api.resources.posts.post({"title": "a"})
        await until(lambda: titles(found) == ["a"])
        subscription = found._subscription
        urls = counting(client)
        at = found._read_at["1"]
        subscription.changes.put(Change("update", "1", "posts", at))
        version = found.version
        await until(lambda: found.version > version)
        assert urls == []
        epoch, _, offset = at.partition(".")
        subscription.changes.put(Change("update", "1", "posts", f"{epoch}.{int(offset) + 1}"))
        await until(lambda: len(urls) == 1)


@pytest.mark.parametrize("reason", ["window", "epoch", "overflow", "bulk", "permission"])
async def test_a_resync_of_any_reason_is_a_load(reason: str, tmp_path: Path) -> None:
    path = tmp_path / "lists.db"
    async with connected(make_api(f"sqlite+aiosqlite:///{path}")) as (api, client):
        await api.resources.posts.post({"title": "a"})
        async with client.live("posts") as found, aiosqlite.connect(path) as database:
            await database.execute("UPDATE posts SET title = 'unheard of'")
            await database.commit()
            position = str(api.socket_server.statistics().position)
            stale = {"subscriptionId": found._subscription.id, "resource": "posts"}
            stale |= {"reason": reason, "cursor": position}
            api.io.emit("subscription.resync", stale)
            await until(lambda: titles(found) == ["unheard of"])


async def test_a_bulk_is_loaded() -> None:
    async with connected() as (api, client), client.live("posts", {"status": "on"}) as found:
        async with api.transaction() as uow:
            for number in range(1_001):
                values = {"title": str(number), "status": "on"}
                await api.resources.posts.post(values, transaction=uow)
        await until(lambda: len(found.records) == 1_001)


async def test_a_refused_subscription_is_no_matter_of_the_others() -> None:
    async with connected() as (api, client), client.live("posts") as found:
        with pytest.raises(ClientError) as refused:
            async with asyncio.timeout(PATIENCE):
                await anext(client.watch("users", name="Ann"))
        assert refused.value.code == "FILTERING_NOT_ENABLED"
        connections = list(api.socket_server.connections())
        await api.resources.posts.post({"title": "a"})
        await until(lambda: titles(found) == ["a"])
        assert list(api.socket_server.connections()) == connections


async def test_a_list_that_may_be_seen_no_longer_says_so() -> None:
    blocked: set[str] = set()
    async with (
        connected(make_api(blocked=blocked)) as (api, client),
        client.live("posts") as found,
        client.live("users") as others,
    ):
        seen = found.changed()
        await anext(seen)
        blocked.add("ann")
        await api.permissions_changed(user_id="ann")
        with pytest.raises(ClientError) as ended:
            async with asyncio.timeout(PATIENCE):
                await anext(seen)
        assert ended.value.code == "PERMISSION_DENIED"
        assert found.error is ended.value
        # Nor is it asked for again, with the others, on the next socket.
        blocked.clear()
        for session in list(api.socket_server.connections()):
            api.socket_server.release(session)
        await until(lambda: not client.is_live)
        await api.resources.users.post({"name": "x"})
        await until(lambda: len(others.records) == 1)
        active = api.socket_server._service.active()
        assert [one.resource for one in active] == ["users"]


async def test_a_client_that_is_not_let_in_says_so_to_everybody() -> None:
    asked: list[bool] = []

    def get_token(is_refused: bool) -> str:
        asked.append(is_refused)
        return "nonsense"

    async with connected(token=get_token) as (_, client):
        for _ in range(2):
            with pytest.raises(ClientError, match="INVALID_TOKEN"):
                async with asyncio.timeout(PATIENCE):
                    await anext(client.watch("posts"))
        assert asked == [False, True]


async def test_a_function_that_fails_is_asked_again() -> None:
    asked: list[bool] = []

    async def get_token(is_refused: bool) -> str:
        asked.append(is_refused)
        if len(asked) < 3:
            raise OSError("the login is away")
        return token()

    async with connected(token=get_token) as (_, client), client.live("posts"):
        assert len(asked) == 3


@pytest.mark.parametrize("packet", ["40", "42"], ids=["accepted", "subscribed"])
async def test_a_connection_that_breaks_while_it_is_made_is_not_waited_for(
    packet: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends where the server was to answer; the answer would be waited for till kingdom come."""
    monkeypatch.setattr("tidings.client.connection._ANSWER_SECONDS", 10_000.0)
    api = make_api()
    inner, breaks = api.asgi(), [True]

    async def app(scope: Any, receive: Any, send: Any) -> None:
        async def listen() -> Any:
            message = await receive()
            if breaks and (message.get("text") or "").startswith(packet):
                breaks.clear()
                await send({"type": "websocket.close", "code": 1011})
                return {"type": "websocket.disconnect", "code": 1011}
            return message

        await inner(scope, listen if scope["type"] == "websocket" else receive, send)

    # With another protocol than ours, since that one reads past the application.
    async with (
        api,
        serve(app, log_level="critical", ws="websockets-sansio") as url,
        Client(url, token=token()) as client,
        asyncio.timeout(PATIENCE),
        client.live("posts"),
    ):
        assert not breaks


async def test_a_server_that_is_busy_is_asked_again() -> None:
    api = make_api()
    inner, busy = api.asgi(), 0

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal busy
        if scope["type"] == "http" and busy:
            busy -= 1
            # The application itself says so, or a proxy before it.
            document = {"errors": [{"code": "DATABASE_BUSY"}]} if busy % 2 else "bad gateway"
            await JSONResponse(document, 503 if busy % 2 else 502)(scope, receive, send)
        else:
            await inner(scope, receive, send)

    async with connected(api, app) as (_, client):
        busy = 2
        async with client.live("posts") as found:
            assert busy == 0
            busy = 2
            await api.resources.posts.post({"title": "a"})
            await until(lambda: titles(found) == ["a"])


async def test_a_server_that_refuses_the_list_ends_it() -> None:
    api = make_api()
    inner = api.asgi()
    is_gone = False

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and is_gone:
            await JSONResponse("no document", 410)(scope, receive, send)
        else:
            await inner(scope, receive, send)

    async with connected(api, app) as (_, client), client.live("posts") as found:
        is_gone = True
        await api.resources.posts.post({"title": "a"})
        await until(lambda: found.error is not None)
        assert found.error is not None
        assert found.error.status == 410


async def test_a_watcher_that_does_not_keep_up_is_told_to_refetch() -> None:
    changes = Changes(most=3)
    for number in range(5):
        changes.put(Change("enter", str(number), "posts", f"e.{number}"))
    assert [(one.kind, one.id, one.reason) for one in await changes.take()] == [
        ("resync", "", "overflow"),
        ("enter", "4", ""),
    ]
    changes.put(Change("enter", "5", "posts", "e.5"))
    changes.fail(ClientError("no", "PERMISSION_DENIED"))
    assert (await changes.get()).id == "5"
    for _ in range(2):
        with pytest.raises(ClientError):
            await changes.get()


@pytest.mark.parametrize(
    ("cursor", "by", "expected"),
    [
        ("e.9", "e.9", True),
        ("e.9", "e.10", True),
        ("e.10", "e.9", False),
        ("e.9", "f.10", False),
        ("e.9", None, False),
        ("9", "10", False),
        ("e.x", "e.y", False),
    ],
)
def test_places_are_compared_within_an_epoch(cursor: str, by: str | None, expected: bool) -> None:
    assert is_covered(cursor, by) is expected

"""tidings.client: what it watches, and lists that are the server's answer whatever happens."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from random import Random
from typing import Any

import jwt
import pytest

from tests.http.kit import SECRET
from tests.support.server import free_port, serve
from tidings import (
    Api,
    ConfigurationError,
    JWTAuthPlugin,
    MissingExtraError,
    NotFound,
    RestApiPlugin,
    SocketIOPlugin,
    SqlAlchemyPlugin,
)
from tidings.client import Change, Client, ClientError, LiveList

PATIENCE = 30.0


def make_api(url: str = "sqlite+aiosqlite://") -> Api:
    api = Api(name="blog")
    api.use(RestApiPlugin())
    api.use(SqlAlchemyPlugin(url, create_tables=True))
    api.use(JWTAuthPlugin(secret=SECRET))
    api.use(SocketIOPlugin(expiry_warning=1))
    api.add_resource("users", {"name": "string"})
    api.add_resource(
        "posts",
        {
            "title": "string",
            "status": {"type": "string", "search": True},
            "views": {"type": "integer", "default": 0},
            "author_id": {"belongs_to": "users", "on_delete": "cascade"},
        },
        search_schema={"views": {"operators": ["gte"], "filter_operator": "in"}},
        check_permissions=lambda context: context.auth.is_authenticated,
        page_size=7,
        max_page_size=10,
    )
    return api


def token(user: str = "ann", seconds: float = 600) -> str:
    return jwt.encode({"sub": user, "exp": time.time() + seconds}, SECRET, "HS256")


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    async with make_api() as found:
        yield found


@asynccontextmanager
async def connected(api: Api, **options: Any) -> AsyncIterator[Client]:
    async with (
        serve(api.asgi(), log_level="critical") as url,
        Client(url, **({"token": token()} | options)) as client,
    ):
        yield client


async def until(test: Any) -> None:
    async with asyncio.timeout(PATIENCE):
        while not test():
            await asyncio.sleep(0.01)


async def test_watching(api: Api) -> None:
    async with connected(api) as client:
        changes = client.watch("posts", {"status": "published"})
        first = await anext(changes)
        assert (first.kind, first.reason) == ("resync", "subscribed")
        posts = api.resources.posts
        await posts.post({"status": "draft"})
        await posts.patch("1", {"status": "published"})
        await posts.patch("1", {"title": "x"})
        await posts.delete("1")
        async with asyncio.timeout(PATIENCE):
            told = [await anext(changes) for _ in range(3)]
        assert [(one.kind, one.id) for one in told] == [
            ("enter", "1"),
            ("update", "1"),
            ("leave", "1"),
        ]
        assert all(isinstance(one, Change) and one.resource == "posts" for one in told)
        await changes.aclose()
        await until(lambda: not api.socket_server._service.active())


async def test_a_list_that_is_kept(api: Api) -> None:
    posts = api.resources.posts
    user = await api.resources.users.post({"name": "Ada"})
    for number in range(25):  # more than a page
        status = "published" if number % 2 else "draft"
        await posts.post({"status": status, "views": number, "author": user["id"]})
    async with (
        connected(api) as client,
        client.live("posts", {"views": {"gte": 3}}, include=["author"]) as found,
    ):
        assert sorted(map(int, found.records)) == list(range(4, 26))
        assert found.included["users", "1"]["attributes"] == {"name": "Ada"}
        seen = found.changed()
        await anext(seen)
        await posts.patch("1", {"views": 9, "title": "x"})
        async with asyncio.timeout(PATIENCE):
            while "1" not in found.records:
                await anext(seen)
        assert found.records["1"]["attributes"]["title"] == "x"
        await posts.patch("25", {"views": 0})
        await until(lambda: "25" not in found.records)
        await api.resources.users.delete("1")
        await until(lambda: not found.records)


@pytest.mark.parametrize(
    ("resource", "filters", "code"),
    [
        ("nothing", {}, "RESOURCE_NOT_FOUND"),
        ("posts", {"title": "x"}, "INVALID_FILTERS"),
        ("posts", {"views": {"like": 3}}, "INVALID_FILTERS"),
    ],
)
async def test_refusals(api: Api, resource: str, filters: Any, code: str) -> None:
    async with connected(api) as client:
        with pytest.raises(ClientError) as caught:
            async with asyncio.timeout(PATIENCE):
                await anext(client.watch(resource, filters))
        assert caught.value.code == code
        with pytest.raises(ClientError):
            async with asyncio.timeout(PATIENCE), client.live(resource, filters):
                pass


async def test_a_token_that_is_refused(api: Api) -> None:
    async with connected(api, token="nonsense") as client:
        with pytest.raises(ClientError, match="INVALID_TOKEN"):
            async with asyncio.timeout(PATIENCE):
                await anext(client.watch("posts"))


async def test_tokens_are_asked_for_and_renewed(api: Api) -> None:
    asked: list[bool] = []

    async def get_token(is_refused: bool) -> str:
        asked.append(is_refused)
        return token(seconds=-60 if len(asked) == 1 else 2.0)

    async with connected(api, token=get_token) as client, client.live("posts") as found:
        assert asked[:2] == [False, True]  # the first had ended
        await until(lambda: len(asked) >= 4)  # each lasts for two seconds
        await api.resources.posts.post({"status": "published"})
        await until(lambda: "1" in found.records)


async def test_it_is_entered_first() -> None:
    client = Client("http://127.0.0.1:1")
    with pytest.raises(ConfigurationError, match="async with"):
        await anext(client.watch("posts"))
    await client.http.aclose()
    with pytest.raises(ConfigurationError, match="not of the form"):
        Client("example.org")


def test_without_its_packages_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "socketio", None)
    with pytest.raises(MissingExtraError, match=r"pip install .tidings\[client\]"):
        Client("http://127.0.0.1:1")


# Whatever happens


async def answer(api: Api, least: int) -> dict[str, Any]:
    """What the list is, by another way."""
    found: dict[str, Any] = {}
    number = 1
    while True:
        page = await api.resources.posts.query(
            {"views": {"gte": least}}, sort="id", page=number, size=50
        )
        found |= {one["id"]: (one["title"], one["views"], one["status"]) for one in page}
        if number * 50 >= page.total:
            return found
        number += 1


def shown(found: LiveList) -> dict[str, Any]:
    return {
        key: tuple(one["attributes"][name] for name in ("title", "views", "status"))
        for key, one in found.records.items()
    }


async def write(api: Api, random: Random, count: int) -> None:
    posts = api.resources.posts
    for _ in range(count):
        known = [one["id"] for one in await posts.query(sort="-id", size=30)]
        values = {"title": random.choice("abc"), "views": random.randint(0, 4)}
        act = random.random()
        with suppress(NotFound):  # another one was faster
            if act < 0.4 or not known:
                await posts.post(values | {"status": "x"})
            elif act < 0.8:
                await posts.patch(random.choice(known), values)
            else:
                async with api.transaction() as uow:
                    for key in random.sample(known, min(3, len(known))):
                        await posts.delete(key, transaction=uow)
        await asyncio.sleep(random.random() * 0.01)


async def cut(api: Api, random: Random) -> None:
    """Now and then every connection is lost."""
    while True:
        await asyncio.sleep(random.random() * 0.2)
        for session in api.socket_server.connections():
            client = api.socket_server.io.client(session)
            if client is not None and random.random() < 0.7:
                client.end()


@pytest.mark.parametrize("seed", range(6))
async def test_the_list_is_the_servers_answer(seed: int) -> None:
    random = Random(seed)
    async with make_api() as api, connected(api) as client:
        for number in range(random.randint(0, 30)):
            await api.resources.posts.post({"title": "a", "views": number % 5, "status": "x"})
        cutting = asyncio.create_task(cut(api, Random(seed + 100)))
        writing = [asyncio.create_task(write(api, Random(seed * 10 + n), 25)) for n in range(4)]
        async with client.live("posts", {"views": {"gte": 2}}) as found:
            await asyncio.gather(*writing)
            cutting.cancel()
            wanted = await answer(api, 2)
            try:
                await until(lambda: shown(found) == wanted)
            except TimeoutError:
                assert shown(found) == wanted


async def test_a_server_that_is_started_anew(tmp_path: Any) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path}/blog.db"
    port = free_port()
    async with Client(f"http://127.0.0.1:{port}", token=token()) as client:
        waiting = asyncio.create_task(anext(client.watch("posts")))
        async with make_api(url) as api, serve(api.asgi(), port=port, log_level="critical"):
            async with asyncio.timeout(PATIENCE):
                await waiting
            opened = client.live("posts")
            found = await opened.__aenter__()
            await api.resources.posts.post({"title": "before"})
            await until(lambda: "1" in found.records)
        await until(lambda: not client.is_live)
        async with make_api(url) as api:
            await api.resources.posts.post({"title": "while it was away"})
            async with serve(api.asgi(), port=port, log_level="critical"):
                await until(lambda: "2" in found.records)
                await opened.__aexit__(None, None, None)


async def test_on_a_terminal(api: Api) -> None:
    async with serve(api.asgi(), log_level="critical") as url:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tidings", "watch", url, "posts"),
            *("--filter", "views=[3, 4]", "--json", "--count", "2", "--token", token()),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        assert process.stdout is not None
        async with asyncio.timeout(PATIENCE):
            assert b"subscribed" in await process.stdout.readline()
            await api.resources.posts.post({"views": 2})
            await api.resources.posts.patch("1", {"views": 3})
            await api.resources.posts.patch("1", {"views": 5})
            said = (await process.stdout.read()).decode()
            assert await process.wait() == 0
    kinds = [(one["kind"], one["id"]) for one in map(json.loads, said.splitlines())]
    assert kinds == [("enter", "1"), ("leave", "1")]


async def test_on_a_terminal_a_refusal_is_one_line(api: Api) -> None:
    async with serve(api.asgi(), log_level="critical") as url:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tidings", "watch", url, "nothing", "--token", token()),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        async with asyncio.timeout(PATIENCE):
            said, _ = await process.communicate()
    assert process.returncode == 1
    assert said.decode().startswith("Error: RESOURCE_NOT_FOUND")
    assert said.decode().count("\n") == 1

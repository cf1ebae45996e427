"""Naming the feed: plugins, ``redis=``, and two apis that hear of each other by one Redis."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.realtime.kit import subscriber
from tests.support.memory_log import MemoryLog
from tests.support.redis import RedisServer
from tidings import (
    Api,
    ConfigurationError,
    JWTAuthPlugin,
    MemoryFeedPlugin,
    PostgresFeedPlugin,
    RedisFeedPlugin,
    RestApiPlugin,
    SocketIOPlugin,
    SqlAlchemyPlugin,
)
from tidings.api import FeedOptions

SECRET = "a-secret-of-thirty-two-bytes-or-more"


def blog(path: Path, *, name: str = "blog", feed: Any = None) -> Api:
    api = Api(name=name)
    api.use(RestApiPlugin())
    api.use(SqlAlchemyPlugin(f"sqlite+aiosqlite:///{path}/blog.db", create_tables=True))
    if feed is not None:
        api.use(feed)
    api.use(SocketIOPlugin(anonymous=True, cors={"origin": "http://a"}))
    api.add_resource("posts", schema={"title": {"type": "string", "search": True}})
    return api


async def told(api: Api, count: int) -> list[str]:
    """What a subscriber of this api is told, when it has been told so much."""
    person, wire = subscriber()
    await api.socket_server._service.subscribe(person, {"resource": "posts"})

    async def wait() -> list[str]:
        async with asyncio.timeout(10):
            while len(wire.events()) < count:
                await asyncio.sleep(0.01)
        return [f"{one['action']} {one['id']} {one['meta']['cursor']}" for one in wire.events()]

    return await wait()


async def test_a_write_reaches_the_sockets_of_every_process_once(
    redis: RedisServer, tmp_path: Path
) -> None:
    one = blog(tmp_path, feed=RedisFeedPlugin(redis.redis()))
    other = blog(tmp_path)
    other.start_socket_server(other.asgi(), redis=redis.redis())
    async with one, other:
        watching = [asyncio.create_task(told(api, 3)) for api in (one, other)]
        await asyncio.sleep(0)
        await one.resources.posts.post({"title": "a"})
        await other.resources.posts.patch(1, {"title": "b"})
        await one.resources.posts.delete(1)
        first, second = await asyncio.gather(*watching)
        assert first == second
        assert [words.split(" ")[0] for words in first] == ["post", "patch", "delete"]
        assert [int(words.split(".")[1]) for words in first] == [1, 2, 3]


async def test_changed_rights_are_checked_in_every_process(
    redis: RedisServer, tmp_path: Path
) -> None:
    allowed = {"7"}
    apis = []
    for _ in range(2):
        api = blog(tmp_path, feed=RedisFeedPlugin(redis.redis()))
        api.add_resource(
            "notes",
            schema={"text": "string", "owner": "string"},
            check_permissions=lambda context: context.auth.user_id in allowed,
        )
        apis.append(api)
    one, other = apis
    async with one, other:
        wires = []
        for api in apis:
            person, wire = subscriber(user="7")
            server = api.socket_server
            await server._service.subscribe(person, {"resource": "notes"})
            server._subscribers[person.id] = person
            server._sessions.add(person)
            wires.append(wire)
        allowed.clear()
        await one.permissions_changed(user_id="7")
        async with asyncio.timeout(10):
            while not all(wire.events("subscription.error") for wire in wires):
                await asyncio.sleep(0.01)
        codes = [wire.events("subscription.error")[0]["code"] for wire in wires]
        assert codes == ["PERMISSION_DENIED"] * 2


@pytest.mark.parametrize("kind", ["memory", "database"])
async def test_a_revocation_that_others_do_not_hear_of_is_said(
    kind: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    api = Api()
    api.use(SqlAlchemyPlugin(f"sqlite+aiosqlite:///{tmp_path}/a.db", create_tables=True))
    api.set_feed(FeedOptions(MemoryLog()))
    api.use(JWTAuthPlugin(secret=SECRET, revocation=kind))
    async with api:
        await api.revoke(user_id="7")
    assert ("revoked in this process only" in caplog.text) == (kind == "memory")


async def test_postgresql_does_without_redis(postgres_url: str, tmp_path: Path) -> None:
    one, other = (blog(tmp_path, feed=PostgresFeedPlugin(postgres_url)) for _ in range(2))
    async with one, other:
        watching = [asyncio.create_task(told(api, 2)) for api in (one, other)]
        await asyncio.sleep(0)
        await one.resources.posts.post({"title": "a"})
        await other.resources.posts.patch(1, {"title": "b"})
        first, second = await asyncio.gather(*watching)
        assert first == second
        assert [words.split(" ")[0] for words in first] == ["post", "patch"]


async def test_apis_of_other_names_do_not_hear_of_it(redis: RedisServer, tmp_path: Path) -> None:
    blogs = [
        blog(tmp_path, name=name, feed=RedisFeedPlugin(redis.redis())) for name in ("a{x}", "b")
    ]
    one, other = blogs
    async with one, other:
        await one.resources.posts.post({"title": "a"})
        await told_nothing(other)
        keys = [key.decode() for key in redis.execute("KEYS", "*")]
        assert {key.split(":")[1] for key in keys} == {"{ax}", "{b}"}


async def told_nothing(api: Api) -> None:
    """Its own next change is the first that it hears of."""
    watching = asyncio.create_task(told(api, 1))
    await asyncio.sleep(0)
    await api.resources.posts.patch(1, {"title": "b"})
    assert [words.split(".")[1] for words in await watching] == ["1"]


def test_the_feed_is_named_once(tmp_path: Path) -> None:
    api = blog(tmp_path, feed=RedisFeedPlugin({"host": "localhost"}))
    with pytest.raises(ConfigurationError, match="the feed is named twice"):
        api.start_socket_server(api.asgi(), redis={"host": "localhost"})


async def test_the_feed_is_named_before_the_api_is_in_use(tmp_path: Path) -> None:
    api = Api()
    api.use(SqlAlchemyPlugin("sqlite+aiosqlite://"))
    async with api:
        with pytest.raises(ConfigurationError, match="plugin 'redis-feed' comes too late"):
            api.use(RedisFeedPlugin("redis://localhost"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hots": "localhost"}, "redis: 'hots' is not known; known are url, host, port"),
        ({"port": "6379"}, "redis: port must be a whole number"),
        ("http://localhost", "the URL must begin with redis://"),
        (7, "redis is a mapping or a URL"),
    ],
)
def test_what_is_wrong_with_the_options_shows_at_once(options: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        RedisFeedPlugin(options)


@pytest.mark.parametrize("window", [0, -1, 1.5, True, "many"])
def test_a_window_is_a_number_of_changes(window: Any) -> None:
    for plugin in (
        lambda: MemoryFeedPlugin(window=window),
        lambda: RedisFeedPlugin({}, window=window),
    ):
        with pytest.raises(ConfigurationError, match="window must be a number of changes"):
            plugin()


async def test_the_feed_of_one_process_can_have_an_outbox(tmp_path: Path) -> None:
    api = blog(tmp_path, feed=MemoryFeedPlugin(window=2, outbox=True))
    async with api:
        watching = asyncio.create_task(told(api, 1))
        await asyncio.sleep(0)
        await api.resources.posts.post({"title": "a"})
        assert (await watching)[0].startswith("post 1 ")
        async with asyncio.timeout(5):
            while (await api._linked.outbox.state())[0]:  # type: ignore[union-attr]
                await asyncio.sleep(0.01)

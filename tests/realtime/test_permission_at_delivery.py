"""Permission is asked again at delivery: who may no longer query a resource is told nothing."""

from __future__ import annotations

import pytest

from tests.realtime.kit import SECRET, delivered, running, subscriber
from tidings import (
    Api,
    JWTAuthPlugin,
    OperationContext,
    RestApiPlugin,
    SocketIOPlugin,
    SqlAlchemyPlugin,
)

pytestmark = pytest.mark.anyio


class Guarded:
    """An api whose posts only some users may query; counts how often it is asked."""

    def __init__(self, seconds: float = 60.0) -> None:
        self.allowed = {"u1", "u2"}
        self.asked = 0
        self.api = Api(name="guarded")
        self.api.use(RestApiPlugin())
        self.api.use(SqlAlchemyPlugin("sqlite+aiosqlite://", create_tables=True))
        self.api.use(JWTAuthPlugin(secret=SECRET))
        self.api.use(SocketIOPlugin(permission_seconds=seconds))
        self.api.add_resource("posts", {"title": "string"}, check_permissions=self.check)

    def check(self, context: OperationContext) -> bool:
        self.asked += 1
        return context.auth.user_id in self.allowed


async def test_who_may_no_longer_query_gets_one_resync_and_nothing_else() -> None:
    guarded = Guarded(seconds=0)
    async with running(guarded.api) as api:
        posts = api.resources.posts
        (ann, ann_wire), (ben, ben_wire) = subscriber("s1", "u1"), subscriber("s2", "u2")
        for person in (ann, ben):
            await api.socket_server._service.subscribe(person, {"resource": "posts"})
        await posts.post({"title": "a"})
        await delivered(api)
        guarded.allowed.discard("u1")
        for _ in range(2):
            await posts.post({"title": "b"})
            await delivered(api)
        assert (len(ann_wire.events()), len(ben_wire.events())) == (1, 3)
        assert [one["reason"] for one in ann_wire.events("subscription.resync")] == ["permission"]
        assert not ben_wire.events("subscription.resync")
        guarded.allowed.add("u1")
        await posts.post({"title": "c"})
        await delivered(api)
        assert len(ann_wire.events("subscription.resync")) == 2, "it has missed something"
        assert len(ann_wire.events()) == 2


async def test_an_identity_is_asked_once_in_a_while_and_not_per_socket() -> None:
    guarded = Guarded()
    async with running(guarded.api) as api:
        for number in range(20):
            person, _ = subscriber(f"s{number}", "u1")
            await api.socket_server._service.subscribe(person, {"resource": "posts"})
        guarded.asked = 0
        for _ in range(5):
            await api.resources.posts.post({"title": "a"})
        await delivered(api)
        assert guarded.asked == 1


async def test_permissions_changed_counts_at_once() -> None:
    guarded = Guarded()
    async with running(guarded.api) as api:
        ann, wire = subscriber("s1", "u1")
        server = api.socket_server
        server._subscribers[ann.id] = ann
        server._sessions.add(ann)
        await server._service.subscribe(ann, {"resource": "posts"})
        await api.resources.posts.post({"title": "a"})
        await delivered(api)
        guarded.allowed.clear()
        await api.permissions_changed(user_id="u1", resource="posts")
        await api.resources.posts.post({"title": "b"})
        await delivered(api)
        assert len(wire.events()) == 1
        assert [one["code"] for one in wire.events("subscription.error")] == ["PERMISSION_DENIED"]

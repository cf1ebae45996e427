"""tidings.testing: an application's own tests, in the same process."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest
from fastapi import Depends, FastAPI

from tidings import (
    Api,
    ConfigurationError,
    Identity,
    JWTAuthPlugin,
    MissingExtraError,
    OperationContext,
    RestApiPlugin,
    SocketIOPlugin,
    SqlAlchemyPlugin,
)
from tidings.testing import JSON_API, Live, SubscriptionRefused, running

ANN = Identity(user_id="ann", roles=frozenset({"editor"}))
BEN = Identity(user_id="ben")
blocked: set[str | None] = set()


def may(context: OperationContext) -> bool:
    return context.auth.user_id not in blocked


def visible(columns: Any, identity: Identity) -> Any:
    return (columns.status == "published") | (columns.author == identity.user_id)


def make_api(*, sockets: bool = True, jwt: bool = True) -> Api:
    api = Api(name="blog")
    api.use(RestApiPlugin())
    api.use(SqlAlchemyPlugin("sqlite+aiosqlite://", create_tables=True))
    if jwt:
        api.use(JWTAuthPlugin(secret="a secret of the tests, which is long enough"))
    if sockets:
        api.use(SocketIOPlugin())
    api.add_resource(
        "posts",
        {"title": "string", "status": {"type": "string", "search": True}, "author": "string"},
        row_policy=visible,
        check_permissions=may,
    )
    return api


@pytest.fixture
async def live() -> AsyncIterator[Live]:
    blocked.clear()
    async with running(make_api()) as found:
        yield found


def post(**attributes: Any) -> dict[str, Any]:
    return {"data": {"type": "posts", "attributes": attributes}}


async def test_each_is_told_of_what_they_may_see(live: Live) -> None:
    ann, ben = live.client(ANN), live.client(BEN)
    hers = await ann.subscribe("posts")
    his = await ben.subscribe("posts", {"status": "published"})
    document = post(title="x", author="ann")
    made = await ann.http.post("/api/posts", json=document, headers=JSON_API)
    assert made.status_code == 201
    await hers.assert_told(("enter", 1))
    await his.assert_silent()
    assert (await ben.http.get("/api/posts/1")).status_code == 404
    await live.api.resources.posts.patch("1", {"status": "published"})
    await live.api.resources.posts.patch("1", {"title": "y"})
    await live.api.resources.posts.delete("1")
    await hers.assert_told(("update", "1"), ("update", "1"), ("leave", "1"))
    assert await his.told() == [("enter", "1"), ("update", "1"), ("leave", "1")]
    await his.assert_silent()


async def test_what_fails_says_why(live: Live) -> None:
    his = await live.client(BEN).subscribe("posts", {"status": "draft"})
    await live.api.resources.posts.post({"status": "draft", "author": "ann"})
    with pytest.raises(AssertionError) as caught:
        await his.assert_told(("enter", "1"))
    said = str(caught.value)
    assert "ben watches 'posts' where {'status': 'draft'}" in said
    assert "told:     []" in said
    assert "fails: server" in said
    await live.api.resources.posts.post({"status": "published", "author": "ben"})
    with pytest.raises(AssertionError, match="posts 2: matches"):
        other = await live.client(BEN).subscribe("posts")
        await live.api.resources.posts.patch("2", {"title": "x"})
        await other.assert_silent()


async def test_refusals(live: Live) -> None:
    client = live.client(BEN)
    with pytest.raises(SubscriptionRefused, match="RESOURCE_NOT_FOUND") as caught:
        await client.subscribe("nothing")
    assert caught.value.code == "RESOURCE_NOT_FOUND"
    with pytest.raises(SubscriptionRefused, match="UNSUPPORTED_OPTION"):
        await client.subscribe("posts", filter={})
    blocked.add("ben")
    with pytest.raises(SubscriptionRefused, match="PERMISSION_DENIED"):
        await client.subscribe("posts")


async def test_rights_that_change_and_tokens_that_are_revoked() -> None:
    blocked.clear()
    async with running(make_api()) as live:
        client = live.client(BEN)
        watch = await client.subscribe("posts")
        blocked.add("ben")
        await live.api.permissions_changed(user_id="ben")
        await live.api.resources.posts.post({"status": "published"})
        assert ("enter", "1") not in await watch.told()
        blocked.clear()
        again = await client.subscribe("posts")
        await live.api.resources.posts.post({"status": "published"})
        await again.assert_told(("enter", "2"))


async def test_missed_changes_are_replayed(live: Live) -> None:
    client = live.client(ANN)
    cursor = (await client.http.get("/api/posts")).json()["meta"]["cursor"]
    await live.api.resources.posts.post({"status": "published"})
    watch = await client.subscribe("posts", cursor=cursor)
    await live.api.resources.posts.post({"status": "published"})
    await live.settled()
    assert await watch.told() == [("enter", "1"), ("enter", "2")]


async def test_within_a_fastapi_app_with_overrides() -> None:
    app = FastAPI()
    api = make_api()

    def greeting() -> str:
        return "hello"

    @app.get("/me")
    async def me(
        who: Identity = Depends(api.identity),  # noqa: B008
        said: str = Depends(greeting),
    ) -> dict[str, Any]:
        return {"id": who.user_id, "said": said}

    api.install(app)
    app.dependency_overrides[greeting] = lambda: "hi"
    async with running(api, app=app) as live:
        answer = await live.client(ANN).http.get("/me")
        assert answer.json() == {"id": "ann", "said": "hi"}
        assert (await live.client().http.get("/me")).json()["id"] is None
        assert (await live.client(ANN).http.get("/api/posts")).status_code == 200


async def test_an_api_without_authentication_or_sockets() -> None:
    async with running(make_api(sockets=False, jwt=False)) as live:
        client = live.client(ANN)
        await live.api.resources.posts.post({"author": "ann"})
        assert len((await client.http.get("/api/posts")).json()["data"]) == 1
        assert len((await live.client().http.get("/api/posts")).json()["data"]) == 0
        with pytest.raises(ConfigurationError, match="SocketIOPlugin"):
            await client.subscribe("posts")


async def test_the_apis_own_tokens_count_as_ever(live: Live) -> None:
    http = live.client().http
    answer = await http.get("/api/posts", headers={"Authorization": "Bearer x.y.z"})
    assert answer.status_code == 401
    # What one test has made is none of the next one's.
    answer = await http.get("/api/posts", headers={"Authorization": "Bearer test-0"})
    assert answer.status_code == 401


async def test_without_httpx_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "httpx", None)
    with pytest.raises(MissingExtraError, match=r"pip install .tidings\[testing\]"):
        async with running(make_api()):
            pass

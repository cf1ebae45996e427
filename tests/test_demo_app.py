"""The demo's api: who may do what, and what keeps itself up to date."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tidings import Identity, NotFound, PermissionDenied, RequestError, ValidationFailed
from tidings.demo import Demo, build_demo

ANN = Identity("1", claims={"workspace_id": "north"})
BEN = Identity("2", claims={"workspace_id": "north"})
CLEO = Identity("3", claims={"workspace_id": "south"})
ADA = Identity("4", frozenset({"admin"}), claims={"workspace_id": "north"})


@pytest.fixture
async def demo(tmp_path: Path) -> AsyncIterator[Demo]:
    built = build_demo(tmp_path)
    async with built.api:
        yield built


@pytest.fixture
async def posts(demo: Demo) -> Any:
    return demo.api.resources.posts


def new_post(**values: Any) -> dict[str, Any]:
    return {"title": "A title", "author_id": "1", "workspace_id": "north", **values}


async def test_a_post_is_its_author_s_own_and_of_their_workspace(posts: Any):
    assert (await posts.post(new_post(), auth=ANN))["author_id"] in (1, "1")
    for values, who in [
        (new_post(), BEN),
        (new_post(), CLEO),
        (new_post(workspace_id="south"), ANN),
        ({"title": "A title", "author_id": "1"}, ANN),
    ]:
        with pytest.raises(PermissionDenied):
            await posts.post(values, auth=who)


async def test_a_post_of_another_workspace_is_like_none_at_all(posts: Any):
    post = await posts.post(new_post(), auth=ANN)
    assert (await posts.get(post["id"], auth=BEN))["title"] == "A title"
    for record_id in (post["id"], "999"):
        with pytest.raises(PermissionDenied, match="You may not get 'posts'"):
            await posts.get(record_id, auth=CLEO)
        with pytest.raises(PermissionDenied, match="You may not patch 'posts'"):
            await posts.patch(record_id, {"title": "Mine"}, auth=CLEO)
        with pytest.raises(PermissionDenied, match="You may not delete 'posts'"):
            await posts.delete(record_id, auth=CLEO)
    with pytest.raises(NotFound):
        await posts.get("999", auth=ADA)


async def test_colleagues_may_edit_a_post_but_not_move_or_delete_it(posts: Any):
    post = await posts.post(new_post(), auth=ANN)
    await posts.patch(post["id"], {"view_count": 10, "author_id": "1"}, auth=BEN)
    for values in ({"workspace_id": "south"}, {"author_id": "2"}):
        with pytest.raises(PermissionDenied):
            await posts.patch(post["id"], values, auth=BEN)
    with pytest.raises(PermissionDenied, match="Only its author"):
        await posts.delete(post["id"], auth=BEN)
    await posts.delete(post["id"], auth=ANN)


async def test_an_administrator_may_do_everything(posts: Any):
    post = await posts.post(new_post(author_id="3", workspace_id="south"), auth=ADA)
    await posts.patch(post["id"], {"workspace_id": "north"}, auth=ADA)
    await posts.delete(post["id"], auth=ADA)


async def test_users_can_be_seen_and_not_changed(demo: Demo):
    users = demo.api.resources.users
    assert (await users.get("1", auth=CLEO))["name"] == "Ann"
    with pytest.raises(PermissionDenied):
        await users.patch("1", {"name": "Anna"}, auth=ADA)


async def test_nobody_signed_in_may_nothing(demo: Demo):
    async with client(demo) as http:
        for path in ("/api/posts", "/api/posts/1", "/api/users"):
            assert (await http.get(path)).status_code == 401


async def test_published_at_follows_the_status(posts: Any):
    post = await posts.post(new_post(), auth=ANN)
    assert post["published_at"] is None
    published = await posts.patch(post["id"], {"status": "published"}, auth=ANN)
    moment = published["published_at"]
    assert moment is not None
    again = await posts.patch(post["id"], {"status": "published", "view_count": 1}, auth=ANN)
    assert again["published_at"] == moment
    assert (await posts.patch(post["id"], {"status": "draft"}, auth=ANN))["published_at"] is None
    with pytest.raises(RequestError):
        await posts.patch(post["id"], {"published_at": "2026-01-01T00:00:00Z"}, auth=ANN)


async def test_titles_have_a_length(posts: Any):
    with pytest.raises(ValidationFailed):
        await posts.post(new_post(title="No"), auth=ANN)


@pytest.mark.parametrize(
    ("query", "titles"),
    [
        ("filter[workspace_id]=south&filter[status]=draft", ["Rota for the ice house"]),
        ("filter[min_views]=412", ["Winter timetable"]),
        ("filter[view_count]=412", []),
        ("filter[search]=CAFÉ", ["Ferry moves to pier four"]),
        ("filter[author_id]=1&filter[status]=draft", ["Notes from the harbour meeting"]),
    ],
)
async def test_the_filters(demo: Demo, query: str, titles: list[str]):
    async with client(demo) as http:
        token = (await http.get("/demo/users")).json()[0]["token"]
        answer = await http.get(f"/api/posts?{query}", headers={"authorization": f"Bearer {token}"})
    assert [post["attributes"]["title"] for post in answer.json()["data"]] == titles


async def test_everybody_s_token_is_for_the_taking(demo: Demo):
    async with client(demo) as http:
        answer = await http.get("/demo/users")
    assert answer.headers["cache-control"] == "no-store"
    listed = [(user["id"], user["name"], user["workspace_id"]) for user in answer.json()]
    assert listed == [
        ("1", "Ann", "north"),
        ("2", "Ben", "north"),
        ("3", "Cleo", "south"),
        ("4", "Ada", "north"),
    ]


def client(demo: Demo) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(demo.app), base_url="http://test")

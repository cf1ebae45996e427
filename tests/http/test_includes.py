"""Compound documents: what comes along, once, and with how many statements."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.http.kit import Client, error

from tidings import Api


@pytest.fixture(scope="module")
async def blog(library: Api) -> AsyncIterator[dict[str, Any]]:
    """Two users, three posts, six comments; a tree of categories."""
    handles = library.resources
    ada = (await handles.users.post({"name": "Ada", "secret": "s3cret"}))["id"]
    bob = (await handles.users.post({"name": "Bob"}))["id"]
    root = (await handles.categories.post({"name": "root"}))["id"]
    leaf = (await handles.categories.post({"name": "leaf", "parent": root}))["id"]
    posts = []
    for number, author in enumerate((ada, ada, None)):
        values = {"title": f"post {number}", "author": author, "category": leaf}
        posts.append((await handles.posts.post(values))["id"])
    comments = []
    for number in range(6):
        values = {
            "text": f"comment {number}",
            "post": posts[number % 2],
            "user": (ada, bob, None)[number % 3],
        }
        comments.append((await handles.comments.post(values))["id"])
    yield {
        "ada": ada,
        "bob": bob,
        "root": root,
        "leaf": leaf,
        "posts": posts,
        "comments": comments,
    }
    for comment in comments:
        await handles.comments.delete(comment)
    for post in posts:
        await handles.posts.delete(post)


def included(body: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    return {(entry["type"], entry["id"]): entry for entry in body["included"]}


async def test_include_to_one(http: Client, blog: dict[str, Any]) -> None:
    body = (await http.get(f"/posts/{blog['posts'][0]}?include=author")).json()
    author = {"type": "users", "id": blog["ada"]}
    assert body["data"]["relationships"]["author"]["data"] == author
    (found,) = body["included"]
    assert found["attributes"] == {"name": "Ada", "email": None}
    assert found["links"]["self"] == f"/api/users/{blog['ada']}"


async def test_include_of_null_is_empty(http: Client, blog: dict[str, Any]) -> None:
    body = (await http.get(f"/posts/{blog['posts'][2]}?include=author,comments")).json()
    assert body["included"] == []
    assert body["data"]["relationships"]["author"]["data"] is None
    assert body["data"]["relationships"]["comments"]["data"] == []


async def test_include_to_many_has_full_linkage(http: Client, blog: dict[str, Any]) -> None:
    body = (await http.get(f"/posts/{blog['posts'][0]}?include=comments")).json()
    expected = [blog["comments"][number] for number in (0, 2, 4)]
    linked = body["data"]["relationships"]["comments"]["data"]
    assert linked == [{"type": "comments", "id": comment} for comment in expected]
    assert [entry["id"] for entry in body["included"]] == expected


async def test_to_many_without_include_shows_no_linkage(http: Client, blog: dict[str, Any]) -> None:
    body = (await http.get(f"/posts/{blog['posts'][0]}")).json()
    assert "data" not in body["data"]["relationships"]["comments"]


async def test_nested_includes_bring_each_record_once(http: Client, blog: dict[str, Any]) -> None:
    response = await http.get("/posts?include=author,comments.user,category.parent,comments")
    found = included(response.json())
    wanted = {("users", blog["ada"]), ("users", blog["bob"])}
    wanted |= {("categories", blog["root"]), ("categories", blog["leaf"])}
    wanted |= {("comments", comment) for comment in blog["comments"]}
    assert set(found) == wanted
    assert len(response.json()["included"]) == len(wanted)


async def test_records_of_the_collection_itself_are_not_included_again(
    http: Client, blog: dict[str, Any]
) -> None:
    body = (await http.get("/comments?include=post.comments.user")).json()
    assert {entry["type"] for entry in body["included"]} == {"posts", "users"}
    body = (await http.get("/categories?include=parent,children")).json()
    assert body["included"] == []
    children = {entry["id"]: entry["relationships"]["children"] for entry in body["data"]}
    assert children[blog["root"]]["data"] == [{"type": "categories", "id": blog["leaf"]}]


async def test_a_circle_of_includes_ends(http: Client, blog: dict[str, Any]) -> None:
    path = ".".join(["parent", "children"] * 4)
    response = await http.get(f"/categories/{blog['leaf']}?include={path}")
    assert set(included(response.json())) == {("categories", blog["root"])}


async def test_sparse_fields_of_included_records(http: Client, blog: dict[str, Any]) -> None:
    url = (
        f"/posts/{blog['posts'][0]}?include=author,comments&fields[users]=name&fields[posts]=author"
    )
    body = (await http.get(url)).json()
    found = included(body)
    assert found["users", blog["ada"]]["attributes"] == {"name": "Ada"}
    assert body["data"]["attributes"] == {}
    assert list(body["data"]["relationships"]) == ["author"]


async def test_include_in_the_answer_of_a_write(http: Client, blog: dict[str, Any]) -> None:
    identifier = {"type": "users", "id": blog["bob"]}
    body = {
        "data": {
            "type": "posts",
            "attributes": {"title": "with author"},
            "relationships": {"author": {"data": identifier}},
        }
    }
    response = await http.write("POST", "/posts?include=author", body)
    assert set(included(response.json())) == {("users", blog["bob"])}
    made = response.json()["data"]["id"]
    body["data"]["id"] = made
    response = await http.write("PATCH", f"/posts/{made}?include=author,comments", body)
    assert set(included(response.json())) == {("users", blog["bob"])}
    await http.delete(f"/posts/{made}")


async def test_includes_that_do_not_exist_are_refused_whole(
    http: Client, blog: dict[str, Any]
) -> None:
    paths = ["nothing", "author.nothing", "author.", ".author", "comments.user.posts.x", "title"]
    paths += ["author_id", "__proto__", ".".join(["parent"] * 9), "author..posts", "AUTHOR"]
    for path in paths:
        for url in ("/posts", f"/posts/{blog['posts'][0]}"):
            response = await http.get(url, params={"include": path})
            error(response, 400, "INVALID_INCLUDE", parameter="include")
    many = ",".join(["author"] * 51)
    error(await http.get(f"/posts?include={many}"), 400, "INVALID_INCLUDE", parameter="include")
    body = {"data": {"type": "plain", "attributes": {"name": "never"}}}
    response = await http.write("POST", "/plain?include=nothing", body)
    error(response, 400, "INVALID_INCLUDE", parameter="include")
    assert await http.data("/plain") == []


async def test_an_empty_include_asks_for_nothing(http: Client, blog: dict[str, Any]) -> None:
    body = (await http.get(f"/posts/{blog['posts'][0]}?include=")).json()
    assert body["data"]["id"] == blog["posts"][0]
    assert body["included"] == []
    assert (await http.get("/posts?include=")).json()["included"] == []


async def statements(http: Client, url: str, caplog: pytest.LogCaptureFixture) -> int:
    caplog.clear()
    with caplog.at_level(logging.DEBUG, logger="tidings.storage"):
        assert (await http.get(url)).status_code == 200
    return sum(record.getMessage().startswith("SELECT") for record in caplog.records)


async def test_one_statement_for_each_segment_whatever_the_number_of_rows(
    http: Client, blog: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    plain = await statements(http, "/comments?page[size]=2", caplog)
    assert plain == 1
    few = await statements(http, "/comments?page[size]=2&include=post.author,user", caplog)
    all_of_them = await statements(http, "/comments?page[size]=6&include=post.author,user", caplog)
    assert few == all_of_them == plain + 3
    one = await statements(http, f"/posts/{blog['posts'][0]}?include=comments.user,author", caplog)
    assert one == 4
    many = await statements(http, "/posts?include=comments.user,author", caplog)
    assert many == 4

"""The normative statements of JSON:API 1.1: each has its test, those that had none have it here."""

from __future__ import annotations

import ast
import json
from collections import deque
from typing import Any

import pytest
from tests.http.kit import SCHEMAS, Client, document, error
from tests.http.statements import STATEMENTS
from tests.support.server import REPOSITORY


def functions_of(path: str) -> set[str]:
    """The functions of a file below tests/http, or of one below tests that is named with it."""
    place = REPOSITORY / "tests" / (path if "/" in path else f"http/{path}")
    tree = ast.parse(place.with_suffix(".py").read_text())
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name for node in ast.walk(tree) if isinstance(node, kinds)}


def is_shown(shown: str) -> bool:
    path, _, name = shown.partition("::")
    return shown.startswith("- ") or name in functions_of(path)


def test_each_statement_is_shown_by_a_test_that_there_is() -> None:
    missing = [
        f"{statement}: {shown}"
        for statement, shown in STATEMENTS.items()
        if not shown.startswith("- ")
        and shown.split("::")[1] not in functions_of(shown.split("::")[0])
    ]
    assert missing == []


def test_no_statement_is_left_out() -> None:
    path = SCHEMAS / "normative-statements-1.1.json"
    if not path.exists():
        pytest.skip("the published statements are not here")
    published = {one["id"]: one for one in json.loads(path.read_text())["included"]}
    assert published.keys() == STATEMENTS.keys()
    # What every server must do is not put off by a reason that is no server's.
    excused = {key for key, shown in STATEMENTS.items() if shown.startswith("- ")}
    for key in excused:
        level = published[key]["attributes"]["level"]
        assert level != "MUST" or STATEMENTS[key] != "- a permission, of which no use is made", key


async def filled(http: Client) -> dict[str, str]:
    user = await http.made("users", {"name": "Ada"})
    category = await http.made("categories", {"name": "a"})
    post = await http.made(
        "posts",
        {"title": "one"},
        author=("users", user["id"]),
        category=("categories", category["id"]),
    )
    await http.made("comments", {"text": "x"}, post=("posts", post["id"]))
    await http.made("posts", {"title": "of nobody"})
    return {"user": user["id"], "post": post["id"]}


def links_in(value: Any) -> set[str]:
    """Every URL below a ``links`` member."""
    found: set[str] = set()
    if isinstance(value, dict):
        for name, inner in value.items():
            if name == "links" and isinstance(inner, dict):
                found |= {one for one in inner.values() if isinstance(one, str)}
            else:
                found |= links_in(inner)
    elif isinstance(value, list):
        for inner in value:
            found |= links_in(inner)
    return found


async def test_every_link_of_every_document_can_be_fetched(http: Client) -> None:
    await filled(http)
    start = ["/users", "/posts?include=author,comments", "/comments", "/posts?page[after]="]
    waiting, seen = deque(f"/api{url}" for url in start), set()
    while waiting and len(seen) < 300:
        url = waiting.popleft()
        seen.add(url)
        answer = await http.get(url.removeprefix("/api"))
        assert answer.status_code == 200, url
        body = answer.json()
        for member in ("self", "related"):
            if url.split("?")[0].endswith("relationships/author"):
                assert member in body["links"]
        waiting += sorted(links_in(body) - seen - set(waiting))
    assert len(seen) > 30


async def test_a_related_link_stays_when_what_it_leads_to_changes(http: Client) -> None:
    made = await filled(http)
    url = f"/posts/{made['post']}"
    before = (await http.data(url))["relationships"]["author"]["links"]
    other = await http.made("users", {"name": "Grace"})
    for to in (("users", other["id"]), None):
        answer = await http.change("posts", made["post"], author=to)
        assert answer.status_code == 200
        assert (await http.data(url))["relationships"]["author"]["links"] == before


async def test_members_that_nobody_knows_mean_nothing(http: Client) -> None:
    body = document("users", {"name": "Ada"})
    body["extra"] = {"a": 1}
    body["jsonapi"] = {"version": "1.1", "more": []}
    body["meta"] = {"x": 1}
    body["data"] |= {"extra": [1], "meta": {"y": 2}, "links": {"self": "/elsewhere"}}
    answer = await http.write("POST", "/users", body)
    assert answer.status_code == 201
    found = answer.json()
    assert "extra" not in found
    assert "extra" not in found["data"]
    assert found["data"]["links"]["self"] == f"/api/users/{found['data']['id']}"


async def test_names_are_told_apart_by_case(http: Client) -> None:
    answer = await http.create("users", {"name": "Ada", "Name": "Eve"})
    error(answer, 422, "UNKNOWN_FIELD", pointer="/data/attributes/Name")
    error(await http.get("/Users"), 404, "RESOURCE_NOT_FOUND")
    error(await http.get("/users?sort=Name"), 400, "INVALID_SORT")


async def test_the_answer_to_a_patch_is_that_of_a_get(http: Client) -> None:
    made = await filled(http)
    url = f"/posts/{made['post']}?include=author&fields[users]=name"
    body = document("posts", {"title": "two"}, made["post"])
    written = (await http.write("PATCH", url, body)).json()
    read = (await http.get(url)).json()
    for one in (written, read):
        del one["meta"]
    assert written == read


async def test_what_is_not_there_cannot_be_changed(http: Client) -> None:
    error(await http.change("users", 9999, {"name": "x"}), 404, "RECORD_NOT_FOUND")
    for method, name, data in (("PATCH", "author", None), ("POST", "comments", [])):
        answer = await http.write(method, f"/posts/9999/relationships/{name}", {"data": data})
        error(answer, 404, "RECORD_NOT_FOUND")

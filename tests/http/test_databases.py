"""The main path over HTTP, and what a database refuses, on each of the databases."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.http.conftest import declare_library
from tests.http.kit import Client, error, serving_quietly

from tidings import Api, RestApiPlugin, SqlAlchemyPlugin


@pytest.fixture
async def library(database_url: str) -> AsyncIterator[Api]:
    api = Api(name="test")
    api.use(RestApiPlugin())
    api.use(SqlAlchemyPlugin(database_url, create_tables=True))
    declare_library(api)
    async with api:
        yield api


@pytest.fixture
async def http(library: Api) -> AsyncIterator[Client]:
    async with serving_quietly(library) as client:
        yield client


async def test_records_are_made_found_changed_and_deleted(http: Client) -> None:
    ada = (await http.made("users", {"name": "Ada", "email": "ada@example.org"}))["id"]
    values: dict[str, Any] = {
        "title": "Ünï \U0001f600",
        "body": "b" * 70_000,
        "status": "published",
        "view_count": 2**63 - 1,
        "rating": 0.1,
        "price": "12345678.90",
        "is_public": True,
        "published_at": "2024-02-29T23:59:59.999999Z",
        "day": "9999-12-31",
        "opens": "08:30:00.000001",
        "tags": ["a", 1, None],
        "place": {"z": {"a": [1.5]}},
        "slug": "a",
    }
    made = await http.made("posts", values, author=("users", ada))
    assert made["id"] == "1"
    for name, value in values.items():
        assert made["attributes"][name] == value
    assert await http.data("/posts/1") == made
    await http.made("comments", {"text": "first"}, post=("posts", 1), user=("users", ada))

    response = await http.get("/posts?include=author,comments&sort=-title&page[size]=1")
    body = response.json()
    assert body["data"][0]["attributes"] == made["attributes"]
    assert {entry["type"] for entry in body["included"]} == {"users", "comments"}

    changed = (await http.change("posts", 1, {"body": None, "view_count": 3})).json()["data"]
    assert changed["attributes"] == {**made["attributes"], "body": None, "view_count": 3}
    replaced = (await http.change("posts", 1, {"title": "new"}, method="PUT")).json()["data"]
    assert replaced["attributes"]["slug"] is None
    assert (await http.delete("/comments/1")).status_code == 204
    assert (await http.delete("/posts/1")).status_code == 204
    error(await http.get("/posts/1"), 404, "RECORD_NOT_FOUND")
    assert (await http.made("posts", {"title": "next"}))["id"] == "2"


async def test_lists_are_filtered_sorted_and_paged(http: Client) -> None:
    for number, title in enumerate(["b", "B", "a", "ä", "Z", "b "]):
        await http.made("posts", {"title": title, "view_count": number, "rating": number / 2})
    assert await http.ids("/posts?filter[exact_title]=b") == ["1"]
    assert await http.ids("/posts?filter[title]=B&sort=id") == ["1", "2", "6"]
    assert await http.ids("/posts?filter[views_between]=1,3&sort=-view_count") == ["4", "3", "2"]
    assert await http.ids("/posts?sort=title") == ["2", "5", "3", "1", "6", "4"]
    assert await http.ids("/posts?sort=title&page[size]=2&page[number]=2") == ["3", "1"]


async def test_what_is_taken_or_missing_is_said(http: Client) -> None:
    ada = (await http.made("users", {"name": "Ada", "email": "a"}))["id"]
    await http.made("users", {"name": "Eve", "email": "A"})
    found = error(await http.create("users", {"name": "Bob", "email": "a"}), 409, "NOT_UNIQUE")
    assert "email" in found["detail"]
    error(await http.change("users", 2, {"email": "a"}), 409, "NOT_UNIQUE")
    dangling = await http.create("posts", {"title": "a"}, author=("users", 999))
    assert dangling.status_code == 404
    assert "author" in dangling.text
    await http.made("posts", {"title": "a"}, author=("users", ada))
    error(await http.delete(f"/users/{ada}"), 409, "STILL_REFERENCED")
    error(await http.create("users", {"name": None}), 422, "REQUIRED")
    assert len(await http.data("/users")) == 2


async def test_every_resource_is_filtered_by_id(http: Client, library: Api) -> None:
    """Also one that declares no filter; ids of every type."""
    for resource in ("plain", "tokens", "pages"):
        values = {"name": "a"}
        ids = [(await library.resources[resource].post(values))["id"] for _ in range(3)]
        wanted = sorted(ids[:2])
        listed = ",".join(wanted)
        assert sorted(await http.ids(f"/{resource}?filter[id]={listed}")) == wanted
        repeated = "&".join(f"filter[id]={one}" for one in wanted)
        assert sorted(await http.ids(f"/{resource}?{repeated}")) == wanted
        assert await http.ids(f"/{resource}?filter[id]={ids[2]}") == [ids[2]]
        error(await http.get(f"/{resource}?filter[name]=a"), 400, "FILTERING_NOT_ENABLED")
    wrong = await http.get("/plain?filter[id]=1,x")
    error(wrong, 400, "INVALID_VALUE", parameter="filter[id]")

"""The library: one api with resources of every kind, served for the tests of a module."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import text
from tests.http.kit import Client, make_api, serving_quietly

from tidings import Api

STATUSES = ("draft", "published", "archived")


def near(columns: Any, value: dict[str, Any]) -> Any:
    """Ratings around a number; or a title, to see that the OR does not escape."""
    at, within = value.get("at", 0), value.get("within", 1)
    if not all(isinstance(number, int | float | str) for number in (at, within)):
        raise ValueError("at and within are numbers")
    low, high = float(at) - float(within), float(at) + float(within)
    title = value.get("or_title")
    if title is not None and not isinstance(title, str):
        raise ValueError("or_title is a text")
    return columns.rating.between(low, high) | (columns.title == title)


def any_status(columns: Any, value: list[Any]) -> Any:
    if not all(isinstance(item, str) for item in value):
        raise ValueError("the list holds texts")
    return columns.status.in_(value)


def declare_library(api: Api) -> None:
    api.add_resource(
        "users",
        schema={
            "name": {"type": "string", "required": True, "max": 100, "search": "like"},
            "email": {"type": "string", "unique": True},
            "secret": {"type": "string", "hidden": True},
        },
        relationships={"posts": {"type": "hasMany", "target": "posts", "foreign_key": "author_id"}},
    )
    api.add_resource(
        "categories",
        schema={"name": "string", "parent_id": {"type": "id", "belongs_to": "categories"}},
        relationships={
            "children": {"type": "hasMany", "target": "categories", "foreign_key": "parent_id"}
        },
    )
    api.add_resource(
        "posts",
        schema={
            "title": {"type": "string", "required": True, "min": 1, "max": 80},
            "body": "text",
            "status": {"type": "string", "enum": STATUSES, "default": "draft"},
            "view_count": {"type": "integer", "min": 0, "default": 0},
            "rating": "number",
            "price": {"type": "decimal", "precision": 10, "scale": 2},
            "is_public": "boolean",
            "published_at": "dateTime",
            "day": "date",
            "opens": "time",
            "tags": "array",
            "place": "object",
            "slug": {"type": "string", "unique": True},
            "score": {"type": "integer", "read_only": True, "default": 7},
            "note": {"type": "string", "hidden": True},
            "author_id": {"type": "id", "belongs_to": "users"},
            "category_id": {"type": "id", "belongs_to": "categories"},
        },
        relationships={
            "comments": {"type": "hasMany", "target": "comments", "foreign_key": "post_id"}
        },
        search_schema={
            "title": {"filter_operator": "like"},
            "exact_title": {"actual_field": "title"},
            "status": "string",
            "not_status": {"filter_operator": "!=", "actual_field": "status"},
            "statuses": {"filter_operator": "in", "actual_field": "status"},
            "views": {"actual_field": "view_count"},
            "views_over": {"filter_operator": ">", "actual_field": "view_count"},
            "views_from": {"filter_operator": ">=", "actual_field": "view_count"},
            "views_under": {"filter_operator": "<", "actual_field": "view_count"},
            "views_to": {"filter_operator": "<=", "actual_field": "view_count"},
            "views_between": {"filter_operator": "between", "actual_field": "view_count"},
            "rating": {"filter_operator": ">="},
            "price": {},
            "price_between": {"filter_operator": "between", "actual_field": "price"},
            "is_public": {},
            "published_at": {"filter_operator": ">="},
            "published_on": {"type": "date", "actual_field": "published_at"},
            "day": {},
            "opens": {},
            "author": {"actual_field": "author_id"},
            "authors": {"filter_operator": "in", "actual_field": "author_id"},
            "ids": {"filter_operator": "in", "actual_field": "id"},
            "text": {"filter_operator": "like", "one_of": ["title", "body"]},
            "words": {
                "filter_operator": "like",
                "actual_field": "title",
                "split_by": " ",
                "match_all": True,
            },
            "near": {
                "type": "object",
                "filter_operator": near,
            },
            "raw": {
                "type": "string",
                "filter_operator": lambda columns, value: text("1 = 1 OR 1 = 1"),
            },
            "any_status": {
                "type": "array",
                "filter_operator": any_status,
            },
        },
        page_size=10,
        max_page_size=50,
    )
    api.add_resource(
        "comments",
        schema={
            "text": {"type": "string", "required": True},
            "post_id": {"type": "id", "belongs_to": "posts", "required": True, "search": True},
            "user_id": {"type": "id", "belongs_to": "users"},
        },
    )
    api.add_resource("plain", schema={"name": "string"})
    api.add_resource("tokens", schema={"name": "string"}, id_type="uuid")
    api.add_resource("pages", schema={"name": "string"}, id_type="string")


@pytest.fixture(scope="module")
async def library(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Api]:
    api = make_api(tmp_path_factory.mktemp("library") / "library.db")
    declare_library(api)
    async with api:
        yield api


@pytest.fixture(scope="module")
async def http(library: Api) -> AsyncIterator[Client]:
    """A client of the library; after the module, nothing unforeseen must have been logged."""
    async with serving_quietly(library) as client:
        yield client

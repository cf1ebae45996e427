"""Sparse fieldsets are checked against the schema, and show nothing that is hidden."""

from __future__ import annotations

from typing import Any

import pytest

from tidings import InvalidRequest
from tidings.resources import is_visible, parse_fieldsets
from tidings.schema import ResourceRegistry, declare_resource


@pytest.fixture
def registry() -> ResourceRegistry:
    registry = ResourceRegistry()
    schema = {
        "title": "string",
        "secret": {"type": "string", "hidden": True},
        "author_id": {"belongs_to": "users"},
    }
    registry.add(declare_resource("posts", schema))
    registry.add(declare_resource("users", {"name": "string"}))
    registry.link()
    return registry


def test_fields_of_several_types(registry: ResourceRegistry) -> None:
    given = {"posts": ["title", "author", "title"], "users": ()}
    assert parse_fieldsets(registry, given) == {
        "posts": frozenset({"title", "author"}),
        "users": frozenset(),
    }
    assert parse_fieldsets(registry, {}) == {}


def test_what_documents_may_show(registry: ResourceRegistry) -> None:
    posts = registry["posts"]
    names = ("title", "author", "secret", "author_id", "id", "x")
    assert [name for name in names if is_visible(posts, name)] == ["title", "author"]


@pytest.mark.parametrize(
    ("fields", "message", "parameter"),
    [
        (["title"], "expected an object of arrays by resource type, got an array", "fields"),
        (None, "got null", "fields"),
        ({"nope": []}, "there is no such resource type", "fields[nope]"),
        ({7: []}, "there is no such resource type", "fields"),
        ({"posts": "title"}, "expected an array of field names, got a string", "fields[posts]"),
        ({"posts": ["nope"]}, "'posts' has no field 'nope'", "fields[posts]"),
        ({"posts": ["secret"]}, "'posts' has no field 'secret'", "fields[posts]"),
        ({"posts": ["author_id"]}, "'posts' has no field 'author_id'", "fields[posts]"),
        ({"posts": [7]}, "'posts' has no field a number", "fields[posts]"),
        ({"posts": [["title"]]}, "'posts' has no field an array", "fields[posts]"),
    ],
)
def test_wrong_fieldsets(
    registry: ResourceRegistry, fields: Any, message: str, parameter: str
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_fieldsets(registry, fields)
    assert caught.value.code == "INVALID_FIELDS"
    assert message in str(caught.value)
    assert caught.value.option == parameter

"""Declaring resources: every option does what it says, every mistake is named with its place."""

from __future__ import annotations

import enum
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any, Literal, Optional
from uuid import UUID

import pytest

from tidings import ConfigurationError, ValidationFailed, belongs_to, field, has_many
from tidings.errors import ProblemList
from tidings.schema import (
    ResourceRegistry,
    ResourceType,
    ValueProblem,
    accept_given,
    declare_resource,
    validate_changes,
    validate_new,
)


def declared(schema: Any = None, **options: Any) -> ResourceType:
    return declare_resource("posts", schema or {"title": "string"}, **options)


def problems(error: ValidationFailed) -> dict[str, str]:
    return {problem.field: problem.code for problem in error.problems}


def refused(resource: ResourceType, **values: Any) -> dict[str, str]:
    """The codes by field that come of these values."""
    with pytest.raises(ValidationFailed) as caught:
        validate_changes(resource, values)
    return problems(caught.value)


# Options of fields


def test_a_type_alone_is_a_field() -> None:
    title = declared({"title": "string"}).fields["title"]
    assert (title.type, title.required, title.nullable) == ("string", False, True)


def test_required_asks_for_a_value_and_forbids_null() -> None:
    resource = declared({"title": {"type": "string", "required": True}})
    with pytest.raises(ValidationFailed) as caught:
        validate_new(resource, {})
    assert problems(caught.value) == {"title": "REQUIRED"}
    assert refused(resource, title=None) == {"title": "REQUIRED"}
    assert validate_changes(resource, {}) == {}


def test_required_and_nullable_asks_for_a_value_that_may_be_null() -> None:
    resource = declared({"title": {"type": "string", "required": True, "nullable": True}})
    assert validate_new(resource, {"title": None}) == {"title": None}
    with pytest.raises(ValidationFailed):
        validate_new(resource, {})


def test_what_is_not_given_is_null_or_the_default() -> None:
    counted: list[int] = []

    def count() -> int:
        counted.append(1)
        return len(counted)

    resource = declared(
        {
            "title": "string",
            "status": {"type": "string", "default": "draft"},
            "note": {"type": "string", "default": None},
            "number": {"type": "integer", "default": count, "nullable": False},
        }
    )
    expected = {"title": None, "status": "draft", "note": None, "number": 1}
    assert validate_new(resource, {}) == expected
    assert validate_new(resource, {})["number"] == 2
    assert validate_changes(resource, {}) == {}


def test_a_default_that_is_made_wrong_is_told_as_such() -> None:
    resource = declared({"number": {"type": "integer", "default": lambda: "x"}})
    with pytest.raises(ValidationFailed, match="number: the default expected an integer"):
        validate_new(resource, {})


@pytest.mark.parametrize(
    ("options", "fits", "too_small", "too_large"),
    [
        ({"type": "string", "min": 2, "max": 3}, ["ab", "abc"], "a", "abcd"),
        ({"type": "array", "min": 1, "max": 2}, [[1], [1, 2]], [], [1, 2, 3]),
        ({"type": "integer", "min": 0, "max": 10}, [0, 10], -1, 11),
        ({"type": "number", "min": 0.5, "max": 1}, [0.5, 1], 0.4, 1.1),
        ({"type": "decimal", "min": "0.1", "max": 1}, ["0.1", 1], "0.0999", "1.0001"),
        (
            {"type": "date", "min": "2024-01-01", "max": date(2024, 12, 31)},
            ["2024-01-01", "2024-12-31"],
            "2023-12-31",
            "2025-01-01",
        ),
        (
            {"type": "dateTime", "min": "2024-01-01T00:00:00Z", "max": "2025-01-01"},
            ["2024-01-01"],
            "2023-12-31T23:59:59Z",
            "2025-01-01T00:00:01Z",
        ),
        ({"type": "time", "min": "08:00", "max": time(17)}, ["08:00"], "07:59", "17:00:01"),
    ],
)
def test_bounds(options: Any, fits: list[Any], too_small: Any, too_large: Any) -> None:
    resource = declared({"x": options})
    for value in fits:
        validate_changes(resource, {"x": value})
    assert refused(resource, x=too_small) == {"x": "TOO_SMALL"}
    assert refused(resource, x=too_large) == {"x": "TOO_LARGE"}


@pytest.mark.parametrize(
    ("options", "value", "message"),
    [
        ({"type": "string", "min": 2}, "a", "must have at least 2 characters"),
        ({"type": "array", "max": 1}, [1, 2], "must have at most 1 items"),
        ({"type": "integer", "max": 1}, 2, "must be at most 1"),
        ({"type": "string", "enum": ["a", "b"]}, "c", "must be one of: a, b"),
        ({"type": "decimal", "scale": 2}, "0.001", "must have at most 2 digits after the point"),
        (
            {"type": "decimal", "precision": 5, "scale": 2},
            1000,
            "must have at most 3 digits before the point",
        ),
    ],
)
def test_broken_rules_are_told_with_the_rule(options: Any, value: Any, message: str) -> None:
    with pytest.raises(ValueProblem, match=message):
        declared({"x": options}).fields["x"].accept(value)


def test_decimals_keep_their_digits() -> None:
    amount = declared({"x": {"type": "decimal", "precision": 5, "scale": 2}}).fields["x"]
    for value in ("0", "-0.00", "999.99", "-999.9", "1e2", "100.0000"):
        assert amount.accept(value) == Decimal(value)


def test_hidden_and_read_only() -> None:
    resource = declared(
        {
            "title": "string",
            "secret": {"type": "string", "hidden": True},
            "stamp": {"type": "string", "read_only": True},
        }
    )
    problems = ProblemList()
    given = {"title": "1", "stamp": "x", "secret": "y"}
    assert accept_given(resource, given, problems, trusted=False) == {"title": "1"}
    assert [(one.field, one.code) for one in problems.problems] == [
        ("stamp", "READ_ONLY"),
        ("secret", "UNKNOWN_FIELD"),
    ]
    assert accept_given(resource, given, ProblemList(), trusted=True) == given


def test_containers_cannot_be_sorted_by() -> None:
    resource = declared({"tags": "array", "extra": "object"})
    assert not resource.sortable("tags")
    assert not resource.sortable("extra")


def test_validation_names_every_problem_at_once() -> None:
    resource = declared(
        {
            "title": {"type": "string", "required": True},
            "views": {"type": "integer", "min": 0},
            "tags": "array",
            "secret": {"type": "string", "hidden": True},
        }
    )
    given = {"views": -1, "tags": [1, {"a": "\x00"}], "tittle": "x", "secre": "y"}
    with pytest.raises(ValidationFailed) as caught:
        validate_new(resource, given)
    error = caught.value
    assert problems(error) == {
        "title": "REQUIRED",
        "views": "TOO_SMALL",
        "tags": "INVALID_VALUE",
        "tittle": "UNKNOWN_FIELD",
        "secre": "UNKNOWN_FIELD",
    }
    by_field = {problem.field: problem for problem in error.problems}
    assert by_field["tags"].path == (1, "a")
    assert "did you mean 'title'?" in by_field["tittle"].message
    assert "secret" not in by_field["secre"].message, "hidden names are not suggested"
    assert error.resource == "posts"


# Relationships


def linked(*resources: ResourceType) -> ResourceRegistry:
    registry = ResourceRegistry()
    for resource in resources:
        registry.add(resource)
    registry.link()
    return registry


def test_belongs_to_makes_a_relationship_of_a_key() -> None:
    posts = declared(
        {
            "author_id": {"belongs_to": "users"},
            "editor_id": {"type": "id", "belongs_to": "users", "as_": "reviewer"},
        }
    )
    assert {n: (r.target, r.foreign_key) for n, r in posts.relationships.items()} == {
        "author": ("users", "author_id"),
        "reviewer": ("users", "editor_id"),
    }
    assert not posts.fields["author_id"].is_attribute
    registry = linked(posts, declare_resource("users", {}, id_type="string"))
    assert registry["posts"].fields["author_id"].cast("007") == "007"
    registry = linked(posts, declare_resource("users", {}))
    assert registry["posts"].fields["author_id"].cast("007") == 7


def test_keys_to_uuids_are_written_one_way() -> None:
    posts = declared({"author_id": {"belongs_to": "users"}})
    registry = linked(posts, declare_resource("users", {}, id_type="uuid"))
    key = registry["posts"].fields["author_id"]
    assert key.cast("AAAAAAAA-BBBB-CCCC-DDDD-EEEEEEEEEEEE") == registry["users"].cast_id(
        "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee"
    )


def test_relationships_declared_beside_the_schema() -> None:
    posts = declared(
        {"author_id": "id"},
        relationships={
            "author": {"type": "belongsTo", "target": "users", "foreign_key": "author_id"},
            "comments": {"type": "hasMany", "target": "comments", "foreign_key": "post_id"},
        },
    )
    assert posts.fields["author_id"].is_attribute, "declared as an attribute, it stays one"
    assert posts.fields["author_id"].references == "users"
    assert posts.relationships["comments"].to_many
    assert not posts.relationships["author"].to_many


@pytest.mark.parametrize(
    ("relationships", "message"),
    [
        ({"a": {"type": "hasLots"}}, "'hasMany', 'hasOne', 'manyToMany', not 'hasLots'"),
        ({"a": {"type": "hasMany"}}, "'target' is missing"),
        ({"a": {"type": "hasMany", "target": "x"}}, "'foreign_key' is missing"),
        ({"a": {"foreignKey": "x"}}, "unknown option 'foreignKey'; did you mean 'foreign_key'?"),
        ({"a": "users"}, "expected a dict, got str"),
        (
            {"a": {"type": "belongsTo", "target": "x", "foreign_key": "nope"}},
            "foreign_key 'nope' is no field of type 'id'",
        ),
        (
            {"a": {"type": "belongsTo", "target": "x", "foreign_key": "title"}},
            "foreign_key 'title' is no field of type 'id'",
        ),
    ],
)
def test_wrong_relationships(relationships: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match="resource 'posts', relationship 'a'") as caught:
        declared(relationships=relationships)
    assert message in str(caught.value)


def test_links_are_checked_against_their_targets() -> None:
    posts = declared({"author_id": {"belongs_to": "users"}})
    with pytest.raises(ConfigurationError, match="'author' of resource 'posts' points at 'users'"):
        linked(posts)
    comments = {"comments": {"type": "hasMany", "target": "comments", "foreign_key": "post_id"}}
    holder = declared(relationships=comments)
    with pytest.raises(ConfigurationError, match="'comments' has no field 'post_id'"):
        linked(holder, declare_resource("comments", {}))
    with pytest.raises(ConfigurationError, match=r"comments\.post_id belongs to 'users'"):
        linked(
            holder,
            declare_resource("users", {}),
            declare_resource("comments", {"post_id": {"belongs_to": "users"}}),
        )


def test_a_key_of_another_type_cannot_lead_back() -> None:
    comments = {"comments": {"type": "hasMany", "target": "comments", "foreign_key": "post_id"}}
    for id_type, key in (("integer", "id"), ("integer", "string"), ("uuid", "integer")):
        posts = declared(relationships=comments, id_type=id_type)
        with pytest.raises(ConfigurationError, match="declare it with belongs_to='posts'"):
            linked(posts, declare_resource("comments", {"post_id": key}))


def test_the_registry_knows_names_only() -> None:
    registry = linked(declared())
    assert registry.get("posts") is registry["posts"]
    for name in ("nope", None, 7, ["posts"], {}):
        assert registry.get(name) is None
    assert [resource.name for resource in registry] == ["posts"]
    with pytest.raises(ConfigurationError, match="resource 'posts' is declared twice"):
        registry.add(declared())


# Ids


@pytest.mark.parametrize(
    ("id_type", "value", "expected"),
    [
        ("integer", "7", 7),
        ("string", "007", "007"),
        ("string", 7, "7"),
        ("uuid", UUID(int=7), "00000000-0000-0000-0000-000000000007"),
    ],
)
def test_ids(id_type: str, value: Any, expected: Any) -> None:
    assert declared(id_type=id_type).cast_id(value) == expected


@pytest.mark.parametrize(
    ("id_type", "value"),
    [
        *(
            ("integer", spelled)
            for spelled in ("007", "+7", "-0", " 7", "7 ", "\u0667", "\uff17", "7.0")
        ),
        ("uuid", "AAAAAAAA-BBBB-CCCC-DDDD-EEEEEEEEEEEE"),
        ("uuid", "aaaaaaaabbbbccccddddeeeeeeeeeeee"),
        ("uuid", "{aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee}"),
        ("uuid", "urn:uuid:aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee"),
    ],
)
def test_an_id_has_one_spelling(id_type: str, value: str) -> None:
    with pytest.raises(ValueProblem):
        declared(id_type=id_type).cast_id(value)


def test_new_ids() -> None:
    assert declared().new_id() is None
    for id_type in ("string", "uuid"):
        resource = declared(id_type=id_type)
        assert resource.new_id() != resource.new_id()
        assert resource.cast_id(resource.new_id())


def test_the_columns_of_a_row() -> None:
    resource = declared({"title": "string", "body": "text"}, table="entries")
    assert resource.column_names == ("id", "title", "body")
    assert resource.table == "entries"
    assert declare_resource("blog-posts", {}).table == "blog_posts"


# Mistakes


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ({"a": "sting"}, "type is one of array, boolean, bytes, date"),
        ({"a": {}}, "not None"),
        ({"a": 7}, "expected a dict, got int"),
        ({"a": {"type": "string", "defaultTo": 1}}, "'defaultTo'; did you mean 'default'?"),
        ({"a": {"type": "string", "readOnly": True}}, "'readOnly'; did you mean 'read_only'?"),
        ({"a": {"type": "id", "belongsTo": "x"}}, "'belongsTo'; did you mean 'belongs_to'?"),
        ({"a": {"type": "id", "as": "x"}}, "'as'; did you mean 'as_'?"),
        ({"a": {"type": "string", "requird": True}}, "'requird'; did you mean 'required'?"),
        (
            {"a": {"type": "string", "zzz": True}},
            "unknown option 'zzz' (known: as_, as_string, belongs_to",
        ),
        ({"a": {"type": "string", "belongs_to": "x"}}, "a field with belongs_to has type 'id'"),
        ({"a": {"type": "string", "nullable": False}}, "neither nullable nor required needs a"),
        ({"a": {"type": "array", "unique": True}}, "an array cannot be unique"),
        ({"a": {"type": "boolean", "min": 1}}, "a boolean has no min and max"),
        ({"a": {"type": "object", "max": 1}}, "a object has no min and max"),
        ({"a": {"type": "decimal", "scale": 19}}, "0 <= scale < precision <= 18"),
        ({"a": {"type": "decimal", "precision": 19}}, "0 <= scale < precision <= 18"),
        ({"a": {"type": "decimal", "scale": -1}}, "0 <= scale < precision <= 18"),
        ({"a": {"type": "integer", "default": "x"}}, "the default expected an integer"),
        ({"a": {"type": "string", "default": None, "nullable": False}}, "must not be null"),
        ({"a": {"type": "integer", "min": "x"}}, "min: expected an integer"),
        ({"a": {"type": "date", "max": "x"}}, "max: expected a date"),
    ],
)
def test_wrong_fields(schema: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match="resource 'posts', field 'a'") as caught:
        declared(schema)
    assert message in str(caught.value)


@pytest.mark.parametrize("name", ["id", "type", "links", "relationships", "", "1a", "a-b", "ä", 7])
def test_wrong_field_names(name: Any) -> None:
    with pytest.raises(ConfigurationError, match="a field name has letters, digits and '_'"):
        declared({name: "string"})


@pytest.mark.parametrize("name", ["", "1a", "a b", "ä", "a/b", None, "x" * 64])
def test_wrong_resource_names(name: Any) -> None:
    with pytest.raises(ConfigurationError, match="use letters, digits, '-' and '_'"):
        declare_resource(name, {})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"id_type": "int"}, "id_type is 'integer', 'uuid' or 'string'"),
        ({"schema": ["title"]}, "schema: expected a dict, got list"),
        ({"schema": {"author": {"belongs_to": "users"}}}, "relationship 'author': the name is"),
        (
            {"schema": {"a": "string", "b_id": {"belongs_to": "x", "as_": "a"}}},
            "give another one with as_",
        ),
        ({"schema": {"b_id": {"belongs_to": "x", "as_": "links"}}}, "taken or not allowed"),
    ],
)
def test_wrong_resources(options: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match="resource 'posts'") as caught:
        declared(**options)
    assert message in str(caught.value)


# Search schemas


def search(entry: Any, schema: Any = None) -> Any:
    schema = schema or {
        "title": "string",
        "views": "integer",
        "flag": "boolean",
        "tags": "array",
        "secret": {"type": "string", "hidden": True},
        "author_id": {"belongs_to": "users"},
    }
    return declared(schema, search_schema={"f": entry}).search["f"]  # type: ignore[index]


def test_search_on_a_field_is_a_filter() -> None:
    resource = declared(
        {
            "title": {"type": "string", "search": True},
            "body": {"type": "text", "search": "like"},
            "views": {"type": "integer", "search": {"filter_operator": ">"}},
            "none": {"type": "string", "search": False},
        },
        search_schema={"text": {"filter_operator": "like", "one_of": ["title", "body"]}},
    )
    assert resource.search is not None
    assert {name: entry.operator for name, entry in resource.search.items()} == {
        "title": "=",
        "body": "like",
        "views": ">",
        "text": "like",
    }
    assert resource.search["text"].columns == ("title", "body")


def test_no_search_schema_is_not_an_empty_one() -> None:
    assert declared().search is None
    assert declared(search_schema={}).search == {}


def test_types_are_taken_from_the_column() -> None:
    assert search({"actual_field": "views"}).type == "integer"
    assert search({"actual_field": "id"}).type == "id"
    assert search({"actual_field": "author"}).columns == ("author_id",)
    assert search({"actual_field": "title", "type": "text"}).type == "text"
    assert search({"actual_field": "title", "filter_operator": "<>"}).operator == "!="


def custom(columns: Any, value: Any) -> Any:
    return columns.title == value


async def waiting(record: Any, value: Any) -> bool:
    return True


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"filterOperator": "="}, "'filterOperator'; did you mean 'filter_operator'?"),
        ({"actualField": "title"}, "'actualField'; did you mean 'actual_field'?"),
        ({"oneOf": ["title"]}, "'oneOf'; did you mean 'one_of'?"),
        ({"splitBy": " "}, "'splitBy'; did you mean 'split_by'?"),
        ({"matchAll": True}, "'matchAll'; did you mean 'match_all'?"),
        ({"filterRecord": custom}, "'filterRecord'; did you mean 'filter_record'?"),
        ({"filter_operator": "=="}, "filter_operator is one of !=, <, <=, =, >, >=, between, in"),
        ({"filter_record": custom}, "filter_record belongs to a callable filter_operator"),
        (
            {"type": "string", "filter_operator": custom, "filter_record": waiting},
            "filter_record must be an ordinary function",
        ),
        ({"filter_operator": custom}, "a callable filter_operator needs a type"),
        ({"actual_field": "title", "one_of": ["title"]}, "give actual_field or one_of, not both"),
        ({"one_of": []}, "one_of is empty"),
        ({"one_of": [7]}, "7 is no field name"),
        ({"actual_field": "nope"}, "the resource has no field 'nope'; name one with actual_field"),
        ({}, "the resource has no field 'f'"),
        ({"match_all": True, "actual_field": "title"}, "match_all needs split_by, or the operator"),
        (
            {"match_all": True, "actual_field": "title", "filter_operator": "in"},
            "match_all needs split_by, or the operator",
        ),
        ({"actual_field": "title", "type": "sting"}, "type is one of array, boolean"),
        ({"actual_field": "secret"}, "field 'secret' is hidden; a filter on it would give it away"),
        (
            {"actual_field": "tags", "filter_operator": ">"},
            "the array 'tags' takes !=, =, in, like",
        ),
        ({"actual_field": "tags", "type": "number"}, "its elements (type) are one of boolean, id"),
        ({"actual_field": "author.name", "one_of": ["title"]}, "give actual_field or one_of"),
        ({"actual_field": "views", "filter_operator": "like"}, "'like' needs a text field"),
        ({"actual_field": "id", "filter_operator": "like"}, "'like' needs a text field"),
        ({"actual_field": "author", "filter_operator": "like"}, "'like' needs a text field"),
        ({"actual_field": "flag", "filter_operator": ">"}, "'>' cannot order a boolean"),
        ({"actual_field": "flag", "filter_operator": "between"}, "cannot order a boolean"),
        ({"actual_field": "title", "split_by": ""}, "split_by needs a text type and a separator"),
        ({"actual_field": "views", "split_by": ","}, "split_by needs a text type and a separator"),
        (7, "expected a dict, got int"),
    ],
)
def test_wrong_filters(entry: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match="resource 'posts', filter 'f'") as caught:
        search(entry)
    assert message in str(caught.value)


def test_a_search_schema_that_is_no_dict() -> None:
    with pytest.raises(ConfigurationError, match="'posts', search_schema: expected a dict"):
        declared(search_schema=["title"])


# Classes


class Status(enum.Enum):
    DRAFT = "draft"
    PUBLISHED = "published"


class Stamped:
    created_at: datetime = field(read_only=True, required=False, nullable=True)


class Post(Stamped):
    title: str = field(max=200, search="like")
    kind: Literal["news", "note"] = "note"
    status: Status = Status.DRAFT
    body: str | None = field(type="text")
    views: int = 0
    score: Optional[float]  # noqa: UP045  both spellings are read
    price: Decimal
    day: date | None
    at: time | None
    is_open: bool = True
    tags: list[str] | None
    extra: dict[str, Any] | None
    _private: int
    author = belongs_to("users", required=True)
    comments = has_many("comments", foreign_key="post_id")


def test_a_class_says_what_a_dict_would() -> None:
    resource = declare_resource("posts", Post)
    types = {name: found.type for name, found in resource.fields.items()}
    assert types == {
        "author_id": "id",
        "created_at": "dateTime",
        "title": "string",
        "kind": "string",
        "status": "string",
        "body": "text",
        "views": "integer",
        "score": "number",
        "price": "decimal",
        "day": "date",
        "at": "time",
        "is_open": "boolean",
        "tags": "array",
        "extra": "object",
    }
    assert resource.fields["title"].required
    assert resource.fields["title"].max == 200
    assert resource.fields["kind"].enum == ("news", "note")
    assert resource.fields["status"].enum == ("draft", "published")
    assert resource.fields["status"].default == "draft"
    assert not resource.fields["views"].nullable
    assert resource.fields["score"].nullable
    assert not resource.fields["score"].required
    assert resource.fields["author_id"].required
    assert resource.relationships["author"].target == "users"
    assert resource.relationships["comments"].foreign_key == "post_id"
    assert resource.search is not None
    assert resource.search["title"].operator == "like"


def test_what_a_base_class_declares_holds() -> None:
    assert declare_resource("posts", Post).fields["created_at"].read_only


def test_relationships_given_beside_a_class_come_on_top() -> None:
    more = {"type": "hasMany", "target": "likes", "foreign_key": "post_id"}
    resource = declare_resource("posts", Post, relationships={"likes": more})
    assert set(resource.relationships) == {"author", "comments", "likes"}


def test_an_annotation_without_a_field_type() -> None:
    class Wrong:
        title: complex

    with pytest.raises(ConfigurationError, match="'posts', field 'title': no field type for") as e:
        declare_resource("posts", Wrong)
    assert "known: str, int, float, bool, Decimal" in str(e.value)


def test_a_union_that_is_more_than_optional() -> None:
    class Wrong:
        title: str | int | None

    with pytest.raises(ConfigurationError, match="no field type"):
        declare_resource("posts", Wrong)


def test_an_annotation_that_cannot_be_read() -> None:
    class Local(enum.Enum):
        A = "a"

    class Wrong:
        kind: Local

    with pytest.raises(ConfigurationError, match="'posts': an annotation of Wrong cannot be read"):
        declare_resource("posts", Wrong)


def test_defaults_in_fields_of_pydantic_and_dataclasses_hold() -> None:
    import dataclasses

    from pydantic import BaseModel, Field

    class Model(BaseModel):
        title: str
        status: str = "draft"
        number: int = Field(default=3, ge=1)
        tags: list[str] = Field(default_factory=lambda: ["new"])

    class Plain:
        title: str
        number: int = Field(default=3)

    @dataclasses.dataclass
    class Data:
        title: str
        number: int = 3
        tags: list[str] = dataclasses.field(default_factory=lambda: ["new"])

    full = {"title": "x", "status": "draft", "number": 3, "tags": ["new"]}
    for schema in (Model, Plain, Data):
        resource = declared(schema)
        expected = {name: value for name, value in full.items() if name in resource.fields}
        made = validate_new(resource, {"title": "x"})
        assert {name: made[name] for name in expected} == expected
        with pytest.raises(ValidationFailed):
            validate_new(resource, {})

    class Depends(BaseModel):
        title: str
        other: str = Field(default_factory=lambda data: data["title"])

    with pytest.raises(ConfigurationError, match=r"field 'other'.*takes no argument"):
        declared(Depends)

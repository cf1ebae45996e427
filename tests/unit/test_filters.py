"""Filters from clients and from trusted code: what they come to, and what is refused."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import or_

from tidings import ConfigurationError, FilterError, Identity
from tidings.feed import Change
from tidings.filters import (
    EVERYTHING,
    NOTHING,
    AllOf,
    AnyOf,
    Atom,
    Expression,
    Not,
    Opaque,
    all_of,
    any_of,
    build_clause,
    build_filters,
    canonical,
    compile_predicate,
    opaque_without_record_test,
)
from tidings.filters.sql import parameters, shape, to_sql
from tidings.identity import ANONYMOUS
from tidings.matching import Matcher
from tidings.schema import FilterLimits, ResourceRegistry, ResourceType, declare_resource
from tidings.schema.moments import DATETIME_FORM
from tidings.storage import RecordStore, Row, SqliteDatabase, build_tables

LIMITS = FilterLimits()


def has_tag(columns: Any, value: Any) -> Any:
    return or_(columns.tags == [value], columns.title == value)


def record_has_tag(record: Mapping[str, Any], value: Any) -> bool:
    return value in (record["tags"] or []) or record["title"] == value


def mine(columns: Any, value: Any, identity: Identity) -> Any:
    return columns.title == identity.user_id


def is_mine(record: Mapping[str, Any], value: Any, identity: Identity) -> bool:
    return bool(record["title"] == identity.user_id)


def near(columns: Any, value: Any) -> Any:
    return columns.views <= value["radius"]


SCHEMA = {
    "title": "string",
    "body": "text",
    "views": "integer",
    "score": "number",
    "price": {"type": "decimal", "scale": 2},
    "big": {"type": "decimal", "scale": 4},
    "is_open": "boolean",
    "day": "date",
    "at": "dateTime",
    "hour": "time",
    "tags": "array",
    "author_id": {"belongs_to": "users", "constraint": False},
    "plain_id": "id",
}
SEARCH = {
    "title": {},
    "not_title": {"actual_field": "title", "filter_operator": "!="},
    "contains": {"actual_field": "title", "filter_operator": "like"},
    "anywhere": {"one_of": ["title", "body"], "filter_operator": "like"},
    "words": {"one_of": ["title", "body"], "filter_operator": "like", "split_by": " "},
    "all_words": {
        "one_of": ["title", "body"],
        "filter_operator": "like",
        "split_by": " ",
        "match_all": True,
    },
    "views": {},
    "views_in": {"actual_field": "views", "filter_operator": "in"},
    "views_between": {"actual_field": "views", "filter_operator": "between"},
    "more_views": {"actual_field": "views", "filter_operator": ">"},
    "score": {},
    "score_between": {"actual_field": "score", "filter_operator": "between"},
    "price": {},
    "price_over": {"actual_field": "price", "filter_operator": ">"},
    "big": {},
    "big_over": {"actual_field": "big", "filter_operator": ">"},
    "is_open": {},
    "day": {},
    "days": {"actual_field": "day", "filter_operator": "between"},
    "at": {},
    "on": {"actual_field": "at", "type": "date"},
    "not_on": {"actual_field": "at", "type": "date", "filter_operator": "!="},
    "after": {"actual_field": "at", "type": "date", "filter_operator": ">"},
    "since": {"actual_field": "at", "type": "date", "filter_operator": ">="},
    "before": {"actual_field": "at", "type": "date", "filter_operator": "<"},
    "until": {"actual_field": "at", "type": "date", "filter_operator": "<="},
    "on_days": {"actual_field": "at", "type": "date", "filter_operator": "between"},
    "on_one_of": {"actual_field": "at", "type": "date", "filter_operator": "in"},
    "hour": {"filter_operator": ">="},
    "author": {},
    "plain_id": {},
    "id": {},
    "tag": {"type": "string", "filter_operator": has_tag, "filter_record": record_has_tag},
    "tag_sql": {"type": "string", "filter_operator": has_tag},
    "mine": {"type": "boolean", "filter_operator": mine, "filter_record": is_mine},
    "near": {"type": "object", "filter_operator": near},
    "odd": {"type": "string", "filter_operator": lambda c, value: c.views == int(value)},
    "list": {"type": "array", "filter_operator": lambda c, value: c.views.in_(value)},
    "days_listed": {"type": "array", "filter_operator": lambda c, v: c.day.in_(map_days(v))},
}


def map_days(values: list[str]) -> list[date]:
    return [date.fromisoformat(value) for value in values]


@pytest.fixture(scope="module")
def registry() -> ResourceRegistry:
    registry = ResourceRegistry()
    registry.add(declare_resource("posts", SCHEMA, search_schema=SEARCH))
    registry.add(declare_resource("users", {}))
    registry.link()
    return registry


@pytest.fixture(scope="module")
def posts(registry: ResourceRegistry) -> ResourceType:
    return registry["posts"]


NULLS: dict[str, Any] = {"id": 1, **dict.fromkeys(SCHEMA)}


class Bench:
    """The records of a test in SQL; every answer is checked on both sides."""

    def __init__(self, registry: ResourceRegistry) -> None:
        self.posts = registry["posts"]
        self.database = SqliteDatabase("sqlite+aiosqlite://")
        self.tables = build_tables(registry)
        self.store = RecordStore(self.database, self.tables)

    async def fill(self, *records: dict[str, Any]) -> None:
        await self.database.open()
        await self.database.create_tables(list(self.tables.values()))
        async with self.database.writing() as connection:
            for number, record in enumerate(records, 1):
                values = NULLS | {"id": number} | record
                await self.store.insert(connection, self.posts, values)
            await connection.commit()

    async def ids(self, expression: Expression) -> list[int]:
        """The records that match, in SQL and, where that can be told, in Python."""
        async with self.database.reading(snapshot=False) as connection:
            found = await self.store.find(connection, self.posts, expression)
            every: list[Row] = await self.store.find(connection, self.posts)
        if opaque_without_record_test(expression) is None:
            matches = compile_predicate(expression)
            assert [row for row in every if matches(row)] == found
        return [row["id"] for row in found]

    async def filter(self, identity: Identity = ANONYMOUS, text: bool = False, **f: Any) -> Any:
        return await self.ids(build_filters(self.posts, f, identity, text=text).expression)

    async def clause(self, clause: Any) -> list[int]:
        return await self.ids(build_clause(self.posts, clause))


@pytest.fixture
async def bench(registry: ResourceRegistry) -> Any:
    bench = Bench(registry)
    yield bench
    await bench.database.close()


def problem(posts: ResourceType, name: str, value: Any, *, text: bool = False) -> str:
    """The message of the one problem of a filter."""
    with pytest.raises(FilterError) as caught:
        build_filters(posts, {name: value}, ANONYMOUS, text=text)
    (only,) = caught.value.problems
    assert (only.field, only.code) == (name, "INVALID_VALUE")
    assert caught.value.details == {name: {"code": only.code, "message": only.message}}
    return only.message


# Meaning


async def test_text_is_equal_exactly(bench: Bench) -> None:
    titles = ["a", "A", "a ", " a", "é", "e\u0301", "ẞ", "ß", "ss", ""]
    await bench.fill(*({"title": title} for title in titles))
    for number, title in enumerate(titles, 1):
        assert await bench.filter(title=title) == [number]
        assert number not in await bench.filter(not_title=title)


@pytest.mark.parametrize(
    ("title", "part", "found"),
    [
        ("İstanbul", "İ", True),
        ("İstanbul", "i", False),
        ("İstanbul", "i\u0307", False),
        ("İstanbul", "istanbul", False),
        ("STRAẞE", "straße", True),
        ("STRASSE", "ß", False),
        ("ΟΔΟΣ", "ς", True),
        ("ΟΔΟΣ", "οδος", True),
        ("ΟΔΟΣ", "Σ", True),
        ("ΟΔΟΣ α", "Σ", True),  # noqa: RUF001
        ("K", "k", True),
        ("100%", "%", True),
        ("100", "%", False),
        ("a_b", "_", True),
        ("ab", "_", False),
        ("a\\b", "\\", True),
        ("ab", "\\", False),
        ("'; DROP TABLE posts", "';", True),
        ("anything", "", True),
        ("", "", True),
        ("", "a", False),
        ("\U00010400", "\U00010428", True),
    ],
)
async def test_like_is_contains_without_case_or_wildcards(
    bench: Bench, title: str, part: str, found: bool
) -> None:
    await bench.fill({"title": title}, {"title": None})
    assert await bench.filter(contains=part) == [1] * found
    assert await bench.clause({"$not": {"title": {"like": part}}}) == [1] * (not found)


async def test_one_of_and_split_by(bench: Bench) -> None:
    await bench.fill(
        {"title": "red fox", "body": "in snow"},
        {"title": "red"},
        {"body": "FOX"},
        {"title": "snow"},
        {},
    )
    assert await bench.filter(anywhere="fox") == [1, 3]
    assert await bench.filter(words="red  fox ") == [1, 2, 3]
    assert await bench.filter(all_words="red fox") == [1]
    assert await bench.filter(all_words="red snow") == [1]
    assert await bench.filter(words="  ") == []
    assert await bench.filter(all_words="  ") == [1, 2, 3, 4, 5]


async def test_null_matches_only_what_asks_for_it(bench: Bench) -> None:
    await bench.fill({"title": "a", "views": 1}, {})
    assert await bench.filter(title=None) == [2]
    assert await bench.filter(not_title=None) == [1]
    assert await bench.filter(not_title="b") == [1]
    assert await bench.filter(views_in=[]) == []
    assert await bench.clause({"$not": {"views": 2}}) == [1]
    assert await bench.clause({"$not": {"views": []}}) == [1, 2]
    assert await bench.clause({"title": {"is null": True}}) == [2]
    assert await bench.clause({"title": {"is null": False}}) == [1]
    assert await bench.clause({"$not": {"$or": [{"views": 2}, {"title": "b"}]}}) == [1]
    assert await bench.clause(
        {"$not": {"$and": [{"views": 2}, {"title": {"is null": False}}]}}
    ) == [
        1,
        2,
    ]


async def test_lists(bench: Bench) -> None:
    await bench.fill(*({"views": number} for number in range(10)))
    for count in (1, 2, 3, 4, 5, 9):
        assert await bench.filter(views_in=list(range(count))) == list(range(1, count + 1))
    assert await bench.filter(views_in=3) == [4]
    assert await bench.filter(views_in=[3, 3, 3]) == [4]
    assert await bench.filter(views_between=[3, 5]) == [4, 5, 6]
    assert await bench.filter(views_between=[5, 3]) == []
    assert await bench.filter(views_between=[5, 5]) == [6]


async def test_numbers_at_the_edges(bench: Bench) -> None:
    await bench.fill(
        {"views": 2**53, "score": 2.0**53},
        {"views": 2**53 + 1, "score": 2.0**53 + 2},
        {"views": 2**63 - 1, "score": -0.0},
        {"views": -(2**63), "score": 5e-324},
    )
    assert await bench.filter(views=2**53) == [1]
    assert await bench.filter(views=2**53 + 1) == [2]
    assert await bench.filter(views=float(2**53)) == [1]
    assert await bench.filter(more_views=2**53) == [2, 3]
    assert await bench.filter(score=2**53 + 1) == [1], "as a number it is 2**53"
    assert await bench.filter(score=0) == [3]
    assert await bench.filter(score=-0.0) == [3]
    assert await bench.filter(score_between=[-0.0, "5e-324"]) == [3, 4]


async def test_decimals_with_more_digits_than_their_column(bench: Bench) -> None:
    large = Decimal("12345678901234.5678")
    await bench.fill(
        {"price": Decimal("1.10"), "big": large},
        {"price": Decimal("1.11"), "big": large + Decimal("0.0001")},
        {"price": Decimal("-1.10"), "big": -large},
    )
    assert await bench.filter(price="1.1") == [1]
    assert await bench.filter(price=1.1) == [1]
    assert await bench.filter(price="1.1000") == [1]
    assert await bench.filter(price="1.105") == []
    assert await bench.filter(price_over="1.105") == [2]
    assert await bench.filter(price_over="1.1000000000000000000000001") == [2]
    assert await bench.filter(price_over="1.0999999999999999999999999") == [1, 2]
    assert await bench.filter(price_over="-1.1000000000000000000000001") == [1, 2, 3]
    assert await bench.filter(price="1.1000000000000000000000001") == []
    assert await bench.filter(price_over="1e400") == []
    assert await bench.filter(price_over="-1e400") == [1, 2, 3]
    assert await bench.filter(price_over=10**27) == []
    assert await bench.filter(big=str(large)) == [1]
    assert await bench.filter(big_over=str(large)) == [2]


def test_decimals_that_no_float_could_tell_apart_are_refused(posts: ResourceType) -> None:
    assert problem(posts, "big", "12345678901234.56785") == (
        "must have at most 4 digits after the point"
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("views", 2**63),
        ("views", 10**400),
        ("views", "9" * 30),
        ("views", 1e300),
        ("views", 1.5),
        ("score", 10**400),
        ("price", "9" * 30),
        ("id", 2**63),
        ("author", 2**64),
        ("views_in", [1, 2**63]),
        ("views_between", [1, 10**30]),
        ("plain_id", 10**30),
    ],
)
def test_numbers_that_no_column_holds_are_refused(
    posts: ResourceType, name: str, value: Any
) -> None:
    assert problem(posts, name, value)


async def test_ids_are_compared_as_their_column(bench: Bench) -> None:
    await bench.fill({"author_id": 7, "plain_id": "007"}, {"author_id": 8, "plain_id": "7"})
    assert await bench.filter(author="007") == [1]
    assert await bench.filter(author=7) == [1]
    assert await bench.filter(plain_id="007") == [1]
    assert await bench.filter(plain_id=7) == [2]
    assert await bench.filter(id="01") == [1]


async def test_booleans(bench: Bench) -> None:
    await bench.fill({"is_open": True}, {"is_open": False}, {})
    for value in (True, 1, "1", "true"):
        assert await bench.filter(is_open=value) == [1]
    for value in (False, 0, "0", "false"):
        assert await bench.filter(is_open=value) == [2]


async def test_times_and_dates(bench: Bench) -> None:
    await bench.fill(
        {"day": date(1, 1, 1), "hour": time(12, 0, 0, 1)},
        {"day": date(9999, 12, 31), "hour": time(12)},
        {"day": date(2024, 2, 29), "hour": time(0)},
    )
    assert await bench.filter(hour="12:00:00.000001") == [1]
    assert await bench.filter(hour="12:00") == [1, 2]
    assert await bench.filter(day="9999-12-31") == [2]
    assert await bench.filter(days=["0001-01-01", "2024-02-29"]) == [1, 3]


def moment(*parts: int) -> dict[str, Any]:
    return {"at": datetime(*parts, tzinfo=UTC)}  # type: ignore[arg-type,misc]


async def test_a_day_on_a_moment_is_the_whole_day(bench: Bench) -> None:
    await bench.fill(
        moment(2024, 2, 28, 23, 59, 59, 999999),
        moment(2024, 2, 29),
        moment(2024, 2, 29, 23, 59, 59, 999999),
        moment(2024, 3, 1),
        {},
    )
    assert await bench.filter(on="2024-02-29") == [2, 3]
    assert await bench.filter(not_on="2024-02-29") == [1, 4]
    assert await bench.filter(after="2024-02-29") == [4]
    assert await bench.filter(since="2024-02-29") == [2, 3, 4]
    assert await bench.filter(before="2024-02-29") == [1]
    assert await bench.filter(until="2024-02-29") == [1, 2, 3]
    assert await bench.filter(on_days=["2024-02-29", "2024-02-29"]) == [2, 3]
    assert await bench.filter(on_days=["2024-02-28", "2024-02-29"]) == [1, 2, 3]
    assert await bench.filter(on_one_of=["2024-02-28", "2024-03-01"]) == [1, 4]
    assert await bench.filter(on_one_of=[]) == []
    # A moment given to such a filter is a moment.
    assert await bench.filter(on="2024-02-29T00:00:00Z") == [2]
    assert await bench.filter(on="2024-03-01T01:00:00+01:00") == [4]
    assert await bench.filter(on="2024-02-29T01:00:00 01:00") == [2]


async def test_the_first_and_the_last_day_there_are(bench: Bench) -> None:
    await bench.fill(
        moment(1, 1, 1), moment(1, 1, 1, 0, 0, 0, 1), moment(9999, 12, 31, 23, 59, 59, 999999)
    )
    assert await bench.filter(on="0001-01-01") == [1, 2]
    assert await bench.filter(on="9999-12-31") == [3]
    assert await bench.filter(not_on="9999-12-31") == [1, 2]
    assert await bench.filter(until="9999-12-31") == [1, 2, 3]
    assert await bench.filter(after="9999-12-31") == []
    assert await bench.filter(since="9999-12-31") == [3]
    assert await bench.filter(on_days=["0001-01-01", "9999-12-31"]) == [1, 2, 3]
    assert await bench.filter(at="0001-01-01T00:00:00.000001Z") == [2]


async def test_values_of_a_query_string(bench: Bench) -> None:
    await bench.fill({"views": 1}, {"views": 2}, {"views": 3, "tags": ["a"]})
    assert await bench.filter(text=True, views_in="1,2") == [1, 2]
    assert await bench.filter(text=True, views_in="[1, 2]") == [1, 2]
    assert await bench.filter(text=True, views_in=["1", "3"]) == [1, 3]
    assert await bench.filter(text=True, views_in="") == []
    assert await bench.filter(text=True, views_between="2,3") == [2, 3]
    assert await bench.filter(text=True, near='{"radius": 1}') == [1]
    assert await bench.filter(text=True, near={"radius": 2}) == [1, 2]
    assert await bench.filter(text=True, list="[1, 3]") == [1, 3]


def test_text_that_is_no_json(posts: ResourceType) -> None:
    assert problem(posts, "near", "{", text=True) == "expected an object, got a string"
    assert problem(posts, "near", "[" * 100_000, text=True)
    assert build_filters(posts, {"list": "a,b"}, ANONYMOUS, text=True).normalised == {
        "list": ["a", "b"]
    }


# Custom filters


async def test_a_custom_filter_on_both_sides(bench: Bench) -> None:
    await bench.fill({"tags": ["a"]}, {"title": "a"}, {"title": "b"}, {})
    assert await bench.filter(tag="a") == [1, 2]
    assert await bench.filter(tag="a", title="b") == [], "its OR stays inside"
    assert await bench.clause({"title": "b"}) == [3]


async def test_values_inside_a_custom_filter_are_bound_as_their_column(bench: Bench) -> None:
    await bench.fill({"day": date(2024, 1, 1)}, {"day": date(2024, 1, 2)}, {})
    assert await bench.filter(days_listed=["2024-01-02", "2024-01-03"]) == [2]
    assert await bench.filter(days_listed=[]) == []
    assert await bench.filter(days_listed=["2024-01-02"], day="2024-01-02") == [2]


async def test_a_custom_filter_that_looks_at_the_identity(bench: Bench) -> None:
    await bench.fill({"title": "u1"}, {"title": "u2"})
    assert await bench.filter(Identity("u2"), mine=True) == [2]


def key(posts: ResourceType, identity: Identity, name: str = "mine", value: Any = True) -> str:
    return canonical(build_filters(posts, {name: value}, identity).expression)


def test_custom_filters_are_shared_only_by_those_they_cannot_tell_apart(
    posts: ResourceType,
) -> None:
    identities = [
        Identity("u1"),
        Identity("u2"),
        Identity(None),
        Identity("None"),
        Identity("u1", roles=frozenset({"admin"})),
        Identity("u1", permissions=frozenset({"admin"})),
        Identity("u1", claims={"team": 1}),
        Identity("u1", claims={"team": "1"}),
    ]
    unreadable = {"type": "boolean", "filter_operator": lambda columns, value, identity: columns}
    bare = declare_resource("bare", {"title": "string"}, search_schema={"mine": unreadable})
    assert len({key(bare, identity) for identity in identities}) == len(identities)
    # One that tidings can read is shared by all for whom it comes to the same.
    assert len({key(posts, identity) for identity in identities}) == 4
    assert key(posts, Identity("u1")) == key(posts, Identity("u1"))
    # One that does not look at the identity is shared by all.
    assert len({key(posts, identity, "tag", "a") for identity in identities}) == 1
    assert key(posts, ANONYMOUS, "tag", "a") != key(posts, ANONYMOUS, "tag", "b")


def test_a_custom_filter_without_its_python_side(posts: ResourceType) -> None:
    built = build_filters(posts, {"tag_sql": "a", "title": "b"}, ANONYMOUS)
    assert opaque_without_record_test(built.expression) == "tag_sql"
    assert opaque_without_record_test(Not(built.expression)) == "tag_sql"
    with pytest.raises(ValueError, match="filter 'tag_sql' has no filter_record"):
        compile_predicate(built.expression)
    both = build_filters(posts, {"tag": "a", "title": "b"}, ANONYMOUS)
    assert opaque_without_record_test(both.expression) is None


# What is refused


def test_without_a_search_schema_nothing_can_be_filtered() -> None:
    bare = declare_resource("bare", {"title": "string"})
    assert build_filters(bare, {}, ANONYMOUS).expression == EVERYTHING
    with pytest.raises(FilterError) as caught:
        build_filters(bare, {"title": "a"}, ANONYMOUS)
    assert caught.value.code == "FILTERING_NOT_ENABLED"
    assert caught.value.resource == "bare"


def test_every_wrong_filter_is_named(posts: ResourceType) -> None:
    with pytest.raises(FilterError) as caught:
        build_filters(
            posts,
            {"nope": 1, "views": "many", "title": "ok", "$or": [], "__proto__": {}},
            ANONYMOUS,
        )
    error = caught.value
    unknown = {"code": "UNKNOWN_FIELD", "message": "Field not defined in searchSchema"}
    assert error.details == {
        "nope": unknown,
        "$or": unknown,
        "__proto__": unknown,
        "views": {"code": "INVALID_VALUE", "message": "expected an integer"},
    }
    assert (error.code, error.message) == ("INVALID_FILTERS", "Invalid filter values")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("contains", None, "null cannot be compared with 'like'"),
        ("more_views", None, "null cannot be compared with '>'"),
        ("views_in", [1, None], "value 1: expected an integer, got null"),
        ("views_in", [1, "x"], "value 1: expected an integer"),
        ("views_in", None, "value 0: expected an integer, got null"),
        ("views_in", list(range(LIMITS.values + 1)), f"at most {LIMITS.values} values"),
        ("words", "a " * (LIMITS.values + 1), f"at most {LIMITS.values // 2} values"),
        ("words", 7, "expected a string, got a number"),
        ("views_between", 7, "expected an array of two values, got a number"),
        ("views_between", [1], "expected an array of two values, got 1"),
        ("views_between", [1, 2, 3], "expected an array of two values, got 3"),
        ("views_between", [1, None], "value 1: expected an integer, got null"),
        ("title", 7, "expected a string, got a number"),
        ("title", {"$ne": ""}, "expected a string, got an object"),
        ("title", ["a"], "expected a string, got an array"),
        ("title", "\x00", "must not contain the NUL character"),
        ("views", {}, "expected an integer, got an object"),
        (
            "on",
            "someday",
            f"expected {DATETIME_FORM}",
        ),
        ("near", [1], "expected an object, got an array"),
        ("tag", 7, "expected a string, got a number"),
        ("odd", "x", "invalid literal for int() with base 10: 'x'"),
    ],
)
def test_wrong_values(posts: ResourceType, name: str, value: Any, message: str) -> None:
    assert problem(posts, name, value) == message


def test_values_are_shown_as_they_are_meant(posts: ResourceType) -> None:
    given = {"views": "7", "views_in": ["1", 2.0], "on": "2024-02-29", "words": "a b", "price": 1}
    assert build_filters(posts, given, ANONYMOUS).normalised == {
        "views": 7,
        "views_in": [1, 2],
        "on": date(2024, 2, 29),
        "words": "a b",
        "price": Decimal(1),
    }


# Clauses of trusted code


async def test_clauses_may_use_any_column(bench: Bench) -> None:
    await bench.fill({"title": "a", "views": 1}, {"title": "b", "views": 2}, {"views": 3})
    assert await bench.clause({"title": "a"}) == [1]
    assert await bench.clause({"title": ["a", "b"]}) == [1, 2]
    assert await bench.clause({"id": {1, 3}}) == [1, 3]
    assert await bench.clause({"views": {">": 1, "<=": 2}}) == [2]
    assert await bench.clause({"views": {"between": (2, 3)}}) == [2, 3]
    assert await bench.clause({"$or": [{"title": "a"}, {"views": {">=": 3}}]}) == [1, 3]
    assert await bench.clause({"$and": [{"views": {"!=": 1}}, {"views": {"!=": 2}}]}) == [3]
    assert await bench.clause({"$or": [{"title": "a"}], "views": 2}) == []
    assert await bench.clause({"$not": {"$not": {"title": "a"}}}) == [1]


@pytest.mark.parametrize(
    ("clause", "message"),
    [
        (None, "expected a dict, got NoneType"),
        ({}, "the dict is empty"),
        ({"$or": [{"title": "a"}, {}]}, "the dict is empty"),
        ({"$not": {}}, "the dict is empty"),
        ([{"title": "a"}], "expected a dict, got list"),
        ({"nope": 1}, "there is no column 'nope'"),
        ({"author": 1}, "there is no column 'author'"),
        ({7: 1}, "there is no column 7"),
        ({"$or": []}, "'$or' takes a list of dicts, with at least one"),
        ({"$and": {"title": "a"}}, "'$and' takes a list of dicts, with at least one"),
        ({"$or": ["title"]}, "expected a dict, got str"),
        ({"$not": None}, "expected a dict, got NoneType"),
        ({"$nor": []}, "there is no column '$nor'"),
        ({"title": None}, "column 'title': the value is None (is a claim missing?)"),
        ({"title": {"=": None}}, "the value is None"),
        ({"title": [None]}, "the value is None"),
        ({"title": {}}, "column 'title': the dict names no operator"),
        ({"title": {"==": "a"}}, "unknown operator '==' (known: !=, <, <=, =, >, >=, between, in"),
        ({"views": "many"}, "column 'views': expected an integer"),
        ({"views": {"like": "1"}}, "'like' cannot be used on a integer"),
        ({"id": {"like": "1"}}, "'like' cannot be used on a id"),
        ({"author_id": {"like": "1"}}, "'like' cannot be used on a id"),
        ({"tags": {">": "a"}}, "'>' cannot be used on a array"),
        ({"tags": {"between": ["a", "b"]}}, "'between' cannot be used on a array"),
        ({"tags": ["a", 2**60]}, "must be a number that JSON can hold exactly"),
        ({"views": {"in": 7}}, "'in' takes a list"),
        ({"views": {"between": 7}}, "'between' takes a list of two"),
        ({"views": {"between": [7]}}, "'between' takes a list of two"),
        ({"views": 2**63}, "must fit into 64 bits"),
    ],
)
def test_wrong_clauses_fail_closed(posts: ResourceType, clause: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match="clause on 'posts'") as caught:
        build_clause(posts, clause)
    assert message in str(caught.value)


# The expression itself


A, B, C = Atom("a", "=", 1), Atom("b", "=", 2), Atom("c", "like", "X")


def test_terms_are_flattened_and_said_once() -> None:
    assert all_of([A]) == A
    assert all_of([]) == EVERYTHING
    assert any_of([]) == NOTHING
    assert all_of([A, all_of([B, A])]) == AllOf((A, B))
    assert any_of([A, any_of([B, A])]) == AnyOf((A, B))
    assert all_of([A, NOTHING, B]) == NOTHING
    assert any_of([A, EVERYTHING, B]) == EVERYTHING
    assert all_of([A, EVERYTHING]) == A
    assert any_of([A, NOTHING]) == A
    assert all_of([A, any_of([B, C])]) == AllOf((A, AnyOf((B, C))))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Atom("a", "in", (1, 2)), Atom("a", "in", (2, 1, 1))),
        (Atom("a", "in", (1,)), Atom("a", "=", 1)),
        (Atom("a", "=", 1), Atom("a", "=", 1.0)),
        (Atom("a", "=", Decimal("1.50")), Atom("a", "=", 1.5)),
        (Atom("a", "=", 0.0), Atom("a", "=", -0.0)),
        (Atom("a", "=", Decimal("1E+2")), Atom("a", "=", 100)),
        (Atom("a", "like", "X"), Atom("a", "like", "x")),
        (AllOf((A, B, C)), AllOf((C, A, B))),
    ],
)
def test_filters_that_mean_the_same_have_one_form(one: Expression, other: Expression) -> None:
    assert canonical(one) == canonical(other)


DIFFERENT: list[Expression] = [
    EVERYTHING,
    NOTHING,
    A,
    B,
    Not(A),
    Not(Not(A)),
    AllOf((A, B)),
    AnyOf((A, B)),
    Not(AllOf((A, B))),
    AllOf((Not(A), B)),
    AllOf((A, AnyOf((B, C)))),
    AnyOf((A, AllOf((B, C)))),
    Atom("a", "!=", 1),
    Atom("a", "=", "1"),
    Atom("a", "=", True),
    Atom("a", "=", 2**53),
    Atom("a", "=", 2**53 + 1),
    Atom("a", "=", 0.1),
    Atom("a", "=", Decimal("0.1")),
    Atom("a", "=", Decimal("1.000000000000000000000000001")),
    Atom("a", "=", date(2024, 1, 1)),
    Atom("a", "=", datetime(2024, 1, 1, tzinfo=UTC)),
    Atom("a", "=", time(0)),
    Atom("a", "=", "2024-01-01"),
    Atom("a", "=", 'x","b"="y'),
    Atom("a", "=", "A"),
    Atom("a", "=", "a"),
    Atom("a", "=", "a "),
    Atom("a", "like", "x y"),
    Atom("a", "like", ""),
    Atom("a", "in", ()),
    Atom("a", "in", (1, 2)),
    Atom("a", "in", ("1,2",)),
    Atom("a", "in", ("1", "2")),
    Atom("a", "between", (1, 2)),
    Atom("a", "between", (2, 1)),
    Atom("a", "is null"),
    Atom("a", "is not null"),
    Opaque("a", "1", lambda columns: columns),
    Opaque("a", "2", lambda columns: columns),
    Opaque("b", "1", lambda columns: columns),
    Opaque('a","1', "", lambda columns: columns),
]


def test_filters_that_differ_never_share_a_form() -> None:
    forms = [canonical(expression) for expression in DIFFERENT]
    assert len(set(forms)) == len(forms)


def test_a_value_of_an_unknown_type_has_no_form() -> None:
    with pytest.raises(TypeError, match="a filter cannot hold a value of type object"):
        canonical(Atom("a", "=", object()))


def test_arrays_and_objects_can_only_be_asked_whether_they_are_null(posts: ResourceType) -> None:
    matcher = Matcher()
    empty = matcher.acquire("posts", build_clause(posts, {"tags": {"is null": True}, "views": 1}))
    alone = matcher.acquire("posts", build_clause(posts, {"tags": {"is null": True}}))
    there = matcher.acquire("posts", build_clause(posts, {"tags": {"is null": False}}))
    before, after = NULLS | {"views": 1}, NULLS | {"views": 1, "tags": [{"a": 1}]}
    found = matcher.match(Change("posts", "1", "patch", before, after))
    assert (set(found.leave), set(found.enter)) == ({empty, alone}, {there})


# Statements


def test_the_text_of_a_statement_depends_on_the_shape_only(registry: ResourceRegistry) -> None:
    tables = build_tables(registry)

    def both(value: int, text: str, count: int) -> tuple[Any, str]:
        expression = all_of(
            [
                Atom("views", ">", value),
                Not(any_of([Atom("title", "like", text), Atom("at", "is null")])),
                Atom("views", "in", tuple(range(count))),
            ]
        )
        return shape(expression), str(to_sql(expression, registry["posts"], tables, "sqlite"))

    assert both(1, "a", 3) == both(2, "b%", 4)
    assert both(1, "a", 3) != both(1, "a", 5)
    assert shape(Opaque("x", "y", lambda columns: columns)) is None
    assert shape(AllOf((A, Not(Opaque("x", "y", lambda columns: columns))))) is None


def test_like_on_other_databases_spells_out_the_case_of_each_letter(
    registry: ResourceRegistry,
) -> None:
    atom = Atom("title", "like", "100%_\\Kß")
    spelled = "100\\%\\_\\\\[kK\u212a][ßẞ]"
    assert parameters(atom, "postgresql") == {"f0": spelled}
    assert parameters(atom, "mariadb") == {"f0": f"(?s){spelled}"}
    sql = str(to_sql(atom, registry["posts"], build_tables(registry), "postgresql"))
    assert '~ :f0 COLLATE "C"' in sql


# Limits


def test_filters_that_come_to_too_much_are_refused() -> None:
    def filters(parts: int) -> ResourceType:
        split = {"filter_operator": "like", "one_of": ["a", "b"], "split_by": " "}
        search = {f"f{number}": split for number in range(parts)}
        return declare_resource(
            "big",
            {"a": "string", "b": "string"},
            search_schema=search,
            filter_limits=FilterLimits(searches=3_000),
        )

    words = " ".join(f"w{number}" for number in range(250))
    three = filters(3)
    assert build_filters(three, {"f0": words, "f1": "a b"}, ANONYMOUS)
    other = words.replace("w", "x")
    with pytest.raises(FilterError, match="more than 1000 comparisons"):
        build_filters(three, {"f0": words, "f1": other, "f2": "y"}, ANONYMOUS)


def limited(**limits: int) -> ResourceType:
    search: dict[str, Any] = {
        "ids": {"actual_field": "a", "filter_operator": "in"},
        "also": {"actual_field": "b", "filter_operator": "in"},
        "words": {"one_of": ["a", "b"], "filter_operator": "like", "split_by": " "},
        "like": {"actual_field": "a", "filter_operator": "like"},
        "own": {"type": "object", "filter_operator": lambda columns, value: columns.a == "x"},
        "deep": {"type": "string", "filter_operator": _nested},
    }
    return declare_resource(
        "small",
        {"a": "string", "b": "string"},
        search_schema=search,
        filter_limits=FilterLimits(**limits),
    )


def _nested(columns: Any, value: Any) -> Any:
    clause: dict[str, Any] = {"a": value}
    for _ in range(3):
        clause = {"$or": [{"$not": clause}, {"b": value}]}
    return clause


@pytest.mark.parametrize(
    ("limits", "fits", "too_much", "message"),
    [
        ({"values": 2}, {"ids": ["a", "b"]}, {"ids": ["a", "b", "c"]}, "at most 2 values"),
        ({"values": 4}, {"words": "a b"}, {"words": "a b c"}, "at most 2 values"),
        ({"values": 1}, {"words": "a"}, {"words": "a b"}, "at most 1 values"),
        ({"values": 3}, {"own": {"a": [1]}}, {"own": {"a": [1, 2, 3]}}, "at most 3 values"),
        ({"text": 3}, {"like": "abc"}, {"like": "abcd"}, "at most 3 characters"),
        ({"text": 3}, {"own": {"a": ["abc"]}}, {"own": {"a": ["abcd"]}}, "at most 3 characters"),
        ({"text": 3}, {"own": {"abc": 1}}, {"own": {"abcd": 1}}, "at most 3 characters"),
        (
            {"comparisons": 3},
            {"ids": ["a", "b"], "like": "c"},
            {"ids": ["a", "b"], "also": ["c", "d"]},
            "more than 3 comparisons",
        ),
        (
            {"searches": 4},
            {"words": "a b", "ids": ["a", "b", "c"]},
            {"words": "a b", "like": "c"},
            "more than 4 texts",
        ),
        ({"depth": 7}, {"deep": "x"}, {"deep": "x", "like": "x"}, "deeper than 7"),
    ],
)
def test_limits_on_filters_can_be_set(
    limits: dict[str, int], fits: dict[str, Any], too_much: dict[str, Any], message: str
) -> None:
    resource = limited(**limits)
    assert build_filters(resource, fits, ANONYMOUS).terms
    with pytest.raises(FilterError) as raised:
        build_filters(resource, too_much, ANONYMOUS)
    assert message in str([raised.value.message, raised.value.problems])


@pytest.mark.parametrize(
    ("name", "value"),
    [("values", 0), ("values", 3_001), ("comparisons", 1.5), ("depth", True), ("text", "9")],
)
def test_limits_on_filters_that_are_none_are_named(name: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=f"FilterLimits: {name} must be an integer"):
        FilterLimits(**{name: value})


def test_clauses_that_nest_too_deep_are_refused(posts: ResourceType) -> None:
    clause: dict[str, Any] = {"title": "a"}
    for _ in range(31):
        clause = {"$not": clause}
    assert build_clause(posts, clause)
    with pytest.raises(ConfigurationError, match="nested too deep"):
        build_clause(posts, {"$not": clause})

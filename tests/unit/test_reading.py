"""Custom filters that are read: each form with its tree, and what is not read.

The property at the end holds the tree against what SQLite makes of the author's own expression.
``TIDINGS_PROVE=20000`` looks longer.
"""

from __future__ import annotations

import enum
import operator
import os
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from functools import reduce
from typing import Any

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st
from sqlalchemy import (
    Boolean,
    Connection,
    Date,
    DateTime,
    Float,
    Integer,
    Numeric,
    String,
    TypeDecorator,
    and_,
    any_,
    bindparam,
    case,
    cast,
    column,
    create_engine,
    exists,
    extract,
    false,
    func,
    insert,
    literal,
    literal_column,
    not_,
    null,
    or_,
    select,
    table,
    text,
    true,
    tuple_,
    type_coerce,
)
from sqlalchemy import event as sqlalchemy_event
from sqlalchemy.pool import StaticPool
from sqlalchemy.sql import elements, operators
from sqlalchemy.sql.expression import Grouping

from tidings.errors import ConfigurationError, FilterError
from tidings.filters import (
    EVERYTHING,
    NOTHING,
    AllOf,
    AnyOf,
    Atom,
    Expression,
    Not,
    Opaque,
    build_filters,
    canonical,
    compile_predicate,
)
from tidings.filters.expression import Comparison, TextMatch
from tidings.filters.reading import read, stub_columns
from tidings.filters.sql import parameters, to_sql
from tidings.filters.text import SQLITE_FUNCTIONS
from tidings.filters.values import Arithmetic, Coalesce, Column, Constant, Length
from tidings.identity import ANONYMOUS, Identity
from tidings.schema import ResourceRegistry, ResourceType, declare_resource
from tidings.storage import build_tables

USER = "0f8fad5b-d9cb-469f-a165-70867728950e"

SCHEMA = {
    "title": "string",
    "body": "text",
    "views": "integer",
    "likes": "integer",
    "score": "number",
    "weight": "number",
    "price": {"type": "decimal", "scale": 2},
    "is_open": "boolean",
    "is_new": "boolean",
    "day": "date",
    "last_day": "date",
    "at": "dateTime",
    "hour": "time",
    "tags": "array",
    "place": "object",
    "plain_id": "id",
    "group_id": {"belongs_to": "groups", "constraint": False},
    "owner_id": {"belongs_to": "users", "constraint": False},
}


def declared(search: dict[str, Any] | None = None) -> ResourceType:
    registry = ResourceRegistry()
    registry.add(declare_resource("groups", {}, id_type="integer"))
    registry.add(declare_resource("users", {}, id_type="uuid"))
    registry.add(declare_resource("posts", SCHEMA, search_schema=search))
    registry.link()
    return registry["posts"]


POSTS = declared()
TITLE, BODY = Column("title", "string"), Column("body", "string")
VIEWS, LIKES = Column("views", "integer"), Column("likes", "integer")
SCORE, WEIGHT = Column("score", "number"), Column("weight", "number")
OPEN = Column("is_open", "boolean")


def number(value: float) -> Constant:
    return Constant(value, "number")


def string(value: str) -> Constant:
    return Constant(value, "string")


class State(enum.StrEnum):
    DONE = "done"


class Level(enum.IntEnum):
    HIGH = 3


class Upper(TypeDecorator[str]):
    impl = String
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Any) -> Any:
        return value.upper()


NOON = datetime(2024, 1, 1, 12, tzinfo=UTC)
TEXTS = Coalesce((TITLE, BODY, string("")))

READABLE: list[tuple[Callable[[Any], Any], Expression]] = [
    # Logic
    (
        lambda c: and_(c.views > 1, c.score < 2),
        AllOf((Atom("views", ">", 1), Atom("score", "<", 2.0))),
    ),
    (
        lambda c: or_(c.views > 1, c.score < 2),
        AnyOf((Atom("views", ">", 1), Atom("score", "<", 2.0))),
    ),
    (
        lambda c: (c.views > 1) & c.is_open,
        AllOf((Atom("views", ">", 1), Atom("is_open", "=", True))),
    ),
    (
        lambda c: not_(and_(c.views > 1, c.score < 2)),
        Not(AllOf((Atom("views", ">", 1), Atom("score", "<", 2.0)))),
    ),
    (
        lambda c: not_(not_(or_(c.views > 1, c.score < 2))),
        AnyOf((Atom("views", ">", 1), Atom("score", "<", 2.0))),
    ),
    (
        lambda c: or_(c.views == 1, and_(c.views == 2, or_(c.views == 3, c.views == 1))),
        AnyOf(
            (
                Atom("views", "=", 1),
                AllOf(
                    (Atom("views", "=", 2), AnyOf((Atom("views", "=", 3), Atom("views", "=", 1))))
                ),
            )
        ),
    ),
    (lambda c: Grouping(Grouping(c.views == 1)), Atom("views", "=", 1)),
    (lambda c: true(), EVERYTHING),
    (lambda c: and_(True), EVERYTHING),
    (lambda c: and_(true()), EVERYTHING),
    (lambda c: or_(false()), NOTHING),
    (lambda c: not_(true()), NOTHING),
    (lambda c: elements.BooleanClauseList._construct_raw(operators.and_), EVERYTHING),
    (lambda c: elements.BooleanClauseList._construct_raw(operators.or_), NOTHING),
    (lambda c: literal(True), EVERYTHING),
    (lambda c: not_(literal(True)), NOTHING),
    (lambda c: and_(c.views == 1, literal(True)), Atom("views", "=", 1)),
    # Columns and constants
    (lambda c: c.title == "a", Atom("title", "=", "a")),
    (lambda c: c.title == State.DONE, Atom("title", "=", "done")),
    (lambda c: c.views == Level.HIGH, Atom("views", "=", 3)),
    (lambda c: c.title != "a", Atom("title", "!=", "a")),
    (lambda c: not_(c.title == "a"), Atom("title", "!=", "a")),
    (lambda c: c.title >= "a", Atom("title", ">=", "a")),
    (lambda c: not_(c.views >= 5), Atom("views", "<", 5)),
    (lambda c: c.views <= 5, Atom("views", "<=", 5)),
    (lambda c: literal(5) < c.views, Atom("views", ">", 5)),
    (lambda c: literal(5) >= c.views, Atom("views", "<=", 5)),
    (lambda c: literal(5) != c.views, Atom("views", "!=", 5)),
    (lambda c: c.views == 5.0, Atom("views", "=", 5)),
    (lambda c: c.views == bindparam("given", 5), Atom("views", "=", 5)),
    (lambda c: c.score == 5, Atom("score", "=", 5.0)),
    (lambda c: c.score == Decimal("0.5"), Atom("score", "=", 0.5)),
    (lambda c: c.price == Decimal("0.1"), Atom("price", "=", Decimal("0.1"))),
    (lambda c: c.price > 1, Atom("price", ">", Decimal(1))),
    (lambda c: c.price > 0.1, Atom("price", ">", Decimal("0.1"))),
    (
        lambda c: c.price.between(Decimal(1), Decimal(2)),
        Atom("price", "between", (Decimal(1), Decimal(2))),
    ),
    (lambda c: c.day == date(2024, 1, 1), Atom("day", "=", date(2024, 1, 1))),
    (lambda c: c.at > NOON, Atom("at", ">", NOON)),
    (lambda c: c.at > NOON.replace(tzinfo=None), Atom("at", ">", NOON)),
    (lambda c: c.at > NOON.astimezone(timezone(timedelta(hours=2))), Atom("at", ">", NOON)),
    (lambda c: c.hour < time(12), Atom("hour", "<", time(12))),
    # Ids
    (lambda c: c.id == 5, Atom("id", "=", 5)),
    (lambda c: c.id == "5", Atom("id", "=", 5)),
    (lambda c: c.group_id.in_(["5", "6"]), Atom("group_id", "in", (5, 6))),
    (lambda c: c.plain_id == "5", Atom("plain_id", "=", "5")),
    (lambda c: c.plain_id == "", Atom("plain_id", "=", "")),
    (lambda c: c.owner_id == USER, Atom("owner_id", "=", USER)),
    (lambda c: c.owner_id == USER.upper(), Atom("owner_id", "=", USER)),
    (lambda c: c.owner_id == "nobody", Atom("owner_id", "=", "nobody")),
    # Null
    (lambda c: c.title == None, Atom("title", "is null")),  # noqa: E711
    (lambda c: c.title != None, Atom("title", "is not null")),  # noqa: E711
    (lambda c: c.price.is_(None), Atom("price", "is null")),
    (lambda c: not_(c.tags.is_(None)), Atom("tags", "is not null")),
    (lambda c: c.place.is_not(null()), Atom("place", "is not null")),
    (lambda c: (c.views + c.likes).is_(None), Comparison(Arithmetic("+", VIEWS, LIKES), "is null")),
    (
        lambda c: func.coalesce(c.title, c.body).is_not(None),
        Comparison(Coalesce((TITLE, BODY)), "is not null"),
    ),
    # Booleans
    (lambda c: c.is_open, Atom("is_open", "=", True)),
    (lambda c: ~c.is_open, Atom("is_open", "=", False)),
    (lambda c: not_(not_(c.is_open)), Atom("is_open", "=", True)),
    (lambda c: c.is_open == True, Atom("is_open", "=", True)),  # noqa: E712
    (lambda c: c.is_open != true(), Atom("is_open", "!=", True)),
    (lambda c: false() == c.is_open, Atom("is_open", "=", False)),
    (lambda c: c.is_open.in_([True, False]), Atom("is_open", "in", (True, False))),
    (
        lambda c: c.is_open.is_(True),
        AllOf((Atom("is_open", "is not null"), Atom("is_open", "=", True))),
    ),
    (
        lambda c: c.is_open.is_(False),
        AllOf((Atom("is_open", "is not null"), Atom("is_open", "=", False))),
    ),
    (
        lambda c: c.is_open.is_not(True),
        AnyOf((Atom("is_open", "is null"), Atom("is_open", "=", False))),
    ),
    (
        lambda c: ~c.is_open.is_(False),
        AnyOf((Atom("is_open", "is null"), Atom("is_open", "=", True))),
    ),
    (lambda c: c.is_open == c.is_new, Comparison(OPEN, "=", Column("is_new", "boolean"))),
    (
        lambda c: func.coalesce(c.is_open, False),
        Comparison(Coalesce((OPEN, Constant(False, "boolean"))), "=", Constant(True, "boolean")),
    ),
    (
        lambda c: not_(func.coalesce(c.is_open, False)),
        Not(
            Comparison(Coalesce((OPEN, Constant(False, "boolean"))), "=", Constant(True, "boolean"))
        ),
    ),
    # Lists and ranges
    (lambda c: c.title.in_(["a", State.DONE]), Atom("title", "in", ("a", "done"))),
    (lambda c: c.title.in_([]), Atom("title", "in", ())),
    (lambda c: c.title.not_in([]), Not(Atom("title", "in", ()))),
    (lambda c: c.title.not_in(["a"]), Not(Atom("title", "in", ("a",)))),
    (lambda c: not_(c.title.not_in(["a"])), Atom("title", "in", ("a",))),
    (lambda c: c.score.in_([1, 2.5]), Atom("score", "in", (1.0, 2.5))),
    (lambda c: c.views.in_([literal(1), 2]), Atom("views", "in", (1, 2))),
    (
        lambda c: c.views.in_([c.likes, 2]),
        AnyOf((Comparison(VIEWS, "=", LIKES), Atom("views", "=", 2))),
    ),
    (
        lambda c: literal("a").in_([c.title, c.body]),
        AnyOf((Atom("title", "=", "a"), Atom("body", "=", "a"))),
    ),
    (lambda c: (c.views + c.likes).in_([]), NOTHING),
    (lambda c: (c.views + c.likes).not_in([]), EVERYTHING),
    (
        lambda c: func.length(c.title).not_in([1, 2]),
        Not(
            AnyOf(
                (
                    Comparison(Length(TITLE), "=", Constant(1, "integer")),
                    Comparison(Length(TITLE), "=", Constant(2, "integer")),
                )
            )
        ),
    ),
    (lambda c: c.views.between(1, 2), Atom("views", "between", (1, 2))),
    (lambda c: ~c.views.between(1, 2), Not(Atom("views", "between", (1, 2)))),
    (lambda c: c.at.between(NOON, NOON), Atom("at", "between", (NOON, NOON))),
    (
        lambda c: c.views.between(c.likes, 2),
        AllOf((Comparison(VIEWS, ">=", LIKES), Atom("views", "<=", 2))),
    ),
    (
        lambda c: literal(date(2024, 1, 1)).between(c.day, c.last_day),
        AllOf((Atom("day", "<=", date(2024, 1, 1)), Atom("last_day", ">=", date(2024, 1, 1)))),
    ),
    (
        lambda c: not_((c.score * 2).between(1, 2)),
        Not(
            AllOf(
                (
                    Comparison(Arithmetic("*", SCORE, number(2.0)), ">=", number(1.0)),
                    Comparison(Arithmetic("*", SCORE, number(2.0)), "<=", number(2.0)),
                )
            )
        ),
    ),
    # Text
    (lambda c: c.title.like("a%b_"), TextMatch(TITLE, ("a", "b\x00"))),
    (lambda c: c.title.not_like("a"), Not(TextMatch(TITLE, ("a",)))),
    (lambda c: c.title.like("a%%%b"), TextMatch(TITLE, ("a", "b"))),
    (lambda c: c.title.like("%"), TextMatch(TITLE, ("", ""))),
    (lambda c: c.title.like("%%a"), TextMatch(TITLE, ("", "a"))),
    (lambda c: c.title.like("1/%/_//x%", escape="/"), TextMatch(TITLE, ("1%_/x", ""))),
    (lambda c: c.title.like("a\\%", escape="\\"), TextMatch(TITLE, ("a%",))),
    (lambda c: c.title.like("a\\%", escape="/"), TextMatch(TITLE, ("a\\", ""))),
    (lambda c: c.title.contains("aB"), TextMatch(TITLE, ("", "aB", ""))),
    (lambda c: c.title.contains("a%b"), TextMatch(TITLE, ("", "a", "b", ""))),
    (lambda c: c.title.contains("50%_/", autoescape=True), TextMatch(TITLE, ("", "50%_/", ""))),
    (lambda c: c.title.startswith("a"), TextMatch(TITLE, ("a", ""))),
    (lambda c: c.title.endswith("a"), TextMatch(TITLE, ("", "a"))),
    (lambda c: ~c.title.endswith("a"), Not(TextMatch(TITLE, ("", "a")))),
    (lambda c: c.title.ilike("Äb"), TextMatch(TITLE, ("äb",), "fold")),
    (lambda c: c.title.ilike("Äb%"), TextMatch(TITLE, ("äb", ""), "fold")),
    (lambda c: c.title.not_ilike("A_"), Not(TextMatch(TITLE, ("a\x00",), "fold"))),
    (lambda c: c.title.ilike("%Äb%"), Atom("title", "like", "Äb")),
    (lambda c: c.title.icontains("Äb"), Atom("title", "like", "Äb")),
    (lambda c: c.title.icontains(""), Atom("title", "like", "")),
    (lambda c: c.body.icontains("50%", autoescape=True), Atom("body", "like", "50%")),
    (lambda c: ~c.plain_id.icontains("A"), Not(Atom("plain_id", "like", "A"))),
    (lambda c: c.title.icontains("A_"), TextMatch(TITLE, ("", "a\x00", ""), "fold")),
    (lambda c: c.title.icontains("A%b"), TextMatch(TITLE, ("", "a", "b", ""), "fold")),
    (lambda c: c.title.istartswith("A"), TextMatch(TITLE, ("a", ""), "fold")),
    (lambda c: c.title.iendswith("A"), TextMatch(TITLE, ("", "a"), "fold")),
    (
        lambda c: c.owner_id.icontains("A"),
        TextMatch(Column("owner_id", "string"), ("", "a", ""), "fold"),
    ),
    (
        lambda c: func.coalesce(c.title, c.body, "").icontains("A"),
        TextMatch(TEXTS, ("", "a", ""), "fold"),
    ),
    (lambda c: func.lower(c.title) == "ABC", TextMatch(TITLE, ("ABC",), "lower")),
    (lambda c: literal("abc") == func.lower(c.title), TextMatch(TITLE, ("abc",), "lower")),
    (lambda c: func.upper(c.title) != "ABC", Not(TextMatch(TITLE, ("ABC",), "upper"))),
    (
        lambda c: func.lower(func.coalesce(c.title, c.body, "")) == "a",
        TextMatch(TEXTS, ("a",), "lower"),
    ),
    (
        lambda c: func.lower(c.title).in_(["a", "b"]),
        AnyOf((TextMatch(TITLE, ("a",), "lower"), TextMatch(TITLE, ("b",), "lower"))),
    ),
    (lambda c: func.lower(c.title).not_in(["a"]), Not(TextMatch(TITLE, ("a",), "lower"))),
    (lambda c: func.lower(c.title).contains("A%"), TextMatch(TITLE, ("", "A", ""), "lower")),
    (lambda c: func.upper(c.title).startswith("A"), TextMatch(TITLE, ("A", ""), "upper")),
    (lambda c: func.lower(c.title).istartswith("A"), TextMatch(TITLE, ("a", ""), "fold")),
    (lambda c: func.lower(c.title).icontains("A"), Atom("title", "like", "A")),
    (lambda c: func.length(c.title) > 3, Comparison(Length(TITLE), ">", Constant(3, "integer"))),
    (lambda c: func.char_length(c.title) > c.views, Comparison(Length(TITLE), ">", VIEWS)),
    (
        lambda c: literal(3) > func.length(func.coalesce(c.title, c.body, "")),
        Comparison(Length(TEXTS), "<", Constant(3, "integer")),
    ),
    # Values
    (lambda c: c.title == c.body, Comparison(TITLE, "=", BODY)),
    (lambda c: c.views < c.score, Comparison(VIEWS, "<", SCORE)),
    (
        lambda c: c.id != c.group_id,
        Comparison(Column("id", "integer"), "!=", Column("group_id", "integer")),
    ),
    (
        lambda c: c.owner_id == c.plain_id,
        Comparison(Column("owner_id", "string"), "=", Column("plain_id", "string")),
    ),
    (
        lambda c: c.day <= c.last_day,
        Comparison(Column("day", "date"), "<=", Column("last_day", "date")),
    ),
    (lambda c: c.views + 1 > 5, Comparison(Arithmetic("+", VIEWS, number(1.0)), ">", number(5.0))),
    (
        lambda c: c.views + 1 > 5.5,
        Comparison(Arithmetic("+", VIEWS, number(1.0)), ">", number(5.5)),
    ),
    (lambda c: 1 - c.score > c.views, Comparison(Arithmetic("-", number(1.0), SCORE), ">", VIEWS)),
    (
        lambda c: c.score / c.views >= 0.5,
        Comparison(Arithmetic("/", SCORE, VIEWS), ">=", number(0.5)),
    ),
    (lambda c: -c.score < 3, Comparison(Arithmetic("-", number(0.0), SCORE), "<", number(3.0))),
    (
        lambda c: c.score * Decimal("0.5") < 3,
        Comparison(Arithmetic("*", SCORE, number(0.5)), "<", number(3.0)),
    ),
    (
        lambda c: c.score + c.weight + 1 == c.views - (c.likes - 2),
        Comparison(
            Arithmetic("+", Arithmetic("+", SCORE, WEIGHT), number(1.0)),
            "=",
            Arithmetic("-", VIEWS, Arithmetic("-", LIKES, number(2.0))),
        ),
    ),
    (
        lambda c: 2 + (1 + c.score) > -literal(3),
        Comparison(
            Arithmetic("+", Arithmetic("+", number(2.0), number(1.0)), SCORE),
            ">",
            Arithmetic("-", number(0.0), number(3.0)),
        ),
    ),
    (
        lambda c: func.coalesce(c.score, 0) + func.length(c.title) > 1,
        Comparison(
            Arithmetic("+", Coalesce((SCORE, number(0.0))), Length(TITLE)), ">", number(1.0)
        ),
    ),
    (
        lambda c: func.coalesce(c.score, c.weight, 0) > 1,
        Comparison(Coalesce((SCORE, WEIGHT, number(0.0))), ">", number(1.0)),
    ),
    (
        lambda c: func.coalesce("x", c.title) == c.body,
        Comparison(Coalesce((string("x"), TITLE)), "=", BODY),
    ),
    (
        lambda c: func.coalesce(c.title, "x").in_(["a"]),
        Comparison(Coalesce((TITLE, string("x"))), "=", string("a")),
    ),
    (
        lambda c: func.coalesce(c.day, date.max) > date.min,
        Comparison(
            Coalesce((Column("day", "date"), Constant(date.max, "date"))),
            ">",
            Constant(date.min, "date"),
        ),
    ),
]


@pytest.mark.parametrize(("clause", "expected"), READABLE)
def test_what_is_read(clause: Callable[[Any], Any], expected: Expression) -> None:
    found = read(POSTS, clause(stub_columns(POSTS)))
    assert found == expected
    # Equal is not enough: 1 == 1.0 == True.
    assert canonical(found) == canonical(expected)
    assert repr(found) == repr(expected)


FOREIGN = table(
    "posts", column("views", Integer), column("is_open", Boolean), column("title", String)
)
NO_VALUE = object()

UNREADABLE: list[Callable[[Any], Any]] = [
    # Other things than conditions over the resource's columns
    lambda c: None,
    lambda c: "views > 1",
    lambda c: c,
    lambda c: FOREIGN.c.views == 1,
    lambda c: FOREIGN.c.is_open,
    lambda c: column("views") == 1,
    lambda c: literal_column("views") == 1,
    lambda c: text("views = 1"),
    lambda c: and_(c.views == 1, text("1 = 1")),
    lambda c: or_(c.views == 1, not_(and_(c.views == 2, text("1 = 1")))),
    lambda c: exists(select(FOREIGN.c.views)),
    lambda c: c.views == select(FOREIGN.c.views).scalar_subquery(),
    lambda c: c.views.in_(select(FOREIGN.c.views)),
    lambda c: select(c.views),
    lambda c: c.views.label("n") == 1,
    lambda c: stub_columns(declared()).views == 1,
    # Columns and values as conditions
    lambda c: c.views,
    lambda c: c.price,
    lambda c: c.tags,
    lambda c: c.title,
    lambda c: not_(c.title),
    lambda c: and_(c.views, c.likes),
    lambda c: not_(c.views + 1),
    lambda c: c.views + c.likes + 1,
    lambda c: func.lower(c.title),
    lambda c: literal(1),
    lambda c: literal("x"),
    lambda c: null(),
    # Constants that the column cannot hold as they are
    lambda c: c.views == 5.5,
    lambda c: c.views > "5",
    lambda c: c.views == True,  # noqa: E712
    lambda c: c.views == Decimal(5),
    lambda c: c.views == 2**63,
    lambda c: c.views.in_([1, 2.5]),
    lambda c: c.score == 2**53 + 1,
    lambda c: c.score == 10**400,
    lambda c: c.score == Decimal("0.1"),
    lambda c: c.score == float("nan"),
    lambda c: c.score == float("inf"),
    lambda c: c.score == Decimal("sNaN"),
    lambda c: c.score == "1",
    lambda c: c.price == Decimal("Infinity"),
    lambda c: c.price == Decimal(10**28 + 1),
    lambda c: c.price == "1",
    lambda c: c.title == 5,
    lambda c: c.title == "a\x00",
    lambda c: c.title == "\ud800",
    lambda c: c.title == b"a",
    lambda c: c.title == NO_VALUE,
    lambda c: c.title.in_(["a", 5]),
    lambda c: c.is_open == 1,
    lambda c: c.is_open.in_([1]),
    lambda c: c.day == "2024-01-01",
    lambda c: c.day == NOON,
    lambda c: c.at == date(2024, 1, 1),
    lambda c: c.at == "2024-01-01T00:00:00Z",
    lambda c: c.hour == time(12, tzinfo=UTC),
    lambda c: c.id == "05",
    lambda c: c.id == "x",
    lambda c: c.id == 5.5,
    lambda c: c.plain_id == 5,
    lambda c: c.owner_id == uuid.UUID(USER),
    lambda c: c.tags == ["a"],
    lambda c: c.place == {},
    lambda c: c.title == bindparam("x"),
    lambda c: c.title == bindparam("x", callable_=lambda: "a"),
    lambda c: c.title == bindparam("x", None),
    lambda c: c.title == literal("a", Upper),
    lambda c: c.title == literal("a", String(3)),
    lambda c: c.title == literal("a", String().with_variant(Upper(), "sqlite")),
    lambda c: c.title == literal("a", Date),
    lambda c: c.score == literal(1.25, Numeric(3, 1)),
    lambda c: c.score == literal(1.25, Integer),
    lambda c: null() == c.title,
    lambda c: c.title.in_(["a", None]),
    lambda c: c.views.in_([1, null()]),
    lambda c: c.views.in_(range(501)),
    lambda c: c.views.in_([literal(1)] * 501),
    lambda c: c.tags.in_([]),
    lambda c: c.views.in_(bindparam("x", expanding=True)),
    lambda c: c.views == bindparam("x", [1], expanding=True),
    # Two constants
    lambda c: literal(5) > 3,
    lambda c: literal(5).in_([5]),
    lambda c: literal(5).between(1, 9),
    lambda c: true() == False,  # noqa: E712
    lambda c: literal(5).is_(None),
    # Kinds that do not go together
    lambda c: c.views == c.title,
    lambda c: c.day == c.at,
    lambda c: c.is_open == c.views,
    lambda c: c.id == c.plain_id,
    lambda c: c.price == c.score,
    lambda c: c.price == c.price,
    lambda c: c.score == c.price,
    lambda c: c.tags == c.place,
    lambda c: c.price.between(c.price, 1),
    # Booleans
    lambda c: c.is_open > c.is_new,
    lambda c: c.is_open > literal(True),
    lambda c: c.is_open.between(literal(False), literal(True)),
    lambda c: c.views.is_(True),
    lambda c: c.tags.is_(True),
    lambda c: (c.views > 1).is_(True),
    lambda c: (c.views > 1).is_(None),
    lambda c: (c.views > 1) == (c.likes > 1),
    lambda c: c.is_open.is_(c.is_new),
    lambda c: c.is_open.is_distinct_from(True),
    lambda c: c.views.is_distinct_from(c.likes),
    # Operators
    lambda c: c.views % 2 == 1,
    lambda c: c.views // 2 == 1,
    lambda c: c.views.bitwise_and(1) == 1,
    lambda c: c.views.op("=")(1),
    lambda c: c.views.op("=", is_comparison=True)(1),
    lambda c: c.views.bool_op("=")(1),
    lambda c: c.views == any_(literal([1])),
    lambda c: c.views.between(1, 2, symmetric=True),
    lambda c: tuple_(c.views, c.likes) == (1, 2),
    lambda c: tuple_(c.views, c.likes).in_([(1, 2)]),
    lambda c: c.title + "x" == "ax",
    lambda c: c.title.concat("x") == "ax",
    lambda c: c.title.collate("NOCASE") == "a",
    lambda c: c.title.regexp_match("a"),
    lambda c: c.title.match("a"),
    lambda c: c.place["x"].as_string() == "a",
    lambda c: cast(c.views, String) == "1",
    lambda c: type_coerce(c.views, String) == "1",
    lambda c: case((c.is_open, 1), else_=2) == 1,
    lambda c: extract("year", c.day) == 2024,
    lambda c: c.views.desc(),
    lambda c: func.row_number().over(order_by=c.views) == 1,
    lambda c: func.max(c.views) == 1,
    lambda c: func.lower(c.title).filter(c.is_open) == "a",
    lambda c: func.now() > c.at,
    # Functions
    lambda c: func.replace(c.title, "a", "b") == "b",
    lambda c: func.abs(c.views) == 1,
    lambda c: func.other.lower(c.title) == "a",
    lambda c: func.LOWER(c.title) == "a",
    lambda c: func.lower(c.title, c.body) == "a",
    lambda c: func.lower(c.views) == "1",
    lambda c: func.lower(func.lower(c.title)) == "a",
    lambda c: func.lower("A") == c.title,
    lambda c: func.lower(c.title) == c.body,
    lambda c: func.lower(c.title) == func.lower(c.body),
    lambda c: func.lower(c.title) == func.lower("A"),
    lambda c: func.lower(c.title) > "a",
    lambda c: func.lower(c.title).between("a", "b"),
    lambda c: func.lower(c.title) == 5,
    lambda c: func.lower(c.title).is_(None),
    lambda c: func.length(func.lower(c.title)) == 1,
    lambda c: func.upper(c.title).ilike("a"),
    lambda c: func.length(c.views) == 1,
    lambda c: func.length(c.title) > 1.5,
    lambda c: func.length(c.title) > "1",
    lambda c: func.length("abc") > 1,
    lambda c: func.coalesce(c.title) == "a",
    lambda c: func.coalesce("a", "b") == c.title,
    lambda c: func.coalesce(c.title, None) == "a",
    lambda c: func.coalesce(c.title, 5) == "a",
    lambda c: func.coalesce(c.title, c.views) == "a",
    lambda c: func.coalesce(c.views, c.score) == 1,
    lambda c: func.coalesce(c.views, 0.5) == 1,
    lambda c: func.coalesce(c.views, 0) > 0.5,
    lambda c: func.coalesce(c.price, 0) == 1,
    lambda c: func.coalesce(c.tags, c.place).is_(None),
    lambda c: func.coalesce(func.lower(c.title), "") == "a",
    lambda c: func.coalesce(c.views + 1, 0) == 1,
    lambda c: func.coalesce(c.title, ""),
    # Arithmetic
    lambda c: c.price + 1 > 2,
    lambda c: -c.price > 2,
    lambda c: c.price * c.score > 2,
    lambda c: c.views + True > 2,
    lambda c: c.views * None > 2,
    lambda c: c.is_open + c.views > 2,
    lambda c: c.at - c.at > timedelta(1),
    lambda c: c.day + 1 > c.last_day,
    lambda c: c.views + (2**53 + 1) > 2,
    lambda c: c.score * 1e61 > 2,
    lambda c: c.score * 1e-61 > 2,
    lambda c: c.score * c.score * c.score * c.score * c.score * c.score > 2,
    lambda c: c.score + 1 > 2**53 + 1,
    lambda c: c.score + 1 > "2",
    lambda c: c.score + Decimal("0.1") > 2,
    lambda c: c.views.op("^")(2) > 2,
    # Patterns
    lambda c: c.views.like("1%"),
    lambda c: c.day.startswith("2024"),
    lambda c: c.tags.contains("a"),
    lambda c: c.title.like(c.body),
    lambda c: c.title.contains(c.body),
    lambda c: literal("abc").startswith(c.title),
    lambda c: c.title.like(literal(5)),
    lambda c: c.title.like("a\\%"),
    lambda c: c.title.ilike("a\\b"),
    lambda c: c.title.contains("\\"),
    lambda c: c.title.like("a/", escape="/"),
    lambda c: c.title.contains("a/", escape="/"),
    lambda c: c.title.like("a", escape="%"),
    lambda c: c.title.like("a", escape="_"),
    lambda c: c.title.ilike("aXb", escape="X"),
    lambda c: c.title.like("a", escape="//"),
    lambda c: c.title.like("a", escape=""),
    lambda c: c.title.like("a\x00"),
    lambda c: c.title.like(literal("a", Upper)),
    # Too large
    lambda c: reduce(lambda inner, n: not_(and_(inner, c.views == n)), range(40), c.views == 0),
    lambda c: reduce(lambda inner, n: c.views - inner, range(40), c.views) > 1,
    lambda c: or_(*(c.views == n for n in range(200))),
]


@pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning")
@pytest.mark.parametrize("clause", UNREADABLE)
def test_what_is_not_read(clause: Callable[[Any], Any]) -> None:
    assert read(POSTS, clause(stub_columns(POSTS))) is None


def test_what_is_deep_does_no_harm() -> None:
    columns = stub_columns(POSTS)
    clause: Any = columns.views == 1
    for _ in range(20_000):
        clause = Grouping(clause)
    assert read(POSTS, clause) is None
    clause = columns.views == 1
    for _ in range(300):
        clause = elements.UnaryExpression(clause, operator=operators.inv)
    assert read(POSTS, clause) is None
    shared: Any = columns.views
    for _ in range(30):  # 2 ** 30 elements, if each is looked at
        shared = elements.BinaryExpression(shared, shared, operators.add)
    assert read(POSTS, shared > 1) is None


def test_what_fits_is_read() -> None:
    columns = stub_columns(POSTS)
    assert read(POSTS, or_(*(columns.views == number for number in range(160)))) is not None
    assert read(POSTS, columns.views.in_(range(500))) is not None
    clause: Any = columns.views == 0
    for number in range(1, 11):
        clause = not_(and_(clause, columns.views == number))
    assert read(POSTS, clause) is not None


def test_subclasses_of_elements_are_not_read() -> None:
    columns = stub_columns(POSTS)

    class Odd(elements.BinaryExpression[Any]):
        inherit_cache = True

    assert read(POSTS, Odd(columns.views, literal(1), operators.eq)) is None


def test_columns_are_kept_for_each_resource() -> None:
    other = declared()
    assert stub_columns(POSTS).views is stub_columns(POSTS).views
    assert stub_columns(other).views is not stub_columns(POSTS).views
    assert isinstance(stub_columns(POSTS).group_id.type, Integer)
    assert isinstance(stub_columns(POSTS).owner_id.type, String)
    assert isinstance(stub_columns(POSTS).score.type, Float)
    assert isinstance(stub_columns(POSTS).at.type, DateTime)


# As filters of a resource


def built(operator: Any, value: Any = "x", identity: Identity = ANONYMOUS, **options: Any) -> Any:
    entry = {"type": "string", "filter_operator": operator} | options
    return build_filters(declared({"own": entry}), {"own": value}, identity).expression


def test_a_filter_that_is_read_needs_nothing_else() -> None:
    calls = []

    def own(columns: Any, value: str, identity: Identity) -> Any:
        calls.append(value)
        return or_(columns.owner_id == identity.user_id, columns.title == value)

    def never(record: Any, value: Any) -> bool:
        raise AssertionError

    found = built(own, identity=Identity(USER), filter_record=never)
    assert found == AnyOf((Atom("owner_id", "=", USER), Atom("title", "=", "x")))
    assert calls == ["x"]


def test_a_filter_that_is_not_read_stays_as_it_is() -> None:
    def odd(columns: Any, value: str) -> Any:
        return func.replace(columns.title, " ", "") == value

    found = built(odd, filter_record=lambda record, value: True)
    assert isinstance(found, Opaque)
    assert compile_predicate(found)({})
    assert built(odd).record_test is None
    assert isinstance(built(lambda columns, value: columns.nowhere == value), Opaque)


def test_a_filter_may_return_a_bool_or_a_clause() -> None:
    assert built(lambda columns, value: True) == EVERYTHING
    assert built(lambda columns, value: False) == NOTHING
    clause = built(lambda columns, value: {"title": value, "$not": {"views": [1, 2]}})
    assert clause == AllOf((Atom("title", "=", "x"), Not(Atom("views", "in", (1, 2)))))
    with pytest.raises(ConfigurationError, match="no column 'nowhere'"):
        built(lambda columns, value: {"nowhere": value})
    with pytest.raises(ConfigurationError, match="the value is None"):
        built(lambda columns, value: {"title": None})


def test_a_filter_that_refuses_its_value() -> None:
    def picky(columns: Any, value: str) -> Any:
        return columns.views == int(value)

    with pytest.raises(FilterError) as caught:
        built(picky)
    assert "invalid literal for int()" in caught.value.details["own"]["message"]
    assert built(picky, "7") == Atom("views", "=", 7)


class Waiting:
    async def __call__(self, columns: Any, value: Any) -> Any: ...


async def waiting(columns: Any, value: Any) -> Any: ...


@pytest.mark.parametrize("late", [waiting, Waiting()])
@pytest.mark.parametrize("option", ["filter_operator", "filter_record"])
def test_a_filter_that_would_wait_is_refused(option: str, late: Any) -> None:
    def plain(columns: Any, value: Any) -> Any: ...

    options = {"filter_operator": plain} | {option: late}
    with pytest.raises(ConfigurationError, match=f"{option} must be an ordinary function"):
        declared({"own": {"type": "string"} | options})


# The proof: SQLite selects with the author's expression what the predicate of the tree selects

Clause = Callable[[Any], Any]
"""From columns to an SQLAlchemy expression: of the stubs, to be read; of the table, to be run."""

WORLD = declare_resource(
    "things",
    {
        **dict.fromkeys(("s1", "s2", "ascii1", "ascii2"), "string"),
        **dict.fromkeys(("i1", "i2", "big"), "integer"),
        **dict.fromkeys(("n1", "n2"), "number"),
        **{name: {"type": "decimal", "scale": 2} for name in ("d1", "d2")},
        **dict.fromkeys(("b1", "b2"), "boolean"),
        **dict.fromkeys(("day1", "day2"), "date"),
        **dict.fromkeys(("at1", "at2"), "dateTime"),
        "hour": "time",
        "tags": "array",
        "key": "id",
    },
)
_registry = ResourceRegistry()
_registry.add(WORLD)
_registry.link()
WORLD = _registry["things"]
TABLE = build_tables(_registry)["things"]

_letters = "aAb%_/éÉß\U0001f600"
unicode_texts = st.text(st.sampled_from(_letters), max_size=3)
ascii_texts = st.text(st.sampled_from("aAb%_/"), max_size=3)
small = st.integers(-3, 3) | st.integers(-1000, 1000)
large = st.sampled_from([2**53 + 1, 2**63 - 1, -(2**63), 0, 1])
floats = st.sampled_from([0.0, -0.0, 0.1, 1e-9, 1e9]) | st.integers(-40, 40).map(lambda n: n / 8)
decimals = st.integers(-300, 300).map(lambda value: Decimal(value).scaleb(-2))
days = st.dates(date(2024, 1, 1), date(2024, 1, 4)) | st.sampled_from([date.min, date.max])
moments = st.sampled_from(
    [
        NOON,
        NOON + timedelta(microseconds=1),
        NOON - timedelta(days=1),
        datetime(1, 1, 1, tzinfo=UTC),
    ]
)
hours = st.sampled_from([time(0), time(12), time(12, 0, 0, 1), time.max])

STORED: dict[str, st.SearchStrategy[Any]] = {
    **dict.fromkeys(("s1", "s2", "key"), unicode_texts),
    **dict.fromkeys(("ascii1", "ascii2"), ascii_texts),
    **dict.fromkeys(("i1", "i2"), small),
    "big": large,
    **dict.fromkeys(("n1", "n2"), floats),
    **dict.fromkeys(("d1", "d2"), decimals),
    **dict.fromkeys(("b1", "b2"), st.booleans()),
    **dict.fromkeys(("day1", "day2"), days),
    **dict.fromkeys(("at1", "at2"), moments),
    "hour": hours,
    "tags": st.just(["a"]),
}
GROUPS = [("s1", "s2", "key"), ("ascii1", "ascii2"), ("i1", "i2"), ("n1", "n2"), ("b1", "b2")]
GROUPS += [("day1", "day2"), ("at1", "at2")]
ORDER = [operator.eq, operator.ne, operator.gt, operator.ge, operator.lt, operator.le]
ROWS = st.lists(
    st.fixed_dictionaries(
        {name: st.one_of(value, value, value, st.none()) for name, value in STORED.items()}
    ),
    min_size=3,
    max_size=6,
)


def order_of(name: str) -> st.SearchStrategy[Any]:
    return st.sampled_from(ORDER[:2] if name.startswith("b") else ORDER)


def get(name: str) -> Clause:
    return lambda c: c[name]


@st.composite
def column_clauses(draw: st.DrawFn) -> Clause:
    """One column with constants."""
    name = draw(st.sampled_from([name for name in STORED if name != "tags"]))
    values = STORED[name]
    match draw(
        st.sampled_from(["order", "mirrored", "in", "not in", "between", "null", "not null"])
    ):
        case "order":
            compare, value = draw(order_of(name)), draw(values)
            return lambda c: compare(c[name], value)
        case "mirrored" if not name.startswith(("d1", "d2", "at")):
            compare, value = draw(order_of(name)), draw(values)
            return lambda c: compare(literal(value), c[name])
        case "in":
            listed = draw(st.lists(values, max_size=3))
            return lambda c: c[name].in_(listed)
        case "not in":
            listed = draw(st.lists(values, max_size=3))
            return lambda c: c[name].not_in(listed)
        case "between" if not name.startswith("b"):
            low, high = draw(values), draw(values)
            return lambda c: c[name].between(low, high)
        case "null":
            return lambda c: c[name].is_(None)
    return lambda c: c[name].is_not(None)


@st.composite
def boolean_clauses(draw: st.DrawFn) -> Clause:
    name, value = draw(st.sampled_from(["b1", "b2"])), draw(st.booleans())
    forms: list[Clause] = [
        lambda c: c[name],
        lambda c: ~c[name],
        lambda c: c[name].is_(value),
        lambda c: c[name].is_not(value),
        lambda c: c[name] == value,
        lambda c: func.coalesce(c[name], value),
        lambda c: func.coalesce(c.b1, c.b2).is_(value),
        lambda c: func.coalesce(c.b1, c.b2).is_not(value),
        lambda c: literal(value),
        lambda c: true() if value else false(),
        lambda c: c.tags.is_(None),
    ]
    return draw(st.sampled_from(forms))


@st.composite
def firsts(draw: st.DrawFn, group: tuple[str, ...]) -> Clause:
    """The first of some columns and constants that is not NULL."""
    names = draw(st.lists(st.sampled_from(group), min_size=1, max_size=2))
    ends = draw(st.lists(STORED[group[0]], min_size=2 - len(names), max_size=1))
    return lambda c: func.coalesce(*(c[name] for name in names), *ends)


@st.composite
def kind_clauses(draw: st.DrawFn) -> Clause:
    """Columns compared with one another, and what COALESCE gives."""
    group = draw(st.sampled_from(GROUPS))
    value = st.sampled_from(group).map(get) | firsts(group)
    left, right, other = draw(value), draw(value), draw(firsts(group))
    low, high = draw(STORED[group[0]]), draw(STORED[group[0]])
    compare = draw(order_of(group[0]))
    forms: list[Clause] = [
        lambda c: compare(left(c), right(c)),
        lambda c: (
            compare(other(c), low) if not group[0].startswith("at") else compare(left(c), right(c))
        ),
        lambda c: left(c).in_([right(c), other(c)]),
        lambda c: other(c).is_(None),
    ]
    if not group[0].startswith(("b", "at")):
        forms += [
            lambda c: other(c).in_([low, high]),
            lambda c: other(c).not_in([low]),
            lambda c: other(c).between(low, high),
            lambda c: left(c).between(low, right(c)),
            lambda c: ~literal(low).between(left(c), right(c)),
        ]
    return draw(st.sampled_from(forms))


def _applied(compute: Any, left: Clause, right: Clause) -> Clause:
    return lambda c: compute(left(c), right(c))


@st.composite
def numbers(draw: st.DrawFn, depth: int = 2) -> Clause:
    """Numbers computed from columns; few and small, so that integers stay exact."""
    if depth and draw(st.booleans()):
        compute = draw(
            st.sampled_from([operator.add, operator.sub, operator.mul, operator.truediv])
        )
        left, right = draw(numbers(depth=depth - 1)), draw(numbers(depth=depth - 1))
        match draw(st.sampled_from(["both", "left", "right", "minus"])):
            case "left":
                constant = draw(st.integers(-5, 5) | st.sampled_from([0.5, 0.1, 1e3]))
                return lambda c: compute(constant, right(c))
            case "right":
                constant = draw(st.integers(-5, 5) | st.sampled_from([0.5, 0.1, 1e3]))
                return lambda c: compute(left(c), constant)
            case "minus":
                return lambda c: -left(c)
        return _applied(compute, left, right)
    return draw(
        st.sampled_from(["i1", "i2", "n1", "n2"]).map(get)
        | firsts(("n1", "n2"))
        | firsts(("i1", "i2"))
        | lengths()
    )


def lengths() -> st.SearchStrategy[Clause]:
    name = st.sampled_from(["s1", "ascii1", "key"]).map(get) | firsts(("s1", "s2"))
    return name.map(lambda inner: lambda c: func.length(inner(c)))


@st.composite
def number_clauses(draw: st.DrawFn) -> Clause:
    left, right, compare = draw(numbers()), draw(numbers()), draw(st.sampled_from(ORDER))
    value, other = draw(st.integers(-3, 30)), draw(st.integers(-3, 30))
    forms: list[Clause] = [
        lambda c: compare(left(c), right(c)),
        lambda c: compare(left(c), value),
        lambda c: compare(literal(value), left(c)),
        lambda c: left(c).in_([value, other]),
        lambda c: left(c).not_in([value, other]),
        lambda c: left(c).between(value, right(c)),
        lambda c: left(c).is_(None),
    ]
    return draw(st.sampled_from(forms))


@st.composite
def text_clauses(draw: st.DrawFn) -> Clause:
    """LIKE and its kin; what ignores case has ASCII only, as SQLite knows no other case."""
    folds = draw(st.booleans())
    group = ("ascii1", "ascii2") if folds else ("s1", "s2", "key")
    value = draw(st.sampled_from(group).map(get) | firsts(group))
    part = draw(st.sampled_from(["a", "A", "b", "Ab", "a%b", "_a", ""]) | STORED[group[0]])
    stem = draw(st.sampled_from(["like", "contains", "startswith", "endswith"]))
    name = f"{'i' * folds}{stem}"
    options: dict[str, Any] = {}
    if draw(st.booleans()):
        if stem == "like":
            options = {"escape": "/"}
            part = part.removesuffix("/").replace("/", "/_")
        else:
            options = {"autoescape": True}
    if folds and draw(st.booleans()):
        inner, change = value, draw(st.sampled_from([func.lower, func.upper]))
        exact = draw(st.booleans())
        if exact or change is func.lower:
            value = lambda c: change(inner(c))  # noqa: E731
            name = stem if exact else name
    return lambda c: getattr(value(c), name)(part, **options)


@st.composite
def cased_clauses(draw: st.DrawFn) -> Clause:
    inner = draw(st.sampled_from(["ascii1", "ascii2"]).map(get) | firsts(("ascii1", "ascii2")))
    change = draw(st.sampled_from([func.lower, func.upper]))
    first, second = draw(ascii_texts), draw(ascii_texts)
    forms: list[Clause] = [
        lambda c: change(inner(c)) == first,
        lambda c: change(inner(c)) != first,
        lambda c: change(inner(c)).in_([first, second]),
        lambda c: change(inner(c)).not_in([first, second]),
    ]
    return draw(st.sampled_from(forms))


def _joined(join: Any, terms: list[Clause]) -> Clause:
    return lambda c: join(*(term(c) for term in terms))


FAMILIES: dict[str, st.SearchStrategy[Clause]] = {
    "columns": column_clauses(),
    "booleans": boolean_clauses(),
    "kinds": kind_clauses(),
    "numbers": number_clauses(),
    "patterns": text_clauses(),
    "cases": cased_clauses(),
}
FAMILIES["all"] = st.recursive(
    st.one_of(*FAMILIES.values()),
    lambda inner: st.one_of(
        st.builds(_joined, st.sampled_from([and_, or_]), st.lists(inner, min_size=1, max_size=3)),
        inner.map(lambda term: lambda c: not_(term(c))),
    ),
    max_leaves=5,
)


@pytest.fixture(scope="module")
def sqlite() -> Iterator[Connection]:
    engine = create_engine("sqlite://", poolclass=StaticPool)

    @sqlalchemy_event.listens_for(engine, "connect")
    def prepare(connection: Any, record: Any) -> None:
        connection.execute("PRAGMA case_sensitive_like = ON")
        for name, (count, function) in SQLITE_FUNCTIONS.items():
            connection.create_function(name, count, function, deterministic=True)

    with engine.connect() as connection:
        TABLE.create(connection)
        yield connection
    engine.dispose()


EXAMPLES = int(os.environ.get("TIDINGS_PROVE", "80"))


@pytest.mark.parametrize("family", FAMILIES)
@settings(max_examples=EXAMPLES, deadline=None, print_blob=True)
@given(data=st.data(), rows=ROWS)
def test_what_is_read_selects_what_the_author_selects(
    sqlite: Connection, family: str, data: st.DataObject, rows: list[dict[str, Any]]
) -> None:
    clause = data.draw(FAMILIES[family])
    sqlite.execute(TABLE.delete())
    sqlite.execute(insert(TABLE), rows)
    records = [dict(row._mapping) for row in sqlite.execute(select(TABLE))]
    for author in (clause, lambda c: not_(clause(c))):
        found = read(WORLD, author(stub_columns(WORLD)))
        assert found is not None
        written = {row.id for row in sqlite.execute(select(TABLE.c.id).where(author(TABLE.c)))}
        event(f"some: {bool(written)}, all: {len(written) == len(records)}")
        matches = compile_predicate(found)
        assert {record["id"] for record in records if matches(record)} == written
        own = select(TABLE.c.id).where(to_sql(found, WORLD, {"things": TABLE}, "sqlite"))
        assert {row.id for row in sqlite.execute(own, parameters(found, "sqlite"))} == written

"""Filters in words."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal

import pytest

from tidings.filters import (
    EVERYTHING,
    NOTHING,
    AllOf,
    AnyOf,
    Atom,
    Comparison,
    Expression,
    Not,
    Opaque,
    TextMatch,
    in_words,
)
from tidings.filters.values import Arithmetic, Coalesce, Column, Constant, Length

A, B = Atom("a", "=", "x"), Atom("b", ">", Decimal("1.50"))
TITLE = Column("title", "string")


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        (EVERYTHING, "always"),
        (NOTHING, "never"),
        (AllOf((A, B)), "a = 'x' and b > 1.50"),
        (AllOf((A, AnyOf((A, B)))), "a = 'x' and (a = 'x' or b > 1.50)"),
        (Not(A), "not (a = 'x')"),
        (Atom("a", "is null"), "a is null"),
        (Atom("a", "like", "it's"), 'a contains "it\'s", whatever the case'),
        (Atom("a", "between", (1, 5)), "a is from 1 to 5"),
        (Atom("a", "in", (True, False)), "a is one of true, false"),
        (Atom("a", "in", ()), "a is one of nothing"),
        (Atom("a", "in", tuple(range(8))), "a is one of 0, 1, 2, 3, 4 and 3 more"),
        (Atom("tags", "=", "x", some=True), "some tags = 'x'"),
        (Atom("a", ">", datetime(2026, 1, 1, tzinfo=UTC)), "a > 2026-01-01T00:00:00+00:00"),
        (Atom("a", "=", date(2026, 1, 1)), "a = 2026-01-01"),
        (Opaque("near", "", lambda columns: columns), "the custom filter 'near'"),
        (Comparison(TITLE, "is null"), "title is null"),
        (
            Comparison(
                Arithmetic("*", Column("price", "number"), Column("stock", "integer")),
                ">",
                Constant(5.0, "number"),
            ),
            "(price * stock) > 5.0",
        ),
        (
            Comparison(
                Length(Coalesce((TITLE, Constant("", "string")))), "=", Constant(3, "integer")
            ),
            "length(coalesce(title, '')) = 3",
        ),
        (TextMatch(TITLE, ("a\x00", ""), "fold"), "title is like 'a_%', whatever the case"),
        (TextMatch(TITLE, ("A",), "upper"), "upper(title) is like 'A'"),
    ],
)
def test_in_words(expression: Expression, words: str) -> None:
    assert in_words(expression) == words

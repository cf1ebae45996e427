"""The largest filters that are permitted run on every database, and the longest patterns."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from tests.proof.conftest import Benched
from tests.proof.proving import Decisions, prove_sql
from tests.proof.worlds import World
from tidings.filters import (
    AllOf,
    AnyOf,
    Atom,
    Comparison,
    Expression,
    Not,
    TextMatch,
    compile_predicate,
    fold,
    is_too_large,
)
from tidings.filters.expression import ANY_CHARACTER
from tidings.filters.values import Arithmetic, Column, Constant, Value, is_safe
from tidings.schema import ResourceRegistry, declare_resource
from tidings.schema.limits import MOST

LETTERS = "aßẞſsSΣσςk\u212aiİ.*(\\%_"  # noqa: RUF001


@pytest.fixture(scope="module")
def world() -> World:
    """A few records with long texts, an array, and others behind them."""
    schema = {
        "word": "text",
        "number": "number",
        "tags": "array",
        "parent_id": {"type": "id", "belongs_to": "things", "constraint": False},
    }
    registry = ResourceRegistry()
    links = {"children": {"type": "hasMany", "target": "things", "foreign_key": "parent_id"}}
    search = {
        "parent": {"actual_field": "parent.parent.parent.parent.word", "filter_operator": "like"},
        "children": {"actual_field": "children.children.children.word"},
    }
    registry.add(
        declare_resource(
            "things", schema, relationships=links, search_schema=search, table="limits"
        )
    )
    registry.link()
    r = Random(1)
    rows = [
        {
            "id": number,
            "word": "".join(r.choice(LETTERS) for _ in range(r.choice([3, 90, 3_000]))),
            "number": number / 7,
            "tags": [r.choice(LETTERS), number] if number % 3 else None,
            "parent_id": number - 1 if number % 2 else None,
        }
        for number in range(12)
    ]
    return World(registry, {}, {"things": rows}, {})


def leaf(number: int) -> Expression:
    """Each of another kind than its neighbours, and not the same twice."""
    kinds: list[Callable[[], Expression]] = [
        lambda: Atom("number", ">", number / 3),
        lambda: Atom("word", "like", f"{LETTERS[number % 9]}{number}"),
        lambda: Not(Atom("word", "=", f"a{number}")),
        lambda: Atom("tags", "in", ("a", number % 12), some=True),
        lambda: Atom("tags", "like", f"s{number}", some=True),
        lambda: TextMatch(Column("word", "string"), ("a", f"s{number}", ""), "fold"),
        lambda: Atom("parent.parent.parent.parent.word", "like", f"a{number}"),
        lambda: Atom("children.children.children.word", "=", f"a{number}", some=True),
    ]
    return kinds[number % len(kinds)]()


def same_leaf(kind: int) -> Callable[[int], Expression]:
    return lambda number: leaf(number * 8 + kind)


def wide(make: Callable[[int], Expression]) -> Expression:
    """As many as may be; of eight kinds one has two values."""
    return AnyOf(tuple(make(number) for number in range(MOST["comparisons"] * 8 // 9)))


def deep(make: Callable[[int], Expression]) -> Expression:
    """As deep and as large as may be: at each level a not, an and, an or in turn."""
    per_level = MOST["comparisons"] * 8 // 9 // MOST["depth"]
    found = make(0)
    for level in range(MOST["depth"] - 3):
        terms = (found, *(make(level * per_level + number) for number in range(1, per_level)))
        found = (AllOf(terms), AnyOf(terms), Not(found))[level % 3]
    return found


def many_values(_: object) -> Expression:
    values = tuple(f"{number}" for number in range(MOST["values"] // 4))
    return AllOf(
        (
            Not(Atom("word", "in", values)),
            Atom("tags", "in", (*values, *range(len(values))), some=True),
            Not(Atom("children.children.children.word", "in", values, some=True)),
        )
    )


def one_long_list(_: object) -> Expression:
    return Not(Atom("tags", "in", tuple(range(MOST["values"])), some=True))


def prove(benched: Benched, world: World, expressions: list[Expression]) -> None:
    world.filters = expressions
    images = world.images()
    tests = [compile_predicate(expression) for expression in expressions]
    matches = [{image["id"] for image in images if test(image)} for test in tests]
    found = Decisions(world, images, matches)
    benched.run(prove_sql(benched.bench, found, (), shrink=False))


@pytest.mark.parametrize("shape", [deep, wide, many_values, one_long_list])
def test_the_largest_filters_run(
    benched: Benched, world: World, shape: Callable[[Callable[[int], Expression]], Expression]
) -> None:
    expression = shape(leaf)
    limits = {"comparisons": MOST["comparisons"], "depth": MOST["depth"]}
    assert not is_too_large(expression, **limits)
    assert is_too_large(AllOf((expression, wide(leaf))), **limits)
    prove(benched, world, [expression])


@pytest.mark.parametrize("kind", [3, 4, 7])
def test_as_many_comparisons_of_one_kind_run(benched: Benched, world: World, kind: int) -> None:
    prove(benched, world, [deep(same_leaf(kind))])


def test_the_longest_texts_are_looked_for(benched: Benched, world: World) -> None:
    r = Random(2)
    expressions: list[Expression] = []
    for row in world.records[::3]:
        word = row["word"]
        start = r.randint(0, max(0, len(word) - MOST["text"]))
        part = word[start : start + MOST["text"]]
        mostly_open = "".join(ANY_CHARACTER if r.random() < 0.9 else found for found in part)
        segments = ("", *(part[place : place + 1] for place in range(0, len(part), 2)), "")
        text = Column("word", "string")
        expressions += [
            Atom("word", "like", part),
            Atom("word", "like", part.swapcase()),
            Atom("word", "like", part[:-1] + "x"),
            Not(TextMatch(text, ("", part, ""))),
            TextMatch(text, ("", fold(part), ""), "fold"),
            TextMatch(text, ("", fold(mostly_open), ""), "fold"),
            TextMatch(text, tuple(fold(each) for each in segments), "fold"),
            TextMatch(text, segments),
            TextMatch(text, tuple(fold(each) for each in (*segments, "x")), "fold"),
            TextMatch(text, (*segments, "x")),
        ]
    prove(benched, world, expressions)


def test_long_computations_run(benched: Benched, world: World) -> None:
    value: Value = Column("number", "number")
    for number in range(15):
        operator: Any = "+-"[number % 2]
        other = Arithmetic(operator, value, Constant(0.1 * number, "number"))
        value = other if is_safe(other) else value
    prove(benched, world, [Comparison(value, ">", Constant(0.3, "number"))])

"""What the proof has found once, kept: each of these was a disagreement."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from tests.proof.conftest import Benched
from tests.proof.expressions import COMPARED
from tests.proof.proving import Decisions, prove_sql
from tests.proof.worlds import World
from tidings import ConfigurationError
from tidings.filters import (
    Atom,
    Comparison,
    Expression,
    Not,
    Opaque,
    TextMatch,
    build_clause,
    compile_predicate,
)
from tidings.filters.expression import ANY_CHARACTER
from tidings.filters.values import Arithmetic, Coalesce, Column, Constant
from tidings.schema import ResourceRegistry, declare_resource

NOON = datetime(2024, 3, 1, 12, tzinfo=UTC)
NIGHT = datetime(2024, 3, 1, tzinfo=UTC)


def make_world() -> World:
    schema = {"c0": "id", "c2": "decimal", "word": "text", "number": "number"}
    schema |= {"moment": "dateTime", "tags": "array"}
    registry = ResourceRegistry()
    registry.add(declare_resource("things", schema, table="found"))
    registry.link()
    values: list[tuple[Any, ...]] = [
        (1, "B", Decimal("2.0000"), "a\\b", 1e-60, NIGHT, ["䭷", "ä", "a"]),
        (2, "A", Decimal(0), "aXb", 1e60, NOON, ["?", "a"]),
        (3, "a\U0001f600c", Decimal(-1), "", 0.1, NOON, []),
        (4, None, None, None, None, None, None),
    ]
    rows = [dict(zip(["id", *schema], row, strict=True)) for row in values]
    return World(registry, {}, {"things": rows}, {})


MOMENT = Coalesce((Column("moment", "dateTime"), Constant(NOON, "dateTime")))
TWICE = Arithmetic("*", Column("number", "number"), Constant(2.0, "number"))
NUMBER = Column("number", "number")
QUOTIENT = Arithmetic("/", Constant(1.0, "number"), NUMBER)
FOUND: dict[str, Expression] = {
    "arrays in a database of another encoding": Atom("tags", "=", "䭷", some=True),
    "texts of arrays in such a database": Atom("tags", "like", "Ä", some=True),
    "any character after a backslash": TextMatch(
        Column("word", "string"), (f"a\\{ANY_CHARACTER}",)
    ),
    "a backslash before the end": TextMatch(
        Column("word", "string"), (f"{ANY_CHARACTER}\\{ANY_CHARACTER}",)
    ),
    "the least number that is computed with": Comparison(TWICE, "is not null"),
    "a moment or another": Comparison(MOMENT, ">", Constant(NIGHT, "dateTime")),
    "between the cases of a letter, by an index": Atom("c0", "between", ("A", "a")),
    "a finer decimal, by an index": Atom("c2", "=", Decimal("2.00001")),
    "a list of finer decimals, by an index": Atom("c2", "in", (Decimal("2.00001"),) * 2),
    "a product in parentheses": Comparison(
        Arithmetic("*", QUOTIENT, Arithmetic("*", NUMBER, NUMBER)), "=", NUMBER
    ),
    "a letter of four bytes, by an index": TextMatch(Column("c0", "string"), ("a\x00c", "")),
    "a custom filter on null, negated": Not(
        Opaque(
            "custom",
            "",
            lambda columns: columns.number > 2,
            lambda record: record["number"] is not None and record["number"] > 2,
        )
    ),
}


@pytest.mark.parametrize("expression", FOUND.values(), ids=FOUND)
def test_it_stays_found(benched: Benched, expression: Expression) -> None:
    world = make_world()
    world.filters = [expression]
    test = compile_predicate(expression)
    matches = {record["id"] for record in world.records if test(record)}
    found = Decisions(world, world.images(), [matches])
    benched.run(prove_sql(benched.bench, found, [0], shrink=False))


FOREIGN = {
    "sqlite": "ALTER TABLE found RENAME COLUMN word TO old; "
    "ALTER TABLE found ADD COLUMN word TEXT COLLATE NOCASE; UPDATE found SET word = old",
    "postgresql": 'ALTER TABLE found ALTER COLUMN word TYPE TEXT COLLATE "en-x-icu"',
    "mariadb": "ALTER TABLE found MODIFY word TEXT COLLATE utf8mb4_general_ci",
}
WORDS = ["a", "A", "a ", "ä", "b", "B", "_", "Z", ""]


def test_tables_of_the_applications_own_may_have_other_collations(benched: Benched) -> None:
    world = make_world()
    blank = {"c0": None, "c2": None, "number": None, "moment": None, "tags": None}
    rows = [{"id": number, "word": word, **blank} for number, word in enumerate(WORDS)]
    world.rows["things"] = rows
    terms: list[Expression] = [
        Atom("word", operator, word) for operator in COMPARED for word in WORDS
    ]
    terms += [Atom("word", "in", ("A", "ä")), Atom("word", "between", ("A", "a"))]
    terms += [Atom("word", "like", "A"), TextMatch(Column("word", "string"), ("A", ""))]
    terms += [Not(term) for term in terms]
    benched.run(benched.bench.load(world))
    for statement in FOREIGN[benched.bench.name].split("; "):
        benched.run(benched.bench.execute(statement))
    for term, ids in zip(terms, benched.run(benched.bench.selected(terms)), strict=True):
        test = compile_predicate(term)
        assert ids == {row["id"] for row in rows if test(row)}, term


@pytest.mark.parametrize("value", [7, True, 1.5, ["a"]])
def test_a_clause_looks_for_texts_only_in_arrays(value: Any) -> None:
    with pytest.raises(ConfigurationError, match="expected a string"):
        build_clause(make_world().resource, {"tags": {"like": value}})

"""The proof of the filters: in SQL and in Python they mean the same.

Random resources, records and filters; for each, the rows that SQLite selects are those that the
predicate accepts. ``TIDINGS_PROVE=20000`` looks longer.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from sqlalchemy import or_
from tests.unit.filter_strategies import World, worlds

from tidings.errors import ConfigurationError, FilterError
from tidings.feed import Change
from tidings.filters import (
    AllOf,
    AnyOf,
    Expression,
    Not,
    Opaque,
    all_of,
    any_of,
    build_clause,
    build_filters,
    canonical,
    compile_predicate,
)
from tidings.identity import ANONYMOUS
from tidings.matching import Matcher
from tidings.schema import ResourceType, validate_new
from tidings.storage import RecordStore, Row, SqliteDatabase, build_tables

EXAMPLES = int(os.environ.get("TIDINGS_PROVE", "300"))
long_proof = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    print_blob=True,
)
proof = settings(long_proof, max_examples=EXAMPLES // 2)


class Bench:
    """One SQLite database in memory; each world gets a table of its own, for as long as it is."""

    def __init__(self) -> None:
        self.runner = asyncio.Runner()
        self.database = SqliteDatabase("sqlite+aiosqlite://")
        self.runner.run(self.database.open())

    def close(self) -> None:
        self.runner.run(self.database.close())
        self.runner.close()

    def rows(self, world: World) -> tuple[RecordStore, list[Row]]:
        """The world's records in its table, as the insert gave them back."""
        return self.runner.run(self._rows(world))

    async def _rows(self, world: World) -> tuple[RecordStore, list[Row]]:
        tables = build_tables(world.registry)
        store = RecordStore(self.database, tables)
        table = tables["things"]
        async with self.database.writing() as connection:
            await connection.run("DROP TABLE IF EXISTS things")
            await connection.commit()
        await self.database.create_tables([table])
        rows = []
        async with self.database.writing() as connection:
            for record in world.records:
                values = validate_new(world.resource, record)
                rows.append(await store.insert(connection, world.resource, values))
            await connection.commit()
        return store, rows

    def select(self, store: RecordStore, resource: ResourceType, where: Expression) -> list[Row]:
        return self.runner.run(self._select(store, resource, where))

    async def _select(
        self, store: RecordStore, resource: ResourceType, where: Expression
    ) -> list[Row]:
        async with self.database.reading(snapshot=False) as connection:
            found = await store.find(connection, resource, where)
            assert await store.count(connection, resource, where) == len(found)
        return found


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.close()


def expressions(world: World) -> list[Expression]:
    """Those of the world's filters that are accepted; anything but a refusal is a fault."""
    found = []
    for filters in world.client_filters:
        try:
            built = build_filters(world.resource, filters, ANONYMOUS)
        except FilterError as error:
            event(f"refused: {error.problems[0].message}")
        else:
            found.append(built.expression)
            again = build_filters(world.resource, built.normalised, ANONYMOUS)
            assert canonical(again.expression) == canonical(built.expression)
            as_json = msgspec.json.decode(msgspec.json.encode(built.normalised))
            restored = build_filters(world.resource, as_json, ANONYMOUS).expression
            assert canonical(restored) == canonical(built.expression)
    for clause in world.clauses:
        try:
            found.append(build_clause(world.resource, clause))
        except ConfigurationError as error:
            event(f"clause refused: {str(error).rpartition(':')[2]}")
    return found


def custom_filter(world: World, rows: list[Row]) -> Expression:
    """As an application writes one, with values of its own in a list and alone."""
    column = next((n for n, kind in world.kinds.items() if kind.name != "object"), "id")
    values = [row[column] for row in rows[::2] if row[column] is not None] or [rows[0]["id"]]
    if values == [rows[0]["id"]]:
        column = "id"
    return Opaque(
        "custom",
        "",
        lambda columns: or_(columns[column].in_(values[1:]), columns[column] == values[0]),
        lambda record: record[column] in values,
    )


@long_proof
@given(world=worlds())
def test_sql_and_python_select_the_same_records(bench: Bench, world: World) -> None:
    store, rows = bench.rows(world)
    assert bench.select(store, world.resource, AllOf(())) == rows, "written is what is read"
    found = expressions(world)
    both = [all_of(found[:2]), any_of(found[-2:]), Not(all_of(found))]
    both += [all_of([custom_filter(world, rows), term]) for term in found[:2]]
    for expression in found + both:
        matches = compile_predicate(expression)
        selected = bench.select(store, world.resource, expression)
        event("some match" if 0 < len(selected) < len(rows) else "all or none match")
        assert selected == [row for row in rows if matches(row)], expression


@proof
@given(world=worlds(), data=st.data())
def test_the_canonical_form_is_the_meaning(world: World, data: st.DataObject) -> None:
    """Equal under permutation; and where it is equal, so is the answer for every record."""
    found = expressions(world)
    records = [{"id": 1, **validate_new(world.resource, record)} for record in world.records]
    by_form: dict[str, list[bool]] = {}
    for expression in found:
        permuted = shuffled(expression, data.draw)
        assert canonical(permuted) == canonical(expression)
        answers = [compile_predicate(expression)(record) for record in records]
        assert [compile_predicate(permuted)(record) for record in records] == answers
        assert by_form.setdefault(canonical(expression), answers) == answers


def shuffled(expression: Expression, draw: Any) -> Expression:
    """The same filter, its terms and the values of its lists in another order, some twice."""
    if isinstance(expression, AllOf | AnyOf):
        terms = [shuffled(term, draw) for term in draw(st.permutations(expression.terms))]
        return type(expression)(tuple(terms + terms[:1] if len(terms) > 1 else terms))
    if isinstance(expression, Not):
        return Not(shuffled(expression.term, draw))
    if getattr(expression, "operator", "") == "in":
        values = tuple(draw(st.permutations(expression.value)))
        return type(expression)(expression.column, "in", values + values[:1])
    return expression


@proof
@given(world=worlds(filters=6), data=st.data())
def test_the_matcher_answers_as_the_predicates_do(world: World, data: st.DataObject) -> None:
    records = [
        {"id": number, **validate_new(world.resource, record)}
        for number, record in enumerate(world.records)
    ]
    matcher = Matcher()
    nodes = [matcher.acquire("things", expression) for expression in expressions(world)]
    images = st.none() | st.sampled_from(records)
    for _ in range(4):
        before, after = data.draw(images), data.draw(images)
        found = matcher.match(Change("things", "1", "patch", before, after))
        by_way: dict[str, set[Any]] = {"enter": set(), "update": set(), "leave": set()}
        for node in nodes:
            matches = compile_predicate(node.expression)
            was = before is not None and matches(before)
            now = after is not None and matches(after)
            if was or now:
                by_way["update" if was and now else "enter" if now else "leave"].add(node)
        assert {way: set(nodes) for way, nodes in found._asdict().items()} == by_way
    for node in data.draw(st.permutations(nodes)):
        matcher.release(node)
    assert not matcher._nodes
    assert not matcher._indexes

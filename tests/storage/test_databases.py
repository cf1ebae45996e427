"""What every database must do for the records, on SQLite, PostgreSQL and MariaDB alike."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import Column, String, text
from sqlalchemy.ext.asyncio import create_async_engine

from tidings import ConfigurationError, SqlAlchemyPlugin
from tidings.errors import DatabaseBusy
from tidings.schema import ResourceRegistry, ResourceType, declare_resource
from tidings.schema.types import INT64_MAX, INT64_MIN
from tidings.storage import (
    ConstraintViolation,
    Database,
    RecordStore,
    Row,
    Statement,
    build_tables,
)
from tidings.storage.core import CoreDatabase
from tidings.storage.database import Transaction

EVERYTHING: dict[str, Any] = {
    "word": "string",
    "short": {"type": "string", "max": 10},
    "long": {"type": "string", "max": 2000},
    "unique": {"type": "string", "unique": True},
    "body": "text",
    "number": "number",
    "integer": "integer",
    "decimal": {"type": "decimal", "precision": 18, "scale": 9},
    "boolean": "boolean",
    "date": "date",
    "moment": "dateTime",
    "time": "time",
    "list": "array",
    "object": "object",
}
SCHEMAS: dict[str, dict[str, Any]] = {
    "things": EVERYTHING,
    "parts": {"name": {"type": "string", "required": True}, "thing_id": {"belongs_to": "things"}},
    "pages": {"name": "string", "order": {"type": "integer"}},
}


def declared(schemas: dict[str, dict[str, Any]]) -> list[ResourceType]:
    registry = ResourceRegistry()
    for name, schema in schemas.items():
        id_type = "string" if name == "pages" else "integer"
        registry.add(declare_resource(name, schema=schema, id_type=id_type))
    registry.link()
    return list(registry)


@dataclass
class Bench:
    """A database with the tables of `SCHEMAS`."""

    database: Database
    store: RecordStore
    resources: dict[str, ResourceType]

    @property
    def things(self) -> ResourceType:
        return self.resources["things"]

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[Transaction]:
        async with self.database.writing() as connection:
            try:
                yield connection
            except BaseException:
                await connection.rollback()
                raise
            await connection.commit()

    async def insert(self, name: str, /, **values: Any) -> Row:
        async with self.writing() as connection:
            return await self.store.insert(connection, self.resources[name], values)

    async def delete(self, name: str, key: object) -> None:
        async with self.writing() as connection:
            await self.store.delete(connection, self.resources[name], key)

    async def find(self, name: str, *arguments: Any, **options: Any) -> list[Row]:
        async with self.database.reading(snapshot=True) as connection:
            return await self.store.find(connection, self.resources[name], *arguments, **options)


@asynccontextmanager
async def benched(url: str) -> AsyncIterator[Bench]:
    database = SqlAlchemyPlugin(url)._database
    resources = declared(SCHEMAS)
    tables = build_tables(resources)
    await database.open()
    try:
        await database.create_tables(list(tables.values()))
        await database.create_tables(list(tables.values()))
        yield Bench(database, RecordStore(database, tables), {r.name: r for r in resources})
    finally:
        await database.close()


@pytest.fixture
async def bench(database_url: str) -> AsyncIterator[Bench]:
    async with benched(database_url) as bench:
        yield bench


def is_sqlite(bench: Bench) -> bool:
    return bench.database.dialect_name == "sqlite"


# Values

_SIGNS = "\x01\\'\"%_\n\r\x1a"
VALUES: dict[str, list[Any]] = {
    "word": ["", " ", "a", "a ", "A", "ä", "a\u0308", "ß", "\U0001f600", _SIGNS, "é" * 3000],
    "short": ["ä" * 10, "\U0001f600" * 10, "a\n"],
    "long": ["\U0001f600" * 2000],
    "unique": ["\U0001f600" * 200],
    "body": ["x" * 200_000],
    "number": [0.1 + 0.2, 5e-324, 2.2250738585072014e-308, 1.7976931348623157e308, -1e-7, 1e22],
    "integer": [INT64_MAX, INT64_MIN, 0, -1],
    "decimal": [Decimal("999999999.999999999"), Decimal("-0.000000001"), Decimal("1E+8")],
    "boolean": [True, False],
    "date": [date.min, date.max, date(999, 12, 31), date(2024, 2, 29)],
    "moment": [
        datetime.min.replace(tzinfo=UTC),
        datetime.max.replace(tzinfo=UTC),
        datetime(999, 12, 31, 23, 59, 59, 999999, UTC),
        datetime(2024, 3, 31, 2, 30, tzinfo=UTC),
        datetime(2024, 3, 31, 2, 30, 0, 1, timezone(timedelta(hours=-11))),
    ],
    "time": [time.min, time.max, time(12, 0, 0, 1)],
    "list": [[], [1, 2.5, None, "ä\U0001f600", True], [[[]]], [2**70, 0.1, 1e300]],
    "object": [{}, {"z": 1, "a": {"b": [None]}, "": ""}, {"\u0000": "\u0000"}],
}


async def test_what_is_written_is_read(bench: Bench) -> None:
    for field, values in VALUES.items():
        for value in [*values, None]:
            await written_and_read(bench, field, value)


async def written_and_read(bench: Bench, field: str, value: Any) -> None:
    written = await bench.insert("things", **{field: value})
    assert written[field] == value, field
    assert type(written[field]) is type(value)
    async with bench.writing() as connection:
        row = await bench.store.update(connection, bench.things, written["id"], {field: value})
        assert row == written
    async with bench.database.reading(snapshot=False) as connection:
        assert await bench.store.get(connection, bench.things, written["id"]) == written


async def test_deep_values(bench: Bench) -> None:
    deep: Any = []
    for _ in range(100):
        deep = [deep]
    assert (await bench.insert("things", list=deep))["list"] == deep


async def test_texts_are_equal_unique_and_ordered_by_code_point(bench: Bench) -> None:
    words = ["\U0001f600", "ﬀ", "é", "e\u0301", "ä", "z", "a", "Z", "A", "a ", "", "_"]
    for word in words:
        await bench.insert("things", word=word, unique=word, short=word)
    for name in ("word", "unique", "short"):
        rows = await bench.find("things", sort=((name, False),))
        assert [row[name] for row in rows] == sorted(words)
        rows = await bench.find("things", sort=((name, True),))
        assert [row[name] for row in rows] == sorted(words, reverse=True)
    for word in words:
        await bench.insert("pages", id=word or "-")
        with pytest.raises(ConstraintViolation):
            await bench.insert("things", unique=word)
    assert [row["id"] for row in await bench.find("pages")] == sorted([*filter(None, words), "-"])


async def test_a_unique_text_that_does_not_fit_is_refused_and_never_cut(bench: Bench) -> None:
    word = "".join(chr(0x1F600 + n * 7 % 1000) for n in range(3000))
    if is_sqlite(bench):
        assert (await bench.insert("things", unique=word))["unique"] == word
        return
    with pytest.raises(ConstraintViolation, match="other"):
        await bench.insert("things", unique=word)


async def test_nulls_come_last(bench: Bench) -> None:
    for number in (2, None, 1, None, 3):
        await bench.insert("things", integer=number)
    rows = await bench.find("things", sort=(("integer", False),))
    assert [row["integer"] for row in rows] == [1, 2, 3, None, None]
    rows = await bench.find("things", sort=(("integer", True), ("id", True)), limit=4, offset=1)
    assert [(row["integer"], row["id"]) for row in rows] == [(2, 1), (1, 3), (None, 4), (None, 2)]


async def test_many_values_in_a_list(bench: Bench) -> None:
    for number in range(5):
        await bench.insert("things", integer=number)
    values = list(range(2, 3000))
    async with bench.database.reading(snapshot=False) as connection:
        found = await bench.store.related(connection, bench.things, "integer", values, 2)
        assert [row["integer"] for row in found] == [2, 3]


async def test_a_row_without_values(bench: Bench) -> None:
    assert (await bench.insert("things"))["word"] is None


# Numbers


async def test_ids_are_numbered_and_not_given_twice(bench: Bench) -> None:
    assert [(await bench.insert("things"))["id"] for _ in range(3)] == [1, 2, 3]
    await bench.delete("things", 3)
    assert (await bench.insert("things"))["id"] == 4
    assert (await bench.insert("things", id=10))["id"] == 10
    assert (await bench.insert("things", id=7))["id"] == 7
    assert (await bench.insert("things"))["id"] == 11
    assert (await bench.insert("things", id=12))["id"] == 12
    assert (await bench.insert("things"))["id"] == 13
    assert (await bench.insert("things", id=5_000_000))["id"] == 5_000_000
    assert (await bench.insert("things"))["id"] == 5_000_001
    for odd in (0, -1, -(2**40)):
        assert (await bench.insert("things", id=odd))["id"] == odd
    assert (await bench.insert("things"))["id"] == 5_000_002


async def test_given_and_numbered_ids_at_the_same_time(bench: Bench) -> None:
    async def numbered(count: int) -> list[int]:
        return [(await bench.insert("things"))["id"] for _ in range(count)]

    async def given(ids: range) -> list[int]:
        return [(await bench.insert("things", id=key))["id"] for key in ids]

    ids = await asyncio.gather(
        numbered(20),
        given(range(10_000, 30_000, 1000)),
        numbered(20),
        given(range(50_000, 50_600, 30)),
    )
    flat = [key for part in ids for key in part]
    assert len(set(flat)) == 80
    assert (await bench.insert("things"))["id"] > 50_570


# Transactions


async def test_a_snapshot_sees_one_state(bench: Bench) -> None:
    await bench.insert("things", word="a")
    async with bench.database.reading(snapshot=True) as connection:
        assert len(await bench.store.find(connection, bench.things)) == 1
        await bench.insert("things", word="b")
        assert len(await bench.store.find(connection, bench.things)) == 1
    assert len(await bench.find("things")) == 2


async def test_reads_of_a_write_transaction_see_what_was_committed_meanwhile(
    bench: Bench,
) -> None:
    if is_sqlite(bench):
        pytest.skip("it has one writer at a time")
    async with bench.database.writing() as connection:
        assert await bench.store.find(connection, bench.things) == []
        await bench.insert("things", word="a")
        assert len(await bench.store.find(connection, bench.things)) == 1
        await connection.rollback()


async def test_a_locked_row_waits_for_its_turn(bench: Bench) -> None:
    await bench.insert("things", integer=0)

    async def add() -> None:
        async with bench.database.writing() as connection:
            row = await bench.store.get(connection, bench.things, 1, lock=True)
            assert row is not None
            await bench.store.update(connection, bench.things, 1, {"integer": row["integer"] + 1})
            await connection.commit()

    await asyncio.gather(*(add() for _ in range(20)))
    assert [row["integer"] for row in await bench.find("things")] == [20]


async def test_deadlocks_end_busy_for_one_of_the_two(bench: Bench) -> None:
    if is_sqlite(bench):
        pytest.skip("it has one writer at a time")
    for _ in range(2):
        await bench.insert("things", integer=0)
    both_have_one = asyncio.Barrier(2)

    async def add(first: int, second: int) -> bool:
        async with bench.database.writing() as connection:
            await bench.store.update(connection, bench.things, first, {"integer": first})
            await both_have_one.wait()
            try:
                await bench.store.update(connection, bench.things, second, {"integer": first})
            except DatabaseBusy:
                # Swallowed; what went before is undone all the same, so this must not pass.
                with pytest.raises((DatabaseBusy, ConfigurationError)):
                    await connection.commit()
                await connection.rollback()
                return False
            await connection.commit()
            return True

    fates = await asyncio.gather(add(1, 2), add(2, 1))
    assert sorted(fates) == [False, True]
    assert len({row["integer"] for row in await bench.find("things")}) == 1


async def test_a_deadlock_within_savepoints_is_told_as_what_it_is(bench: Bench) -> None:
    if is_sqlite(bench):
        pytest.skip("it has one writer at a time")
    for _ in range(2):
        await bench.insert("things", integer=0)
    both_have_one = asyncio.Barrier(2)

    async def add(first: int, second: int) -> bool:
        async with bench.database.writing() as connection:
            await bench.store.update(connection, bench.things, first, {"integer": first})
            await both_have_one.wait()
            await connection.savepoint("part")
            try:
                await bench.store.update(connection, bench.things, second, {"integer": first})
            except DatabaseBusy:
                await connection.rollback_to("part")
                await connection.rollback()
                return False
            await connection.release("part")
            await connection.commit()
            return True

    assert sorted(await asyncio.gather(add(1, 2), add(2, 1))) == [False, True]


async def test_a_lock_that_is_not_to_be_had_in_time(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    if is_sqlite(bench):
        pytest.skip("see test_sqlite")
    is_postgresql = bench.database.dialect_name == "postgresql"
    await bench.insert("things")
    async with bench.database.writing() as one, bench.database.writing() as other:
        await bench.store.get(one, bench.things, 1, lock=True)
        wait = "lock_timeout = '100ms'" if is_postgresql else "innodb_lock_wait_timeout = 1"
        assert isinstance(bench.database, CoreDatabase)
        await other.run(f"SET {wait}")  # type: ignore[attr-defined]
        with pytest.raises(DatabaseBusy):
            await bench.store.get(other, bench.things, 1, lock=True)
        await other.rollback()
        await one.rollback()


async def test_waiting_for_locks_is_bounded(bench: Bench) -> None:
    if is_sqlite(bench):
        pytest.skip("see test_sqlite")
    is_postgresql = bench.database.dialect_name == "postgresql"
    question = "SHOW lock_timeout" if is_postgresql else "SELECT @@innodb_lock_wait_timeout"
    async with bench.database.writing() as connection:
        statement = Statement(text(question), [Column("answer", String)])
        (row,) = await connection.fetch(statement, {})
        await connection.rollback()
    assert row["answer"] == ("5s" if is_postgresql else 5)


# What the database refuses


async def test_constraints_and_their_columns(bench: Bench) -> None:
    refused: list[tuple[str, dict[str, Any], str, tuple[str, ...]]] = [
        ("things", {"id": 1}, "unique", ("id",)),
        ("things", {"unique": "a.b 'c' (d)=(e)"}, "unique", ("unique",)),
        ("pages", {"id": "x"}, "unique", ("id",)),
        ("parts", {"name": None}, "not null", ("name",)),
        ("parts", {"name": "a", "thing_id": 99}, "foreign key", ("thing_id",)),
    ]
    await bench.insert("things", unique="a.b 'c' (d)=(e)")
    await bench.insert("pages", id="x")
    for name, values, kind, columns in refused:
        with pytest.raises(ConstraintViolation) as caught:
            await bench.insert(name, **values)
        assert caught.value.kind == kind
        if kind != "foreign key" or not is_sqlite(bench):
            assert caught.value.columns == columns
    await bench.insert("parts", name="a", thing_id=1)
    with pytest.raises(ConstraintViolation, match="foreign key"):
        await bench.delete("things", 1)


async def test_after_an_error_only_a_savepoint_helps_postgresql(bench: Bench) -> None:
    await bench.insert("pages", id="x")
    async with bench.database.writing() as connection:
        await connection.savepoint("part")
        with pytest.raises(ConstraintViolation):
            await bench.store.insert(connection, bench.resources["pages"], {"id": "x"})
        await connection.rollback_to("part")
        await bench.store.insert(connection, bench.resources["pages"], {"id": "y"})
        await connection.commit()
    assert [row["id"] for row in await bench.find("pages")] == ["x", "y"]
    async with bench.database.writing() as connection:
        await bench.store.insert(connection, bench.resources["pages"], {"id": "z"})
        with pytest.raises(ConstraintViolation):
            await bench.store.insert(connection, bench.resources["pages"], {"id": "x"})
        if bench.database.dialect_name == "postgresql":
            with pytest.raises(ConfigurationError, match=r"async with uow\.savepoint"):
                await connection.commit()
            await connection.rollback()
        else:
            await connection.commit()
    kept = ["x", "y"] + ["z"] * (bench.database.dialect_name != "postgresql")
    assert [row["id"] for row in await bench.find("pages")] == kept


async def test_a_unique_text_may_be_too_long_for_mariadb(mariadb_url: str) -> None:
    database = SqlAlchemyPlugin(mariadb_url)._database
    tables = build_tables(declared({"a": {"b": {"type": "string", "unique": True, "max": 769}}}))
    await database.open()
    with pytest.raises(ConfigurationError, match=r"a\.b: .* at most 768 .* max is 769"):
        await database.create_tables(list(tables.values()))
    await database.close()


# Other servers, other engines


async def test_a_server_without_returning(
    mariadb_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As MySQL is."""
    async with benched(mariadb_url) as bench:
        assert isinstance(bench.database, CoreDatabase)
        monkeypatch.setattr(bench.database._engine.dialect, "insert_returning", False)
        assert not bench.database.insert_returning
        row = await bench.insert("things", word="a")
        assert (row["id"], row["word"]) == (1, "a")
        assert (await bench.insert("things", word="b"))["id"] == 2
        assert (await bench.insert("things", id=9, word="c"))["word"] == "c"
        assert (await bench.insert("pages", id="x", name="d"))["name"] == "d"
        assert (await bench.insert("things"))["id"] == 10


async def test_an_engine_with_settings_of_its_own(database_url: str) -> None:
    """Whatever isolation the application has chosen for itself."""
    engine = create_async_engine(database_url, isolation_level="SERIALIZABLE")
    database = SqlAlchemyPlugin(engine=engine)._database
    resources = declared(SCHEMAS)
    tables = build_tables(resources)
    await database.open()
    await database.create_tables(list(tables.values()))
    bench = Bench(database, RecordStore(database, tables), {r.name: r for r in resources})
    await bench.insert("things", word="a")
    await bench.delete("things", 1)
    if engine.dialect.name != "sqlite":
        await test_reads_of_a_write_transaction_see_what_was_committed_meanwhile(bench)
        await bench.delete("things", 2)
        await test_a_snapshot_sees_one_state(bench)
    await engine.dispose()

"""The database: is it there, with all tables, and can it be written?"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import Column, Table, delete, false, insert, select, update

from tidings.api.internals import Internals
from tidings.diagnosis.finding import Finding, Findings, failed, milliseconds, ok, reason, warning
from tidings.feed import Invalidation
from tidings.storage import Connection, Database, Outbox, Statement
from tidings.storage.outbox import outbox_rows

OLD_SECONDS: Final = 30.0
_CREATE: Final = "create them with api.create_tables() or SqlAlchemyPlugin(..., create_tables=True)"


async def check_database(internals: Internals, seconds: float) -> Findings:
    """Connect, look at the tables, and write something that is rolled back."""
    database = internals.parts.database
    begin = time.perf_counter()
    try:
        async with asyncio.timeout(seconds):
            await database.open()
    except Exception as error:  # noqa: BLE001  whatever it is, it is what is to be told
        advice = "see that the server runs, and the URL, user and password"
        yield failed("database", reason(error, seconds), advice)
        return
    try:
        took = milliseconds(time.perf_counter() - begin)
        yield ok("database", f"{database.dialect_name}: connected in {took}")
        if database.in_memory:
            yield warning("tables", "the database is in memory: it is gone when the api closes")
            return
        async with asyncio.timeout(4 * seconds):
            async for finding in _check_content(internals, database, seconds):
                yield finding
    except Exception as error:  # noqa: BLE001  as above
        yield failed("database", reason(error, seconds))
    finally:
        await database.close()


async def _check_content(internals: Internals, database: Database, seconds: float) -> Findings:
    lacking: dict[str, str] = {}
    for table in internals.tables:
        lacks = await _lacks(database, table)
        if lacks is not None:
            lacking[table.name] = lacks
    yield _tables(lacking, len(internals.tables), creates=internals.creates_tables)
    outbox = internals.link.outbox
    if outbox is not None and outbox.table.name in lacking:
        outbox = None
    there = [table for table in internals.tables if table.name not in lacking]
    yield await _check_writing(database, there, outbox, seconds)
    if outbox is not None:
        yield await _check_outbox(outbox)


def _tables(lacking: dict[str, str], count: int, *, creates: bool) -> Finding:
    if not lacking:
        return ok("tables", f"all {count} are there")
    said = ", ".join(f"{name} ({what})" for name, what in sorted(lacking.items()))
    if set(lacking.values()) == {"missing"}:
        if creates:
            return ok("tables", f"not there yet, created when the api opens: {', '.join(lacking)}")
        return failed("tables", said, _CREATE)
    return failed("tables", said, "add the columns: tidings changes no table that exists")


async def _lacks(database: Database, table: Table) -> str | None:
    """What of a table is not there: nothing, all of it, or some columns."""
    if await _error(database, table, list(table.c)) is None:
        return None
    found = [await _error(database, table, [column]) for column in table.c]
    bad = [column.name for column, error in zip(table.c, found, strict=True) if error is not None]
    if len(bad) == len(table.c):
        error = found[0]
        return "missing" if error is not None and _says_missing(error) else str(error)
    return f"without the column {', '.join(bad)}" if bad else None


def _says_missing(text: str) -> bool:
    return any(words in text for words in ("no such table", "does not exist", "doesn't exist"))


async def _error(database: Database, table: Table, columns: Sequence[Column[Any]]) -> str | None:
    statement = Statement(select(*columns).select_from(table).where(false()), columns)
    try:
        async with database.reading(snapshot=False) as connection:
            await connection.fetch(statement, {})
    except Exception as error:  # noqa: BLE001  its text is what is asked for
        return reason(error, 0)
    return None


async def _check_writing(
    database: Database, tables: Sequence[Table], outbox: Outbox | None, seconds: float
) -> Finding:
    begin = time.perf_counter()
    try:
        async with database.writing() as connection:
            try:
                await _write(connection, tables, outbox)
            finally:
                await connection.rollback()
    except Exception as error:  # noqa: BLE001  as above
        advice = "see who holds a lock, and what the user may do: SELECT, INSERT, UPDATE, DELETE"
        return failed("write", reason(error, seconds), advice)
    took = milliseconds(time.perf_counter() - begin)
    return ok("write", f"a transaction was begun, written and rolled back in {took}")


async def _write(connection: Connection, tables: Sequence[Table], outbox: Outbox | None) -> None:
    for table in tables:
        key = table.c["id"]
        columns = [column for column in table.c if column is not key] or [key]
        none = select(*columns).where(false())
        for clause in (
            insert(table).from_select(columns, none),
            update(table).values({key: key}).where(false()),
            delete(table).where(false()),
        ):
            await connection.fetch(Statement(clause), {})
    if outbox is not None:
        await outbox.add(connection, outbox_rows([Invalidation("tidings-doctor")]))


async def _check_outbox(outbox: Outbox) -> Finding:
    rows, oldest = await outbox.state()
    age = 0.0 if oldest is None else max(0.0, time.time() - oldest)
    if age > OLD_SECONDS:
        advice = "see that a process runs, and that it reaches the feed"
        return warning("outbox", f"{rows} rows wait, the oldest for {age:.0f} s", advice)
    return ok("outbox", f"{rows} rows wait")

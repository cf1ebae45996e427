"""The database: is it there, with all tables, and can it be written?"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Final

from sqlalchemy import Table, delete, false, insert, select, update

from tidings.api.capture import Capture
from tidings.api.internals import Internals
from tidings.diagnosis.finding import Finding, Findings, failed, milliseconds, ok, reason, warning
from tidings.feed import Invalidation
from tidings.storage import Connection, Database, Keeps, Statement
from tidings.storage.comparison import MISSING_TABLE, differences
from tidings.storage.outbox import outbox_rows

OLD_SECONDS: Final = 30.0


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
    tables = internals.tables
    found = await differences(database, tables)
    missing = [one.table for one in found if one.found == MISSING_TABLE]
    if missing and internals.creates_tables:
        said = f"not there yet, created when the api opens: {', '.join(missing)}"
        yield ok("tables", said)
    for one in found:
        if one.found != MISSING_TABLE or not internals.creates_tables:
            where = one.table if one.column is None else f"{one.table}.{one.column}"
            yield failed("tables", f"{where}: {one.found}", one.fix)
    if not found:
        yield ok("tables", f"all {len(tables)} are there, as declared")
    lacking = {one.table for one in found}
    outbox = internals.link.outbox
    if outbox is not None and outbox.table.name in lacking:
        outbox = None
    there = [table for table in tables if table.name not in lacking]
    yield await _check_writing(database, there, outbox, seconds)
    if outbox is not None:
        yield await _check_outbox(outbox)
    if internals.capture is not None and not lacking:
        yield await _check_triggers(internals.capture)


async def _check_writing(
    database: Database, tables: Sequence[Table], outbox: Keeps | None, seconds: float
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


async def _write(connection: Connection, tables: Sequence[Table], outbox: Keeps | None) -> None:
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


async def _check_triggers(capture: Capture) -> Finding:
    missing = await capture.missing()
    if missing:
        said = ", ".join(watched.source for watched in missing)
        advice = "tidings triggers install MODULE:API, after each migration of these tables"
        return failed("triggers", f"missing, or of an older declaration: {said}", advice)
    return ok("triggers", f"{len(capture.watched)} tables tell of everybody who writes them")


async def _check_outbox(outbox: Keeps) -> Finding:
    rows, oldest = await outbox.state()
    age = 0.0 if oldest is None else max(0.0, time.time() - oldest)
    if age > OLD_SECONDS:
        advice = "see that a process runs, and that it reaches the feed"
        return warning("outbox", f"{rows} rows wait, the oldest for {age:.0f} s", advice)
    return ok("outbox", f"{rows} rows wait")

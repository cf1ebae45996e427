"""capture: what triggers cost those who write, and how soon what they wrote is told."""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack

from sqlalchemy import Integer, String, insert, text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from benchmarks.databases import private
from benchmarks.machine import Effort
from benchmarks.tables import Table, median, percentile
from tidings import Api, RestApiPlugin, SqlAlchemyPlugin

_MANY = 10_000


class Base(DeclarativeBase):
    """The tables of the application that writes."""


class Note(Base):
    """Something that others write."""

    __tablename__ = "notes"
    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    title: Mapped[str] = mapped_column(String(100))
    state: Mapped[str] = mapped_column(String(20))


async def run(effort: Effort) -> Table:
    """Measure on SQLite, and on PostgreSQL and MariaDB where private ones can be started."""
    table = Table(
        "Writers beside tidings, without and with triggers",
        ["row us", "with us", "10,000 ms", "with ms", "told p50 ms", "p99 ms", "idle CPU %"],
    )
    for name, url in _databases(table):
        table.add(name, await _measured(url, effort))
    table.notes.append("told: from an INSERT's commit by another connection to the feed")
    table.notes.append("idle: of a core, of the process that looks for captured rows")
    return table


def _databases(table: Table) -> Iterator[tuple[str, str]]:
    with tempfile.TemporaryDirectory(prefix="tidings-bench-") as folder:
        yield "SQLite", f"sqlite+aiosqlite:///{folder}/bench.db"
    for name, kind in (("PostgreSQL", "postgresql"), ("MariaDB", "mariadb")):
        with ExitStack() as stack:
            try:
                url = stack.enter_context(private(kind))
            except Exception as error:  # noqa: BLE001  a baseline that cannot be had
                table.notes.append(f"{name}: {error}")
                continue
            yield name, url


async def _measured(url: str, effort: Effort) -> dict[str, float]:
    engine = create_async_engine(url)
    try:
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
        row, many = await _written(engine, effort)
        api = Api(name="bench")
        api.use(RestApiPlugin())
        api.use(SqlAlchemyPlugin(url, capture="triggers", create_tables=True))
        api.add_resource(
            "notes", Note, fields=["title", "state"], search_schema={"state": {}, "title": {}}
        )
        async with api:
            row_with, many_with = await _written(engine, effort)
            await asyncio.sleep(2)
            waits = await _told(api, engine, effort)
            begin, idle = time.process_time(), 3.0
            await asyncio.sleep(idle)
            spent = time.process_time() - begin
    finally:
        await engine.dispose()
    return {
        "row us": row * 1e6,
        "with us": row_with * 1e6,
        "10,000 ms": many * 1e3,
        "with ms": many_with * 1e3,
        "told p50 ms": median(waits) * 1e3,
        "p99 ms": percentile(waits, 99) * 1e3,
        "idle CPU %": 100 * spent / idle,
    }


async def _written(engine: AsyncEngine, effort: Effort) -> tuple[float, float]:
    """How long one row and its commit take, and one statement that writes many."""
    single, many = [], []
    async with engine.connect() as connection:
        for number in range(effort.rounds * 60):
            begin = time.perf_counter()
            await connection.execute(insert(Note).values(title=str(number), state="new"))
            await connection.commit()
            single.append(time.perf_counter() - begin)
        have = await connection.scalar(text("SELECT count(*) FROM notes")) or 0
        if have < _MANY:
            rows = [{"title": str(number), "state": "new"} for number in range(_MANY - have)]
            await connection.execute(insert(Note), rows)
            await connection.commit()
        for number in range(effort.rounds):
            begin = time.perf_counter()
            statement = text("UPDATE notes SET state = :state")
            await connection.execute(statement, {"state": f"{os.getpid()} {number}"})
            await connection.commit()
            many.append(time.perf_counter() - begin)
    return median(single), median(many)


async def _told(api: Api, engine: AsyncEngine, effort: Effort) -> list[float]:
    feed = api.internals.feed
    waits = []
    async with engine.connect() as connection:
        for number in range(effort.rounds * 30):
            seen = feed.position
            await connection.execute(insert(Note).values(title=str(number), state="new"))
            await connection.commit()
            begin = time.perf_counter()
            await feed.read(seen, 1)
            waits.append(time.perf_counter() - begin)
            await asyncio.sleep(0.003 * (number % 17))
    return waits

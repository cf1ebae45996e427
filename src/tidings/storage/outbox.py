"""The outbox: what transactions have to tell, written within them, until it has been published.

What a process that was killed has left in it is published by any other. The ids are no order of
commits, but of two transactions that changed the same row the later one has the higher id: it
took it when it had the row's lock, which the other gave up by its commit.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final, Protocol

import msgspec
from sqlalchemy import (
    BindParameter,
    Column,
    Dialect,
    Double,
    Executable,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    bindparam,
    delete,
    func,
    insert,
    select,
)
from sqlalchemy.dialects import mysql

from tidings.feed import Batch, Notice, encode_notice
from tidings.storage.database import Connection, Database
from tidings.storage.lists import bound, chunks, one_of, padded_length
from tidings.storage.statements import Row, Statement
from tidings.storage.types import MYSQL, ExactText, id_column_type

TABLE_NAME: Final = "tidings_outbox"
MOST_ENTRIES: Final = 500
"""How many changes one row holds; what a larger transaction comes to is in several."""


def new_key() -> str:
    """A key for a batch, which no other has."""
    return secrets.token_urlsafe(12)


def outbox_rows(changes: Sequence[Notice]) -> list[Row]:
    """The rows for what a transaction comes to."""
    entries = [encode_notice(change) for change in changes]
    now = time.time()
    return [
        {
            "batch": new_key(),
            "entries": msgspec.msgpack.encode(entries[start : start + MOST_ENTRIES]),
            "added": now,
        }
        for start in range(0, len(entries), MOST_ENTRIES)
    ]


@dataclass(frozen=True, slots=True)
class Pending:
    """What is to be published next, in order, and the rows that it is in.

    ``is_all`` tells that there was no more.
    """

    batches: Sequence[Batch]
    rows: Sequence[Row]
    is_all: bool


class Keeps(Protocol):
    """An outbox: where what transactions have to tell is kept, until it has been published."""

    sweep_seconds: float
    """How often it is looked into for what others have left there."""
    table: Table

    @property
    def opening(self) -> str | None:
        """The SQL that a transaction which will write to it has to begin with; mostly none."""
        ...

    async def pending(self) -> Pending | None:
        """The first of what is to be published; None where there is nothing."""
        ...

    async def remove(self, pending: Pending) -> None:
        """Delete what has been published."""
        ...

    def turn(self) -> AbstractAsyncContextManager[bool]:
        """A turn at publishing; False while another process has it, where that must not be two."""
        ...

    async def state(self) -> tuple[int, float | None]:
        """How many rows there are, and when the oldest was added (seconds since the epoch)."""
        ...

    async def add(self, connection: Connection, rows: Sequence[Row]) -> None:
        """Write rows within the transaction of a connection, as the last before its commit."""
        ...

    def statements(self, dialect: Dialect, rows: Sequence[Row]) -> list[tuple[str, Any]]:
        """The same for a connection that is not ours: SQL and parameters for its driver."""
        ...

    def clauses(self, rows: Sequence[Row]) -> list[tuple[Executable, Row]]:
        """The same for a connection of SQLAlchemy's, at any time."""
        ...


def batch_of(row: Row) -> Batch:
    """What a row has to be published as."""
    return Batch(row["batch"], msgspec.msgpack.decode(row["entries"], type=list[bytes]))


class Removal:
    """Deletes rows of a table by columns of theirs, the first of which is their id."""

    def __init__(self, dialect: str, *columns: Column[Any]) -> None:
        self._columns = columns
        self._lists: dict[int, Statement] = {}
        self._has_ranges = dialect in MYSQL
        column = columns[0]
        low, high = bindparam("low", type_=column.type), bindparam("high", type_=column.type)
        self._range = Statement(delete(column.table).where(column >= low, column <= high))

    def of(self, rows: Iterable[Row]) -> Iterator[tuple[Statement, Row]]:
        """The statements, and what they are given.

        MariaDB waits for each row that it looks at while another transaction holds it, and for a
        list of ids it may look at all: one transaction that stays open would stop the outbox. For
        ids that follow on each other it looks at those alone.
        """
        found = sorted(rows, key=lambda row: int(row["id"]))
        if self._has_ranges:
            # Of those that follow on each other, an id is as far ahead as it is in the list.
            for _, some in groupby(enumerate(found), lambda one: int(one[1]["id"]) - one[0]):
                ids = [row["id"] for _, row in some]
                yield self._range, {"low": ids[0], "high": ids[-1]}
            return
        for part in chunks(found):
            values: dict[str, Any] = {}
            for column in self._columns:
                values |= bound([row[column.name] for row in part], column.name)
            yield self._list(len(part)), values

    def _list(self, length: int) -> Statement:
        size = padded_length(length)
        if size not in self._lists:
            which = [one_of(column, size, column.name) for column in self._columns]
            self._lists[size] = Statement(delete(self._columns[0].table).where(*which))
        return self._lists[size]


_ROWS: Final = 100
SWEEP_SECONDS: Final = 1.0


class Outbox:
    """The rows of one feed that have not been published; several feeds may share the table."""

    sweep_seconds = SWEEP_SECONDS
    opening: Final = None

    def __init__(self, database: Database, feed: str = "feed") -> None:
        self._database = database
        self._feed = feed
        self.table = _table()
        columns = self.table.c
        after, limit = bindparam("after", type_=columns.id.type), bindparam("limit", type_=Integer)
        start = bindparam("start", type_=Integer)  # without it SQLAlchemy makes one up for SQLite
        own = columns.feed == bindparam("feed", type_=columns.feed.type)
        pending = select(*columns).where(own, columns.id > after).order_by(columns.id)
        self._pending = Statement(pending.limit(limit).offset(start), tuple(columns))
        state = [func.count(columns.id).label("count"), func.min(columns.added).label("oldest")]
        self._state = Statement(
            select(*state).where(own), (Column("count", Integer), Column("oldest", Double))
        )
        values = {name: _given(columns[name]) for name in ("feed", "batch", "entries", "added")}
        self._insert = Statement(insert(self.table).values(values).inline())
        # By both, since SQLite gives the ids of an empty table anew.
        self._removal = Removal(database.dialect_name, columns.id, columns.batch)

    async def rows(self, after: int, limit: int) -> list[Row]:
        """The rows beyond an id, by id."""
        async with self._database.reading(snapshot=False) as connection:
            values = {"feed": self._feed, "after": after, "limit": limit, "start": 0}
            return await connection.fetch(self._pending, values)

    async def pending(self) -> Pending | None:
        """The first rows, those of others included: see above for what that order is."""
        rows = await self.rows(0, _ROWS)
        if not rows:
            return None
        return Pending([batch_of(row) for row in rows], rows, is_all=len(rows) < _ROWS)

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[bool]:
        """Several processes may publish at once: what is appended twice is there once."""
        yield True

    async def state(self) -> tuple[int, float | None]:
        """How many rows there are, and when the oldest was added (seconds since the epoch)."""
        async with self._database.reading(snapshot=False) as connection:
            (row,) = await connection.fetch(self._state, {"feed": self._feed})
        return int(row["count"]), row["oldest"]

    async def remove(self, pending: Pending) -> None:
        """Delete rows that have been published."""
        for statement, values in self._removal.of(pending.rows):
            await self._database.execute(statement, values)

    async def add(self, connection: Connection, rows: Sequence[Row]) -> None:
        """Write rows within the transaction of a connection."""
        for row in rows:
            await connection.fetch(self._insert, self._parameters(row))

    def statements(self, dialect: Dialect, rows: Sequence[Row]) -> list[tuple[str, Any]]:
        """The same for a connection that is not ours: SQL and parameters for its driver."""
        return [self._insert.raw(dialect, self._parameters(row)) for row in rows]

    def clauses(self, rows: Sequence[Row]) -> list[tuple[Executable, Row]]:
        """The same for a connection of SQLAlchemy's."""
        return [(self._insert.clause, self._parameters(row)) for row in rows]

    def _parameters(self, row: Row) -> Row:
        return {"v_feed": self._feed, **{f"v_{name}": value for name, value in row.items()}}


def _given(column: Column[Any]) -> BindParameter[Any]:
    return bindparam(f"v_{column.name}", type_=column.type)


def _table() -> Table:
    return Table(
        TABLE_NAME,
        MetaData(),
        Column("id", id_column_type("integer"), primary_key=True, autoincrement=True),
        Column("feed", ExactText(100), nullable=False),
        Column("batch", ExactText(32), nullable=False),
        Column(
            "entries",
            LargeBinary().with_variant(mysql.LONGBLOB(), "mysql", "mariadb"),
            nullable=False,
        ),
        Column("added", Double, nullable=False),
        mysql_engine="InnoDB",
        mariadb_engine="InnoDB",
    )

"""CaptureOutbox: an outbox that the triggers write to as well, read in the order of the commits.

The ids are no order of commits, but of two transactions that changed the same row the later one
has the higher id. So on PostgreSQL, where a row says of which transaction it is, transactions go
by the highest of their ids. Elsewhere rows of one connection that follow on each other are taken
together; that may be several transactions, and of one that others came into it may be a part.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import Any, Final

import msgspec
from sqlalchemy import (
    Column,
    ColumnElement,
    Dialect,
    Double,
    Executable,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    bindparam,
    cast,
    delete,
    func,
    insert,
    literal_column,
    select,
    text,
)
from sqlalchemy.dialects import mysql

from tidings.feed import Batch, Notice, decode_notice, encode_notice
from tidings.storage.capture.triggers import CAPTURED
from tidings.storage.change_log import MAX_BYTES
from tidings.storage.database import Connection, Database
from tidings.storage.lists import bound, chunks, one_of, padded_length
from tidings.storage.outbox import MOST_ENTRIES, Pending
from tidings.storage.statements import Row, Statement
from tidings.storage.types import ExactText, id_column_type

SWEEP_SECONDS: Final = 0.1
"""How often the table is looked into: nobody says when another program has committed."""
_PAGE: Final = 2_000
"""So many rows are read at once at most; more than a transaction is told singly."""
_FIRST_PAGE: Final = 100
_HEAVY: Final = 2_000_000
"""After a page of so many bytes, the next one is shorter."""
_OWN: Final = "o"
_BULK: Final = "b"
_GUESS: Final = "g"
_TRANSACTION: Final = {
    "postgresql": "CAST(txid_current() AS text)",
    "mariadb": "CAST(CONNECTION_ID() AS CHAR)",
    "mysql": "CAST(CONNECTION_ID() AS CHAR)",
}
_LOCK: Final = "tidings.captured"


@dataclass(frozen=True, slots=True)
class CapturedRow:
    """What a trigger has noted: ``i``, ``u``, ``d`` with images as JSON texts; ``b``: too much."""

    source: str
    op: str
    before: str | None
    after: str | None
    added: float


Convert = Callable[
    [Connection, Sequence[CapturedRow], Sequence[Notice], bool], Awaitable[list[Notice]]
]
"""What captured rows, and the notices that operations of tidings have left beside them, come to.

The connection is there to read what is related to them. The last argument tells whether they are
of one transaction for certain.
"""


class CaptureOutbox:
    """The rows of `CAPTURED` that have not been published: as an `Outbox`, of one feed alone."""

    sweep_seconds = SWEEP_SECONDS

    def __init__(self, database: Database, convert: Convert) -> None:
        self._database = database
        self._convert = convert
        self.table = _table()
        columns = self.table.c
        limit, start = bindparam("limit", type_=Integer), bindparam("start", type_=Integer)
        # As bytes: what a program has written as text need be none, and then no driver reads on.
        as_bytes = database.dialect_name == "sqlite"
        shown = [
            cast(column, LargeBinary).label(str(column.name))
            if as_bytes and column.name in ("old_row", "new_row", "record")
            else column
            for column in columns
        ]
        page = select(*shown).order_by(columns.id).limit(limit).offset(start)
        self._page = Statement(page, tuple(Column(str(one.name), one.type) for one in shown))
        state = [func.count(columns.id).label("count"), func.min(columns.added).label("oldest")]
        self._state = Statement(
            select(*state), (Column("count", Integer), Column("oldest", Double))
        )
        dialect = database.dialect_name
        self._is_certain = dialect == "postgresql"
        transaction: ColumnElement[str] = literal_column(_TRANSACTION.get(dialect, "''"))
        values: dict[str, Any] = {
            name: bindparam(f"v_{name}", type_=columns[name].type)
            for name in ("batch", "entries", "added")
        }
        values |= {"tx": transaction, "op": literal_column(f"'{_OWN}'")}
        self._insert = Statement(insert(self.table).values(values).inline())
        self._deletes: dict[int, Statement] = {}
        self._limit = _FIRST_PAGE

    async def state(self) -> tuple[int, float | None]:
        """How many rows there are, and when the oldest was added (seconds since the epoch)."""
        async with self._database.reading(snapshot=False) as connection:
            (row,) = await connection.fetch(self._state, {})
        return int(row["count"]), row["oldest"]

    async def add(self, connection: Connection, rows: Sequence[Row]) -> None:
        """Write rows of tidings' own within the transaction of a connection."""
        for row in rows:
            await connection.fetch(self._insert, _parameters(row))

    def statements(self, dialect: Dialect, rows: Sequence[Row]) -> list[tuple[str, Any]]:
        """The same for a connection that is not ours: SQL and parameters for its driver."""
        return [self._insert.raw(dialect, _parameters(row)) for row in rows]

    def clauses(self, rows: Sequence[Row]) -> list[tuple[Executable, Row]]:
        """The same for a connection of SQLAlchemy's."""
        return [(self._insert.clause, _parameters(row)) for row in rows]

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[bool]:
        """A turn at publishing; False while another process has it, where that must not be two."""
        if self._database.dialect_name not in ("mariadb", "mysql"):
            yield True
            return
        got = Column("got", Integer)
        take = Statement(text(f"SELECT GET_LOCK('{_LOCK}', 0) AS got"), [got])
        give = Statement(text(f"SELECT RELEASE_LOCK('{_LOCK}') AS got"), [got])
        async with self._database.reading(snapshot=False) as connection:
            if not await connection.fetch(self._page, {"limit": 1, "start": 0}):
                yield False  # as nearly always: what has nothing to tell needs no lock
                return
            (row,) = await connection.fetch(take, {})
            try:
                yield row["got"] == 1
            finally:
                if row["got"] == 1:
                    await connection.fetch(give, {})

    async def pending(self) -> Pending | None:
        """The first of what is to be published, in the order of the commits."""
        async with self._database.reading(snapshot=False) as connection:
            while True:
                limit = self._limit
                rows = await connection.fetch(self._page, {"limit": limit, "start": 0})
                if not rows:
                    return None
                is_all = len(rows) < limit
                size = sum(len(row["old_row"] or "") + len(row["new_row"] or "") for row in rows)
                self._limit = (
                    max(_FIRST_PAGE, limit // 2) if size > _HEAVY else min(2 * limit, _PAGE)
                )
                units = self._by_transaction(rows) if self._is_certain else _by_connection(rows)
                if not is_all:
                    units = await self._complete(connection, units, rows[-1]["id"])
                if units:
                    batches = [
                        one for unit in units for one in await self._batches(connection, unit)
                    ]
                    break
                if limit >= _PAGE or size > MAX_BYTES:
                    return await self._too_many(connection, rows)
                self._limit = min(4 * limit, _PAGE)  # one transaction is longer than the page
        return Pending(batches, [row for unit in units for row in unit], is_all=is_all)

    async def remove(self, pending: Pending) -> None:
        """Delete what has been published."""
        for some in chunks(sorted(row["id"] for row in pending.rows)):
            await self._database.execute(self._delete(len(some)), bound(some))
        if pending.transaction is not None:
            values = {"tx": pending.transaction, "last": pending.last}
            await self._database.execute(self._delete_whole, values)

    def _by_transaction(self, rows: Sequence[Row]) -> list[list[Row]]:
        found: dict[str, list[Row]] = {}
        for row in rows:
            found.setdefault(row["tx"], []).append(row)
        return sorted(found.values(), key=lambda unit: int(unit[-1]["id"]))

    async def _complete(
        self, connection: Connection, units: list[list[Row]], last: int
    ) -> list[list[Row]]:
        """Those of which nothing is beyond the page."""
        if not self._is_certain:
            return units[:-1]  # the last one may go on
        beyond = self._beyond(len(units))
        values = {**bound([unit[0]["tx"] for unit in units]), "last": last}
        cut = {row["tx"] for row in await connection.fetch(beyond, values)}
        return [unit for unit in units if unit[0]["tx"] not in cut]

    async def _too_many(self, connection: Connection, rows: Sequence[Row]) -> Pending:
        """More of one transaction than are told singly: everything that it wrote is stale."""
        transaction = rows[0]["tx"]
        values = {"tx": transaction}
        state = (Column("source", String), Column("op", String), Column("last", Integer))
        columns = self.table.c
        which = columns.tx == bindparam("tx", type_=columns.tx.type)
        last = func.max(columns.id).label("last")
        sources = select(columns.source, func.min(columns.op).label("op"), last).where(which)
        clause = sources.group_by(columns.source)
        found = await connection.fetch(Statement(clause, state), values)
        most = max(int(row["last"]) for row in found)
        bulk = [
            CapturedRow(row["source"], _BULK, None, None, rows[0]["added"] or 0.0)
            for row in found
            if row["source"] is not None
        ]
        own = [notice for row in rows for notice in _notices(row)]
        key = f"{transaction}-{most}"
        notices = await self._convert(connection, bulk, own, True)
        return Pending(
            list(_as_batches(key, notices)), (), is_all=False, transaction=transaction, last=most
        )

    async def _batches(self, connection: Connection, unit: Sequence[Row]) -> list[Batch]:
        captured = [_captured(row) for row in unit if row["op"] not in (_OWN, _GUESS)]
        own = [row for row in unit if row["op"] == _OWN]
        if not captured and len(own) < 2:
            return [
                Batch(row["batch"], msgspec.msgpack.decode(row["entries"], type=list[bytes]))
                for row in own
            ]
        notices = [notice for row in own for notice in _notices(row)]
        key = f"{unit[0]['tx']}-{unit[0]['id']}-{unit[-1]['id']}-{unit[0]['added']}"
        found = await self._convert(connection, captured, notices, self._is_certain)
        return list(_as_batches(key, found))

    def _delete(self, length: int) -> Statement:
        size = padded_length(length)
        if size not in self._deletes:
            self._deletes[size] = Statement(delete(self.table).where(one_of(self.table.c.id, size)))
        return self._deletes[size]

    @property
    def _delete_whole(self) -> Statement:
        columns = self.table.c
        which = columns.tx == bindparam("tx", type_=columns.tx.type)
        until = columns.id <= bindparam("last", type_=columns.id.type)
        return Statement(delete(self.table).where(which, until))

    def _beyond(self, length: int) -> Statement:
        columns, size = self.table.c, padded_length(length)
        after = columns.id > bindparam("last", type_=columns.id.type)
        clause = select(columns.tx).where(one_of(columns.tx, size), after).distinct()
        return Statement(clause, [columns.tx])


def _by_connection(rows: Sequence[Row]) -> list[list[Row]]:
    """Runs of rows of one connection. A row of tidings' own is the last of its transaction."""
    units: list[list[Row]] = []
    for _, some in groupby(rows, key=itemgetter("tx")):
        unit: list[Row] = []
        for row in some:
            unit.append(row)
            if row["op"] == _OWN:
                units.append(unit)
                unit = []
        if unit:
            units.append(unit)
    return units


def _captured(row: Row) -> CapturedRow:
    added = row["added"] or 0.0
    try:
        old, new = _text(row["old_row"]), _text(row["new_row"])
    except UnicodeDecodeError:
        return CapturedRow(row["source"], _BULK, None, None, added)  # what it was nobody can tell
    return CapturedRow(row["source"], row["op"], old, new, added)


def _text(value: str | bytes | None) -> str | None:
    return value.decode() if isinstance(value, bytes) else value


def _notices(row: Row) -> list[Notice]:
    if row["entries"] is None:
        return []
    entries = msgspec.msgpack.decode(row["entries"], type=list[bytes])
    return [decode_notice(entry) for entry in entries]


def _as_batches(key: str, notices: Sequence[Notice]) -> Iterable[Batch]:
    digest = hashlib.sha256(key.encode()).hexdigest()[:24]
    for start in range(0, len(notices), MOST_ENTRIES):
        some = notices[start : start + MOST_ENTRIES]
        yield Batch(f"{digest}{start:x}", [encode_notice(notice) for notice in some])


def _parameters(row: Row) -> Row:
    return {f"v_{name}": value for name, value in row.items()}


def _table() -> Table:
    long_text = Text().with_variant(mysql.LONGTEXT(charset="utf8mb4"), "mysql", "mariadb")
    return Table(
        CAPTURED,
        MetaData(),
        Column("id", id_column_type("integer"), primary_key=True, autoincrement=True),
        Column("tx", ExactText(32)),
        Column("source", ExactText(255)),
        Column("op", ExactText(1), nullable=False),
        Column("record", ExactText(255)),
        Column("old_row", long_text),
        Column("new_row", long_text),
        Column("batch", ExactText(32)),
        Column("entries", LargeBinary().with_variant(mysql.LONGBLOB(), "mysql", "mariadb")),
        Column("added", Double),
        sqlite_autoincrement=True,
        mysql_engine="InnoDB",
        mariadb_engine="InnoDB",
    )

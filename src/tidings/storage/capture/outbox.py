"""CaptureOutbox: an outbox that the triggers write to as well, read in the order of the commits.

The ids are no order of commits, but of two transactions that changed the same row the later one
has the higher id. So where a row says of which transaction it is, transactions go by the highest of
their ids. PostgreSQL always knows. MariaDB does where tidings takes part in a transaction, which
then begins with a name of its own and ends with a row that closes it. Elsewhere rows of one
connection that follow on each other are taken together; that may be several transactions, and of
one that others came into it may be a part. There the rows are the triggers', so that what is told
of a record is true at each of them; or, on SQLite, which has one writer at a time, nobody can have
come between those of a transaction.
"""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
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
    Table,
    Text,
    bindparam,
    cast,
    func,
    insert,
    literal_column,
    select,
    text,
)
from sqlalchemy.dialects import mysql

from tidings.feed import Batch, Notice, decode_notice, encode_notice
from tidings.storage.capture.mariadb import MARIADB_OPENING, MARIADB_TRANSACTION
from tidings.storage.capture.triggers import CAPTURED
from tidings.storage.change_log import MAX_BYTES
from tidings.storage.database import Connection, Database
from tidings.storage.lists import CHUNK, bound, one_of, padded_length
from tidings.storage.outbox import MOST_ENTRIES, Pending, Removal, outbox_rows
from tidings.storage.publishing import invalidations
from tidings.storage.statements import Row, Statement
from tidings.storage.types import MYSQL, ExactText, id_column_type

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
_CLOSING: Final = "end"
"""The ``record`` of rows that tidings writes as the last of a transaction that it takes part in."""
_TRANSACTION: Final = {
    "postgresql": "CAST(txid_current() AS text)",
    **dict.fromkeys(MYSQL, MARIADB_TRANSACTION),
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
        self._has_names = dialect in MYSQL
        transaction: ColumnElement[str] = literal_column(_TRANSACTION.get(dialect, "''"))
        values: dict[str, Any] = {
            name: bindparam(f"v_{name}", type_=columns[name].type)
            for name in ("batch", "entries", "added")
        }
        values |= {"tx": transaction, "op": literal_column(f"'{_OWN}'")}
        self._note = Statement(insert(self.table).values(values).inline())
        if self._has_names:
            values["record"] = literal_column(f"'{_CLOSING}'")
        self._close = Statement(insert(self.table).values(values).inline())
        self._removal = Removal(dialect, columns.id)
        self._limit = _FIRST_PAGE

    @property
    def opening(self) -> str | None:
        return MARIADB_OPENING if self._has_names else None

    async def state(self) -> tuple[int, float | None]:
        """How many rows there are, and when the oldest was added (seconds since the epoch)."""
        async with self._database.reading(snapshot=False) as connection:
            (row,) = await connection.fetch(self._state, {})
        return int(row["count"]), row["oldest"]

    async def add(self, connection: Connection, rows: Sequence[Row]) -> None:
        """Write rows of tidings' own, as the last that a transaction does."""
        for row in rows:
            await connection.fetch(self._close, _parameters(row))

    def statements(self, dialect: Dialect, rows: Sequence[Row]) -> list[tuple[str, Any]]:
        """The same for a connection that is not ours: SQL and parameters for its driver."""
        return [self._close.raw(dialect, _parameters(row)) for row in rows]

    def clauses(self, rows: Sequence[Row]) -> list[tuple[Executable, Row]]:
        """The same for a connection of SQLAlchemy's, which goes on afterwards."""
        return [(self._note.clause, _parameters(row)) for row in rows]

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[bool]:
        """A turn at publishing; False while another process has it, where that must not be two."""
        if self._database.dialect_name not in MYSQL:
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
                units = await self._units(connection, rows, is_all=is_all)
                if units:
                    batches = [
                        one for unit in units for one in await self._batches(connection, unit)
                    ]
                    break
                if limit >= _PAGE or size > MAX_BYTES:
                    break
                self._limit = min(4 * limit, _PAGE)  # one transaction is longer than the page
        if units:
            return Pending(batches, [row for unit in units for row in unit], is_all=is_all)
        ((longest, _),) = Counter(str(row["tx"]) for row in rows).most_common(1)
        await self._sum_up(longest)
        return Pending((), (), is_all=False)

    async def remove(self, pending: Pending) -> None:
        """Delete what has been published."""
        for statement, values in self._removal.of(pending.rows):
            await self._database.execute(statement, values)

    async def _units(
        self, connection: Connection, rows: Sequence[Row], *, is_all: bool
    ) -> list[list[Row]]:
        """The rows of a page as transactions, or as what is told together in place of those; but
        for those of which a part is beyond the page.
        """
        cut: set[str] = set()
        if not is_all and (self._is_certain or self._has_names):
            transactions = list({row["tx"] for row in rows})
            values = {**bound(transactions), "last": rows[-1]["id"]}
            cut = {r["tx"] for r in await connection.fetch(self._beyond(len(transactions)), values)}
        if self._is_certain:
            units = _by_transaction(rows, cut)
        else:
            units = _closed_or_runs(rows, cut)
            if not is_all and units and units[-1][-1] is rows[-1]:
                units.pop()  # it may go on
        return sorted(units, key=_last)

    async def _sum_up(self, transaction: str) -> None:
        """More of one transaction than are told singly: instead, everything it wrote is stale.

        That is noted at the end, since older changes of the same records may still have to be
        told; and of whatever is told after them, the last has to be that all is to be refetched.
        """
        columns = self.table.c
        which = columns.tx == bindparam("tx", type_=columns.tx.type)
        after = columns.id > bindparam("after", type_=columns.id.type)
        limit, start = bindparam("limit", type_=Integer), bindparam("start", type_=Integer)
        shown = (columns.id, columns.source, columns.entries)
        page = Statement(
            select(*shown).where(which, after).order_by(columns.id).limit(limit).offset(start),
            shown,
        )
        names = ("tx", "source", "op", "batch", "entries", "added")
        add = Statement(
            insert(self.table)
            .values({name: bindparam(f"v_{name}", type_=columns[name].type) for name in names})
            .inline()
        )
        sources: dict[str, None] = {}
        own: dict[Notice, None] = {}
        values = {"tx": transaction, "after": 0, "limit": _FIRST_PAGE, "start": 0}
        async with self._database.writing() as writing:
            while rows := await writing.fetch(page, values):
                sources |= dict.fromkeys(row["source"] for row in rows if row["source"] is not None)
                notices = [notice for row in rows for notice in _notices(row)]
                # Rows of tidings' own may weigh much, those of triggers have not even been read.
                values |= {"after": rows[-1]["id"], "limit": _FIRST_PAGE if notices else CHUNK}
                own |= dict.fromkeys(invalidations(notices))
                for statement, given in self._removal.of(rows):
                    await writing.fetch(statement, given)
            row: dict[str, Any] = dict.fromkeys(names) | {"tx": transaction, "added": time.time()}
            summary = [row | {"source": source, "op": _BULK} for source in sources]
            summary += [row | one | {"op": _OWN} for one in outbox_rows(list(own))]
            for one in summary:
                await writing.fetch(add, _parameters(one))
            await writing.commit()

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
        is_one = self._is_certain or _closes(unit[-1])
        found = await self._convert(connection, captured, notices, is_one)
        return list(_as_batches(key, found))

    def _beyond(self, length: int) -> Statement:
        """Which of some transactions has rows beyond a page; where they have names, such as close
        it.
        """
        columns, size = self.table.c, padded_length(length)
        which = [one_of(columns.tx, size), columns.id > bindparam("last", type_=columns.id.type)]
        if self._has_names:
            which.append(columns.record == literal_column(f"'{_CLOSING}'"))
            which.append(columns.op == literal_column(f"'{_OWN}'"))
        return Statement(select(columns.tx).where(*which).distinct(), [columns.tx])


def _by_transaction(rows: Sequence[Row], cut: Collection[str]) -> list[list[Row]]:
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row["tx"], []).append(row)
    return [unit for transaction, unit in found.items() if transaction not in cut]


def _last(unit: Sequence[Row]) -> int:
    return int(unit[-1]["id"])


def _closed_or_runs(rows: Sequence[Row], cut: Collection[str]) -> list[list[Row]]:
    """Transactions that a row of tidings' own has closed, and of all others runs of rows of one
    connection, which no other one came into. Those that are closed beyond the page are left out.
    """
    closed = {row["tx"]: row["id"] for row in rows if _closes(row)}
    units: list[list[Row]] = []
    whole: dict[str, list[Row]] = {}
    run: list[Row] | None = None
    for row in rows:
        transaction = row["tx"]
        if row["id"] <= closed.get(transaction, -1):
            if transaction not in whole:
                units.append(whole.setdefault(transaction, []))
            whole[transaction].append(row)
            run = None
        elif transaction in cut and transaction not in closed:
            run = None
        elif run is not None and run[-1]["tx"] == transaction and run[-1]["op"] != _OWN:
            run.append(row)
        else:
            run = [row]
            units.append(run)
    return units


def _closes(row: Row) -> bool:
    return bool(row["op"] == _OWN and row["record"] == _CLOSING)


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

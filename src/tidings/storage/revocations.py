"""The table of revoked tokens: tidings' own, and no resource."""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    Column,
    Double,
    Integer,
    MetaData,
    Table,
    bindparam,
    delete,
    insert,
    select,
)

from tidings.storage.database import Database
from tidings.storage.publishing import NobodyPublisher
from tidings.storage.statements import Row, Statement
from tidings.storage.types import ExactText, id_column_type
from tidings.storage.unit_of_work import unit_of_work

TABLE_NAME: Final = "tidings_revocations"


class RevocationTable:
    """Rows with ``token_id`` or ``user_id`` and ``issued_before``, until ``keep_until``.

    Rows are only ever added and, when they have run out, deleted: so whoever knows all rows up to
    an id needs to read only those beyond it.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self.table = _table()
        columns, keep_until = self.table.c, self.table.c.keep_until
        now = bindparam("now", type_=Double)
        limit = bindparam("limit", type_=Integer)
        start = bindparam("start", type_=Integer)  # without it SQLAlchemy makes one up for SQLite
        beyond = bindparam("beyond", type_=columns.id.type)
        newer = select(*columns).where(columns.id > beyond, keep_until > now)
        ended = select(columns.id).where(keep_until <= now)
        self._newer = Statement(
            newer.order_by(columns.id).limit(limit).offset(start), tuple(columns)
        )
        self._ended = Statement(
            ended.order_by(columns.id).limit(limit).offset(start), (columns.id,)
        )
        self._delete = Statement(
            delete(self.table).where(keep_until <= now, columns.id <= bindparam("last"))
        )
        given = {
            column.name: bindparam(f"v_{column.name}", type_=column.type)
            for column in columns
            if column.name != "id"
        }
        self._insert = Statement(insert(self.table).values(given).inline())

    async def newer(self, beyond: int, now: float, limit: int) -> list[Row]:
        """The rows beyond an id that have not run out, by id."""
        values = {"beyond": beyond, "now": now, "limit": limit, "start": 0}
        async with self._database.reading(snapshot=False) as connection:
            return await connection.fetch(self._newer, values)

    async def add(self, values: Row) -> None:
        """Add a row; when this returns, others can read it."""
        async with unit_of_work(self._database, NobodyPublisher(), single=True) as uow:
            given = {f"v_{name}": value for name, value in values.items()}
            await uow.connection.fetch(self._insert, given)

    async def sweep(self, now: float, limit: int) -> None:
        """Delete rows that have run out, at most so many."""
        async with self._database.reading(snapshot=False) as connection:
            ended = await connection.fetch(self._ended, {"now": now, "limit": limit, "start": 0})
        if ended:
            values = {"now": now, "last": ended[-1]["id"]}
            async with unit_of_work(self._database, NobodyPublisher(), single=True) as uow:
                await uow.connection.fetch(self._delete, values)


def _table() -> Table:
    # An id must not be given twice: those who have read beyond it would not see the new row.
    return Table(
        TABLE_NAME,
        MetaData(),
        Column("id", id_column_type("integer"), primary_key=True, autoincrement=True),
        Column("token_id", ExactText()),
        Column("user_id", ExactText()),
        Column("issued_before", Double, nullable=False),
        Column("keep_until", Double, nullable=False, index=True),
        sqlite_autoincrement=True,
        mysql_engine="InnoDB",
        mariadb_engine="InnoDB",
    )

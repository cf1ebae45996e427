"""For Alembic: leave tidings' tables alone, and install triggers within a migration.

In ``env.py``::

    context.configure(..., include_object=tidings.alembic.include_object)

In a migration, after the tables have been changed::

    tidings.alembic.install_triggers(op.get_bind(), api)
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from sqlalchemy import Connection, Table

from tidings.api import Api
from tidings.storage import Row, Statement
from tidings.storage.capture import install, remove
from tidings.storage.capture.install import prepare
from tidings.storage.capture.triggers import PREFIX

__all__ = ["include_object", "install_triggers", "remove_triggers"]

_T = TypeVar("_T")


def include_object(
    _object: object, name: str | None, type_: str, _reflected: bool, _compare_to: object
) -> bool:
    """Alembic's ``include_object``: autogenerate is not to drop or compare what is tidings' own."""
    return not (name or "").startswith(PREFIX) or type_ == "column"


def install_triggers(connection: Connection, api: Api) -> None:
    """Make the triggers of an api's tables anew, by the connection of a migration."""
    database = _Migrating(connection)
    api.triggers.outbox.table.create(connection, checkfirst=True)
    _finished(prepare(database))
    _finished(install(database, api.triggers.watched))


def remove_triggers(connection: Connection, api: Api, tables: Sequence[str] = ()) -> None:
    """Remove the triggers of some tables, or of all: before a column that they name is dropped."""
    chosen = [watched for watched in api.triggers.watched if not tables or watched.table in tables]
    _finished(remove(_Migrating(connection), chosen))


def _finished(work: Coroutine[Any, Any, _T]) -> _T:
    """What a coroutine comes to that waits for nothing: all of its database is at hand."""
    try:
        work.send(None)
    except StopIteration as stop:
        result: _T = stop.value
        return result
    raise AssertionError("a migration's connection never waits")


class _Migrating:
    """The connection of a migration, as those who make triggers see a database."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        name = connection.dialect.name
        self.dialect_name = "mariadb" if name == "mysql" else name

    @asynccontextmanager
    async def reading(self, *, snapshot: bool) -> AsyncIterator[_Migrating]:
        yield self

    async def fetch(self, statement: Statement, values: Mapping[str, Any]) -> list[Row]:
        result = self._connection.execute(statement.clause, values)
        if not statement.names:
            return []
        return [dict(zip(statement.names, row, strict=True)) for row in result]

    async def execute(self, statement: Statement, values: Mapping[str, Any]) -> None:
        await self.fetch(statement, values)

    async def create_tables(self, tables: Sequence[Table]) -> None:
        for table in tables:
            table.create(self._connection, checkfirst=True)

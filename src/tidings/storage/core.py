"""Any database that SQLAlchemy has an asyncio driver for, run by SQLAlchemy Core."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy import Table, exc
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from tidings.errors import ConfigurationError, DatabaseBusy
from tidings.filters.sql import SQLITE_LOWER
from tidings.storage.errors import translate
from tidings.storage.sqlite import sqlite_lower
from tidings.storage.statements import Row, Statement
from tidings.storage.waiting import uninterrupted

_log = logging.getLogger("tidings.storage")


async def prepare(connection: AsyncConnection) -> None:
    """Give a connection what tidings' statements need: on SQLite, the function for ``like``."""
    if connection.dialect.name != "sqlite" or "tidings_prepared" in connection.info:
        return
    raw = await connection.get_raw_connection()
    driver: Any = raw.driver_connection
    await driver.create_function(SQLITE_LOWER, 1, sqlite_lower, deterministic=True)
    connection.info["tidings_prepared"] = True


async def commits_by_itself(connection: AsyncConnection) -> bool:
    """Tell whether every statement is committed at once, so that nothing can be rolled back."""
    assert connection.sync_connection is not None
    options = connection.sync_connection.get_execution_options()
    if options.get("isolation_level") == "AUTOCOMMIT":
        return True
    if connection.dialect.name == "sqlite":
        return False  # whatever its driver says: `begin_writing` begins
    raw = await connection.get_raw_connection()
    try:
        return connection.dialect.detect_autocommit_setting(raw.dbapi_connection)  # type: ignore[arg-type]  # it is connected
    except NotImplementedError:
        return False


async def begin_writing(connection: AsyncConnection, *, anew: bool = False) -> None:
    """On SQLite, begin with the write lock: one that is taken later can only fail.

    SQLAlchemy begins no transaction in the driver until something is written, except where the
    application has an event handler that does; with ``anew`` what that has begun is replaced.
    """
    if connection.dialect.name != "sqlite":
        return
    raw = await connection.get_raw_connection()
    driver: Any = raw.driver_connection
    try:
        if driver.in_transaction:
            if not anew:
                return
            await connection.exec_driver_sql("ROLLBACK")
        await connection.exec_driver_sql("BEGIN IMMEDIATE")
    except exc.DBAPIError as error:
        raise translate(error) from error


class CoreConnection:
    """Runs statements through an `AsyncConnection`; also a `Transaction` while one is open."""

    def __init__(self, connection: AsyncConnection) -> None:
        self.connection = connection

    async def fetch(self, statement: Statement, values: Mapping[str, Any]) -> list[Row]:
        _log.debug("%s", statement.clause)
        try:
            result = await self.connection.execute(statement.clause, dict(values))
        except exc.DBAPIError as error:
            raise translate(error) from error
        if not statement.names:
            return []
        return [dict(zip(statement.names, row, strict=True)) for row in result]

    async def commit(self) -> None:
        try:
            await self.connection.commit()
        except exc.DBAPIError as error:
            raise translate(error) from error

    async def rollback(self) -> None:
        await self.connection.rollback()

    async def savepoint(self, name: str) -> None:
        await self.connection.exec_driver_sql(f"SAVEPOINT {name}")

    async def rollback_to(self, name: str) -> None:
        if self.connection.invalidated:
            return  # SQLAlchemy gives up a connection whose statement was cancelled: all is undone
        await self.connection.exec_driver_sql(f"ROLLBACK TO SAVEPOINT {name}")
        await self.release(name)

    async def release(self, name: str) -> None:
        await self.connection.exec_driver_sql(f"RELEASE SAVEPOINT {name}")


class CoreDatabase:
    """A `Database` over an `AsyncEngine`: one given by the application, or one of our own."""

    def __init__(self, engine: AsyncEngine, *, owned: bool) -> None:
        self._engine = engine
        self._owned = owned

    @property
    def in_memory(self) -> bool:
        return False  # the engine is the application's, and so is how long its data lives

    @property
    def dialect_name(self) -> str:
        return self._engine.dialect.name

    @property
    def update_returning(self) -> bool:
        return self._engine.dialect.update_returning

    async def open(self) -> None:
        try:
            async with self._engine.connect() as connection:
                await connection.exec_driver_sql("SELECT 1")
                if await commits_by_itself(connection):
                    raise ConfigurationError(
                        "the engine is in AUTOCOMMIT mode: tidings needs transactions"
                    )
        except (exc.SQLAlchemyError, OSError) as error:
            where = self._engine.url.render_as_string(hide_password=True)
            raise ConfigurationError(f"cannot connect to {where}: {error}") from error

    async def close(self) -> None:
        if self._owned:
            await self._engine.dispose()

    async def create_tables(self, tables: Sequence[Table]) -> None:
        if tables:
            async with self._engine.begin() as connection:
                await connection.run_sync(tables[0].metadata.create_all)

    @asynccontextmanager
    async def reading(self, *, snapshot: bool) -> AsyncIterator[CoreConnection]:
        engine = self._engine
        if snapshot and self.dialect_name == "postgresql":
            engine = engine.execution_options(isolation_level="REPEATABLE READ")
        async with _connected(engine) as connection:
            await prepare(connection)
            yield CoreConnection(connection)

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[CoreConnection]:
        async with _connected(self._engine) as connection:
            await prepare(connection)
            await connection.begin()
            await begin_writing(connection, anew=True)
            yield CoreConnection(connection)


@asynccontextmanager
async def _connected(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    connection = engine.connect()
    try:
        await connection.start()
    except exc.TimeoutError as error:  # no connection of the pool became free
        raise DatabaseBusy("The database is busy; try again") from error
    try:
        yield connection
    finally:
        await uninterrupted(connection.close())

"""Any database that SQLAlchemy has an asyncio driver for, run by SQLAlchemy Core."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import cached_property
from typing import Any, Final

from sqlalchemy import Connection as SyncConnection
from sqlalchemy import CursorResult, Table, exc
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from tidings.errors import ConfigurationError, DatabaseBusy
from tidings.filters.text import SQLITE_FUNCTIONS
from tidings.storage.bounds import (
    CONNECT_SECONDS,
    CREATE_SECONDS,
    GRACE_SECONDS,
    STATEMENT_SECONDS,
    WAIT_SECONDS,
    bounded,
    cut,
)
from tidings.storage.database import Connection, Transaction
from tidings.storage.errors import StaleStatement, translate, unreachable
from tidings.storage.fate import (
    ENDED_BY_SQL,
    error_number,
    forget,
    in_transaction,
    is_doubtful,
    note_undone,
    watch_errors,
)
from tidings.storage.leniently import NO_UTF8, is_no_utf8, lenient
from tidings.storage.statements import Row, Statement
from tidings.storage.tables import check_keys
from tidings.storage.types import MYSQL
from tidings.storage.waiting import uninterrupted

_log = logging.getLogger("tidings.storage")
OWN: Final = "tidings_own"
"""Stands in a connection's ``info`` while a statement of tidings' own runs on it."""


async def prepare(connection: AsyncConnection) -> None:
    """Give a connection what tidings' statements need: on SQLite, the functions of filters."""
    if connection.dialect.name != "sqlite" or "tidings_prepared" in connection.info:
        return
    raw = await connection.get_raw_connection()
    driver: Any = raw.driver_connection
    for name, (count, function) in SQLITE_FUNCTIONS.items():
        await driver.create_function(name, count, function, deterministic=True)
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
    driver: Any = raw.dbapi_connection
    detect = getattr(connection.dialect, "detect_autocommit_setting", None)
    if detect is not None:
        try:
            return bool(detect(driver))
        except NotImplementedError:
            return False
    # SQLAlchemy 2.0 has no such question.
    if hasattr(driver, "get_autocommit"):
        return bool(driver.get_autocommit())
    return getattr(driver, "autocommit", False) is True


async def begin_writing(connection: AsyncConnection, *, anew: bool = False) -> None:
    """On SQLite, begin with the write lock: one that is taken later can only fail.

    SQLAlchemy begins no transaction in the driver until something is written, except where the
    application has an event handler that does; with ``anew`` what that has begun is replaced.
    """
    if connection.dialect.name != "sqlite":
        return
    raw = await connection.get_raw_connection()
    driver: Any = raw.driver_connection
    with _translated():
        if driver.in_transaction:
            if not anew:
                return
            await connection.exec_driver_sql("ROLLBACK")
        await connection.exec_driver_sql("BEGIN IMMEDIATE")


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (exc.StatementError, OSError) as error:
        # Not "from error": the text of that one has the values, and whoever logs ours shows both.
        raise translate(error) from None


class CoreConnection:
    """Runs statements through an `AsyncConnection`; also a `Transaction` while one is open.

    A connection that does not answer within ``seconds`` is dropped.
    """

    def __init__(self, connection: AsyncConnection, seconds: float) -> None:
        self.connection = connection
        self.is_doubtful = False
        self.was_ended = False
        self._seconds = seconds
        self._driver = _driver_of(connection)
        self._has_begun = False

    async def fetch(self, statement: Statement, values: Mapping[str, Any]) -> list[Row]:
        _log.debug("%s", statement.clause)
        try:
            result = await self._execute(statement, values)
        except StaleStatement:
            if in_transaction(self._driver) is not False:
                raise  # it is lost, with all that was done in it
            result = await self._execute(statement, values)
        if not statement.names:
            return []
        return [dict(zip(statement.names, row, strict=True)) for row in result]

    async def _execute(self, statement: Statement, values: Mapping[str, Any]) -> CursorResult[Any]:
        info = self.connection.info
        info[OWN] = True
        try:
            with self._asked():
                try:
                    return await self.connection.execute(statement.clause, dict(values))
                except exc.OperationalError as error:
                    if not is_no_utf8(error.orig) or not statement.clause.is_select:
                        raise
                    return await self._execute_leniently(statement, values)
        finally:
            info.pop(OWN, None)

    async def _execute_leniently(
        self, statement: Statement, values: Mapping[str, Any]
    ) -> CursorResult[Any]:
        """Read rows of SQLite of which some text is no UTF-8; the application's own statements go
        on to fail at them.
        """
        _log.warning(NO_UTF8)
        before, self._driver.text_factory = self._driver.text_factory, lenient
        try:
            return await self.connection.execute(statement.clause, dict(values))
        finally:
            self._driver.text_factory = before

    async def run(self, sql: str) -> None:
        with self._asked():
            await self.connection.exec_driver_sql(sql)

    @contextmanager
    def _asked(self) -> Iterator[None]:
        """Something that the database is asked within the transaction."""
        self.check_open()
        try:
            with bounded(self._driver, self._seconds), _translated():
                yield
        except Exception:
            if self._has_begun and in_transaction(self._driver) is False:
                note_undone(self.connection.info)
            raise
        finally:
            self._has_begun |= bool(in_transaction(self._driver))

    def check_open(self) -> None:

        if self.connection.invalidated:
            raise DatabaseBusy("The connection to the database was lost; try again")
        is_over = self._has_begun and in_transaction(self._driver) is False
        if is_over and is_doubtful(self.connection.info):
            raise DatabaseBusy("The database has undone the transaction; try again")
        if is_over:
            self.was_ended = True
            raise ConfigurationError(ENDED_BY_SQL)

    async def commit(self) -> None:
        self.check_open()
        if is_doubtful(self.connection.info):
            await self._check()
        try:
            with bounded(self._driver, self._seconds), _translated():
                await self.connection.commit()
        except BaseException:
            self.is_doubtful = self.connection.invalidated
            raise

    async def _check(self) -> None:
        if self.connection.dialect.name != "postgresql":
            raise DatabaseBusy("The database has undone the transaction; try again")
        try:
            with bounded(self._driver, self._seconds):
                await self.connection.exec_driver_sql("SELECT 1")
        except exc.DBAPIError:
            raise ConfigurationError(
                "a statement of this transaction has failed, so that PostgreSQL undoes all of it: "
                "put what may fail into 'async with uow.savepoint()'"
            ) from None

    async def rollback(self) -> None:
        if self.connection.invalidated:
            return  # a connection that is lost has nothing left to undo
        try:
            with bounded(self._driver, self._seconds):
                await self.connection.rollback()
        except (exc.DBAPIError, OSError):
            await self.discard()
        else:
            if in_transaction(self._driver):
                await self.discard()

    async def discard(self) -> None:
        cut(self._driver)
        if not self.connection.invalidated:
            await self.connection.invalidate()

    async def savepoint(self, name: str) -> None:
        await self.run(f"SAVEPOINT {name}")

    async def rollback_to(self, name: str) -> None:
        if self.connection.invalidated:
            return  # SQLAlchemy gives up a connection whose statement was cancelled: all is undone
        if is_doubtful(self.connection.info) and in_transaction(self._driver) is False:
            return  # it went with the whole transaction
        try:
            with bounded(self._driver, self._seconds):
                await self.connection.exec_driver_sql(f"ROLLBACK TO SAVEPOINT {name}")
        except exc.DBAPIError as error:
            if error.connection_invalidated:
                return
            if is_doubtful(self.connection.info) and error_number(error.orig) == _NO_SAVEPOINT:
                return  # it went with the whole transaction
            raise translate(error) from None
        await self.release(name)

    async def release(self, name: str) -> None:
        await self.run(f"RELEASE SAVEPOINT {name}")


def _driver_of(connection: AsyncConnection) -> Any:
    assert connection.sync_connection is not None
    return connection.sync_connection.connection.driver_connection


_NO_SAVEPOINT: Final = 1305


class CoreDatabase:
    """A `Database` over an `AsyncEngine`: one given by the application, or one of our own."""

    def __init__(
        self, engine: AsyncEngine, *, owned: bool, statement_timeout: float = STATEMENT_SECONDS
    ) -> None:
        self._engine = engine
        self._owned = owned
        # There is no server that could give up a statement before.
        grace = 0 if engine.dialect.name == "sqlite" else GRACE_SECONDS
        self.answer_seconds = statement_timeout + grace
        watch_errors(engine.dialect)

    @property
    def in_memory(self) -> bool:
        return False  # the engine is the application's, and so is how long its data lives

    @property
    def dialect_name(self) -> str:
        # Whether a server is MariaDB or MySQL is seen at the first connection, whatever the URL.
        if getattr(self._engine.dialect, "is_mariadb", False):
            return "mariadb"
        return self._engine.dialect.name

    @property
    def insert_returning(self) -> bool:
        return self._engine.dialect.insert_returning

    @property
    def update_returning(self) -> bool:
        return self._engine.dialect.update_returning

    async def open(self) -> None:
        try:
            async with asyncio.timeout(CONNECT_SECONDS), self._engine.connect() as connection:
                with bounded(_driver_of(connection), self.answer_seconds):
                    await connection.exec_driver_sql("SELECT 1")
                    if await commits_by_itself(connection):
                        raise ConfigurationError(
                            "the engine is in AUTOCOMMIT mode: tidings needs transactions"
                        )
                    await _check_encoding(connection)
        except (exc.SQLAlchemyError, OSError) as error:
            where = self._engine.url.render_as_string(hide_password=True)
            reason: object = error.orig if isinstance(error, exc.DBAPIError) else error
            if isinstance(error, TimeoutError):
                reason = f"no answer in {CONNECT_SECONDS} s"
            told = f"{reason}{_hint(str(reason))}"
            raise ConfigurationError(f"cannot connect to {where}: {told}") from None
        await self._check_pooler()

    async def _check_pooler(self) -> None:
        """See that a connection stays what it is between two statements.

        Behind a pooler that gives each transaction another one prepared statements are missing,
        now and then.
        """
        if self.dialect_name != "postgresql" or self._engine.dialect.driver != "asyncpg":
            return
        try:
            async with (
                asyncio.timeout(CONNECT_SECONDS),
                self._connected(self._reading) as one,
                self._connected(self._engine) as other,
            ):
                for _ in range(_PROBES):
                    place = await _backend(one, "mine")
                    if await _backend(other, "other") == place:  # in a transaction, which holds it
                        # As it was prepared, but elsewhere: it is missing, or is another one.
                        await _backend(one, "mine")
                        return
                    await other.rollback()
        except (TimeoutError, DatabaseBusy):
            return  # one connection is all there is: then it is always the same
        except Exception:  # noqa: BLE001  asyncpg's own errors, which need not be installed
            raise ConfigurationError(
                f"the database at {self._engine.url.render_as_string(hide_password=True)} gives "
                "each transaction another connection, so that prepared statements are lost: use "
                "a pooler in session mode, or an engine= without them (see docs/deploying.md)"
            ) from None

    async def close(self) -> None:
        if not self._owned:
            return
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                await self._engine.dispose()
        except TimeoutError:
            _log.warning("the database does not answer: its connections are dropped")
            await self._engine.dispose(close=False)

    async def create_tables(self, tables: Sequence[Table]) -> None:
        if tables:
            async with self._engine.begin() as connection:
                with bounded(_driver_of(connection), CREATE_SECONDS):
                    await connection.run_sync(_create_tables, tables)

    @cached_property
    def _reading(self) -> AsyncEngine:
        # One statement is its own transaction: without AUTOCOMMIT it would be three round trips.
        return self._isolated("AUTOCOMMIT")

    @cached_property
    def _snapshot(self) -> AsyncEngine:
        return self._isolated("REPEATABLE READ")

    @cached_property
    def _writing(self) -> AsyncEngine:
        return self._isolated("READ COMMITTED")

    def _isolated(self, level: str) -> AsyncEngine:
        """On PostgreSQL an isolation level costs nothing; elsewhere it is set in SQL, or not."""
        if self.dialect_name != "postgresql":
            return self._engine
        return self._engine.execution_options(isolation_level=level)

    @asynccontextmanager
    async def reading(self, *, snapshot: bool) -> AsyncIterator[Connection]:
        async with self._connected(self._snapshot if snapshot else self._reading) as connection:
            await prepare(connection)
            found = CoreConnection(connection, self.answer_seconds)
            if snapshot and self.dialect_name in MYSQL:
                await found.run("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            yield found

    async def execute(self, statement: Statement, values: Mapping[str, Any]) -> None:
        if self.dialect_name == "postgresql":
            async with self._connected(self._reading) as connection:  # which commits by itself
                await CoreConnection(connection, self.answer_seconds).fetch(statement, values)
            return
        async with self.writing() as transaction:
            await transaction.fetch(statement, values)
            await transaction.commit()

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[Transaction]:
        async with self._connected(self._writing) as connection:
            await prepare(connection)
            forget(connection.info)
            found = CoreConnection(connection, self.answer_seconds)
            if not self._owned and self.dialect_name in MYSQL:
                # For the next transaction only. Engines of ours are set to it, see `own_engine`.
                await found.run("SET TRANSACTION ISOLATION LEVEL READ COMMITTED")
            elif not connection.in_transaction():
                await connection.begin()
            await begin_writing(connection, anew=True)
            yield found

    @asynccontextmanager
    async def _connected(self, engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
        connection = engine.connect()
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await connection.start()
        except (exc.TimeoutError, TimeoutError):  # no connection of the pool became free, or ready
            _log.warning("waited in vain for a connection; inside a transaction, pass transaction=")
            raise DatabaseBusy("The database is busy; try again") from None
        except (exc.DBAPIError, OSError) as error:
            raise unreachable(error) from None
        driver = _driver_of(connection)
        try:
            yield connection
        finally:
            with bounded(driver, self.answer_seconds):
                await uninterrupted(connection.close())


_PROBES: Final = 3


async def _backend(connection: AsyncConnection, mark: str) -> object:
    """The process that serves a connection at the moment."""
    sql = f"SELECT 'tidings {mark}', pg_backend_pid()"
    row: Sequence[Any] = (await connection.exec_driver_sql(sql)).one()
    if row[0] != f"tidings {mark}":
        raise ValueError("that was the answer to another statement")
    return row[1]


def _hint(reason: str) -> str:
    """What to do about a refusal that poolers are known for."""
    if "unsupported startup parameter" in reason:
        return (
            "; behind PgBouncer set ignore_startup_parameters = "
            "lock_timeout,statement_timeout,jit there, and these three for the role (ALTER ROLE)"
        )
    if "Connection is closed" in reason:
        return "; behind PgBouncer use pool_mode = session: in statement mode it refuses BEGIN"
    return ""


async def _check_encoding(connection: AsyncConnection) -> None:
    if connection.dialect.name != "postgresql":
        return  # elsewhere each column has its own
    found = (await connection.exec_driver_sql("SHOW server_encoding")).scalar()
    if found != "UTF8":
        raise ConfigurationError(
            f"the database has the encoding {found}, which cannot hold all texts: create it "
            "with ENCODING 'UTF8'"
        )


def _create_tables(connection: SyncConnection, tables: Sequence[Table]) -> None:
    """One process at a time: those that start together would all find the tables missing."""
    name = connection.dialect.name
    if name in MYSQL:
        for table in tables:
            check_keys(table)
        connection.exec_driver_sql(f"SELECT GET_LOCK('tidings_tables', {WAIT_SECONDS})")
    elif name == "postgresql":
        connection.exec_driver_sql("SELECT pg_advisory_xact_lock(7305798)")
    try:
        tables[0].metadata.create_all(connection)
    finally:
        if name in MYSQL:
            connection.exec_driver_sql("SELECT RELEASE_LOCK('tidings_tables')")

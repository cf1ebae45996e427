"""PostgreSQL, driven directly: statements compiled once by SQLAlchemy, run by asyncpg.

SQLAlchemy's engine makes the connections, so that a URL means what it means there. What it does
around each statement and each transaction costs more than the statement itself.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any, Final

from sqlalchemy import Dialect, exc
from sqlalchemy.ext.asyncio import AsyncEngine

from tidings.errors import ConfigurationError, DatabaseBusy
from tidings.storage.bounds import CONNECT_SECONDS, WAIT_SECONDS, bounded
from tidings.storage.core import CoreDatabase
from tidings.storage.errors import StaleStatement, translate, unreachable
from tidings.storage.fate import ENDED_BY_SQL, in_transaction
from tidings.storage.statements import Row, Statement
from tidings.storage.waiting import uninterrupted

_log = logging.getLogger("tidings.storage")
CONNECTIONS: Final = 15
"""So many are open at most."""
_KEPT: Final = 5
"""So many stay open although nobody needs them."""
_KEPT_SECONDS: Final = 30.0
"""The others are closed when nobody has needed them for so long."""
_UNDONE: Final = (
    "a statement of this transaction has failed, so that PostgreSQL undoes all of it: "
    "put what may fail into 'async with uow.savepoint()'"
)


class _PostgresConnection:
    """A connection of which each statement is a transaction; or, with ``begin``, a `Transaction`.

    One that does not answer within ``seconds``, or whose statement is cancelled, is dropped.
    """

    def __init__(self, driver: Any, dialect: Dialect, seconds: float, begin: str | None) -> None:
        self.driver = driver
        self.is_leaving = False
        """Whether it is being closed, since a statement was cancelled."""
        self.is_doubtful = False
        self.was_ended = False
        self._dialect = dialect
        self._seconds = seconds
        self._begin = begin
        self._has_begun = False
        self._has_failed = False

    async def fetch(self, statement: Statement, values: Mapping[str, Any]) -> list[Row]:
        await self._ready()
        try:
            return await self._fetch(statement, values)
        except StaleStatement:
            if self._has_begun:
                raise  # it is lost, with all that was done in it
            return await self._fetch(statement, values)

    async def _fetch(self, statement: Statement, values: Mapping[str, Any]) -> list[Row]:
        native, arguments = statement.numbered(self._dialect, values)
        _log.debug("%s", native.sql)
        with self._asked():
            if statement.names and not native.is_finished:
                # What a column's values come as is known from the server.
                prepared = await self.driver.prepare(native.sql)
                types = [attribute.type.oid for attribute in prepared.get_attributes()]
                native.finish(statement.columns, self._dialect, types)
                found = await prepared.fetch(*arguments)
            else:
                found = await self.driver.fetch(native.sql, *arguments)
        return native.rows(found) if statement.names else []

    async def run(self, sql: str) -> None:
        await self._ready()
        with self._asked():
            await self.driver.execute(sql)

    async def _ready(self) -> None:
        """Begin the transaction, if there is to be one, with its first statement."""
        self.check_open()
        if self._begin is not None and not self._has_begun:
            with self._asked():
                await self.driver.execute(self._begin)
            self._has_begun = True

    @contextmanager
    def _asked(self) -> Iterator[None]:
        try:
            with bounded(self.driver, self._seconds):
                yield
        except Exception as error:  # noqa: BLE001  asyncpg's own errors, which need not be installed
            self._has_failed = True
            # Not "from error": its text may hold values, and whoever logs ours shows both.
            raise self._translated(error) from None
        except BaseException:
            # It was cancelled. The driver has the server stop the statement, so that its locks are
            # free soon, and then says goodbye; that is not waited for.
            self.is_leaving = True
            _leave(self.driver)
            raise

    def _translated(self, error: Exception) -> Exception:
        return unreachable(error) if self.driver.is_closed() else translate(error)

    @property
    def _is_lost(self) -> bool:
        return self.is_leaving or bool(self.driver.is_closed())

    def check_open(self) -> None:
        if self._is_lost:
            self._has_failed = True
            raise DatabaseBusy("The connection to the database was lost; try again")
        if self._has_begun and not in_transaction(self.driver):
            self.was_ended = True
            raise ConfigurationError(ENDED_BY_SQL)

    async def commit(self) -> None:
        # As where the loss is seen only after COMMIT was sent: those who watch have to look.
        self.is_doubtful = self._is_lost and not self._has_failed
        self.check_open()
        if not self._has_begun:
            return
        if self._has_failed:
            await self._check()
        try:
            with self._asked():
                await self.driver.execute("COMMIT")
        except BaseException:
            self.is_doubtful = self._is_lost
            raise

    async def _check(self) -> None:
        """See that the transaction stands although a statement has failed: a savepoint was before
        it. COMMIT would be taken for ROLLBACK without a word.
        """
        try:
            with self._asked():
                await self.driver.execute("SELECT 1")
        except Exception:  # noqa: BLE001  whatever it is, nothing can be committed
            self.check_open()
            raise ConfigurationError(_UNDONE) from None

    async def rollback(self) -> None:
        if self._is_lost or not in_transaction(self.driver):
            return  # a connection that is lost has nothing left to undo
        try:
            with self._asked():
                await self.driver.execute("ROLLBACK")
        except Exception:  # noqa: BLE001  to give up the connection undoes it as well
            await self.discard()

    async def discard(self) -> None:
        self.driver.terminate()

    async def savepoint(self, name: str) -> None:
        await self.run(f"SAVEPOINT {name}")

    async def rollback_to(self, name: str) -> None:
        if self._is_lost:
            return  # all is undone
        with self._asked():
            await self.driver.execute(f"ROLLBACK TO SAVEPOINT {name}")
        await self.release(name)

    async def release(self, name: str) -> None:
        await self.run(f"RELEASE SAVEPOINT {name}")


class _Connections:
    """asyncpg's connections: those in use and, the last used first, those that wait."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._free = asyncio.Semaphore(CONNECTIONS)
        self._waiting: list[tuple[float, Any]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._is_closed = False

    async def take(self) -> Any:
        """A connection, which has to be given back.

        Raises:
            DatabaseBusy: none became free in time, or the database cannot be reached.
        """
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                await self._free.acquire()
        except TimeoutError:
            _log.warning("waited in vain for a connection; inside a transaction, pass transaction=")
            raise DatabaseBusy("The database is busy; try again") from None
        try:
            while self._waiting:
                _, driver = self._waiting.pop()
                # The event loop has seen it, where the server has ended a connection meanwhile.
                if not driver.is_closed():
                    return driver
            return await self._connect()
        except BaseException:
            self._free.release()
            raise

    def give(self, driver: Any, *, is_leaving: bool) -> None:
        """Give a connection back; ``is_leaving``: it is being closed."""
        self._free.release()
        if is_leaving:
            return
        if driver.is_closed():
            # It was lost: after a fail-over the others are, too, though nothing may tell them.
            for _, other in self._waiting:
                other.terminate()
            self._waiting.clear()
            return
        if self._is_closed or in_transaction(driver):
            driver.terminate()
            return
        self._waiting.append((time.monotonic(), driver))
        if len(self._waiting) > _KEPT and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_KEPT_SECONDS, self._close_some)

    async def close(self) -> None:
        """Close those that wait; those in use follow when they are given back."""
        self._is_closed = True
        if self._timer is not None:
            self._timer.cancel()
        while self._waiting:
            _, driver = self._waiting.pop()
            await _close(driver)

    async def _connect(self) -> Any:
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                fairy: Any = await self._engine.raw_connection()
        except (exc.SQLAlchemyError, OSError) as error:
            raise unreachable(error) from None
        driver = fairy.driver_connection
        fairy.detach()  # from now on it is ours alone
        return driver

    def _close_some(self) -> None:
        self._timer = None
        before = time.monotonic() - _KEPT_SECONDS
        many = len(self._waiting) - _KEPT
        old = [driver for since, driver in self._waiting[:many] if since <= before]
        del self._waiting[: len(old)]
        for driver in old:
            # Nothing is under way on it, so that the server takes that for a goodbye.
            driver.terminate()
        if len(self._waiting) > _KEPT:
            self._timer = asyncio.get_running_loop().call_later(_KEPT_SECONDS, self._close_some)


async def _close(driver: Any) -> None:
    with suppress(Exception):  # then it is dropped
        await driver.close(timeout=WAIT_SECONDS)


_leaving: Final[set[asyncio.Task[None]]] = set()


def _leave(driver: Any) -> None:
    """Close a connection, without waiting for that."""
    task = asyncio.ensure_future(_close(driver))
    _leaving.add(task)
    task.add_done_callback(_leaving.discard)


class PostgresDatabase(CoreDatabase):
    """A `Database` over an engine of our own for asyncpg."""

    def __init__(self, engine: AsyncEngine, *, statement_timeout: float) -> None:
        super().__init__(engine, owned=True, statement_timeout=statement_timeout)
        self._connections: _Connections | None = None

    async def open(self) -> None:
        await super().open()
        await self._engine.dispose()  # what it was looked at with
        if self._connections is None:
            # Made anew: they belong to the event loop that they were first used in.
            self._connections = _Connections(self._engine)

    async def close(self) -> None:
        connections, self._connections = self._connections, None
        if connections is not None:
            await uninterrupted(connections.close())
        await super().close()

    @asynccontextmanager
    async def reading(self, *, snapshot: bool) -> AsyncIterator[_PostgresConnection]:
        begin = "BEGIN ISOLATION LEVEL REPEATABLE READ" if snapshot else None
        async with self._connection(begin) as connection:
            try:
                yield connection
            finally:
                if snapshot:
                    await uninterrupted(connection.rollback())

    async def execute(self, statement: Statement, values: Mapping[str, Any]) -> None:
        async with self._connection(None) as connection:  # which commits by itself
            await connection.fetch(statement, values)

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[_PostgresConnection]:
        async with self._connection("BEGIN ISOLATION LEVEL READ COMMITTED") as connection:
            yield connection

    @asynccontextmanager
    async def _connection(self, begin: str | None) -> AsyncIterator[_PostgresConnection]:
        connections = self._connections
        if connections is None:
            raise ConfigurationError("the database is not open: use 'async with api:'")
        driver = await connections.take()
        connection = _PostgresConnection(driver, self._engine.dialect, self.answer_seconds, begin)
        try:
            yield connection
        finally:
            connections.give(driver, is_leaving=connection.is_leaving)

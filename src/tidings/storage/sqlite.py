"""SQLite, driven directly: statements compiled once by SQLAlchemy, run in a thread.

One connection writes, a few read (WAL: readers never wait for the writer). A database in memory
exists in one connection only, so there readers and writers take turns.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final

from sqlalchemy import Table
from sqlalchemy.dialects.sqlite import dialect as sqlite_dialect
from sqlalchemy.schema import CreateIndex, CreateTable

from tidings.errors import ConfigurationError, DatabaseBusy
from tidings.filters.text import SQLITE_FUNCTIONS
from tidings.numbers import decode_stored
from tidings.storage.bounds import STATEMENT_SECONDS, WAIT_SECONDS, bounded, cut
from tidings.storage.errors import translate
from tidings.storage.fate import ENDED_BY_SQL
from tidings.storage.leniently import NO_UTF8, is_no_utf8, lenient
from tidings.storage.sqlite_file import SqliteFile
from tidings.storage.sqlite_thread import SqliteThread
from tidings.storage.statements import Row, Statement
from tidings.storage.waiting import uninterrupted

_log = logging.getLogger("tidings.storage")
_WARNING_SECONDS: Final = 10.0
_READS: Final = ("SELECT", "WITH")
_dialect = sqlite_dialect(paramstyle="named", json_deserializer=decode_stored)


class _SqliteConnection:
    """One connection with its own thread.

    With ``begin`` its first statement begins a transaction, on the same way to the thread. A
    statement that runs for longer than ``seconds`` is interrupted.
    """

    is_transaction = False

    def __init__(self, thread: SqliteThread, seconds: float, begin: str | None = None) -> None:
        self.thread = thread
        self.seconds = seconds
        self._begin = begin

    async def fetch(self, statement: Statement, values: Mapping[str, Any]) -> list[Row]:
        native, parameters = statement.native(_dialect, values)
        _log.debug("%s", native.sql)
        return native.rows(await self._execute(native.sql, parameters))

    async def run(self, sql: str) -> None:
        await self._execute(sql, ())

    async def _execute(self, sql: str, parameters: Any) -> list[Any]:
        begin, self._begin = self._begin, None

        def work(raw: sqlite3.Connection) -> list[Any]:
            if begin is not None:
                raw.execute(begin)
            elif self.is_transaction and not raw.in_transaction:
                # Its beginning has failed, and whoever waited for that does not know it.
                raise sqlite3.OperationalError("there is no transaction")
            try:
                return raw.execute(sql, parameters).fetchall()
            except sqlite3.OperationalError as error:
                if not is_no_utf8(error) or not sql.lstrip().startswith(_READS):
                    raise
                return _read_leniently(raw, sql, parameters)

        with self._asked():
            return await self.thread.call(work)

    @contextmanager
    def _asked(self) -> Iterator[None]:
        try:
            with bounded(self.thread, self.seconds):
                yield
        except sqlite3.Error as error:
            # Not "from error": a trigger's text may hold values, and whoever logs it shows both.
            raise translate(error) from None

    def leave(self) -> None:
        """End the transaction of a read; what is asked next comes after that."""
        if self._begin is None:
            self.thread.start(sqlite3.Connection.rollback)


class _SqliteTransaction(_SqliteConnection):
    """A `Transaction` of the connection that writes."""

    is_doubtful = False
    is_transaction = True

    def __init__(self, thread: SqliteThread, seconds: float) -> None:
        super().__init__(thread, seconds, "BEGIN IMMEDIATE")
        self.was_ended = False
        self._has_begun = False
        self._is_undone = False

    @contextmanager
    def _asked(self) -> Iterator[None]:
        self.check_open()
        try:
            with super()._asked():
                yield
        except Exception:
            # An interrupted write undoes everything, as does a full disk; or it has not begun.
            self._is_undone = not self.thread.in_transaction
            raise
        finally:
            self._has_begun |= self.thread.in_transaction

    def check_open(self) -> None:
        if self._is_undone:
            raise DatabaseBusy("The database has undone the transaction; try again")
        if not self._has_begun or self.thread.in_transaction:
            return
        self.was_ended = True
        raise ConfigurationError(ENDED_BY_SQL)

    async def commit(self) -> None:
        if self._begin is None:  # otherwise there is nothing to commit
            await self.run("COMMIT")

    async def rollback(self) -> None:
        # Whether there is a transaction is looked at only when its turn comes, so that a BEGIN
        # that was cancelled but still runs is undone as well.
        if self._begin is None:
            with bounded(self.thread, self.seconds):
                await self.thread.rollback()

    async def discard(self) -> None:
        cut(self.thread)
        await self.rollback()

    async def savepoint(self, name: str) -> None:
        await self.run(f"SAVEPOINT {name}")

    async def rollback_to(self, name: str) -> None:
        if self._is_undone:
            return
        await self.run(f"ROLLBACK TO {name}")
        await self.run(f"RELEASE {name}")

    async def release(self, name: str) -> None:
        await self.run(f"RELEASE {name}")


class SqliteDatabase:
    """A `Database` over one SQLite file, or one in memory.

    ``busy_timeout`` (seconds) bounds the wait for the write lock, within this process and
    against others; ``statement_timeout`` (seconds) how long a statement runs.
    """

    dialect_name = "sqlite"
    insert_returning = True
    update_returning = True

    def __init__(
        self,
        url: str,
        *,
        readers: int = 4,
        busy_timeout: float = WAIT_SECONDS,
        statement_timeout: float = STATEMENT_SECONDS,
    ) -> None:
        self._file = SqliteFile.of_url(url)
        self.in_memory = self._file.in_memory
        self._reader_count = 0 if self.in_memory else readers
        self._next_warning = 0.0
        given = self._file.timeout
        self._busy_timeout = busy_timeout if given is None else given
        self.answer_seconds = statement_timeout
        self._writer: SqliteThread | None = None
        self._write_lock = asyncio.Lock()
        self._readers: asyncio.LifoQueue[SqliteThread] = asyncio.LifoQueue()

    async def open(self) -> None:
        if sqlite3.sqlite_version_info < (3, 35):
            raise ConfigurationError(
                f"SQLite {sqlite3.sqlite_version} is too old: tidings needs 3.35 (RETURNING)"
            )
        if self._writer is not None:
            return
        # Made anew: they belong to the event loop they were first waited for in.
        self._write_lock, self._readers = asyncio.Lock(), asyncio.LifoQueue()
        opened: list[SqliteThread] = []
        try:
            for _ in range(1 + self._reader_count):
                opened.append(await self._connect())  # noqa: PERF401  kept for the handler below
        except BaseException:
            for connection in opened:
                await connection.close()
            raise
        self._writer, *readers = opened
        for reader in readers:
            self._readers.put_nowait(reader)

    async def close(self) -> None:
        # A server that is stopped in a hurry cancels this; a connection half closed stays open.
        await uninterrupted(self._close())

    async def _close(self) -> None:
        if self._writer is None:
            return
        async with self._write_lock:
            for _ in range(self._reader_count):
                await (await self._readers.get()).close()
            await self._writer.close()
            self._writer = None

    async def _connect(self) -> SqliteThread:
        thread = SqliteThread()
        try:
            await thread.open(self._connected)
        except sqlite3.Error as error:
            raise ConfigurationError(
                f"cannot open the database {self._file.name!r}: {error}"
            ) from None
        return thread

    def _connected(self) -> sqlite3.Connection:
        name, is_uri = self._file.name, self._file.is_uri
        raw = sqlite3.connect(name, uri=is_uri, isolation_level=None)
        try:
            for pragma in self._pragmas():
                raw.execute(pragma).fetchall()
        except BaseException:
            raw.close()
            raise
        for function, (count, work) in SQLITE_FUNCTIONS.items():
            raw.create_function(function, count, work, deterministic=True)
        return raw

    def _pragmas(self) -> Iterator[str]:
        yield f"PRAGMA busy_timeout = {int(self._busy_timeout * 1000)}"
        if not self._file.is_read_only:
            yield "PRAGMA journal_mode = WAL"
        yield "PRAGMA synchronous = NORMAL"
        yield "PRAGMA foreign_keys = ON"

    async def create_tables(self, tables: Sequence[Table]) -> None:
        async with self.writing() as connection:
            try:
                for table in tables:  # SQLite lets them refer to those that come later
                    await connection.run(_ddl(CreateTable(table, if_not_exists=True)))
                    for index in table.indexes:
                        await connection.run(_ddl(CreateIndex(index, if_not_exists=True)))
                await connection.commit()
            except BaseException:
                await connection.rollback()
                raise

    @asynccontextmanager
    async def reading(self, *, snapshot: bool) -> AsyncIterator[_SqliteConnection]:
        if self.in_memory:
            async with self._locked() as thread:
                yield _SqliteConnection(thread, self.answer_seconds)
            return
        thread = await self._reader()
        begin = "BEGIN" if snapshot else None
        connection = _SqliteConnection(thread, self.answer_seconds, begin)
        try:
            yield connection
        finally:
            if snapshot:
                connection.leave()
            self._readers.put_nowait(thread)

    async def execute(self, statement: Statement, values: Mapping[str, Any]) -> None:
        async with self._locked() as thread:
            # Outside a transaction SQLite makes one of each statement.
            connection = _SqliteConnection(thread, self.answer_seconds)
            await uninterrupted(connection.fetch(statement, values))

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[_SqliteTransaction]:
        async with self._locked() as thread:
            yield _SqliteTransaction(thread, self.answer_seconds)

    @asynccontextmanager
    async def _locked(self) -> AsyncIterator[SqliteThread]:
        self._check_open()
        try:
            async with asyncio.timeout(self._busy_timeout):
                await self._write_lock.acquire()
        except TimeoutError:
            _log.warning("waited in vain for a transaction to end; inside one, pass transaction=")
            raise DatabaseBusy("The database is busy; try again") from None
        try:
            if self._writer is None:
                raise DatabaseBusy("The database has been closed")
            yield self._writer
        finally:
            self._write_lock.release()

    async def _reader(self) -> SqliteThread:
        self._check_open()
        try:
            async with asyncio.timeout(self._busy_timeout):
                return await self._readers.get()
        except TimeoutError:
            if time.monotonic() >= self._next_warning:
                self._next_warning = time.monotonic() + _WARNING_SECONDS
                _log.warning(
                    "a read has waited %g s for one of %d readers: they are busy, or hang",
                    self._busy_timeout,
                    self._reader_count,
                )
            raise DatabaseBusy("The database is busy; try again") from None

    def _check_open(self) -> None:
        if self._writer is None:
            raise ConfigurationError("the database is not open: use 'async with api:'")


def _read_leniently(raw: sqlite3.Connection, sql: str, parameters: Any) -> list[Any]:
    """Read rows of which some text is no UTF-8, with U+FFFD for what cannot be read: one bad row
    must not hide all the others.
    """
    _log.warning(NO_UTF8)
    raw.text_factory = lenient
    try:
        return raw.execute(sql, parameters).fetchall()
    finally:
        raw.text_factory = str


def _ddl(element: CreateTable | CreateIndex) -> str:
    return str(element.compile(dialect=_dialect))

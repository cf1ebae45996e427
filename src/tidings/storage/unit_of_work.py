"""UnitOfWork: one transaction, and the changes that become known when it commits."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, asynccontextmanager, suppress
from itertools import count
from typing import Protocol

from tidings.errors import TidingsError
from tidings.feed import Cursor, Notice
from tidings.storage.change_log import ChangeLog
from tidings.storage.database import Connection, Database, Transaction
from tidings.storage.exclusive import ExclusiveConnection
from tidings.storage.publishing import Publisher
from tidings.storage.waiting import uninterrupted

_savepoint_numbers = count(1)


class Budget(Protocol):
    """Bounds how many records are written."""

    def take(self, count: int) -> None:
        """Count some."""
        ...


class UnitOfWork:
    """What operations write through: a connection in a transaction, and its change log.

    Made by ``api.transaction()`` or, around the application's own transaction, by
    ``transaction=session``. Not to be shared by tasks that run at the same time, which is refused.
    """

    def __init__(self, transaction: Transaction, log: ChangeLog, *, single: bool = False) -> None:
        self._connection = ExclusiveConnection(transaction)
        self._log = log
        self.is_single = single
        """Whether it is of one operation alone, with which it stands or falls."""
        self.budget: Budget | None = None
        """What bounds the records that may be written in it, where it is of a client's request."""
        self.patience: float | None = None
        """For how many seconds more permission checks may keep its locks, in all; None: as long as
        they take, in a transaction of the application's own."""
        self.cursor: Cursor | None = None
        """Once it is committed, the place in the feed of the last that it told; None where that
        is not known in this process: another one may give it its place."""

    @property
    def connection(self) -> Connection:
        """The connection; use of one that has ended is an error."""
        self._connection.check_open()
        return self._connection

    def record(self, change: Notice) -> None:
        """Hold a change until the commit."""
        self._connection.check_open()  # of a task that comes too late nobody would be told
        self._log.record(change)

    def check_whole(self) -> None:
        """See, before a commit, that nothing is under way any more.

        Raises:
            ConfigurationError: another task is or was at work in it.
        """
        self._connection.check_whole()

    @property
    def is_running(self) -> bool:
        """Whether a task waits for the database at the moment, so that it can do nothing else."""
        return self._connection.is_running

    async def rollback(self) -> None:
        """Undo everything, also what another task is just about to do."""
        await self._connection.rollback()

    def end(self) -> None:
        """Refuse further use."""
        self._connection.end()

    def part(self) -> AbstractContextManager[None]:
        """A write with all that belongs to it, which no commit may part."""
        return self._connection.part()

    @asynccontextmanager
    async def savepoint(self) -> AsyncIterator[None]:
        """A part that can fail alone: an error undoes it, drops its changes, and goes on up.

        async with uow.savepoint():
            await api.resources.posts.post({...}, transaction=uow)
        """
        name = f"tidings_{next(_savepoint_numbers)}"
        with self.part():
            await self._connection.savepoint(name)
            self._log.savepoint(name)
            try:
                try:
                    yield
                except BaseException:
                    self._log.rollback_to(name)
                    await uninterrupted(self._connection.rollback_to(name))
                    raise
                self._log.release(name)
                await self._connection.release(name)
            finally:
                self._connection.leave(name)


@asynccontextmanager
async def unit_of_work(
    database: Database, publisher: Publisher, *, single: bool = False
) -> AsyncIterator[UnitOfWork]:
    """A transaction of its own: committed at the end, rolled back by any error.

    ``publisher`` is told of the changes before and after the commit, while the write lock (where
    there is one) is still held.
    """
    async with database.writing() as connection:
        log = ChangeLog()
        uow = UnitOfWork(connection, log, single=single)
        try:
            if publisher.opening is not None:
                await connection.run(publisher.opening)
            yield uow
            uow.check_whole()
        except BaseException:
            await uninterrupted(_undo(uow, connection, log, publisher))
            raise
        finally:
            uow.end()
        # A cancelled request must not part a commit from its notifications: it is waited for.
        uow.cursor = await uninterrupted(_commit(connection, log, publisher))


async def _commit(connection: Transaction, log: ChangeLog, publisher: Publisher) -> Cursor | None:
    publication = publisher.begin(log.take())
    try:
        await publication.keep(connection)
        await connection.commit()
    except BaseException:
        publication.failed(doubtful=connection.is_doubtful or connection.was_ended)
        await connection.rollback()
        raise
    publication.committed()
    return publication.cursor


async def _undo(
    uow: UnitOfWork, connection: Transaction, log: ChangeLog, publisher: Publisher
) -> None:
    with suppress(TidingsError):
        connection.check_open()
    if connection.was_ended:
        publisher.begin(log.take()).failed(doubtful=True)
    else:
        log.clear()
    uow.end()
    await uow.rollback()

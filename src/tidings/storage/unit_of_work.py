"""UnitOfWork: one transaction, and the changes that become known when it commits."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from typing import Literal

from tidings.errors import ConfigurationError
from tidings.feed import Notice
from tidings.storage.change_log import ChangeLog
from tidings.storage.database import Connection, Database, Transaction
from tidings.storage.publishing import Publisher
from tidings.storage.waiting import uninterrupted

_savepoint_numbers = count(1)


class UnitOfWork:
    """What operations write through: a connection in a transaction, and its change log.

    Made by ``api.transaction()`` or, around the application's own transaction, by
    ``transaction=session``. Not to be shared by tasks that run at the same time.
    """

    def __init__(self, connection: Transaction, log: ChangeLog, *, single: bool = False) -> None:
        self._connection = connection
        self._log = log
        self.is_single = single
        """Whether it is of one operation alone, with which it stands or falls."""
        self._state: Literal["open", "ended"] = "open"

    @property
    def connection(self) -> Connection:
        """The connection; use of one that has ended is an error."""
        if self._state != "open":
            raise ConfigurationError("this unit of work has ended; open a new one")
        return self._connection

    def record(self, change: Notice) -> None:
        """Hold a change until the commit."""
        self._log.record(change)

    def end(self) -> None:
        """Refuse further use."""
        self._state = "ended"

    @asynccontextmanager
    async def savepoint(self) -> AsyncIterator[None]:
        """A part that can fail alone: an error undoes it, drops its changes, and goes on up.

        async with uow.savepoint():
            await api.resources.posts.post({...}, transaction=uow)
        """
        name = f"tidings_{next(_savepoint_numbers)}"
        assert self.connection is self._connection
        await self._connection.savepoint(name)
        self._log.savepoint(name)
        try:
            yield
        except BaseException:
            self._log.rollback_to(name)
            await uninterrupted(self._connection.rollback_to(name))
            raise
        self._log.release(name)
        await self._connection.release(name)


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
            yield uow
        except BaseException:
            log.clear()
            await uninterrupted(connection.rollback())
            raise
        finally:
            uow.end()
        # A cancelled request must not part a commit from its notifications: it is waited for.
        await uninterrupted(_commit(connection, log, publisher))


async def _commit(connection: Transaction, log: ChangeLog, publisher: Publisher) -> None:
    publication = publisher.begin(log.take())
    try:
        await publication.keep(connection)
        await connection.commit()
    except BaseException:
        publication.failed(doubtful=connection.is_doubtful)
        await connection.rollback()
        raise
    publication.committed()

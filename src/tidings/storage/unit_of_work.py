"""UnitOfWork: one transaction, and the changes that become known when it commits."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from itertools import count
from typing import Literal

from tidings.errors import ConfigurationError
from tidings.feed import Change, Notice
from tidings.storage.database import Connection, Database, Transaction
from tidings.storage.net_changes import net_changes
from tidings.storage.waiting import uninterrupted

_log = logging.getLogger("tidings.storage")
Publish = Callable[[Sequence[Notice]], None]
_savepoint_numbers = count(1)


class ChangeLog:
    """The changes of one transaction; savepoints drop their part or fold into their parent."""

    def __init__(self) -> None:
        self._changes: list[Notice] = []
        self._marks: list[tuple[str, int]] = []

    def record(self, change: Notice) -> None:
        """Hold a change until the commit."""
        if isinstance(change, Change):
            _log.debug("%s %s %s: held until commit", change.action, change.resource, change.id)
        else:
            _log.debug("%s: too much for single changes; held until commit", change.resource)
        self._changes.append(change)

    def savepoint(self, name: str) -> None:
        """Note where a savepoint was set."""
        self._marks.append((name, len(self._changes)))

    def rollback_to(self, name: str) -> None:
        """Drop what came after the savepoint.

        One that is not known was set before the log began, so everything came after it.
        """
        start = 0
        while self._marks:
            mark, start = self._marks.pop()
            if mark == name:
                break
        else:
            start = 0
        dropped = len(self._changes) - start
        if dropped:
            _log.debug("%d changes dropped: rolled back to a savepoint", dropped)
        del self._changes[start:]

    def release(self, name: str) -> None:
        """Forget a savepoint and those within it; their changes now belong to its parent."""
        while self._marks:
            mark, _ = self._marks.pop()
            if mark == name:
                return

    def clear(self) -> None:
        """Drop everything: the transaction was rolled back."""
        if self._changes:
            _log.debug("%d changes dropped: rolled back", len(self._changes))
        self._changes.clear()
        self._marks.clear()

    def take(self) -> list[Notice]:
        """What the transaction, which was committed, comes to; it leaves the log empty."""
        changes, self._changes = self._changes, []
        self._marks.clear()
        return net_changes(changes)


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
    database: Database, publish: Publish, *, single: bool = False
) -> AsyncIterator[UnitOfWork]:
    """A transaction of its own: committed at the end, rolled back by any error.

    ``publish`` gets the changes after the commit, while the write lock (where there is one) is
    still held, so that changes are published in the order of their commits.
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
        await uninterrupted(_commit(connection, log, publish))


async def _commit(connection: Transaction, log: ChangeLog, publish: Publish) -> None:
    try:
        await connection.commit()
    except BaseException:
        log.clear()
        await connection.rollback()
        raise
    publish(log.take())

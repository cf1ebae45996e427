"""ExclusiveConnection: a unit of work's connection, for one task at a time and until its end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final

from tidings.errors import ConfigurationError
from tidings.storage.database import Transaction
from tidings.storage.statements import Row, Statement

_ENDED: Final = "this unit of work has ended; open a new one"
_SHARED: Final = (
    "a unit of work was used by two tasks at once, and is undone: await what a hook starts, "
    "or leave transaction= out, so that it has a transaction of its own"
)

# The savepoints that a task is in, its own and those of the task that started it.
_savepoints: ContextVar[tuple[str, ...]] = ContextVar("tidings_savepoints", default=())


class ExclusiveConnection:
    """A `Connection` that refuses what would mix the work of two tasks, or come after the end.

    Drivers answer a second task in ways of their own, in the worst case by leaving the connection
    within a transaction for whoever gets it next. What was refused once makes the transaction
    end in a rollback: nobody knows how much of its work the other task has done.
    """

    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction
        self.is_running = False
        """Whether a task waits for the database at the moment."""
        self._parts = 0
        self._names: list[str] = []
        self._is_shared = False
        self._has_ended = False

    async def fetch(self, statement: Statement, values: Mapping[str, Any]) -> list[Row]:
        """Run a statement and give its rows, or an empty list."""
        with self._turn():
            return await self._transaction.fetch(statement, values)

    async def run(self, sql: str) -> None:
        """Run SQL without parameters and without rows."""
        with self._turn():
            await self._transaction.run(sql)

    def end(self) -> None:
        """Refuse further use."""
        self._has_ended = True

    def check_open(self) -> None:
        """Refuse use after the end.

        Raises:
            ConfigurationError: it has ended.
        """
        if self._has_ended:
            raise ConfigurationError(_ENDED)

    def check_whole(self) -> None:
        """See, before a commit, that nothing is under way any more.

        Raises:
            ConfigurationError: another task is or was at work in it.
        """
        if self.is_running or self._parts or self._is_shared:
            self._is_shared = True
            raise ConfigurationError(_SHARED)

    async def rollback(self) -> None:
        """Undo everything, also what another task is just about to do."""
        if self.is_running:
            await self._transaction.discard()
        else:
            await self._transaction.rollback()

    @contextmanager
    def part(self) -> Iterator[None]:
        """A write with all that belongs to it: a commit within would part them."""
        self.check_open()
        self._parts += 1
        try:
            yield
        finally:
            self._parts -= 1

    async def savepoint(self, name: str) -> None:
        """Set a savepoint, in which this task is from now on."""
        with self._turn():
            await self._transaction.savepoint(name)
        self._names.append(name)
        _savepoints.set((*_savepoints.get(), name))

    async def release(self, name: str) -> None:
        """Forget a savepoint; what was done since stays."""
        with self._turn():
            await self._transaction.release(name)

    async def rollback_to(self, name: str) -> None:
        """Undo everything since a savepoint, and forget it."""
        if self._has_ended or self._is_shared:
            return  # everything is undone
        with self._turn():
            await self._transaction.rollback_to(name)

    def leave(self, name: str) -> None:
        """Have the task be in this savepoint no longer; call it in the one that has set it."""
        if name in self._names:
            self._names.remove(name)
        _savepoints.set(tuple(known for known in _savepoints.get() if known != name))

    @contextmanager
    def _turn(self) -> Iterator[None]:
        self.check_open()
        is_foreign = bool(self._names) and self._names[-1] not in _savepoints.get()
        if self.is_running or self._is_shared or is_foreign:
            self._is_shared = True
            raise ConfigurationError(_SHARED)
        self.is_running = True
        try:
            yield
        finally:
            self.is_running = False

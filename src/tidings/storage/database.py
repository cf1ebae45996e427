"""The executor seam: what a database must offer, so that each can have its own fast way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

from sqlalchemy import Table

from tidings.storage.statements import Row, Statement


class Connection(Protocol):
    """Runs statements, one after the other."""

    async def fetch(self, statement: Statement, values: Mapping[str, Any]) -> list[Row]:
        """Run a statement and give its rows, or an empty list.

        Raises:
            ConstraintViolation: the database refused the values.
            DatabaseBusy: a lock was not to be had in time, or the database cannot be reached.
            QueryTimeout: the statement ran for too long.
            DatabaseFailure: anything else.
        """
        ...

    async def run(self, sql: str) -> None:
        """Run SQL without parameters and without rows, such as trusted code's own."""
        ...


class Transaction(Connection, Protocol):
    """A connection inside one write transaction."""

    @property
    def is_doubtful(self) -> bool:
        """Whether the connection was lost while it committed, so that nobody knows of it."""
        ...

    @property
    def was_ended(self) -> bool:
        """Whether somebody else has ended it (by COMMIT in SQL, say), so that some of it stands."""
        ...

    def check_open(self) -> None:
        """See that the transaction still is one. It costs no question to the server.

        Raises:
            DatabaseBusy: the database has undone it.
            ConfigurationError: somebody else has ended it, which `was_ended` tells from now on.
        """
        ...

    async def commit(self) -> None:
        """Make everything permanent; when it returns, others can see it."""
        ...

    async def rollback(self) -> None:
        """Undo everything. Where that fails the connection is given up, which undoes it as well."""
        ...

    async def discard(self) -> None:
        """Undo everything, whatever is being done with the connection at the moment."""
        ...

    async def savepoint(self, name: str) -> None:
        """Set a savepoint; ``name`` is an SQL identifier made by tidings."""
        ...

    async def rollback_to(self, name: str) -> None:
        """Undo everything since the savepoint, and forget it."""
        ...

    async def release(self, name: str) -> None:
        """Forget the savepoint; what was done since stays."""
        ...


class Database(Protocol):
    """One database."""

    @property
    def dialect_name(self) -> str:
        """SQLAlchemy's name (sqlite, postgresql, mysql, ...); ``mariadb`` where the server is."""
        ...

    @property
    def in_memory(self) -> bool:
        """Whether closing loses the data."""
        ...

    @property
    def answer_seconds(self) -> float:
        """How long the database may take for an answer; then the connection is dropped."""
        ...

    @property
    def insert_returning(self) -> bool:
        """Whether INSERT can give back the row it wrote."""
        ...

    @property
    def update_returning(self) -> bool:
        """Whether UPDATE can give back the rows it wrote."""
        ...

    async def open(self) -> None:
        """Connect, so that what is wrong shows at start."""
        ...

    async def close(self) -> None:
        """Give all connections back."""
        ...

    async def create_tables(self, tables: Sequence[Table]) -> None:
        """Create the tables that do not exist yet."""
        ...

    def reading(self, *, snapshot: bool) -> AbstractAsyncContextManager[Connection]:
        """A connection for reading; with ``snapshot`` all statements see one state."""
        ...

    async def execute(self, statement: Statement, values: Mapping[str, Any]) -> None:
        """Run one statement that writes, as a transaction of its own."""
        ...

    def writing(self) -> AbstractAsyncContextManager[Transaction]:
        """A connection in a write transaction, begun; the caller ends it.

        Where there is no write lock, its reads see what others have committed meanwhile.
        """
        ...

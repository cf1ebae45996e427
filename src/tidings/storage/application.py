"""Joining the application's own transaction: an `AsyncSession` or `AsyncConnection`.

Its changes must go out when *it* commits. SQLAlchemy's ``commit`` event fires before the commit,
and a session's ``after_commit`` also when a savepoint is released; so what is watched are the
dialect's own documented methods (`Dialect.do_commit` and its siblings), which every commit,
rollback and savepoint goes through, whoever asks for it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final
from weakref import WeakSet

from sqlalchemy import Dialect
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from tidings.errors import ConfigurationError
from tidings.storage.core import CoreConnection, prepare
from tidings.storage.unit_of_work import ChangeLog, Publish, UnitOfWork

_KEY: Final = "tidings_joined"
_watched: WeakSet[Dialect] = WeakSet()


class _Joined:
    """The change log of one application transaction; kept in the connection's ``info``."""

    def __init__(self, connection: AsyncConnection, publish: Publish) -> None:
        self.log = ChangeLog()
        self.unit_of_work = UnitOfWork(CoreConnection(connection), self.log)
        self._publish = publish

    def committed(self) -> None:
        self.unit_of_work.end()
        self._publish(self.log.take())

    def rolled_back(self) -> None:
        self.unit_of_work.end()
        self.log.clear()


async def join(handle: AsyncSession | AsyncConnection, publish: Publish) -> UnitOfWork:
    """The unit of work of the transaction that the handle is in (or now begins).

    Pending objects of a session are flushed first, so that operations see them.

    Raises:
        ConfigurationError: the connection commits every statement by itself.
    """
    if isinstance(handle, AsyncSession):
        if handle.sync_session.autoflush:
            await handle.flush()
        connection = await handle.connection()
    else:
        connection = handle
        if not connection.in_transaction():
            await connection.begin()
    options = (
        connection.sync_connection.get_execution_options() if connection.sync_connection else {}
    )
    if options.get("isolation_level") == "AUTOCOMMIT":
        raise ConfigurationError("transaction=: the connection is in AUTOCOMMIT mode")
    joined = connection.info.get(_KEY)
    if joined is None:
        watch(connection.dialect)
        await prepare(connection)
        joined = connection.info[_KEY] = _Joined(connection, publish)
    unit_of_work: UnitOfWork = joined.unit_of_work
    return unit_of_work


def watch(dialect: Dialect) -> None:
    """Wrap the methods of this dialect object that end transactions and handle savepoints."""
    if dialect in _watched:
        return
    _watched.add(dialect)
    _after(dialect, "do_commit", lambda source: _finish(source, committed=True))
    _after(dialect, "do_rollback", lambda source: _finish(source, committed=False))
    _after(dialect, "do_commit_twophase", lambda source, *_: _finish(source, committed=True))
    _after(dialect, "do_rollback_twophase", lambda source, *_: _finish(source, committed=False))
    _after(dialect, "do_savepoint", lambda source, name: _mark(source, ChangeLog.savepoint, name))
    _after(
        dialect,
        "do_rollback_to_savepoint",
        lambda source, name: _mark(source, ChangeLog.rollback_to, name),
    )
    _after(
        dialect, "do_release_savepoint", lambda source, name: _mark(source, ChangeLog.release, name)
    )


def _after(dialect: Dialect, method: str, then: Callable[..., None]) -> None:
    original = getattr(dialect, method)

    def wrapped(*arguments: Any, **options: Any) -> Any:
        result = original(*arguments, **options)
        then(*arguments)
        return result

    setattr(dialect, method, wrapped)


def _finish(source: Any, *, committed: bool) -> None:
    joined = source.info.pop(_KEY, None)
    if joined is not None:
        joined.committed() if committed else joined.rolled_back()


def _mark(source: Any, act: Callable[[ChangeLog, str], None], name: str) -> None:
    joined = source.info.get(_KEY)
    if joined is not None:
        act(joined.log, name)

"""Joining the application's own transaction: an `AsyncSession` or `AsyncConnection`.

Its changes must go out when *it* commits. SQLAlchemy's ``commit`` event fires before the commit,
and a session's ``after_commit`` also when a savepoint is released; so what is watched are the
dialect's own documented methods (`Dialect.do_commit` and its siblings), which every commit,
rollback and savepoint goes through, whoever asks for it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final
from weakref import WeakSet, ref

from sqlalchemy import Dialect
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession, async_scoped_session
from sqlalchemy.util import await_only, greenlet_spawn

from tidings.errors import ConfigurationError
from tidings.storage.change_log import ChangeLog
from tidings.storage.core import CoreConnection, begin_writing, commits_by_itself, prepare
from tidings.storage.fate import Info, forget, is_doubtful, watch_errors
from tidings.storage.publishing import Publication, Publisher
from tidings.storage.unit_of_work import UnitOfWork
from tidings.storage.waiting import uninterrupted

_log = logging.getLogger("tidings.storage")
_KEY: Final = "tidings_joined"
_watched: WeakSet[Dialect] = WeakSet()


class _Joined:
    """The change log of one application transaction; kept in the connection's ``info``.

    It holds no connection: one whose session was dropped without a close must be given back to
    its pool, and that happens when nothing refers to it any more.
    """

    def __init__(self, publisher: Publisher) -> None:
        self.log = ChangeLog()
        self._publisher = publisher
        self._unit_of_work: Callable[[], UnitOfWork | None] = lambda: None

    def unit_of_work(self, connection: AsyncConnection) -> UnitOfWork:
        found = self._unit_of_work()
        if found is None:
            found = UnitOfWork(CoreConnection(connection), self.log)
            self._unit_of_work = ref(found)
        return found

    def begin(self) -> Publication:
        """Call it just before the COMMIT."""
        return self._publisher.begin(self.log.take())

    def committed(self, publication: Publication, *, kept: bool) -> None:
        self._end()
        publication.committed(kept=kept)

    def rolled_back(self) -> None:
        self._end()
        self.log.clear()

    def failed(self, publication: Publication, *, doubtful: bool = False) -> None:
        self._end()
        publication.failed(doubtful=doubtful)

    def undone(self) -> None:
        """The database has undone everything so far; the transaction may go on, as another one."""
        self.log.clear()

    def _end(self) -> None:
        found = self._unit_of_work()
        if found is not None:
            found.end()


async def join(
    handle: AsyncSession | AsyncConnection | async_scoped_session[Any],
    publisher: Publisher,
    *,
    writing: bool = True,
) -> UnitOfWork:
    """The unit of work of the transaction that the handle is in (or now begins).

    Pending objects of a session are flushed first, so that operations see them.

    Raises:
        ConfigurationError: it is no session or connection, or it commits every statement by itself.
    """
    owner: object = handle() if isinstance(handle, async_scoped_session) else handle
    if isinstance(owner, AsyncSession):
        if owner.sync_session.autoflush:
            await owner.flush()
        connection = await owner.connection()
    elif isinstance(owner, AsyncConnection):
        connection = owner
        if not connection.in_transaction():
            await connection.begin()
    else:
        raise ConfigurationError(
            "transaction= takes an AsyncSession, an AsyncConnection or what 'async with "
            f"api.transaction()' gives, not {type(handle).__name__}"
        )
    if await commits_by_itself(connection):
        raise ConfigurationError("transaction=: the connection is in AUTOCOMMIT mode")
    joined: _Joined | None = connection.info.get(_KEY)
    if joined is None:
        watch(connection.dialect)
        await prepare(connection)
        forget(connection.info)
        joined = connection.info[_KEY] = _Joined(publisher)
    if writing:
        await begin_writing(connection)
    return joined.unit_of_work(connection)


def watch(dialect: Dialect) -> None:
    """Wrap the methods of this dialect object that end transactions and handle savepoints."""
    if dialect in _watched:
        return
    _watched.add(dialect)
    watch_errors(dialect, _undone)
    _around_commit(dialect, "do_commit", dialect.do_rollback)
    _around_commit(dialect, "do_commit_twophase", None)
    _after(dialect, "do_rollback", _rolled_back)
    _after(dialect, "do_rollback_twophase", _rolled_back)
    _after(dialect, "do_savepoint", lambda source, name: _mark(source, ChangeLog.savepoint, name))
    _after(
        dialect,
        "do_rollback_to_savepoint",
        lambda source, name: _mark(source, ChangeLog.rollback_to, name),
    )
    _after(dialect, "do_release_savepoint", _released)


def _after(dialect: Dialect, method: str, then: Callable[..., None]) -> None:
    original = getattr(dialect, method)

    def wrapped(*arguments: Any, **options: Any) -> Any:
        result = original(*arguments, **options)
        then(*arguments)
        return result

    setattr(dialect, method, wrapped)


def _around_commit(dialect: Dialect, method: str, rollback: Callable[[Any], object] | None) -> None:
    original = getattr(dialect, method)

    def wrapped(source: Any, *arguments: Any, **options: Any) -> None:
        # Taken out first: a two-phase commit ends with a rollback of what is left, which is none.
        joined: _Joined | None = source.info.pop(_KEY, None)
        if joined is None:
            original(source, *arguments, **options)
            return

        async def commit_and_publish() -> None:
            stands = await greenlet_spawn(_stands, dialect, source)
            publication = joined.begin()
            # Between the two phases of a commit nothing can be written any more.
            kept = stands and rollback is not None
            try:
                if kept:
                    await greenlet_spawn(_keep, publication, dialect, source)
                await greenlet_spawn(original, source, *arguments, **options)
            except BaseException as error:
                joined.failed(publication, doubtful=_is_disconnect(dialect, error, source))
                if rollback is not None:
                    # SQLAlchemy takes a failed commit for the end, SQLite goes on after it.
                    with suppress(Exception):
                        await greenlet_spawn(rollback, source)
                raise
            if stands:
                joined.committed(publication, kept=kept)
            else:
                _log.warning("a transaction was committed after an error: PostgreSQL undoes it all")
                joined.failed(publication)

        # A cancelled request must not part a commit from its notifications: it is waited for.
        await_only(uninterrupted(commit_and_publish()))

    setattr(dialect, method, wrapped)


def _stands(dialect: Dialect, source: Any) -> bool:
    """Whether a commit will be one: PostgreSQL takes it for a rollback once something failed."""
    if dialect.name != "postgresql" or not is_doubtful(source.info):
        return True
    cursor = source.cursor()
    try:
        cursor.execute("SELECT 1")
    except Exception:  # noqa: BLE001  whatever it is, it does not stand
        return False
    finally:
        cursor.close()
    return True


def _keep(publication: Publication, dialect: Dialect, source: Any) -> None:
    """Write what is to be told into the outbox, as the transaction's last statement."""
    for sql, parameters in publication.statements(dialect):
        cursor = source.cursor()
        try:
            cursor.execute(sql, parameters)
        finally:
            cursor.close()


def _is_disconnect(dialect: Dialect, error: BaseException, source: Any) -> bool:
    """Whether the connection was lost, so that nobody knows what has become of the commit."""
    driver = dialect.dbapi
    if driver is None or not isinstance(error, driver.Error):
        return False
    return dialect.is_disconnect(error, source, None)


def _undone(info: Info) -> None:
    joined: _Joined | None = info.get(_KEY)
    if joined is not None:
        joined.undone()


def _rolled_back(source: Any, *_: object) -> None:
    joined: _Joined | None = source.info.pop(_KEY, None)
    if joined is not None:
        joined.rolled_back()


def _mark(source: Any, act: Callable[[ChangeLog, str], None], name: str) -> None:
    joined: _Joined | None = source.info.get(_KEY)
    if joined is not None:
        act(joined.log, name)


def _released(source: Any, name: str) -> None:
    _mark(source, ChangeLog.release, name)
    # Python's SQLite driver begins no transaction for a savepoint, so that one set before the
    # first write *is* the transaction, and its release the commit.
    if source.dialect.name == "sqlite" and not source.connection.driver_connection.in_transaction:
        joined: _Joined | None = source.info.pop(_KEY, None)
        if joined is not None:
            # It is committed already: too late for the outbox.
            joined.committed(joined.begin(), kept=False)

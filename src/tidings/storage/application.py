"""Joining the application's own transaction: an `AsyncSession` or `AsyncConnection`.

Its changes must go out when *it* commits. SQLAlchemy's ``commit`` event fires before the commit,
and a session's ``after_commit`` also when a savepoint is released; so what is watched are the
dialect's own documented methods (`Dialect.do_commit` and its siblings), which every commit,
rollback and savepoint goes through, whoever asks for it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Any, Final
from weakref import WeakSet, ref

from sqlalchemy import Dialect
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession, async_scoped_session
from sqlalchemy.util import await_only, greenlet_spawn

from tidings.errors import ConfigurationError
from tidings.storage.bounds import GRACE_SECONDS, STATEMENT_SECONDS, bounded, cut
from tidings.storage.change_log import ChangeLog
from tidings.storage.core import CoreConnection, begin_writing, commits_by_itself, prepare
from tidings.storage.fate import (
    ENDED_BY_SQL,
    Info,
    forget,
    in_transaction,
    is_doubtful,
    watch_errors,
)
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

    def __init__(self, publisher: Publisher, seconds: float) -> None:
        self.log = ChangeLog()
        self.seconds = seconds
        self.opening = publisher.opening
        """The SQL that is still to be run before the first write."""
        self._publisher = publisher
        self._unit_of_work: Callable[[], UnitOfWork | None] = lambda: None

    def unit_of_work(self, connection: AsyncConnection) -> UnitOfWork:
        found = self._unit_of_work()
        if found is None:
            found = UnitOfWork(CoreConnection(connection, self.seconds), self.log)
            self._unit_of_work = ref(found)
        return found

    def check(self, source: Any) -> None:
        """See, before a commit, that there is still something whole to commit.

        Raises:
            ConfigurationError: another task is at work in it, or somebody has ended it by SQL.
        """
        found = self._unit_of_work()
        if found is not None:
            found.check_whole()
        if self.was_ended(source):
            raise ConfigurationError(ENDED_BY_SQL)

    @property
    def is_running(self) -> bool:
        """Whether another task waits for the database, so that it could answer nobody else."""
        found = self._unit_of_work()
        return found is not None and found.is_running

    def was_ended(self, source: Any) -> bool:
        """Whether what was to be told of belongs to a transaction that is over already."""
        is_over = in_transaction(source.driver_connection) is False
        return bool(self.log) and is_over and not is_doubtful(source.info)

    def begin(self) -> Publication:
        """Call it just before the COMMIT. Whoever comes while that runs comes too late."""
        self.end()
        return self._publisher.begin(self.log.take())

    def committed(self, publication: Publication, *, kept: bool) -> None:
        self.end()
        publication.committed(kept=kept)

    def rolled_back(self, *, was_ended: bool) -> None:
        self.end()
        if was_ended:
            _log.error("%s; what it has changed may stand, and is told as resync", ENDED_BY_SQL)
            self.begin().failed(doubtful=True)
        self.log.clear()

    def failed(self, publication: Publication, *, doubtful: bool = False) -> None:
        self.end()
        publication.failed(doubtful=doubtful)

    def undone(self) -> None:
        """The database has undone everything so far; the transaction may go on, as another one."""
        self.log.clear()

    def end(self) -> None:
        """Refuse further use."""
        found = self._unit_of_work()
        if found is not None:
            found.end()


async def join(
    handle: AsyncSession | AsyncConnection | async_scoped_session[Any],
    publisher: Publisher,
    *,
    writing: bool = True,
    seconds: float = STATEMENT_SECONDS + GRACE_SECONDS,
) -> UnitOfWork:
    """The unit of work of the transaction that the handle is in (or now begins).

    Pending objects of a session are flushed first, so that operations see them. A connection that
    does not answer our statements, or the commit, within ``seconds`` is dropped.

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
        joined = connection.info[_KEY] = _Joined(publisher, seconds)
    if writing:
        await begin_writing(connection)
        if (opening := joined.opening) is not None:
            await CoreConnection(connection, seconds).run(opening)
            joined.opening = None  # not before: without it the rows of two transactions were one's
    return joined.unit_of_work(connection)


def watch(dialect: Dialect) -> None:
    """Wrap the methods of this dialect object that end transactions and handle savepoints."""
    if dialect in _watched:
        return
    _watched.add(dialect)
    watch_errors(dialect, _undone)
    _around_commit(dialect, "do_commit", dialect.do_rollback)
    _around_commit(dialect, "do_commit_twophase", None)
    _around_rollback(dialect, "do_rollback")
    _around_rollback(dialect, "do_rollback_twophase", is_prepared=True)
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


def _around_rollback(dialect: Dialect, method: str, *, is_prepared: bool = False) -> None:
    original = getattr(dialect, method)

    def wrapped(source: Any, *arguments: Any, **options: Any) -> None:
        joined: _Joined | None = source.info.pop(_KEY, None)
        if joined is None:
            original(source, *arguments, **options)
            return
        was_ended = not is_prepared and joined.was_ended(source)
        joined.end()
        try:
            if joined.is_running:
                _give_up(source)  # which undoes it
                return
            with bounded(source.driver_connection, joined.seconds):
                original(source, *arguments, **options)
        except Exception:
            _give_up(source)
            raise
        finally:
            joined.rolled_back(was_ended=was_ended)

    setattr(dialect, method, wrapped)


def _undo(rollback: Callable[[Any], object], source: Any) -> None:
    try:
        rollback(source)
    except Exception:  # noqa: BLE001  whatever it is, the connection is of no use any more
        _give_up(source)


def _give_up(source: Any) -> None:
    """Have a connection that may still be in its transaction come to nobody else."""
    cut(source.driver_connection)
    source.invalidate(soft=True)


def _around_commit(dialect: Dialect, method: str, rollback: Callable[[Any], object] | None) -> None:
    original = getattr(dialect, method)

    def wrapped(source: Any, *arguments: Any, **options: Any) -> None:
        # Taken out first: a two-phase commit ends with a rollback of what is left, which is none.
        joined: _Joined | None = source.info.pop(_KEY, None)
        if joined is None:
            original(source, *arguments, **options)
            return

        async def commit_and_publish() -> None:
            with bounded(source.driver_connection, joined.seconds):
                await check_and_commit()

        async def check_and_commit() -> None:
            if rollback is not None:  # once it is prepared, a driver is in no transaction
                try:
                    joined.check(source)
                except ConfigurationError:
                    was_ended = joined.was_ended(source)  # asked before the log is taken
                    undo = _give_up if joined.is_running else partial(_undo, rollback)
                    joined.failed(joined.begin(), doubtful=was_ended)
                    await greenlet_spawn(undo, source)
                    raise
            publication = joined.begin()
            stands = await greenlet_spawn(_stands, dialect, source)
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
                    await greenlet_spawn(_undo, rollback, source)
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

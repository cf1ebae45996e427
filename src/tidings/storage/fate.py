"""Transactions that are over while the application still believes in them.

PostgreSQL answers nothing more after an error, and then takes COMMIT for ROLLBACK without a word.
MariaDB and MySQL undo the whole transaction of a deadlock's victim, and its next statement begins
another one. Where an application swallows the error and commits, there is nothing to be told of.
And a COMMIT that somebody has written in SQL ends a transaction behind everybody's back.
"""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from typing import Any, Final
from weakref import WeakSet

from sqlalchemy import Dialect, ExceptionContext, event

_DOUBTFUL: Final = "tidings_doubtful"
# Deadlock; and the row was changed since the transaction's snapshot (MariaDB 11.6 and later).
_UNDOING: Final = (1213, 1020)

ENDED_BY_SQL: Final = (
    "the transaction was ended by somebody else, by COMMIT or ROLLBACK in SQL, or by a statement "
    "such as CREATE TABLE that commits by itself: leave its end to tidings"
)
_watched: WeakSet[Dialect] = WeakSet()
Info = MutableMapping[Any, Any]


def watch_errors(dialect: Dialect, undone: Callable[[Info], None] | None = None) -> None:
    """Note errors in the ``info`` of the connections they happen on.

    ``undone`` is called with that where the database has undone the transaction at once.
    """
    if undone is None and dialect in _watched:
        return

    def note(context: ExceptionContext) -> None:
        if context.connection is None or context.connection.invalidated:
            return
        info = context.connection.info
        if dialect.name == "postgresql":
            info[_DOUBTFUL] = True
        elif error_number(context.original_exception) in _UNDOING:
            info[_DOUBTFUL] = True
            if undone is not None:
                undone(info)

    _watched.add(dialect)
    event.listen(dialect, "handle_error", note)


def error_number(error: BaseException | None) -> int | None:
    """MariaDB's and MySQL's number of an error, as their drivers give it."""
    number = error.args[0] if error is not None and error.args else None
    return number if isinstance(number, int) else None


_IN_TRANSACTION: Final = 1
"""The bit of MariaDB's and MySQL's server status."""


def in_transaction(driver: Any) -> bool | None:
    """Whether a driver's connection is in a transaction, without asking the server; None where
    the driver does not tell, or the connection is lost.
    """
    if (ask := getattr(driver, "is_in_transaction", None)) is not None:  # asyncpg
        return None if driver.is_closed() else bool(ask())
    if hasattr(type(driver), "in_transaction"):  # aiosqlite
        try:
            return bool(driver.in_transaction)
        except ValueError:  # it is closed
            return None
    # asyncmy keeps a status of 0 to its result, which is just the one that tells.
    status = getattr(getattr(driver, "_result", None), "server_status", None)
    return None if status is None else bool(status & _IN_TRANSACTION)


def is_doubtful(info: Info) -> bool:
    """Whether a statement has failed such that the transaction may not stand any more."""
    return _DOUBTFUL in info


def note_undone(info: Info) -> None:
    """Note that a statement's failure has undone the transaction, as some of SQLite's do."""
    info[_DOUBTFUL] = True


def forget(info: Info) -> None:
    """Begin anew: what was noted is of another transaction."""
    info.pop(_DOUBTFUL, None)

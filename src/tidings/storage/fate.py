"""Transactions that the database has given up while the application still believes in them.

PostgreSQL answers nothing more after an error, and then takes COMMIT for ROLLBACK without a word.
MariaDB and MySQL undo the whole transaction of a deadlock's victim, and its next statement begins
another one. Where an application swallows the error and commits, there is nothing to be told of.
"""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from typing import Any, Final
from weakref import WeakSet

from sqlalchemy import Dialect, ExceptionContext, event

_DOUBTFUL: Final = "tidings_doubtful"
# Deadlock; and the row was changed since the transaction's snapshot (MariaDB 11.6 and later).
_UNDOING: Final = (1213, 1020)

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


def is_doubtful(info: Info) -> bool:
    """Whether a statement has failed such that the transaction may not stand any more."""
    return _DOUBTFUL in info


def forget(info: Info) -> None:
    """Begin anew: what was noted is of another transaction."""
    info.pop(_DOUBTFUL, None)

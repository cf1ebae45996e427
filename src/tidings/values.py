"""Values: kept out of the log, where a database's error would quote them."""

from __future__ import annotations

from typing import Final

_DATABASES: Final = frozenset(
    {"aiomysql", "asyncmy", "asyncpg", "psycopg", "psycopg2", "pymysql", "sqlalchemy", "sqlite3"}
)
_TELLING: Final = ("42", "3D", "3F", "28", "25")
"""Classes of SQL states whose texts name tables, columns and rights, and no values."""


class HiddenError(Exception):
    """Stands in the log for an error of a database, with its class and code but without its text.

    That would quote the parameters of the statement, the record that breaks a constraint, or what
    could not be read as a number.
    """


def without_values(error: BaseException) -> BaseException:
    """The error as it may be logged: errors of databases in its chain are replaced.

    logger.error("it failed", exc_info=without_values(error))
    """
    return _shown(error, set()) or error


def _shown(error: BaseException, seen: set[int]) -> BaseException | None:
    """The error or what stands for it; None once more for one that has been seen."""
    if id(error) in seen:
        return None
    seen.add(id(error))
    if type(error).__module__.partition(".")[0] in _DATABASES:
        return HiddenError(_told(error)).with_traceback(error.__traceback__)
    if error.__cause__ is not None:
        error.__cause__ = _shown(error.__cause__, seen) or error.__cause__
    elif error.__context__ is not None:
        error.__context__ = _shown(error.__context__, seen) or error.__context__
    return error


def _told(error: BaseException) -> str:
    origin = getattr(error, "orig", None) or error
    kind = type(origin).__name__
    if type(origin).__module__ == "sqlite3":  # its texts have names and no values
        return f"{kind}: {origin}"
    state = getattr(origin, "sqlstate", None) or getattr(origin, "pgcode", None)
    number = origin.args[0] if origin.args and isinstance(origin.args[0], int) else None
    code = number if number is not None else state
    if isinstance(code, str) and code.startswith(_TELLING):
        return f"{kind} {code}: {str(origin).splitlines()[0]}"
    return kind if code is None else f"{kind} {code}"

"""What databases refuse, in terms of constraints and columns instead of drivers and codes."""

from __future__ import annotations

import logging
import re
import sqlite3
from typing import Literal

from sqlalchemy import exc

from tidings.errors import DatabaseBusy, TidingsError
from tidings.storage.fate import error_number

_log = logging.getLogger("tidings.storage")

ConstraintKind = Literal["unique", "foreign key", "not null", "other"]

_SQLSTATE: dict[str, ConstraintKind] = {
    "23505": "unique",
    "23503": "foreign key",
    "23502": "not null",
}
_SQLSTATE_BUSY = {
    "40001",  # a serialization failure
    "40P01",  # a deadlock
    "55P03",  # lock_timeout
    "57014",  # statement_timeout
    "53300",  # too many connections
    "57P01",  # an administrator has ended the connection
    "57P02",
    "57P03",  # the server is starting up
    "57P05",
}
_MYSQL_NUMBERS: dict[int, ConstraintKind] = {
    1062: "unique",
    1451: "foreign key",
    1452: "foreign key",
    1048: "not null",
    1364: "not null",  # no value, and no default
    1406: "other",  # too long
    1264: "other",  # out of range
    1366: "other",  # a character that the column's charset does not have
    4025: "other",  # CHECK, on MariaDB
    3819: "other",  # CHECK, on MySQL
}
_MYSQL_BUSY = {
    1205,  # innodb_lock_wait_timeout
    1213,  # a deadlock
    1020,  # the row was changed since the snapshot
    1040,  # too many connections
    1203,
    1053,  # the server is shutting down
    1317,  # the statement was killed
    1969,  # max_statement_time
    3024,  # max_execution_time
    1927,  # the connection was killed
    2003,
    2006,
    2013,
    2055,
    4031,
}
# PostgreSQL's details and MariaDB's messages come in the server's language; these parts do not.
_POSTGRESQL_KEY = re.compile(r"\((.+?)\)=\(")
_MYSQL_LAST_QUOTED = re.compile(r"'(?:[^']*\.)?([^'.]*)'\)?$")
_MYSQL_FIRST_QUOTED = re.compile(r"'([^']*)'")
_MYSQL_FOREIGN_KEY = re.compile(r"FOREIGN KEY \(([^)]*)\)")
_SQLITE_COLUMNS = re.compile(r"constraint failed: (.+)$")


class ConstraintViolation(TidingsError):
    """A statement broke a constraint; ``columns`` are those of it, where the database says."""

    def __init__(self, kind: ConstraintKind, columns: tuple[str, ...] = ()) -> None:
        super().__init__(f"{kind} constraint on {', '.join(columns) or 'unknown columns'}")
        self.kind = kind
        self.columns = columns


def translate(error: Exception) -> Exception:
    """The tidings error for a driver's or SQLAlchemy's error; the error itself if unknown."""
    origin = error.orig if isinstance(error, exc.DBAPIError) else error
    for candidate in (origin, getattr(origin, "__cause__", None)):
        if isinstance(candidate, sqlite3.Error):
            return _from_sqlite(candidate) or error
    if isinstance(origin, OSError) or getattr(error, "connection_invalidated", False):
        return unreachable(error)
    return _from_state(origin) or _from_number(origin) or error


def unreachable(error: Exception) -> Exception:
    """What a lost connection, or one that cannot be made, means to whoever asked."""
    _log.warning("no connection to the database: %s", getattr(error, "orig", None) or error)
    return DatabaseBusy("The database cannot be reached; try again")


def _from_sqlite(error: sqlite3.Error) -> Exception | None:
    name = getattr(error, "sqlite_errorname", "")
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return DatabaseBusy("The database is busy; try again")
    if not name.startswith("SQLITE_CONSTRAINT"):
        return None
    found = _SQLITE_COLUMNS.search(str(error))
    columns = tuple(part.split(".")[-1] for part in found[1].split(", ")) if found else ()
    kinds: dict[str, ConstraintKind] = {
        "SQLITE_CONSTRAINT_UNIQUE": "unique",
        "SQLITE_CONSTRAINT_PRIMARYKEY": "unique",
        "SQLITE_CONSTRAINT_FOREIGNKEY": "foreign key",
        "SQLITE_CONSTRAINT_NOTNULL": "not null",
    }
    return ConstraintViolation(kinds.get(name, "other"), columns)


def _from_state(origin: object) -> Exception | None:
    """PostgreSQL's, or any driver's that gives SQL states as PostgreSQL does."""
    state = getattr(origin, "sqlstate", None) or getattr(origin, "pgcode", None)
    if not isinstance(state, str) or _number(origin) is not None:
        return None
    if state in _SQLSTATE_BUSY or state.startswith("08"):
        return DatabaseBusy("The database is busy; try again")
    # 22: a value that does not fit its column; 54000: one that does not fit an index.
    if not state.startswith(("22", "23")) and state != "54000":
        return None
    cause = getattr(origin, "__cause__", None)
    said = next((found for found in (origin, cause) if hasattr(found, "constraint_name")), None)
    columns: tuple[str, ...] = ()
    if column := getattr(said, "column_name", None):
        columns = (column,)
    elif found := _POSTGRESQL_KEY.search(getattr(said, "detail", None) or ""):
        columns = tuple(name.strip('"') for name in found[1].split(", "))
    return ConstraintViolation(_SQLSTATE.get(state, "other"), columns)


def _from_number(origin: object) -> Exception | None:
    """MariaDB's and MySQL's."""
    number = _number(origin)
    if number in _MYSQL_BUSY:
        return DatabaseBusy("The database is busy; try again")
    if number not in _MYSQL_NUMBERS:
        return None
    assert isinstance(origin, Exception)
    assert number is not None
    kind = _MYSQL_NUMBERS[number]
    message = str(origin.args[1]) if len(origin.args) > 1 else ""
    return ConstraintViolation(kind, _mysql_columns(number, message))


def _mysql_columns(number: int, message: str) -> tuple[str, ...]:
    if number == 1062:
        # It names the key. Unless somebody has named it, it is called like its first column.
        found = _MYSQL_LAST_QUOTED.search(message)
        return () if found is None else ("id" if found[1] == "PRIMARY" else found[1],)
    if number == 1452:
        found = _MYSQL_FOREIGN_KEY.search(message)
        return () if found is None else tuple(found[1].replace("`", "").split(", "))
    if number in (1048, 1364, 1406, 1264):
        found = _MYSQL_FIRST_QUOTED.search(message)
        return () if found is None else (found[1],)
    return ()


def _number(origin: object) -> int | None:
    return error_number(origin if isinstance(origin, Exception) else None)

"""What databases refuse, in terms of constraints and columns instead of drivers and codes."""

from __future__ import annotations

import logging
import re
import sqlite3
from typing import Literal

from sqlalchemy import exc

from tidings.errors import DatabaseBusy, QueryTimeout, TidingsError
from tidings.storage.fate import error_number

_log = logging.getLogger("tidings.storage")

ConstraintKind = Literal["unique", "foreign key", "not null", "other"]

Kind = Literal["busy", "timeout", "unreachable", "full", "read-only"]
"""What has become of a statement where neither it nor its values were at fault."""

_SQLSTATE: dict[str, ConstraintKind] = {
    "23505": "unique",
    "23503": "foreign key",
    "23502": "not null",
}
# By the whole state, or else by its class: its first two characters.
_SQLSTATE_KINDS: dict[str, Kind] = {
    "08": "unreachable",
    "25006": "read-only",  # a standby, or default_transaction_read_only
    "25P03": "unreachable",  # idle_in_transaction_session_timeout
    "25P04": "unreachable",  # transaction_timeout
    "40": "busy",  # a serialization failure, a deadlock
    "53": "full",  # disk, memory, connections, locks
    "53300": "busy",  # too many connections
    "53400": "busy",
    "55006": "busy",  # the object is in use
    "55P03": "busy",  # lock_timeout
    "57014": "timeout",  # statement_timeout
    "57P": "unreachable",  # an administrator, a crash, a start, an idle session
    "58": "full",  # the server's own disk
    "72000": "busy",  # the snapshot is too old
}
_MYSQL_NUMBERS: dict[int, ConstraintKind] = {
    1062: "unique",
    1586: "unique",
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
_MYSQL_KINDS: dict[int, Kind] = {
    1020: "busy",  # the row was changed since the snapshot
    1021: "full",  # the disk
    1028: "timeout",  # a sort was killed
    1037: "full",  # memory
    1038: "full",
    1040: "busy",  # too many connections
    1041: "full",
    1053: "unreachable",  # the server is shutting down
    1105: "busy",  # "unknown error", as proxies say it
    1114: "full",  # the table
    1129: "unreachable",  # this host is blocked
    1158: "unreachable",  # 1158 to 1161: reading or writing packets
    1159: "unreachable",
    1160: "unreachable",
    1161: "unreachable",
    1180: "busy",  # an error during COMMIT, as of a cluster
    1184: "unreachable",
    1203: "busy",  # too many connections of this user
    1205: "busy",  # innodb_lock_wait_timeout
    1206: "full",  # locks
    1213: "busy",  # a deadlock
    1226: "busy",  # a user's resources
    1290: "read-only",  # --read-only
    1317: "busy",  # the statement was killed
    1412: "busy",  # the table's definition has changed
    1615: "busy",  # a prepared statement has to be prepared anew
    1792: "read-only",  # the transaction
    1836: "read-only",
    1927: "unreachable",  # the connection was killed
    1969: "timeout",  # max_statement_time
    2002: "unreachable",
    2003: "unreachable",
    2006: "unreachable",
    2013: "unreachable",
    2014: "unreachable",
    2055: "unreachable",
    3024: "timeout",  # max_execution_time
    3101: "busy",  # a cluster has refused it
    3572: "busy",  # NOWAIT
    4031: "unreachable",  # idle for too long
}
_SQLITE_KINDS: dict[str, Kind] = {
    "SQLITE_BUSY": "busy",
    "SQLITE_LOCKED": "busy",
    "SQLITE_SCHEMA": "busy",  # the schema has changed again and again
    "SQLITE_PROTOCOL": "busy",  # the locks of WAL
    "SQLITE_INTERRUPT": "timeout",
    "SQLITE_FULL": "full",
    "SQLITE_NOMEM": "full",
    "SQLITE_IOERR": "full",
    "SQLITE_CANTOPEN": "unreachable",
    "SQLITE_READONLY": "read-only",
}
# PostgreSQL's details and MariaDB's messages come in the server's language; these parts do not.
_POSTGRESQL_KEY = re.compile(r"\((.+?)\)=\(")
_MYSQL_LAST_QUOTED = re.compile(r"'(?:[^']*\.)?([^'.]*)'\)?$")
_MYSQL_FIRST_QUOTED = re.compile(r"'([^']*)'")
_MYSQL_FOREIGN_KEY = re.compile(r"FOREIGN KEY \(([^)]*)\)")
_CLASS = re.compile(r"^(?:\([\w.]+\) )?<class '[\w.]+'>: ")
_SQLITE_COLUMNS = re.compile(r"constraint failed: (.+)$")


class ConstraintViolation(TidingsError):
    """A statement broke a constraint; ``columns`` are those of it, where the database says."""

    def __init__(self, kind: ConstraintKind, columns: tuple[str, ...] = ()) -> None:
        super().__init__(f"{kind} constraint on {', '.join(columns) or 'unknown columns'}")
        self.kind = kind
        self.columns = columns


class StaleStatement(DatabaseBusy):
    """A statement was prepared before a migration; it will do when it is prepared anew."""


class DatabaseFailure(Exception):
    """An error of the database that nobody foresaw; its text has no values.

    ``reason`` is the driver's own text where that cannot quote values, for whoever runs the api.
    """

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(f"{code}: {reason}" if code else reason)
        self.reason = reason


def translate(error: Exception) -> Exception:
    """The error to raise for a driver's or SQLAlchemy's error."""
    origin = error.orig if isinstance(error, exc.StatementError) else error
    for candidate in (origin, getattr(origin, "__cause__", None)):
        if isinstance(candidate, sqlite3.Error):
            return _from_sqlite(candidate)
    if isinstance(origin, OSError) or getattr(error, "connection_invalidated", False):
        return unreachable(error)
    if _is_stale(origin):
        return StaleStatement("The database is busy; try again")
    return _from_state(origin) or _from_number(origin) or _unforeseen(origin)


def unreachable(error: Exception) -> DatabaseBusy:
    """What a lost connection, or one that cannot be made, means to whoever asked."""
    _log.warning("no connection to the database: %s", getattr(error, "orig", None) or error)
    return DatabaseBusy("The database cannot be reached; try again")


def _refusal(kind: Kind, origin: BaseException) -> DatabaseBusy:
    if kind == "timeout":
        return QueryTimeout(
            "The database has stopped a statement that ran for too long; ask for less: "
            "fewer filters, shorter texts, a smaller page"
        )
    if kind == "busy":
        return DatabaseBusy("The database is busy; try again")
    _log.warning("the database is %s: %s", kind, _said(origin))
    told = {
        "unreachable": "The database cannot be reached; try again",
        "full": "The database has no room at the moment; try again later",
        "read-only": "The database can only be read at the moment; try again later",
    }
    return DatabaseBusy(told[kind])


def _from_sqlite(error: sqlite3.Error) -> Exception:
    name = getattr(error, "sqlite_errorname", "")
    # SQLITE_BUSY_SNAPSHOT is a kind of SQLITE_BUSY.
    if kind := _SQLITE_KINDS.get("_".join(name.split("_")[:2])):
        return _refusal(kind, error)
    if not name.startswith("SQLITE_CONSTRAINT"):
        return DatabaseFailure(name, _said(error))
    found = _SQLITE_COLUMNS.search(str(error))
    columns = tuple(part.split(".")[-1] for part in found[1].split(", ")) if found else ()
    kinds: dict[str, ConstraintKind] = {
        "SQLITE_CONSTRAINT_UNIQUE": "unique",
        "SQLITE_CONSTRAINT_PRIMARYKEY": "unique",
        "SQLITE_CONSTRAINT_FOREIGNKEY": "foreign key",
        "SQLITE_CONSTRAINT_NOTNULL": "not null",
    }
    return ConstraintViolation(kinds.get(name, "other"), columns)


def _state(origin: object) -> str | None:
    state = getattr(origin, "sqlstate", None) or getattr(origin, "pgcode", None)
    return state if isinstance(state, str) and _number(origin) is None else None


def _from_state(origin: object) -> TidingsError | None:
    """PostgreSQL's, or any driver's that gives SQL states as PostgreSQL does."""
    state = _state(origin)
    if state is None:
        return None
    assert isinstance(origin, BaseException)
    for part in (state, state[:3], state[:2]):
        if kind := _SQLSTATE_KINDS.get(part):
            return _refusal(kind, origin)
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


def _is_stale(error: BaseException | None) -> bool:
    """Whether a statement was prepared before a migration.

    asyncpg has a class of its own for it; PostgreSQL says it in the server's language, under the
    state of everything that it cannot do.
    """
    names = {type(found).__name__ for found in (error, getattr(error, "__cause__", None))}
    return bool(names & {"InvalidCachedStatementError", "OutdatedSchemaCacheError"})


def _from_number(origin: object) -> TidingsError | None:
    """MariaDB's and MySQL's."""
    number = _number(origin)
    if number is None:
        return None
    assert isinstance(origin, Exception)
    if kind := _MYSQL_KINDS.get(number):
        return _refusal(kind, origin)
    if number not in _MYSQL_NUMBERS:
        return None
    message = str(origin.args[1]) if len(origin.args) > 1 else ""
    return ConstraintViolation(_MYSQL_NUMBERS[number], _mysql_columns(number, message))


def _unforeseen(origin: BaseException | None) -> DatabaseFailure:
    number = _number(origin)
    code = _state(origin) or ("" if number is None else str(number))
    return DatabaseFailure(code, _said(origin))


# Of these the text names tables, columns and rights, and no values.
_TELLING_STATES = ("42", "3D", "3F", "28", "25", "0A")
_TELLING_NUMBERS = {1044, 1045, 1046, 1049, 1051, 1054, 1072, 1091, 1142, 1143, 1146, 1227, 1370}


def _said(origin: BaseException | None) -> str:
    """What an error says of itself, in one line, where that cannot quote values."""
    kind = type(origin).__name__
    state, number = _state(origin), _number(origin)
    is_telling = (
        isinstance(origin, sqlite3.Error | OSError)
        or (state is not None and state.startswith(_TELLING_STATES))
        or number in _TELLING_NUMBERS
        or number in _MYSQL_KINDS
        or (state is not None and any(state[:n] in _SQLSTATE_KINDS for n in (5, 3, 2)))
    )
    if not is_telling or origin is None:
        return f"{kind} (its text may quote values, and is not shown)"
    told = origin.args[1] if number is not None and len(origin.args) > 1 else origin
    lines = _CLASS.sub("", str(told).strip()).splitlines()
    return lines[0] if lines else kind


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

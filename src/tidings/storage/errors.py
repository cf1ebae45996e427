"""What databases refuse, in terms of constraints and columns instead of drivers and codes."""

from __future__ import annotations

import re
import sqlite3
from typing import Literal

from sqlalchemy import exc

from tidings.errors import DatabaseBusy, TidingsError

ConstraintKind = Literal["unique", "foreign key", "not null", "other"]

_SQLSTATE: dict[str, ConstraintKind] = {
    "23505": "unique",
    "23503": "foreign key",
    "23502": "not null",
}
_MYSQL_NUMBERS: dict[int, ConstraintKind] = {
    1062: "unique",
    1451: "foreign key",
    1452: "foreign key",
    1048: "not null",
}
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
    return _from_codes(origin) or error


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


def _from_codes(origin: object) -> Exception | None:
    state = getattr(origin, "sqlstate", None) or getattr(origin, "pgcode", None)
    if isinstance(state, str) and state.startswith("23"):
        return ConstraintViolation(_SQLSTATE.get(state, "other"))
    if state in ("40001", "40P01", "55P03"):
        return DatabaseBusy("The database is busy; try again")
    number = origin.args[0] if isinstance(origin, Exception) and origin.args else None
    if isinstance(number, int) and number in _MYSQL_NUMBERS:
        return ConstraintViolation(_MYSQL_NUMBERS[number])
    if number in (1205, 1213):
        return DatabaseBusy("The database is busy; try again")
    return None

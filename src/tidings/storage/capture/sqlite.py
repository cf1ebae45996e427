"""The triggers of SQLite.

A REPLACE deletes rows without a word (unless ``recursive_triggers`` is on). So what an INSERT may
replace is noted before it as a guess, and after it either confirmed or dropped.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from tidings.storage.capture.triggers import (
    CAPTURED,
    LONG,
    MOST_LETTERS,
    TriggerSet,
    Watched,
    literal,
    quoted,
)

_PER_OBJECT: Final = 40
"""How many members one call of json_object takes: it has at most 100 arguments."""
_NOW: Final = "(julianday('now') - 2440587.5) * 86400.0"


def sqlite_triggers(watched: Watched, uniques: Sequence[Sequence[str]] = ()) -> TriggerSet:
    """The triggers of a table; ``uniques`` are the columns of its unique indexes."""
    old, new = _image(watched, "OLD"), _image(watched, "NEW")
    key = quoted(watched.key)
    table = quoted(watched.table)
    differs = " OR ".join(
        f"OLD.{quoted(name)} IS NOT NEW.{quoted(name)}" for name in watched.all_columns
    )
    conflict = " OR ".join(
        "(" + " AND ".join(f"{quoted(name)} = NEW.{quoted(name)}" for name in names) + ")"
        for names in [(watched.key,), *uniques]
    )
    guesses = f"op = 'g' AND source = {literal(watched.source)}"
    there = f"SELECT 1 FROM {table} WHERE CAST({key} AS TEXT) = record"
    bodies = {
        "guess": (
            "BEFORE INSERT",
            "",
            _note(watched, "'g'", f"CAST({key} AS TEXT)", _image(watched, None), "NULL")
            + f" FROM {table} WHERE {conflict}",
        ),
        "insert": (
            "AFTER INSERT",
            "",
            f"UPDATE {CAPTURED} SET op = 'd' WHERE {guesses} "
            f"AND (record = CAST(NEW.{key} AS TEXT) OR NOT EXISTS ({there})); "
            f"DELETE FROM {CAPTURED} WHERE {guesses}; "
            + _note(watched, "'i'", f"CAST(NEW.{key} AS TEXT)", "NULL", new),
        ),
        "update": (
            "AFTER UPDATE",
            f" WHEN {differs}",
            f"DELETE FROM {CAPTURED} WHERE {guesses}; "
            + _note(watched, "'u'", f"CAST(NEW.{key} AS TEXT)", old, new),
        ),
        "delete": (
            "AFTER DELETE",
            "",
            _note(watched, "'d'", f"CAST(OLD.{key} AS TEXT)", old, "NULL"),
        ),
    }
    create, drop, expected = [], [], {}
    for kind, (event, when, body) in bodies.items():
        name = f"{watched.name}_{kind}"
        statement = (
            f"CREATE TRIGGER {quoted(name)} {event} ON {table} FOR EACH ROW{when} BEGIN {body}; END"
        )
        create.append(statement)
        drop.append(f"DROP TRIGGER IF EXISTS {quoted(name)}")
        expected[name] = statement
    return TriggerSet(tuple(create), tuple(drop), expected)


def _note(watched: Watched, op: str, record: str, old: str, new: str) -> str:
    return (
        f"INSERT INTO {CAPTURED} (tx, source, op, record, old_row, new_row, added) "
        f"SELECT '', {literal(watched.source)}, {op}, {record}, {old}, {new}, {_NOW}"
    )


def _image(watched: Watched, row: str | None) -> str:
    """An array of objects, whose members together are the image."""
    members = [f"{literal(name)}, {_value(watched, name, row)}" for name in watched.columns]
    if watched.longs:
        names = " || ".join(
            f"CASE WHEN {_is_long(name, row)} THEN {literal(name + '|')} ELSE '' END"
            for name in watched.columns
            if name in watched.longs
        )
        members.append(f"{literal(LONG)}, {names}")
    parts = [
        f"json_object({', '.join(members[start : start + _PER_OBJECT])})"
        for start in range(0, len(members), _PER_OBJECT)
    ]
    return f"json_array({', '.join(parts)})"


def _column(name: str, row: str | None) -> str:
    return quoted(name) if row is None else f"{row}.{quoted(name)}"


def _is_long(name: str, row: str | None) -> str:
    return f"length({_column(name, row)}) > {MOST_LETTERS}"


def _value(watched: Watched, name: str, row: str | None) -> str:
    column = _column(name, row)
    # A BLOB would make the writer's own statement fail; a float would lose its last digits.
    real = f" WHEN 'real' THEN printf('%!.17g', {column})" if name in watched.reals else ""
    if watched.forms.get(name) == "hex":
        value = f"CASE WHEN {column} IS NULL THEN NULL ELSE hex({column}) END"
    else:
        value = f"CASE typeof({column}) WHEN 'blob' THEN NULL{real} ELSE {column} END"
    if name in watched.longs:
        return f"CASE WHEN {_is_long(name, row)} THEN NULL ELSE {value} END"
    return value

"""The triggers of MariaDB and MySQL.

They are row by row, and see no rows that a foreign key's CASCADE or SET NULL writes, nor TRUNCATE.
"""

from __future__ import annotations

from functools import partial
from typing import Final

from tidings.storage.capture.triggers import CAPTURED, TriggerSet, Watched, literal, quoted

_quoted = partial(quoted, mark="`")
_NOW: Final = "UNIX_TIMESTAMP(NOW(6))"


def mariadb_triggers(watched: Watched) -> TriggerSet:
    """The triggers of a table."""
    same = " AND ".join(
        f"OLD.{_quoted(name)} <=> NEW.{_quoted(name)} "
        f"AND HEX(OLD.{_quoted(name)}) <=> HEX(NEW.{_quoted(name)})"
        for name in watched.all_columns
    )
    key = _quoted(watched.key)
    old, new = _image(watched, "OLD"), _image(watched, "NEW")
    bodies = {
        "insert": ("INSERT", _note(watched, "i", f"NEW.{key}", "NULL", new)),
        "update": (
            "UPDATE",
            f"IF NOT ({same}) THEN {_note(watched, 'u', f'NEW.{key}', old, new)}; END IF",
        ),
        "delete": ("DELETE", _note(watched, "d", f"OLD.{key}", old, "NULL")),
    }
    create, drop, expected = [], [], {}
    for kind, (event, body) in bodies.items():
        name = f"{watched.name}_{kind}"
        block = f"BEGIN {body}; END"
        create.append(
            f"CREATE TRIGGER {_quoted(watched.schema, name)} AFTER {event} "
            f"ON {_quoted(watched.schema, watched.table)} FOR EACH ROW {block}"
        )
        drop.append(f"DROP TRIGGER IF EXISTS {_quoted(watched.schema, name)}")
        expected[name] = block
    return TriggerSet(tuple(create), tuple(drop), expected)


def _note(watched: Watched, op: str, record: str, old: str, new: str) -> str:
    return (
        f"INSERT INTO {CAPTURED} (tx, source, op, record, old_row, new_row, added) VALUES "
        f"(CONNECTION_ID(), {literal(watched.source)}, '{op}', LEFT({record}, 255), {old}, {new}, "
        f"{_NOW})"
    )


def _image(watched: Watched, row: str) -> str:
    members = ", ".join(f"{literal(name)}, {row}.{_quoted(name)}" for name in watched.columns)
    return f"JSON_OBJECT({members})"

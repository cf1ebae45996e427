"""The triggers of MariaDB and MySQL.

They are row by row, and see no rows that a foreign key's CASCADE or SET NULL writes: what a row
that is deleted takes with it is noted by a trigger of its own table. TRUNCATE fires none.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
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

_quoted = partial(quoted, mark="`")
_COLUMNS: Final = "(tx, source, op, record, old_row, new_row, added)"
_NOW: Final = "UNIX_TIMESTAMP(NOW(6))"
MARIADB_TRANSACTION: Final = "CAST(COALESCE(@tidings_transaction, CONNECTION_ID()) AS CHAR)"
"""Of which transaction a row is, or at least of which connection: it is not to be had otherwise."""
MARIADB_OPENING: Final = "SET @tidings_transaction = UUID_SHORT()"
"""Names a transaction that tidings takes part in. The name stays with the connection after it."""


@dataclass(frozen=True, slots=True)
class ForeignKey:
    """A key of ``table`` that refers to ``parent``, and is written when a row there is deleted."""

    table: str
    column: str
    parent: str
    referred: str
    sets_null: bool


_DEEP: Final = 4
"""So many foreign keys in a row are followed; one from a table to itself is not."""


def mariadb_triggers(watched: Watched, home: str, keys: Sequence[ForeignKey] = ()) -> TriggerSet:
    """The triggers of a table, and of those whose deleted rows take rows of it with them.

    ``home`` is the database of tidings' own tables.
    """
    same = " AND ".join(
        f"OLD.{_quoted(name)} <=> NEW.{_quoted(name)} "
        f"AND HEX(OLD.{_quoted(name)}) <=> HEX(NEW.{_quoted(name)})"
        for name in watched.all_columns
    )
    key = _quoted(watched.key)
    old, new = _image(watched, "OLD"), _image(watched, "NEW")
    bodies = {
        "insert": ("INSERT", _note(watched, home, "i", f"NEW.{key}", "NULL", new)),
        "update": (
            "UPDATE",
            f"IF NOT ({same}) THEN {_note(watched, home, 'u', f'NEW.{key}', old, new)}; END IF",
        ),
        "delete": ("DELETE", _note(watched, home, "d", f"OLD.{key}", old, "NULL")),
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
    for name, table, block in _cascades(watched, home, keys):
        create.append(
            f"CREATE TRIGGER {_quoted(watched.schema, name)} BEFORE DELETE "
            f"ON {_quoted(watched.schema, table)} FOR EACH ROW {block}"
        )
        drop.append(f"DROP TRIGGER IF EXISTS {_quoted(watched.schema, name)}")
        expected[name] = block
    return TriggerSet(tuple(create), tuple(drop), expected)


def _cascades(
    watched: Watched, home: str, keys: Sequence[ForeignKey]
) -> Iterator[tuple[str, str, str]]:
    """Name, table and body of each trigger on a table that rows of this one hang on."""
    notes: dict[str, list[str]] = {}
    # What of the watched table (as "t") a row of some table takes with it, by a condition on OLD.
    paths = [
        (key.parent, f"t.{_quoted(key.column)} = {{row}}.{_quoted(key.referred)}", key, 1)
        for key in keys
        if key.table == watched.table and key.parent != watched.table
    ]
    while paths:
        parent, condition, first, depth = paths.pop(0)
        nulled = first.column if first.sets_null else None
        old = _image(watched, "t")
        new = "NULL" if nulled is None else _image(watched, "t", nulled)
        notes.setdefault(parent, []).append(
            f"INSERT INTO {_quoted(home, CAPTURED)} {_COLUMNS} "
            f"SELECT {MARIADB_TRANSACTION}, {literal(watched.source)}, '{'u' if nulled else 'd'}', "
            f"LEFT(t.{_quoted(watched.key)}, 255), {old}, {new}, {_NOW} "
            f"FROM {_quoted(watched.schema, watched.table)} AS t WHERE "
            + condition.format(row="OLD")
        )
        for key in keys:
            if key.table == parent != key.parent and not key.sets_null and depth < _DEEP:
                name = f"p{depth}"
                inner = condition.format(row=name)
                within = (
                    f"EXISTS (SELECT 1 FROM {_quoted(watched.schema, parent)} AS {name} "
                    f"WHERE {inner} AND {name}.{_quoted(key.column)} = "
                    f"{{row}}.{_quoted(key.referred)})"
                )
                paths.append((key.parent, within, first, depth + 1))
    for table, some in notes.items():
        digest = hashlib.sha256(table.encode()).hexdigest()[:6]
        yield f"{watched.name}_from_{digest}", table, f"BEGIN {'; '.join(some)}; END"


def _note(watched: Watched, home: str, op: str, record: str, old: str, new: str) -> str:
    return (
        f"INSERT INTO {_quoted(home, CAPTURED)} {_COLUMNS} VALUES "
        f"({MARIADB_TRANSACTION}, {literal(watched.source)}, '{op}', LEFT({record}, 255), "
        f"{old}, {new}, {_NOW})"
    )


def _image(watched: Watched, row: str, nulled: str | None = None) -> str:
    members = [
        f"{literal(name)}, {'NULL' if name == nulled else _value(watched, name, row)}"
        for name in watched.columns
    ]
    if watched.longs:
        names = ", ".join(
            f"IF({_is_long(name, row)}, {literal(name + '|')}, '')"
            for name in watched.columns
            if name in watched.longs
        )
        members.append(f"{literal(LONG)}, CONCAT({names})")
    return f"JSON_OBJECT({', '.join(members)})"


def _is_long(name: str, row: str) -> str:
    return f"COALESCE(CHAR_LENGTH({row}.{_quoted(name)}), 0) > {MOST_LETTERS}"


def _value(watched: Watched, name: str, row: str) -> str:
    column = f"{row}.{_quoted(name)}"
    value = f"HEX({column})" if watched.forms.get(name) == "hex" else column
    return f"IF({_is_long(name, row)}, NULL, {value})" if name in watched.longs else value

"""Installing triggers, and seeing that they are there and of the present declaration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, Protocol

from sqlalchemy import Column, String, text

from tidings.errors import ConfigurationError
from tidings.storage.capture.mariadb import ForeignKey, mariadb_triggers
from tidings.storage.capture.postgresql import postgresql_triggers
from tidings.storage.capture.sqlite import sqlite_triggers
from tidings.storage.capture.triggers import PREFIX, TriggerSet, Watched, quoted
from tidings.storage.statements import Row, Statement

_GUESSES: Final = (
    "CREATE INDEX IF NOT EXISTS tidings_captured_guesses ON tidings_captured (op) WHERE op = 'g'"
)
_INSTALLED: Final = {
    "sqlite": "SELECT name AS name, sql AS body FROM sqlite_master WHERE type = 'trigger' "
    "AND tbl_name = :table",
    "postgresql": """
        SELECT CAST(t.tgname AS text) AS name, p.prosrc AS body
        FROM pg_trigger AS t JOIN pg_proc AS p ON p.oid = t.tgfoid
        WHERE t.tgrelid = to_regclass(:table) AND NOT t.tgisinternal AND t.tgenabled IN ('O', 'A')
    """,
    "mariadb": """
        SELECT trigger_name AS name, action_statement AS body FROM information_schema.triggers
        WHERE event_object_schema = coalesce(:schema, database())
        AND LEFT(trigger_name, CHAR_LENGTH(:name)) = :name
    """,
}
_BY_ROW: Final = """
    SELECT CAST(count(*) AS text) AS name FROM pg_class AS c
    WHERE c.oid = to_regclass(:table) AND (
        c.relkind = 'p' OR c.relispartition OR EXISTS (
            SELECT 1 FROM pg_trigger AS t WHERE t.tgrelid = c.oid AND NOT t.tgisinternal
            AND t.tgtype & 3 = 1 AND CAST(t.tgname AS text) NOT LIKE ' tidings%'
        ) OR EXISTS (
            SELECT 1 FROM pg_constraint AS k WHERE k.conrelid = c.oid AND k.contype = 'f'
            AND (k.confdeltype IN ('c', 'n', 'd') OR k.confupdtype IN ('c', 'n', 'd'))
        )
    )
"""
_UNIQUES: Final = """
    SELECT CAST(l.seq AS text) || '' AS name, i.name AS body
    FROM pragma_index_list(:table) AS l, pragma_index_info(l.name) AS i
    WHERE l."unique" AND l.partial = 0 AND i.name IS NOT NULL ORDER BY l.seq, i.seqno
"""


_FOREIGN_KEYS: Final = """
    SELECT k.table_name AS name, k.column_name AS body, k.referenced_table_name AS parent,
        k.referenced_column_name AS referred, c.delete_rule AS rule
    FROM information_schema.key_column_usage AS k
    JOIN information_schema.referential_constraints AS c
    ON c.constraint_schema = k.constraint_schema AND c.constraint_name = k.constraint_name
    WHERE k.constraint_schema = coalesce(:schema, database())
    AND c.delete_rule IN ('CASCADE', 'SET NULL')
    ORDER BY k.table_name, k.constraint_name
"""


class Fetches(Protocol):
    """A connection, as far as it is needed here."""

    async def fetch(self, statement: Statement, values: Mapping[str, Any]) -> list[Row]:
        """Run a statement; gives its rows."""
        ...


class Reachable(Protocol):
    """What is needed of a database to make triggers in it."""

    @property
    def dialect_name(self) -> str:
        """SQLAlchemy's name; ``mariadb`` where the server is."""
        ...

    def reading(self, *, snapshot: bool) -> AbstractAsyncContextManager[Fetches]:
        """A connection for reading."""
        ...

    async def execute(self, statement: Statement, values: Mapping[str, Any]) -> None:
        """Run one statement that writes."""
        ...


async def install(database: Reachable, tables: Sequence[Watched]) -> None:
    """Make the triggers of these tables anew.

    Raises:
        ConfigurationError: the database does not know triggers that tidings can make.
    """
    for watched in tables:
        found = await _triggers(database, watched)
        for sql in [*found.drop, *found.create]:
            await _run(database, sql)


async def remove(database: Reachable, tables: Sequence[Watched]) -> None:
    """Remove the triggers of these tables; what they have noted stays."""
    for watched in tables:
        for sql in (await _triggers(database, watched)).drop:
            await _run(database, sql)


async def statements(database: Reachable, tables: Sequence[Watched]) -> list[str]:
    """The SQL that `install` would run, for migrations and those who review them."""
    found: list[str] = []
    for watched in tables:
        triggers = await _triggers(database, watched)
        found += [*triggers.drop, *triggers.create]
    return found


async def check(database: Reachable, tables: Sequence[Watched]) -> list[Watched]:
    """Those of these tables whose triggers are missing, disabled or of an older declaration."""
    wrong: list[Watched] = []
    for watched in tables:
        expected = (await _triggers(database, watched)).bodies
        there = {
            row["name"]: row["body"]
            for row in await _fetch(database, _INSTALLED[_dialect(database)], watched, ("body",))
            if row["name"].strip().startswith(PREFIX)
        }
        if {name: _plain(body) for name, body in there.items()} != {
            name: _plain(body) for name, body in expected.items()
        }:
            wrong.append(watched)
    return wrong


def _plain(body: str) -> str:
    return " ".join(body.split())


def _dialect(database: Reachable) -> str:
    name = "mariadb" if database.dialect_name == "mysql" else database.dialect_name
    if name not in _INSTALLED:
        raise ConfigurationError(
            f"capture='triggers' knows SQLite, PostgreSQL and MariaDB, not {name}"
        )
    return name


async def _triggers(database: Reachable, watched: Watched) -> TriggerSet:
    dialect = _dialect(database)
    if dialect == "mariadb":
        rows = await _fetch(
            database, _FOREIGN_KEYS, watched, ("body", "parent", "referred", "rule")
        )
        keys = [
            ForeignKey(
                row["name"], row["body"], row["parent"], row["referred"], row["rule"] == "SET NULL"
            )
            for row in rows
        ]
        (home,) = await _fetch(database, "SELECT database() AS name", watched, ())
        return mariadb_triggers(watched, home["name"], keys)
    if dialect == "sqlite":
        uniques: dict[str, list[str]] = {}
        for row in await _fetch(database, _UNIQUES, watched, ("body",)):
            uniques.setdefault(row["name"], []).append(row["body"])
        return sqlite_triggers(watched, [one for one in uniques.values() if one != [watched.key]])
    (home,) = await _fetch(database, "SELECT CAST(current_schema() AS text) AS name", watched, ())
    (by_row,) = await _fetch(database, _BY_ROW, watched, ())
    return postgresql_triggers(watched, home["name"], by_row=by_row["name"] != "0")


async def _fetch(database: Reachable, sql: str, watched: Watched, more: Sequence[str]) -> list[Row]:
    table = watched.table
    if database.dialect_name == "postgresql":
        table = quoted(watched.schema, watched.table)
    values: dict[str, Any] = {"table": table, "schema": watched.schema, "name": watched.name}
    given = {name: value for name, value in values.items() if f":{name}" in sql}
    columns = [Column[Any](name, String) for name in ("name", *more)]
    async with database.reading(snapshot=False) as connection:
        return await connection.fetch(Statement(text(sql), columns), given)


async def _run(database: Reachable, sql: str) -> None:
    # In what is made here a colon is no parameter.
    await database.execute(Statement(text(sql.replace(":", r"\:"))), {})


async def prepare(database: Reachable) -> None:
    """What the table of captured rows needs beyond itself."""
    if database.dialect_name == "sqlite":
        await _run(database, _GUESSES)

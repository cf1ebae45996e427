"""A database to hold worlds in, and to ask which of their things a filter selects."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

from sqlalchemy import Column, Index, Integer, Table, case, insert, literal_column, select

from tests.proof.worlds import Row, World
from tidings import SqlAlchemyPlugin
from tidings.filters import Expression
from tidings.filters.sql import _Builder, _collect
from tidings.storage import Database, RecordStore, build_tables
from tidings.storage.core import CoreConnection
from tidings.storage.statements import Statement
from tidings.storage.types import ExactJson, ExactText

_Key = Any


def _index(table: Table) -> None:
    """Index every other column: what a database makes of a filter depends on it."""
    for column in list(table.c):
        kind = column.type
        if column.name in ("c0", "c2", "c4") and not isinstance(kind, ExactJson):
            length = 50 if isinstance(kind, ExactText) else None
            lengths = {"mysql_length": length, "mariadb_length": length}
            Index(f"i_{table.name}_{column.name}", column, **lengths)


class Bench:
    """One database, given by its URL; it holds one world at a time."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.database: Database = SqlAlchemyPlugin(url)._database
        self.store: RecordStore | None = None
        self.world: World | None = None

    @property
    def name(self) -> str:
        return self.database.dialect_name

    async def open(self) -> None:
        await self.database.open()

    async def close(self) -> None:
        await self.drop()
        await self.database.close()

    async def load(self, world: World, *, by_store: bool = False) -> None:
        """Make the world's tables, in the place of another world's, and fill them.

        By the store they are filled as by the API, else at once where that is faster.
        """
        await self.drop()
        tables = build_tables(world.registry)
        for table in tables.values():
            _index(table)
        self.store, self.world = RecordStore(self.database, tables), world
        await self.database.create_tables(list(tables.values()))
        async with self.database.writing() as connection:
            for name, rows in world.rows.items():
                if isinstance(connection, CoreConnection) and not by_store:
                    await connection.connection.execute(insert(tables[name]), rows)
                    continue
                for row in rows:
                    written = await self.store.insert(connection, world.registry[name], row)
                    assert written == row
            await connection.commit()

    async def drop(self) -> None:
        if self.store is None:
            return
        async with self.database.writing() as connection:
            quote = "`" if self.name in ("mariadb", "mysql") else '"'
            for table in self.store.tables.values():
                await connection.run(f"DROP TABLE {quote}{table.name}{quote}")  # type: ignore[attr-defined]
            await connection.commit()
        self.store = None

    async def execute(self, sql: str) -> None:
        """Run a statement that only this test needs; connections from now on know of it."""
        async with self.database.reading(snapshot=False) as connection:
            await connection.run(sql)  # type: ignore[attr-defined]
        if not self.database.in_memory:
            await self.database.close()
            await self.database.open()

    async def rows(self) -> dict[str, list[Row]]:
        """All the world's records, as they are read."""
        assert self.store is not None
        assert self.world is not None
        async with self.database.reading(snapshot=False) as connection:
            return {
                resource.name: await self.store.find(connection, resource)
                for resource in self.world.registry
            }

    async def selected(self, expressions: Sequence[Expression]) -> list[set[_Key]]:
        """The ids of the things that each of the filters selects, all asked in one statement."""
        assert self.world is not None
        statement, values = self._question(expressions)
        async with self.database.reading(snapshot=False) as connection:
            rows = await connection.fetch(statement, values)
        return [
            {row["id"] for row in rows if row[f"d{number}"]} for number in range(len(expressions))
        ]

    async def found(self, expression: Expression) -> tuple[set[_Key], int]:
        """The ids of the things that the store finds for the API, and how many it counts."""
        assert self.store is not None
        assert self.world is not None
        resource = self.world.resource
        async with self.database.reading(snapshot=False) as connection:
            rows = await self.store.find(connection, resource, expression)
            counted = await self.store.count(connection, resource, expression)
        return {row["id"] for row in rows}, counted

    def _question(self, expressions: Sequence[Expression]) -> tuple[Statement, dict[str, Any]]:
        """Each filter is a column; one builder for all of them, so that no names collide."""
        assert self.store is not None
        assert self.world is not None
        tables, one, none = self.store.tables, literal_column("1"), literal_column("0")
        builder = _Builder(self.world.resource, tables, self.name)
        table = tables["things"]
        answers = [
            case((builder.build(expression), one), else_=none).label(f"d{number}")
            for number, expression in enumerate(expressions)
        ]
        columns = [Column(f"d{number}", Integer) for number in range(len(expressions))]
        clause = select(table.c.id, *answers)
        values = chain.from_iterable(_collect(each, self.name) for each in expressions)
        statement = Statement(clause, [table.c.id, *columns], inline=True)
        return statement, {f"f{number}": value for number, value in enumerate(values)}

    def told(self, expression: Expression) -> tuple[str, dict[str, Any]]:
        """The SQL of a filter and its parameters, for a report."""
        statement, values = self._question([expression])
        return str(statement.clause), values

"""RecordStore: the statements that read and write the records of resources."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy import (
    BindParameter,
    Column,
    ColumnElement,
    Integer,
    Select,
    Table,
    bindparam,
    delete,
    func,
    insert,
    literal_column,
    select,
    update,
)

from tidings.filters.expression import EVERYTHING, Atom, Expression
from tidings.filters.sql import parameters, shape, to_sql
from tidings.schema import ResourceType
from tidings.storage.database import Connection, Database
from tidings.storage.statements import Clause, Row, Statement, StatementCache

Sort = tuple[tuple[str, bool], ...]
"""Column names, each with True for descending."""

_CHUNK: Final = 500
"""How many values one statement's IN list takes."""


class RecordStore:
    """Reads and writes rows (dicts of column values) of the resources' tables."""

    def __init__(self, database: Database, tables: Mapping[str, Table]) -> None:
        self.database = database
        self.tables = tables
        self._cache = StatementCache()

    @property
    def is_sqlite(self) -> bool:
        """Whether the database is SQLite."""
        return self.database.dialect_name == "sqlite"

    async def find(
        self,
        connection: Connection,
        resource: ResourceType,
        where: Expression = EVERYTHING,
        sort: Sort = (),
        *,
        limit: int | None = None,
        offset: int = 0,
    ) -> list[Row]:
        """The rows that match, in order."""

        def build() -> Select[*tuple[Any, ...]]:
            clause = select(*self._table(resource).c).order_by(*self._order(resource, sort))
            clause = self._where(clause, resource, where)
            return (
                clause
                if limit is None
                else clause.limit(_number("limit")).offset(_number("offset"))
            )

        columns = self._columns(resource)
        statement = self._statement(
            ("find", resource.name, sort, limit is None), where, build, columns
        )
        values = self._values(where)
        if limit is not None:
            values |= {"limit": limit, "offset": offset}
        return await connection.fetch(statement, values)

    async def count(self, connection: Connection, resource: ResourceType, where: Expression) -> int:
        """How many rows match."""
        total: Column[int] = Column("total", Integer)

        def build() -> Select[*tuple[Any, ...]]:
            clause = select(func.count(literal_column("*")).label("total"))
            return self._where(clause.select_from(self._table(resource)), resource, where)

        statement = self._statement(("count", resource.name), where, build, [total])
        rows = await connection.fetch(statement, self._values(where))
        return int(rows[0]["total"])

    async def get(
        self, connection: Connection, resource: ResourceType, key: object, *, lock: bool = False
    ) -> Row | None:
        """The row of this id; with ``lock``, kept from other writers until the commit."""

        def build() -> Clause:
            table = self._table(resource)
            clause = select(*table.c).where(table.c.id == _key(table))
            return clause.with_for_update() if lock else clause

        statement = self._cached(("get", resource.name, lock), build, self._columns(resource))
        rows = await connection.fetch(statement, {"key": key})
        return rows[0] if rows else None

    async def related(
        self,
        connection: Connection,
        resource: ResourceType,
        column: str,
        values: Sequence[Any],
        limit: int,
    ) -> list[Row]:
        """The rows whose column has one of the values, by id; at most ``limit``."""
        found: list[Row] = []
        for start in range(0, len(values), _CHUNK):
            chunk = tuple(values[start : start + _CHUNK])
            where = Atom(column, "in", chunk)
            order: Sort = (("id", False),)
            found += await self.find(connection, resource, where, order, limit=limit - len(found))
            if len(found) >= limit:
                break
        return found

    async def insert(self, connection: Connection, resource: ResourceType, values: Row) -> Row:
        """Insert a row and give it as the database holds it."""
        names = tuple(values)

        def build() -> Clause:
            table = self._table(resource)
            return insert(table).values(_assignments(table, names)).returning(*table.c)

        statement = self._cached(("insert", resource.name, names), build, self._columns(resource))
        return (await connection.fetch(statement, _assigned(values)))[0]

    async def update(
        self, connection: Connection, resource: ResourceType, key: object, values: Row
    ) -> Row:
        """Change columns of the row of this id and give it as the database holds it."""
        names = tuple(values)
        returning = self.database.update_returning

        def build() -> Clause:
            table = self._table(resource)
            clause = update(table).where(table.c.id == _key(table))
            clause = clause.values(_assignments(table, names))
            return clause.returning(*table.c) if returning else clause

        columns = self._columns(resource) if returning else ()
        statement = self._cached(("update", resource.name, names), build, columns)
        rows = await connection.fetch(statement, {"key": key, **_assigned(values)})
        if returning:
            return rows[0]
        row = await self.get(connection, resource, key)
        assert row is not None  # it was locked before
        return row

    async def delete(self, connection: Connection, resource: ResourceType, key: object) -> None:
        """Delete the row of this id."""

        def build() -> Clause:
            table = self._table(resource)
            return delete(table).where(table.c.id == _key(table))

        statement = self._cached(("delete", resource.name), build, ())
        await connection.fetch(statement, {"key": key})

    def _table(self, resource: ResourceType) -> Table:
        return self.tables[resource.name]

    def _columns(self, resource: ResourceType) -> tuple[Column[Any], ...]:
        return tuple(self._table(resource).c)

    def _where(
        self, clause: Select[*tuple[Any, ...]], resource: ResourceType, where: Expression
    ) -> Select[*tuple[Any, ...]]:
        if where == EVERYTHING:
            return clause
        return clause.where(to_sql(where, self._table(resource), self.database.dialect_name))

    def _values(self, where: Expression) -> dict[str, Any]:
        return parameters(where, self.database.dialect_name)

    def _order(self, resource: ResourceType, sort: Sort) -> list[ColumnElement[Any]]:
        """NULLs come last on every database, and the id decides between equals."""
        table = self._table(resource)
        order: list[ColumnElement[Any]] = []
        for name, descending in sort:
            column = table.c[name]
            if column.nullable:
                order.append(column.is_(None))
            order.append(column.desc() if descending else column.asc())
        if not any(name == "id" for name, _ in sort):
            order.append(table.c.id.asc())
        return order

    def _cached(
        self, key: tuple[Any, ...], build: Any, columns: Sequence[Column[Any]]
    ) -> Statement:
        return self._cache.get(key, lambda: Statement(build(), columns))

    def _statement(
        self, key: tuple[Any, ...], where: Expression, build: Any, columns: Sequence[Column[Any]]
    ) -> Statement:
        found = shape(where)
        if found is None:
            return Statement(build(), columns, inline=True)
        return self._cached((*key, found), build, columns)


def _number(name: str) -> BindParameter[int]:
    return bindparam(name, type_=Integer)


def _key(table: Table) -> BindParameter[Any]:
    return bindparam("key", type_=table.c.id.type)


def _assignments(table: Table, names: Sequence[str]) -> dict[str, BindParameter[Any]]:
    # SQLAlchemy keeps the columns' own names for itself in INSERT and UPDATE, hence "v_".
    return {name: bindparam(f"v_{name}", type_=table.c[name].type) for name in names}


def _assigned(values: Row) -> dict[str, Any]:
    return {f"v_{name}": value for name, value in values.items()}

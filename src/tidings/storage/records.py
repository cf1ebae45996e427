"""RecordStore: the statements that read and write the records of resources."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    BindParameter,
    Column,
    ColumnElement,
    Integer,
    Select,
    Table,
    bindparam,
    case,
    delete,
    func,
    insert,
    literal_column,
    select,
    text,
    type_coerce,
    update,
)

from tidings.cache import Cache
from tidings.filters.expression import EVERYTHING, Atom, Expression, all_of
from tidings.filters.sql import exactly, parameters, related_value, shape, to_sql
from tidings.schema import ResourceType
from tidings.storage.database import Connection, Database
from tidings.storage.errors import ConstraintViolation
from tidings.storage.lists import chunks
from tidings.storage.statements import STATEMENTS, Clause, Row, Statement

Sort = tuple[tuple[str, bool], ...]
"""Column names, each with True for descending."""

# A sequence must never be set back behind a number that somebody has just taken from it. So it is
# advanced by taking numbers, and set only over a distance that no others can run meanwhile. A
# table without a sequence has none to advance.
_NUMBER_ON: Final = """
WITH of AS MATERIALIZED (
    SELECT CAST(pg_get_serial_sequence(CAST(:table AS text), CAST(:name AS text)) AS regclass)
        AS sequence
), ahead AS MATERIALIZED (
    SELECT sequence, CAST(:key AS bigint) - coalesce(pg_sequence_last_value(sequence), 0) AS gap
    FROM of WHERE sequence IS NOT NULL AND CAST(:key AS bigint) > 0
)
SELECT CASE
    WHEN gap > 1000 THEN setval(sequence, CAST(:key AS bigint))
    WHEN gap > 0 THEN (
        SELECT max(taken)
        FROM (SELECT nextval(sequence) AS taken FROM generate_series(1, gap)) AS numbers
    )
END FROM ahead
"""


_TOTAL: Final[Column[int]] = Column("tidings total", Integer)
"""No field has this name, which stands beside the fields'."""


class RecordStore:
    """Reads and writes rows (dicts of column values) of the resources' tables."""

    def __init__(self, database: Database, tables: Mapping[str, Table]) -> None:
        self.database = database
        self.tables = tables
        self._cache = Cache[Hashable, Statement](STATEMENTS)

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
        backward: bool = False,
        guards: Mapping[str, Expression] = MappingProxyType({}),
    ) -> list[Row]:
        """The rows that match, in order, or ``backward`` from the end.

        ``sort`` may name to-one paths; ``guards`` says of such a path when its value may be seen,
        and counts as NULL elsewhere.
        """
        found, _ = await self.find_counted(
            connection,
            resource,
            where,
            sort,
            limit=limit,
            offset=offset,
            backward=backward,
            guards=guards,
            counted=None,
        )
        return found

    async def find_counted(
        self,
        connection: Connection,
        resource: ResourceType,
        where: Expression,
        sort: Sort,
        *,
        counted: Expression | None,
        limit: int | None,
        offset: int,
        backward: bool,
        guards: Mapping[str, Expression],
    ) -> tuple[list[Row], int | None]:
        """The same, and how many rows match ``counted``, in one statement.

        The number comes with the rows: it is None where there are none, or nothing is counted.
        """

        def build() -> Select[*tuple[Any, ...]]:
            order = self._order(resource, sort, guards, backward=backward)
            clause = select(*columns) if counted is None else select(*columns, total(counted))
            clause = self._where(clause.order_by(*order), resource, where)
            return (
                clause
                if limit is None
                else clause.limit(_number("limit")).offset(_number("offset"))
            )

        def total(of: Expression) -> ColumnElement[Any]:
            # Not correlated: it is about the whole table, whatever is around it.
            clause = self._count(resource, of, prefix="c").correlate(None)
            return clause.scalar_subquery().label(_TOTAL.name)

        columns = self._columns(resource)
        given = columns if counted is None else (*columns, _TOTAL)
        of_total = None if counted is None else (shape(counted),)
        shapes = tuple((path, shape(guard)) for path, guard in guards.items())
        key = ("find", resource.name, sort, limit is None, backward, shapes, of_total)
        if of_total == (None,) or any(found is None for _, found in shapes):
            statement = Statement(build(), given, inline=True)
        else:
            statement = self._statement(key, where, build, given)
        values = self._values(where)
        if counted is not None:
            values |= parameters(counted, self.database.dialect_name, prefix="c")
        for number, guard in enumerate(guards.values()):
            values |= parameters(guard, self.database.dialect_name, prefix=f"g{number}_")
        if limit is not None:
            values |= {"limit": limit, "offset": offset}
        rows = await connection.fetch(statement, values)
        if counted is None:
            return rows, None
        totals = [row.pop(_TOTAL.name) for row in rows]
        return rows, (totals[0] if totals else None)

    async def count(self, connection: Connection, resource: ResourceType, where: Expression) -> int:
        """How many rows match."""

        def build() -> Select[*tuple[Any, ...]]:
            return self._count(resource, where)

        statement = self._statement(("count", resource.name), where, build, [_TOTAL])
        rows = await connection.fetch(statement, self._values(where))
        return int(rows[0][_TOTAL.name])

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
        also: Expression = EVERYTHING,
    ) -> list[Row]:
        """The rows whose column has one of the values, by id; at most ``limit``."""
        found: list[Row] = []
        for chunk in chunks(values):
            where = all_of([Atom(column, "in", tuple(chunk)), also])
            order: Sort = (("id", False),)
            found += await self.find(connection, resource, where, order, limit=limit - len(found))
            if len(found) >= limit:
                break
        return found

    async def insert(self, connection: Connection, resource: ResourceType, values: Row) -> Row:
        """Insert a row and give it as the database holds it."""
        names = tuple(values)
        returning = self.database.insert_returning

        def build() -> Clause:
            table = self._table(resource)
            clause = insert(table).values(_assignments(table, names))
            return clause.returning(*table.c) if returning else clause.inline()

        columns = self._columns(resource) if returning else ()
        statement = self._cached(("insert", resource.name, names), build, columns)
        rows = await connection.fetch(statement, _assigned(values))
        row = rows[0] if returning else await self._inserted(connection, resource, values)
        if "id" in values and isinstance(row["id"], int):
            await self._number_on(connection, resource, row["id"])
        return row

    async def _inserted(self, connection: Connection, resource: ResourceType, values: Row) -> Row:
        """The row that this connection has just inserted, on MySQL."""

        def build() -> Clause:
            table = self._table(resource)
            key = literal_column("last_insert_id()", Integer)
            return select(*table.c).where(table.c.id == key)

        if "id" in values:
            row = await self.get(connection, resource, values["id"])
            assert row is not None
            return row
        statement = self._cached(("inserted", resource.name), build, self._columns(resource))
        return (await connection.fetch(statement, {}))[0]

    async def _number_on(self, connection: Connection, resource: ResourceType, key: int) -> None:
        """Have PostgreSQL number the next rows from an id on that was given, as others do."""
        if self.database.dialect_name != "postgresql":
            return
        table = self._table(resource)
        statement = self._cached(("number on",), lambda: text(_NUMBER_ON), ())
        values = {"table": _quoted(table), "name": table.c.id.name, "key": key}
        await connection.fetch(statement, values)

    async def update(
        self, connection: Connection, resource: ResourceType, key: object, values: Row
    ) -> Row:
        """Change columns of the row of this id and give it as the database holds it."""
        values = {**_touched(self._table(resource)), **values}
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

    def deletes_itself(self, resource: ResourceType, name: str) -> bool:
        """Whether the database by itself does what a field's ``on_delete`` says."""
        return name in self._table(resource).info.get("deleting", ())

    def volatile(self, resource: str) -> frozenset[str]:
        """The fields that a write may change without naming them: the model computes them."""
        found: frozenset[str] = self.tables[resource].info.get("volatile", frozenset())
        return found

    def goes_in_silence(self, resource: str, other: str) -> bool:
        """Whether the database deletes or changes records of a resource with those of another."""
        table = self.tables[other]
        source = table.info.get("existing", table)
        return str(source.fullname) in self.tables[resource].info.get("silent", ())

    def in_fields(
        self, resource: ResourceType, violation: ConstraintViolation
    ) -> ConstraintViolation:
        """The violation by the names of fields, which columns of a table may not have."""
        # As plain texts: SQLAlchemy's know whether they are quoted, and JSON does not.
        fields = {column.name: str.__str__(column.key) for column in self._table(resource).c}
        columns = tuple(fields.get(name, name) for name in violation.columns)
        return ConstraintViolation(violation.kind, columns)

    def _table(self, resource: ResourceType) -> Table:
        return self.tables[resource.name]

    def _columns(self, resource: ResourceType) -> tuple[Column[Any], ...]:
        return tuple(self._table(resource).c)

    def _count(
        self, resource: ResourceType, where: Expression, *, prefix: str = "f"
    ) -> Select[*tuple[Any, ...]]:
        clause = select(func.count(literal_column("*")).label(_TOTAL.name))
        clause = clause.select_from(self._table(resource))
        return self._where(clause, resource, where, prefix=prefix)

    def _where(
        self,
        clause: Select[*tuple[Any, ...]],
        resource: ResourceType,
        where: Expression,
        *,
        prefix: str = "f",
    ) -> Select[*tuple[Any, ...]]:
        if where == EVERYTHING:
            return clause
        dialect = self.database.dialect_name
        return clause.where(to_sql(where, resource, self.tables, dialect, prefix=prefix))

    def _values(self, where: Expression) -> dict[str, Any]:
        return parameters(where, self.database.dialect_name)

    def _order(
        self,
        resource: ResourceType,
        sort: Sort,
        guards: Mapping[str, Expression],
        *,
        backward: bool,
    ) -> list[ColumnElement[Any]]:
        """NULLs come last on every database, and the id decides between equals."""
        table = self._table(resource)
        order: list[ColumnElement[Any]] = []
        for name, descending in sort:
            is_path = name in resource.related
            column = self._related(resource, name, guards) if is_path else table.c[name]
            if is_path or table.c[name].nullable:
                is_null = column.is_(None)
                order.append(is_null.desc() if backward else is_null)
            column = exactly(column, self.database.dialect_name)
            order.append(column.desc() if descending != backward else column.asc())
        if not any(name == "id" for name, _ in sort):
            key = exactly(table.c.id, self.database.dialect_name)
            order.append(key.desc() if backward else key.asc())
        return order

    def _related(
        self, resource: ResourceType, path: str, guards: Mapping[str, Expression]
    ) -> ColumnElement[Any]:
        dialect = self.database.dialect_name
        value = related_value(resource, path, self.tables, dialect)
        guard = guards.get(path, EVERYTHING)
        if guard == EVERYTHING:
            return value
        prefix = f"g{list(guards).index(path)}_"
        may_be_seen = to_sql(guard, resource, self.tables, dialect, prefix=prefix)
        return type_coerce(case((may_be_seen, value)), value.type)

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


def _quoted(table: Table) -> str:
    names = (table.name,) if table.schema is None else (table.schema, table.name)
    return ".".join('"' + name.replace('"', '""') + '"' for name in names)


def _touched(table: Table) -> Row:
    """What a model sets by itself at each update (``onupdate``)."""
    made: dict[str, Callable[[], Any]] = table.info.get("onupdate", {})
    return {name: make() for name, make in made.items()}


def _number(name: str) -> BindParameter[int]:
    return bindparam(name, type_=BigInteger)


def _key(table: Table) -> BindParameter[Any]:
    return bindparam("key", type_=table.c.id.type)


def _assignments(table: Table, names: Sequence[str]) -> dict[str, BindParameter[Any]]:
    # SQLAlchemy keeps the columns' own names for itself in INSERT and UPDATE, hence "v_".
    return {name: bindparam(f"v_{name}", type_=table.c[name].type) for name in names}


def _assigned(values: Row) -> dict[str, Any]:
    return {f"v_{name}": value for name, value in values.items()}

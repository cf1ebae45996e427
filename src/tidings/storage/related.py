"""RelatedStore: the values that a resource's paths lead to, and the records behind a related row.

A path (`RelatedColumn`) is read as one more column of the resource, by LEFT JOINs.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from sqlalchemy import (
    Column,
    ColumnElement,
    Integer,
    Select,
    bindparam,
    func,
    literal_column,
    select,
)
from sqlalchemy.sql import FromClause

from tidings.cache import Cache
from tidings.schema import RelatedColumn, ResourceType
from tidings.schema.related import Hop
from tidings.storage.database import Connection
from tidings.storage.lists import bound, chunks, one_of, padded_length
from tidings.storage.records import RecordStore
from tidings.storage.statements import STATEMENTS, Row, Statement

Chain = tuple[Hop, ...]
"""Hops that follow each other, from the resource whose paths they begin."""

_MOST: Final = bindparam("limit", type_=Integer)
# Written out, since SQLite's OFFSET would be a parameter of SQLAlchemy's own.
_NONE: Final[ColumnElement[int]] = literal_column("0", Integer)


@dataclass(slots=True)
class Borrowed:
    """What the paths lead to, by record id: path to value, and the keys that the paths begin with.

    The records in it are those that exist. ``unknown`` has the paths with more rows than were to
    be read; their values are not in ``rows`` to be relied on.
    """

    rows: dict[Any, Row] = field(default_factory=dict)
    unknown: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class _Branch:
    """Paths that are read together, since their joins do not multiply each other's rows."""

    keys: tuple[str, ...]
    ones: tuple[RelatedColumn, ...]
    manies: tuple[RelatedColumn, ...]


class RelatedStore:
    """Reads related values, and finds (and locks) the records that a related row concerns."""

    def __init__(self, store: RecordStore) -> None:
        self._tables = store.tables
        self._locks = not store.is_sqlite  # which has a single writer
        self._cache = Cache[Hashable, Statement](STATEMENTS)
        self._branches: dict[str, tuple[_Branch, ...]] = {}

    async def values(
        self, connection: Connection, resource: ResourceType, ids: Iterable[Any], limit: int
    ) -> Borrowed:
        """The values of all paths for these records.

        At most ``limit`` rows more than records are read of each to-many branch. One statement
        takes all to-one paths and the first such branch, each other branch one more.
        """
        wanted = sorted(ids)
        most = limit + len(wanted)
        found = Borrowed()
        for number, branch in enumerate(self._branches_of(resource)):
            rows = await self._branch_rows(connection, resource, number, wanted, most)
            if len(rows) > most:
                found.unknown |= {column.path for column in branch.manies}
            _gather(branch, rows, found.rows)
        for values in found.rows.values():
            for path, column in resource.related.items():
                if column.many:
                    values[path] = _in_order(values.get(path, {}))
        return found

    async def leading_from(
        self, connection: Connection, column: RelatedColumn, keys: Iterable[Any], limit: int
    ) -> dict[Any, Any] | None:
        """What a path leads to, by the key that it begins with; None: more than ``limit`` rows.

        A to-many path leads to a tuple of values, in order; a key that leads nowhere is not there.
        """
        found: dict[Any, dict[Any, None]] = {}
        count = 0
        for chunk in chunks(sorted(set(keys))):
            size = padded_length(len(chunk))
            statement = self._cache.get(
                ("leading", column.hops, column.column, size),
                partial(self._leading_statement, column, size),
            )
            rows = await connection.fetch(statement, {**bound(chunk), "limit": limit + 1 - count})
            count += len(rows)
            if count > limit:
                return None
            for row in rows:
                found.setdefault(row["start"], {})[row["value"]] = None
        if column.many:
            return {key: _in_order(values) for key, values in found.items()}
        return {key: next(iter(values)) for key, values in found.items()}

    def _leading_statement(self, column: RelatedColumn, size: int) -> Statement:
        tables = [self._tables[hop.resource].alias(f"r{n}") for n, hop in enumerate(column.hops)]
        source: FromClause = tables[0]
        for hop, near, far in zip(column.hops[1:], tables, tables[1:], strict=False):
            source = source.join(far, near.c[hop.near] == far.c[hop.far])
        start = tables[0].c[column.hops[0].far]
        value = tables[-1].c[column.column]
        clause = select(start.label("start"), value.label("value")).select_from(source)
        clause = clause.where(one_of(start, size)).limit(_MOST).offset(_NONE)
        return Statement(clause, [Column("start", start.type), Column("value", value.type)])

    async def reach(
        self,
        connection: Connection,
        resource: ResourceType,
        chain: Chain,
        keys: Iterable[Any],
        limit: int,
    ) -> list[Row] | None:
        """The records from which the chain leads to related rows with these far keys.

        Where writers work side by side, each of them, and each row on the way, is locked: the
        related rows that lead there are the same until the commit. None: more than ``limit``.
        """
        names = _names(resource, chain)
        wanted, rows = set(keys), list[Row]()
        for place in range(len(chain) - 1, -1, -1):
            columns = ("id", chain[place - 1].far) if place else ()
            rows = await self._rows(
                connection, names[place], chain[place].near, wanted, limit, columns
            )
            if len(rows) > limit:
                await self._lock_all(connection, resource, chain, place, keys)
                return None
            if place:
                wanted = {row[chain[place - 1].far] for row in rows} - {None}
        return rows

    async def _rows(
        self,
        connection: Connection,
        name: str,
        near: str,
        values: Iterable[Any],
        limit: int,
        columns: Sequence[str],
    ) -> list[Row]:
        """Locked rows whose column has one of the values, at most one more than ``limit``."""
        found: list[Row] = []
        for chunk in chunks(sorted(values)):
            size = padded_length(len(chunk))
            statement = self._cache.get(
                ("rows", name, near, size, columns),
                partial(self._rows_statement, name, near, size, columns),
            )
            parameters = {**bound(chunk), "limit": limit + 1 - len(found)}
            found += await connection.fetch(statement, parameters)
            if len(found) > limit:
                break
        return found

    def _rows_statement(self, name: str, near: str, size: int, columns: Sequence[str]) -> Statement:
        table = self._tables[name]
        chosen = [table.c[column] for column in dict.fromkeys(columns)] or list(table.c)
        clause = select(*chosen).where(one_of(table.c[near], size)).order_by(table.c.id)
        clause = clause.limit(_MOST).offset(_NONE)
        # The records at the beginning are locked so that others may still refer to them; rows on
        # the way so that nobody may: by a new reference a record would come to be concerned.
        return Statement(clause.with_for_update(key_share=not columns), chosen)

    async def _lock_all(
        self,
        connection: Connection,
        resource: ResourceType,
        chain: Chain,
        place: int,
        keys: Iterable[Any],
    ) -> None:
        """Lock what `reach` has not: to be read neither here nor, before the commit, by others."""
        if not self._locks:
            return
        wanted = sorted(keys)
        size = padded_length(len(wanted))
        for level in range(place, -1, -1):
            statement = self._cache.get(
                ("lock", resource.name, chain, level, size),
                partial(self._lock_statement, resource, chain, level, size),
            )
            await connection.fetch(statement, bound(wanted))

    def _lock_statement(
        self, resource: ResourceType, chain: Chain, level: int, size: int
    ) -> Statement:
        names = _names(resource, chain)

        def condition(place: int, table: FromClause) -> ColumnElement[bool]:
            near = table.c[chain[place].near]
            if place == len(chain) - 1:
                return one_of(near, size)
            following = self._tables[names[place + 1]].alias(f"r{place + 1}")
            keys = select(following.c[chain[place].far]).where(condition(place + 1, following))
            return near.in_(keys)

        table = self._tables[names[level]].alias(f"r{level}")
        locked = select(table.c.id).where(condition(level, table))
        locked = locked.with_for_update(key_share=level == 0)
        counted = select(func.count().label("total")).select_from(locked.subquery("locked"))
        return Statement(counted, [Column("total", Integer)])

    def _branches_of(self, resource: ResourceType) -> tuple[_Branch, ...]:
        found = self._branches.get(resource.name)
        if found is None:
            found = self._branches[resource.name] = tuple(_branches(resource))
        return found

    async def _branch_rows(
        self,
        connection: Connection,
        resource: ResourceType,
        number: int,
        ids: Sequence[Any],
        most: int,
    ) -> list[Row]:
        """The rows of one branch, at most one more than ``most``."""
        found: list[Row] = []
        for chunk in chunks(ids):
            size = padded_length(len(chunk))
            statement = self._cache.get(
                ("values", resource.name, number, size),
                partial(self._values_statement, resource, number, size),
            )
            parameters = {**bound(chunk), "limit": most + 1 - len(found)}
            found += await connection.fetch(statement, parameters)
            if len(found) > most:
                break
        return found

    def _values_statement(self, resource: ResourceType, number: int, size: int) -> Statement:
        branch = self._branches_of(resource)[number]
        table = self._tables[resource.name]
        joined: dict[Chain, FromClause] = {(): table}
        source: FromClause = table
        for column in (*branch.ones, *branch.manies):
            source = self._join(source, joined, column)
        chosen: dict[str, ColumnElement[Any]] = {
            name: table.c[name] for name in ("id", *branch.keys)
        }
        for column in (*branch.ones, *branch.manies):
            chosen[column.path] = joined[column.hops].c[column.column]
        for column in branch.manies:
            chosen[_there(column)] = joined[column.hops].c.id
        clause: Select[Any] = select(*chosen.values()).select_from(source)
        clause = clause.where(one_of(table.c.id, size)).limit(_MOST).offset(_NONE)
        return Statement(clause, [Column(name, found.type) for name, found in chosen.items()])

    def _join(
        self, source: FromClause, joined: dict[Chain, FromClause], column: RelatedColumn
    ) -> FromClause:
        for length in range(1, len(column.hops) + 1):
            prefix, hop = column.hops[:length], column.hops[length - 1]
            if prefix in joined:
                continue
            near = joined[prefix[:-1]]
            far = joined[prefix] = self._tables[hop.resource].alias(f"r{len(joined)}")
            source = source.outerjoin(far, near.c[hop.near] == far.c[hop.far])
        return source


def _branches(resource: ResourceType) -> Iterator[_Branch]:
    ones = tuple(column for column in resource.related.values() if not column.many)
    manies: dict[Chain, list[RelatedColumn]] = {}
    for column in resource.related.values():
        if column.many:
            last = max(place for place, hop in enumerate(column.hops) if hop.to_many)
            manies.setdefault(column.hops[: last + 1], []).append(column)
    starts = {column.hops[0].near: None for column in resource.related.values()}
    keys = tuple(name for name in starts if name != "id")
    groups = list(manies.values()) or [[]]
    yield _Branch(keys, ones, tuple(groups[0]))
    for group in groups[1:]:
        yield _Branch((), (), tuple(group))


def _there(column: RelatedColumn) -> str:
    """Names the id of the row at a path's end: without it there is no row, not one with NULL."""
    return f"#{column.path}"


def _gather(branch: _Branch, rows: list[Row], found: dict[Any, Row]) -> None:
    for row in rows:
        values = found.get(row["id"])
        if values is None:
            values = found[row["id"]] = {}
        for name in branch.keys:
            values[name] = row[name]
        for column in branch.ones:
            values[column.path] = row[column.path]
        for column in branch.manies:
            if row[_there(column)] is not None:
                values.setdefault(column.path, {})[row[column.path]] = None


def _in_order(values: Iterable[Any]) -> tuple[Any, ...]:
    """Distinct values in an order of their own, so that what holds the same is equal."""
    return tuple(sorted(values, key=lambda value: (value is None, 0 if value is None else value)))


def _names(resource: ResourceType, chain: Chain) -> list[str]:
    """The resource on the near side of each hop."""
    return [resource.name, *(hop.resource for hop in chain[:-1])]

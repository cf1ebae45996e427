"""``api.resources.posts``: the operations from Python, with plain dicts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from tidings.errors import InvalidRequest, NotFound, Problem, ValidationFailed
from tidings.filters import all_of, build_clause, build_filters
from tidings.identity import ANONYMOUS, Identity
from tidings.resources.includes import parse_include
from tidings.resources.operations import Operations
from tidings.resources.results import Selection
from tidings.resources.scopes import TransactionLike
from tidings.resources.sorting import parse_sort
from tidings.schema import ResourceType
from tidings.storage import Row

Record = dict[str, Any]
"""``id`` (a string) and every field by name, as Python values."""


@dataclass(frozen=True, slots=True)
class Records:
    """The records of one page of a query; ``total`` counts those of all pages.

    ``included`` holds the related records that were asked for, by resource name.
    """

    records: list[Record]
    total: int
    number: int
    size: int
    included: Mapping[str, list[Record]]

    def __iter__(self) -> Iterator[Record]:
        return iter(self.records)

    def __len__(self) -> int:
        return len(self.records)


class ResourceHandle:
    """One resource's operations. With ``auth`` they ask that identity's permissions, as HTTP does;
    without, they are trusted.

        post = await api.resources.posts.post({"title": "News", "author": "7"})
        await api.resources.posts.patch(post["id"], {"title": "Old news"}, auth=identity)
    """

    def __init__(self, resource: ResourceType, operations: Operations) -> None:
        self._resource = resource
        self._operations = operations

    async def query(
        self,
        filters: Mapping[str, Any] | None = None,
        *,
        where: Mapping[str, Any] | None = None,
        sort: str | Iterable[str] = (),
        page: int = 1,
        size: int | None = None,
        include: Iterable[str] = (),
        auth: Identity | None = None,
        transaction: TransactionLike = None,
    ) -> Records:
        """The records that match, one page of them.

        ``filters`` are names and values of the search schema, as a client would give them;
        ``where`` is a trusted clause over any column (see `tidings.filters.build_clause`).
        """
        resource = self._resource
        if auth is not None:
            resource = self._operations.registry.seen_by(auth)[resource.name]
        expression = build_filters(resource, filters or {}, auth or ANONYMOUS).expression
        if where is not None:
            expression = all_of([expression, build_clause(resource, where)])
        size = resource.page_size if size is None else size
        if page < 1 or size < 1:
            raise InvalidRequest("page and size are 1 or more", code="INVALID_PARAMETER")
        names = sort.split(",") if isinstance(sort, str) else list(sort)
        selection = Selection(
            expression,
            parse_sort(resource, [name for name in names if name]),
            page,
            size,
            parse_include(self._operations.registry, resource, include),
        )
        found = await self._operations.query(
            resource, selection, auth=auth, transaction=transaction
        )
        included: dict[str, list[Record]] = {}
        for (name, _), row in found.included.records.items():
            included.setdefault(name, []).append(_record(row))
        return Records(
            [_record(row) for row in found.rows], found.total, found.number, found.size, included
        )

    async def get(
        self,
        record_id: object,
        *,
        auth: Identity | None = None,
        transaction: TransactionLike = None,
    ) -> Record:
        """The record of this id; `NotFound` where there is none."""
        found = await self._operations.get(
            self._resource, record_id, auth=auth, transaction=transaction
        )
        return _record(found.row)

    async def post(
        self,
        values: Mapping[str, Any],
        *,
        auth: Identity | None = None,
        transaction: TransactionLike = None,
    ) -> Record:
        """Make a record; ``values`` may hold an ``id`` and name to-one relationships."""
        given = self._given(values)
        record_id = given.pop("id", None)
        found = await self._operations.post(
            self._resource, given, record_id=record_id, auth=auth, transaction=transaction
        )
        return _record(found.row)

    async def put(
        self,
        record_id: object,
        values: Mapping[str, Any],
        *,
        auth: Identity | None = None,
        transaction: TransactionLike = None,
    ) -> Record:
        """Replace a record whole, or make it."""
        found = await self._operations.put(
            self._resource, record_id, self._given(values), auth=auth, transaction=transaction
        )
        return _record(found.row)

    async def patch(
        self,
        record_id: object,
        values: Mapping[str, Any],
        *,
        auth: Identity | None = None,
        transaction: TransactionLike = None,
    ) -> Record:
        """Change some fields of a record."""
        found = await self._operations.patch(
            self._resource, record_id, self._given(values), auth=auth, transaction=transaction
        )
        return _record(found.row)

    async def delete(
        self,
        record_id: object,
        *,
        auth: Identity | None = None,
        transaction: TransactionLike = None,
    ) -> None:
        """Delete a record."""
        await self._operations.delete(self._resource, record_id, auth=auth, transaction=transaction)

    def _given(self, values: Mapping[str, Any]) -> Record:
        """To-one relationships by name become their foreign keys."""
        given: Record = {}
        for name, value in values.items():
            link = self._resource.relationships.get(name)
            if link is not None and link.to_many:
                problem = Problem(name, "a to-many relationship cannot be set here")
                raise ValidationFailed([problem], resource=self._resource.name)
            given[name if link is None else link.foreign_key] = value
        return given


class ResourceHandles:
    """``api.resources``: a handle per resource, as attribute or, for any name, by subscript.

    Iterating gives the names.
    """

    def __init__(
        self, find: Callable[[str], ResourceHandle | None], names: Callable[[], list[str]]
    ) -> None:
        self._find = find
        self._names = names

    def __getitem__(self, name: str) -> ResourceHandle:
        found = self._find(name)
        if found is None:
            close = get_close_matches(name, self._names(), n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise NotFound(f"There is no resource {name!r}{hint}", code="RESOURCE_NOT_FOUND")
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self._names())

    def __getattr__(self, name: str) -> ResourceHandle:
        if name.startswith("_"):
            raise AttributeError(name)
        try:
            return self[name]
        except NotFound as error:
            raise AttributeError(str(error)) from None


def _record(row: Row) -> Record:
    return {**row, "id": str(row["id"])}

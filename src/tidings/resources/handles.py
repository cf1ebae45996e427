"""``api.resources.posts``: the operations from Python, with plain dicts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from tidings.errors import InvalidRequest, NotFound, Problem, ValidationFailed
from tidings.filters import EVERYTHING, build_clause, build_filters
from tidings.identity import ANONYMOUS, TRUSTED, Asker, Trusted, asker
from tidings.resources.drafts import Draft, Members
from tidings.resources.includes import parse_include
from tidings.resources.operations import Operations
from tidings.resources.results import Selection
from tidings.resources.scopes import TransactionLike
from tidings.resources.sorting import parse_sort
from tidings.resources.visibility import View
from tidings.schema import Relationship, ResourceType
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
    """One resource's operations.

    With an identity for ``auth`` they ask its permissions, as HTTP does; None is the identity of
    somebody without a token. Where ``auth`` is left out, or is `TRUSTED`, no permission is asked.

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
        auth: Asker | None = TRUSTED,
        transaction: TransactionLike = None,
    ) -> Records:
        """The records that match, one page of them.

        ``filters`` are names and values of the search schema, as a client would give them;
        ``where`` is a trusted clause over any column (see `tidings.filters.build_clause`).
        """
        if page < 1 or (size is not None and size < 1):
            raise InvalidRequest("page and size are 1 or more", code="INVALID_PARAMETER")
        names = sort.split(",") if isinstance(sort, str) else list(sort)

        def select(view: View) -> Selection:
            resource = view.resource
            identity = ANONYMOUS if isinstance(view.auth, Trusted) else view.auth
            count = resource.page_size if size is None else size
            return Selection(
                build_filters(resource, filters or {}, identity).expression,
                parse_sort(resource, [name for name in names if name]),
                (page - 1) * count,
                count,
                parse_include(view.registry, resource, include),
                EVERYTHING if where is None else build_clause(resource, where),
            )

        found = await self._operations.query(
            self._resource.name, select, auth=asker(auth), transaction=transaction
        )
        assert found.total is not None  # it was counted
        included: dict[str, list[Record]] = {}
        for (name, _), row in found.included.records.items():
            target = self._operations.registry[name]
            included.setdefault(name, []).append(_record(target, row))
        records = [_record(self._resource, row) for row in found.rows]
        return Records(records, found.total, found.number, found.size, included)

    async def get(
        self,
        record_id: object,
        *,
        auth: Asker | None = TRUSTED,
        transaction: TransactionLike = None,
    ) -> Record:
        """The record of this id; `NotFound` where there is none."""
        found = await self._operations.get(
            self._resource.name, record_id, auth=asker(auth), transaction=transaction
        )
        return _record(self._resource, found.row)

    async def post(
        self,
        values: Mapping[str, Any],
        *,
        auth: Asker | None = TRUSTED,
        transaction: TransactionLike = None,
    ) -> Record:
        """Make a record; ``values`` may hold an ``id`` and name relationships.

        A to-one relationship is an id or None, a to-many one a list of the ids that it is to have.
        """
        found = await self._operations.post(
            self._resource.name,
            lambda view: _draft(view, values, is_new=True),
            auth=asker(auth),
            transaction=transaction,
        )
        return _record(self._resource, found.row)

    async def put(
        self,
        record_id: object,
        values: Mapping[str, Any],
        *,
        auth: Asker | None = TRUSTED,
        transaction: TransactionLike = None,
    ) -> Record:
        """Replace a record whole, or make it."""
        found = await self._operations.put(
            self._resource.name,
            record_id,
            lambda view: _draft(view, values),
            auth=asker(auth),
            transaction=transaction,
        )
        return _record(self._resource, found.row)

    async def patch(
        self,
        record_id: object,
        values: Mapping[str, Any],
        *,
        auth: Asker | None = TRUSTED,
        transaction: TransactionLike = None,
    ) -> Record:
        """Change some fields of a record."""
        found = await self._operations.patch(
            self._resource.name,
            record_id,
            lambda view: _draft(view, values),
            auth=asker(auth),
            transaction=transaction,
        )
        return _record(self._resource, found.row)

    async def delete(
        self,
        record_id: object,
        *,
        auth: Asker | None = TRUSTED,
        transaction: TransactionLike = None,
    ) -> None:
        """Delete a record."""
        await self._operations.delete(
            self._resource.name, record_id, auth=asker(auth), transaction=transaction
        )


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


def _record(resource: ResourceType, row: Row) -> Record:
    computed = {name: field.compute(row) for name, field in resource.computed.items()}
    return {**row, **computed, "id": str(row["id"])}


def _draft(view: View, values: Mapping[str, Any], *, is_new: bool = False) -> Draft:
    """To-one relationships by name become their foreign keys; to-many ones are lists of ids."""
    given: Record = {}
    members: dict[str, Members] = {}
    for name, value in values.items():
        link = view.resource.relationships.get(name)
        if link is not None and link.targets:
            given |= _reference(view, link, value)
            continue
        if link is None or link.is_own:
            given[name if link is None else link.foreign_key] = value
        elif not link.to_many:
            members[name] = Members.of_one(None if value is None else str(value))
        elif isinstance(value, list | tuple):
            members[name] = Members([str(key) for key in value])
        else:
            problem = Problem(name, "expected a list of ids")
            raise ValidationFailed([problem], resource=view.resource.name)
    return Draft(given, given.pop("id", None) if is_new else None, members=members)


def _reference(view: View, link: Relationship, value: Any) -> Record:
    """The type and the id of the record to which a polymorphic relationship is to lead."""
    if value is None:
        return {link.type_field: None, link.foreign_key: None}
    if isinstance(value, tuple) and len(value) == 2:
        return {link.type_field: value[0], link.foreign_key: str(value[1])}
    problem = Problem(link.name, 'expected ("resource", id), or None')
    raise ValidationFailed([problem], resource=view.resource.name)

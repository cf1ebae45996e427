"""Related records: which ones are asked for, and loading them with one query per path segment."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from tidings.errors import InvalidRequest
from tidings.filters import Atom, Expression, all_of
from tidings.resources.budget import ReadBudget
from tidings.resources.refusals import key_or_none
from tidings.schema import Relationship, ResourceRegistry, ResourceType
from tidings.storage import Connection, RecordStore, Row
from tidings.storage.lists import chunks

MAX_PATHS: Final = 50
MAX_DEPTH: Final = 8

IncludeTree = Mapping[str, "IncludeTree"]
RecordKey = tuple[str, Any]
"""Resource name and id."""


@dataclass(slots=True)
class Included:
    """Related records without repetitions, and the members of relationships whose
    key others hold.

    ``asked`` is False where nothing was to be included, which a document shows.
    """

    asked: bool = False
    records: dict[RecordKey, Row] = field(default_factory=dict)
    members: dict[tuple[str, Any, str], list[Any]] = field(default_factory=dict)
    """(resource, id, relationship) to the ids of its members."""


def parse_include(
    registry: ResourceRegistry, resource: ResourceType, paths: Iterable[str]
) -> IncludeTree:
    """Check include paths ("author", "comments.user") against the schema, whole.

    Raises:
        InvalidRequest: ``INVALID_INCLUDE``, naming the path and the resource.
    """
    tree: dict[str, Any] = {}
    for number, path in enumerate(paths):
        if number >= MAX_PATHS or not isinstance(path, str) or path.count(".") >= MAX_DEPTH:
            raise _invalid(f"at most {MAX_PATHS} paths of {MAX_DEPTH} segments", resource)
        branch, places = tree, [resource]
        for segment in path.split("."):
            links = [place.relationships.get(segment) for place in places]
            names = {name for link in links if link is not None for name in link.types}
            if not names:
                where = "' and '".join(place.name for place in places)
                raise _invalid(
                    f"{path[:100]!r}: '{where}' has no relationship {segment[:100]!r}",
                    resource,
                )
            branch = branch.setdefault(segment, {})
            places = [registry[name] for name in sorted(names)]
    return tree


def _invalid(message: str, resource: ResourceType) -> InvalidRequest:
    return InvalidRequest(
        f"Cannot include {message}" if message.startswith("'") else f"Include takes {message}",
        code="INVALID_INCLUDE",
        option="include",
        resource=resource.name,
    )


def included_resources(
    registry: ResourceRegistry, resource: ResourceType, tree: IncludeTree
) -> set[str]:
    """The names of the resources whose records the tree brings in."""
    found: set[str] = set()
    for name, branch in tree.items():
        link = resource.relationships.get(name)
        if link is None:
            continue  # it belongs to another of the resources that a polymorphic one leads to
        for target in link.types:
            found |= {target} | included_resources(registry, registry[target], branch)
        found |= {link.through} if link.through else set()
    return found


def _keys(relationship: Relationship, target: ResourceType, rows: list[Row]) -> set[Any]:
    """The ids of the records of a resource to which rows refer themselves."""
    key = relationship.foreign_key
    if not relationship.targets:
        return {row[key] for row in rows} - {None}
    found = {row[key] for row in rows if relationship.type_of(row) == target.name}
    return {key_or_none(target, text) for text in found} - {None}


class IncludeLoader:
    """Loads an include tree for the rows of one document."""

    def __init__(
        self,
        store: RecordStore,
        registry: ResourceRegistry,
        connection: Connection,
        visible: Callable[[ResourceType], Expression],
        budget: ReadBudget,
    ) -> None:
        """``visible`` tells which records of a resource may be brought in."""
        self._budget = budget
        self._store = store
        self._registry = registry
        self._connection = connection
        self._visible = visible
        self._included = Included(asked=True)

    async def load(self, resource: ResourceType, rows: list[Row], tree: IncludeTree) -> Included:
        """Load everything below these rows.

        Raises:
            InvalidRequest: ``INCLUDE_TOO_LARGE``.
        """
        for name, branch in tree.items():
            await asyncio.sleep(0)  # so many paths are many turns
            relationship = resource.relationships.get(name)
            if relationship is None:
                continue  # see `included_resources`
            for kind in relationship.types:
                target = self._registry[kind]
                if not relationship.is_own:
                    found = await self._load_members(resource, relationship, target, rows)
                else:
                    found = await self._fetch(target, "id", _keys(relationship, target, rows))
                for row in found:
                    self._included.records[target.name, row["id"]] = row
                if found and branch:
                    await self.load(target, found, branch)
        return self._included

    async def _load_members(
        self,
        resource: ResourceType,
        relationship: Relationship,
        target: ResourceType,
        rows: list[Row],
    ) -> list[Row]:
        members = self._included.members
        for row in rows:
            members[resource.name, row["id"], relationship.name] = []
        if relationship.through:
            return await self._load_linked(resource, relationship, target, rows)
        found = await self._fetch(target, relationship.foreign_key, {row["id"] for row in rows})
        for row in found:
            owner = row[relationship.foreign_key]
            members[resource.name, owner, relationship.name].append(row["id"])
        return found

    async def _load_linked(
        self,
        resource: ResourceType,
        relationship: Relationship,
        target: ResourceType,
        rows: list[Row],
    ) -> list[Row]:
        through = self._registry[relationship.through]
        keys = {row["id"] for row in rows}
        links = await self._fetch(through, relationship.foreign_key, keys)
        others = {link[relationship.other_key] for link in links} - {None}
        found = await self._fetch(target, "id", others)
        seen = {row["id"] for row in found}
        members = self._included.members
        for link in links:
            owner, other = link[relationship.foreign_key], link[relationship.other_key]
            those = members[resource.name, owner, relationship.name]
            if other in seen and other not in those:
                those.append(other)
        return found

    async def _fetch(self, target: ResourceType, column: str, keys: set[Any]) -> list[Row]:
        if not keys:
            return []
        found: list[Row] = []
        for some in chunks(sorted(keys)):
            rows = await self._fetch_some(target, column, some)
            self._budget.take_related(len(rows))
            found += rows
        return found

    async def _fetch_some(
        self, target: ResourceType, column: str, keys: Sequence[Any]
    ) -> list[Row]:
        last: list[Any] = []

        async def read(count: int, _: int) -> list[Row]:
            beyond = [Atom("id", ">", key) for key in last]
            where = all_of([self._visible(target), *beyond])
            rows = await self._store.related(self._connection, target, column, keys, count, where)
            last[:] = [row["id"] for row in rows[-1:]]
            return rows

        most = self._budget.related + 1
        return await self._budget.read(target.name, most, read, option="include")

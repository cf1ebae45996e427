"""Columns of related records, by path: ``category.name``, ``author.company.country``.

A path over to-one relationships is like one more column of the record, NULL where there is no
related record. A path with a to-many relationship in it has many values.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tidings.errors import ConfigurationError
from tidings.schema.fields import Field, IdType
from tidings.schema.types import TypeName

if TYPE_CHECKING:
    from tidings.schema.resource import ResourceType

MAX_HOPS: Final = 4


@dataclass(frozen=True, slots=True)
class Hop:
    """One relationship of a path: ``near`` is the key column on this side, ``far`` on the other."""

    resource: str
    """Where it leads to."""
    near: str
    far: str
    to_many: bool


@dataclass(frozen=True, slots=True)
class RelatedColumn:
    """A column at the end of a path; ``field`` is None where that is the ``id``."""

    path: str
    hops: tuple[Hop, ...]
    column: str
    field: Field | None
    id_type: IdType
    """Of the resource at the end."""

    @property
    def type(self) -> TypeName:
        """The type of the values."""
        return "id" if self.field is None else self.field.type

    @property
    def many(self) -> bool:
        """Whether it has many values for one record."""
        return any(hop.to_many for hop in self.hops)

    @property
    def target(self) -> str:
        """The resource at the end of the path."""
        return self.hops[-1].resource


def resolve_path(
    where: str, resources: Mapping[str, ResourceType], resource: ResourceType, path: str
) -> RelatedColumn:
    """Follow a dotted path from a resource to a column.

    Raises:
        ConfigurationError: starts with ``where`` and names the segment that leads nowhere.
    """
    *names, column = path.split(".")
    hops: list[Hop] = []
    place = resource
    if len(names) > MAX_HOPS:
        raise ConfigurationError(f"{where}: {path!r} has more than {MAX_HOPS} relationships")
    for name in names:
        link = place.relationships.get(name)
        if link is None:
            raise ConfigurationError(
                f"{where}: {path!r}: resource {place.name!r} has no relationship {name!r}"
            )
        if link.targets:
            raise ConfigurationError(
                f"{where}: {path!r}: {place.name}.{name} leads to several resources "
                f"({', '.join(link.targets)}), and no filter, policy or sorting goes through it"
            )
        if link.through:
            hops.append(Hop(link.through, "id", link.foreign_key, to_many=True))
        near, far = (link.foreign_key, "id") if link.is_own else ("id", link.foreign_key)
        if link.through:
            near, far = link.other_key, "id"
        hops.append(Hop(link.target, near, far, not link.is_own and not link.through))
        place = resources[link.target]
    link = place.relationships.get(column)
    column = link.foreign_key if link is not None and link.is_own else column
    field = place.fields.get(column)
    if field is None and column != "id":
        raise ConfigurationError(
            f"{where}: {path!r}: resource {place.name!r} has no field {column!r}"
        )
    return RelatedColumn(path, tuple(hops), column, field, place.id_type)

"""ResourceType: one declared resource, however it was declared."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol
from uuid import uuid4

from tidings.errors import ConfigurationError
from tidings.identity import Identity
from tidings.schema.fields import Field, IdType, Relationship, SearchField, cast_id
from tidings.schema.limits import FilterLimits
from tidings.schema.links import with_links
from tidings.schema.names import MemberNames, member_name
from tidings.schema.related import MAX_HOPS, RelatedColumn, resolve_path
from tidings.schema.search import finish_search
from tidings.schema.types import TEXT_TYPES, check_spelling

_log = logging.getLogger("tidings.permissions")
CheckPermissions = Callable[[Any], Awaitable[bool | None] | bool | None]
RowPolicy = Callable[[Any, Any], Any]
"""``(columns, identity)`` to True, False, a clause (dict) or an SQLAlchemy expression."""


class Rules(Protocol):
    """Declarative permission rules of one resource, resolved (see ``tidings.auth``)."""

    async def allows(self, context: Any) -> bool:
        """Tell whether some rule for the context's method allows it."""
        ...

    def is_closed(self, method: str) -> bool:
        """Tell whether no rule allows a method, whoever asks."""
        ...


@dataclass(frozen=True, slots=True)
class ResourceType:
    """A resource: its fields, relationships, filters, permissions and limits.

    ``search`` is None where the resource declares no filter at all, which is not the same as an
    empty search schema: filtering it answers ``FILTERING_NOT_ENABLED``.
    """

    name: str
    fields: Mapping[str, Field]
    relationships: Mapping[str, Relationship] = field(default_factory=dict)
    computed: Mapping[str, Field] = field(default_factory=dict)
    """The attributes that are made of others when a document is, and have no column."""
    virtual: Mapping[str, Field] = field(default_factory=dict)
    """What clients may send for hooks to read, and has no column."""
    search: Mapping[str, SearchField] | None = None
    related: Mapping[str, RelatedColumn] = field(default_factory=dict)
    """The columns of related records that filters use, by path; filled in when linked."""
    id_type: IdType = "integer"
    client_ids: bool = False
    make_id: Callable[[], Any] | None = None
    """Makes the id of a new record; None: the database, or a random UUID."""
    table: str = ""
    native_uuids: frozenset[str] = frozenset()
    """The columns that hold UUIDs and no texts: not every text can be compared with them."""
    rules: Rules | None = None
    check_permissions: CheckPermissions | None = None
    row_policy: Mapping[str, RowPolicy] = field(default_factory=dict)
    """By method; ``*`` stands for the others. Empty where everybody may see every row."""
    enforced: Mapping[str, str] = field(default_factory=dict)
    """Columns whose value a claim decides, by column: a filter for another value is refused."""
    member_names: MemberNames = "as_declared"
    """How clients spell the names of fields, relationships and filters."""
    declared_names: Mapping[str, str] = field(default_factory=dict)
    """By the names that clients spell, those that are declared, where they differ."""
    borrows: tuple[str, ...] = ()
    """Paths to columns of related records that policies and hooks use, beside the filters'."""
    owner_field: str | None = None
    check_seconds: float = 10.0
    """After so long a permission check or a hook of a subscription that gives no answer denies."""
    page_size: int = 20
    max_page_size: int = 100
    filter_limits: FilterLimits = field(default_factory=FilterLimits)
    is_internal: bool = False
    """Whether it only holds the pairs of a many-to-many relationship: no face serves it."""

    def cast_id(self, value: object) -> int | str:
        """Take an id as it came (URL, document, Python) into the form its column holds.

        Raises:
            ValueProblem: no record of this resource can have such an id, or it is spelled
                otherwise than documents spell it.
        """
        key = cast_id(self.id_type, value)
        check_spelling(value, key)
        return key

    def new_id(self) -> str | None:
        """An id for a new record, or None where the database makes it."""
        if self.make_id is not None:
            return str(self.make_id())
        return None if self.id_type == "integer" else str(uuid4())

    @property
    def column_names(self) -> tuple[str, ...]:
        """``id`` and the fields, in the order of a row."""
        return ("id", *self.fields)

    def sortable(self, name: str) -> bool:
        """Tell whether clients may sort by this name: that of a field, or of a to-one path that
        some filter looks at.
        """
        if name == "id":
            return True
        if "." in name:
            path = self.related.get(name)
            return (
                path is not None
                and not path.many
                and (path.field is None or path.field.is_scalar)
                and any(name in entry.columns for entry in (self.search or {}).values())
            )
        found = self.fields.get(name)
        return found is not None and found.is_shown and found.type not in ("array", "object")

    def member_name(self, name: str) -> str:
        """A declared name as clients spell it."""
        return member_name(self.member_names, name)

    def declared(self, name: str) -> Field | None:
        """The field of this name, with or without a column."""
        return self.fields.get(name) or self.computed.get(name) or self.virtual.get(name)

    @property
    def attributes(self) -> dict[str, Field]:
        """What documents show as attributes."""
        own = {n: one for n, one in self.fields.items() if one.is_attribute and one.is_shown}
        return own | {n: one for n, one in self.computed.items() if one.is_shown}

    @property
    def version_field(self) -> str | None:
        """The field that counts the writes of a record, if there is one."""
        return next((name for name, one in self.fields.items() if one.version), None)

    def counted(self, before: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
        """The values of a write, and the version that the record has after it."""
        name = self.version_field
        return {**values} if name is None else {**values, name: (before[name] or 0) + 1}


class ResourceRegistry:
    """The resources of one Api by name; `link` checks what they say of each other."""

    def __init__(self) -> None:
        self._types: dict[str, ResourceType] = {}
        self._guarded_fields: list[tuple[str, Field]] = []
        self._views: dict[frozenset[tuple[str, str]], ResourceRegistry] = {}

    def add(self, resource: ResourceType) -> None:
        """Register a resource; its name must be new."""
        if resource.name in self._types:
            raise ConfigurationError(f"resource {resource.name!r} is declared twice")
        self._types[resource.name] = resource

    def get(self, name: object) -> ResourceType | None:
        """The resource of this name that is served; None for any other value of any type."""
        found = self._types.get(name) if isinstance(name, str) else None
        return None if found is None or found.is_internal else found

    def __getitem__(self, name: str) -> ResourceType:
        return self._types[name]

    def __iter__(self) -> Iterator[ResourceType]:
        return iter(self._types.values())

    def transform(self, change: Callable[[ResourceType], ResourceType]) -> None:
        """Replace every resource by what ``change`` makes of it; call before linking."""
        self._types = {name: change(resource) for name, resource in self._types.items()}

    def link(self) -> None:
        """Check every relationship against its target; give foreign keys the target's id type.

        Raises:
            ConfigurationError: names the resource, the relationship and what is missing.
        """
        self._types = with_links(self._types)
        for resource in list(self._types.values()):
            for relationship in resource.relationships.values():
                self._check(resource, relationship)
            self._types[resource.name] = self._with_reference_types(resource)
        for resource in list(self._types.values()):
            self._types[resource.name] = self._with_related(resource)
        self._guarded_fields = [
            (resource.name, found)
            for resource in self._types.values()
            for found in (*resource.fields.values(), *resource.computed.values())
            if found.readable_by is not None
        ]

    def _with_related(self, resource: ResourceType) -> ResourceType:
        """Resolve the paths of the search schema, and what depends on where they lead."""
        related: dict[str, RelatedColumn] = {}
        search: dict[str, SearchField] = {}
        for path in resource.borrows:
            where = f"resource {resource.name!r}, borrows"
            related[path] = resolve_path(where, self._types, resource, path)
        filtered: dict[str, RelatedColumn] = {}
        for entry in (resource.search or {}).values():
            where = f"resource {resource.name!r}, filter {entry.name!r}"
            for path in entry.columns:
                if "." in path:
                    filtered[path] = resolve_path(where, self._types, resource, path)
            search[entry.name] = finish_search(where, entry, resource.fields, filtered)
        if not related and not filtered:
            return resource
        # What clients filter by is held against the policies on the way; policies and hooks are
        # trusted, and see what they name.
        related |= filtered
        for found in filtered.values():
            related |= self._guarded(resource, found)
        return replace(
            resource, search=search if resource.search is not None else None, related=related
        )

    def _guarded(self, resource: ResourceType, found: RelatedColumn) -> dict[str, RelatedColumn]:
        """What the row policies of the resources on a path look at, as paths of their own."""
        guarded: dict[str, RelatedColumn] = {}
        names = found.path.split(".")[:-1]
        for number, hop in enumerate(found.hops, start=1):
            target = self._types[hop.resource]
            if not target.row_policy:
                continue
            where = f"resource {resource.name!r}, {found.path!r}"
            if found.many:
                raise ConfigurationError(
                    f"{where}: {target.name!r} has a row policy, which a filter through a to-many "
                    "relationship cannot respect"
                )
            columns = ["id", *(name for name, one in target.fields.items() if one.is_scalar)]
            for column in (*columns, *target.borrows):
                path = ".".join([*names[:number], column])
                if path.count(".") <= MAX_HOPS:  # what is further away denies: see `seen_from`
                    guarded[path] = resolve_path(where, self._types, resource, path)
        return guarded

    def seen_by(self, identity: Identity) -> ResourceRegistry:
        """The resources as this identity may know them: fields that it may not read are hidden,
        and filters and relationships over them are not there. Call after linking.
        """
        if not self._guarded_fields:
            return self
        unreadable = frozenset(
            (resource, field.name)
            for resource, field in self._guarded_fields
            if not _may_read(field, identity)
        )
        view = self._views.get(unreadable)
        if view is None:
            view = self._views[unreadable] = ResourceRegistry()
            view._types = {
                name: _without(resource, unreadable) for name, resource in self._types.items()
            }
        return view

    def _check(self, resource: ResourceType, relationship: Relationship) -> None:
        where = f"relationship {relationship.name!r} of resource {resource.name!r}"
        for name in relationship.targets:
            if self.get(name) is None:
                raise ConfigurationError(f"{where} points at {name!r}, which is not declared")
        if relationship.targets:
            return
        target = self._types.get(relationship.target)
        if target is None:
            raise ConfigurationError(
                f"{where} points at {relationship.target!r}, which is not declared"
            )
        if relationship.through:
            return  # see `with_links`
        holder = resource if relationship.is_own else target
        key = holder.fields.get(relationship.foreign_key)
        if key is None:
            raise ConfigurationError(
                f"{where}: {holder.name!r} has no field {relationship.foreign_key!r}"
            )
        if not relationship.is_own and key.targets:
            raise ConfigurationError(
                f"{where}: {target.name}.{key.name} refers to several resources, of which this "
                "would be one: it is not served from this side"
            )
        if not relationship.is_own and not key.is_shown:
            raise ConfigurationError(
                f"{where}: {target.name}.{key.name} is hidden or write-only, and the "
                "relationship would show it"
            )
        if not relationship.is_own and key.references not in (None, resource.name):
            raise ConfigurationError(
                f"{where}: {target.name}.{key.name} belongs to {key.references!r}"
            )

        if relationship.kind == "hasOne" and not key.unique:
            raise ConfigurationError(
                f"{where}: {target.name}.{key.name} is not unique, so that there could be many: "
                "declare it with unique=True, or make this a 'hasMany'"
            )
        texts = TEXT_TYPES | {"uuid"} if resource.id_type == "uuid" else TEXT_TYPES
        fits = key.type == "integer" if resource.id_type == "integer" else key.type in texts
        if not relationship.is_own and key.references is None and not fits:
            raise ConfigurationError(
                f"{where}: {target.name}.{key.name} cannot hold ids of {resource.name!r}; "
                f"declare it with belongs_to={resource.name!r}"
            )

    def _with_reference_types(self, resource: ResourceType) -> ResourceType:
        fields = {
            name: replace(found, reference_type=self._types[found.references].id_type)
            if found.references is not None
            else found
            for name, found in resource.fields.items()
        }
        return replace(resource, fields=fields)


def _may_read(field: Field, identity: Identity) -> bool:
    assert field.readable_by is not None
    try:
        return field.readable_by(identity) is True
    except Exception:  # noqa: BLE001  a check that fails in any way has not said yes
        _log.exception("readable_by of %r failed and denies", field.name)
        return False


def _without(resource: ResourceType, unreadable: frozenset[tuple[str, str]]) -> ResourceType:
    """The resource without what would show or tell of unreadable fields."""
    hidden = {name for owner, name in unreadable if owner == resource.name}

    def tells(path: str) -> bool:
        related = resource.related.get(path)
        if related is None:
            return path in hidden
        places = [resource.name, *(hop.resource for hop in related.hops)]
        keys = [
            (hop.resource if hop.to_many else place, hop.far if hop.to_many else hop.near)
            for place, hop in zip(places, related.hops, strict=False)
        ]
        return (related.target, related.column) in unreadable or not unreadable.isdisjoint(keys)

    return replace(
        resource,
        fields={
            name: replace(found, hidden=True) if name in hidden else found
            for name, found in resource.fields.items()
        },
        computed={
            name: replace(found, hidden=True)
            if name in hidden or not hidden.isdisjoint(found.depends_on)
            else found
            for name, found in resource.computed.items()
        },
        relationships={
            name: link
            for name, link in resource.relationships.items()
            if (resource.name if link.is_own else link.holder, link.foreign_key) not in unreadable
            and (link.holder, link.other_key) not in unreadable
            and (resource.name, link.type_field) not in unreadable
        },
        search=None
        if resource.search is None
        else {
            name: entry
            for name, entry in resource.search.items()
            if not any(tells(column) for column in entry.columns)
        },
    )

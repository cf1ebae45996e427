"""Random worlds: three resources that refer to each other and themselves, and their records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import count
from random import Random
from typing import Any

from tests.proof.values import IDS, KINDS, Kind
from tidings.filters import Expression
from tidings.schema import (
    RelatedColumn,
    ResourceRegistry,
    ResourceType,
    declare_resource,
    validate_new,
)

Row = dict[str, Any]

# Each world has tables of its own name: a server may remember how it ran a statement, and the
# columns of another world's table have other types.
_numbers = count()

_REFERENCES = {
    "things": {"group_id": "groups", "parent_id": "things"},
    "groups": {"parent_id": "groups"},
    "notes": {"thing_id": "things", "group_id": "groups"},
}
_MANY = {
    "things": {"notes": ("notes", "thing_id"), "children": ("things", "parent_id")},
    "groups": {"things": ("things", "group_id")},
    "notes": {},
}
LISTED = ("in", "between")
_CHAINS = [
    *("group", "group", "group.parent", "parent", "parent.parent", "parent.group"),
    *("notes", "notes", "notes.group", "notes.thing", "children", "children.notes"),
    *("group.things", "notes.thing.group", "parent.notes.group.parent"),
]
"""Paths without their columns; several lead back to where they began."""


@dataclass
class World:
    """Resources, their records, and filters on the things among them."""

    registry: ResourceRegistry
    kinds: dict[str, Kind]
    """Of the columns of things, and of the paths to related ones."""
    rows: dict[str, list[Row]]
    """By resource."""
    pools: dict[str, list[Any]]
    """Values that columns and paths have (never None), to ask for."""
    filters: list[Expression] = field(default_factory=list)

    @property
    def resource(self) -> ResourceType:
        return self.registry["things"]

    @property
    def records(self) -> list[Row]:
        return self.rows["things"]

    def images(self) -> list[Row]:
        """The things as changes have them: with what their paths lead to."""
        related = self.resource.related
        return [
            record | {path: self.borrowed(record, found) for path, found in related.items()}
            for record in self.records
        ]

    def borrowed(self, record: Row, related: RelatedColumn) -> Any:
        """What a path leads to from a record: a value, or all that there are."""
        place = [record]
        for hop in related.hops:
            place = [
                far
                for near in place
                if near[hop.near] is not None
                for far in self.rows[hop.resource]
                if far[hop.far] == near[hop.near]
            ]
        values = dict.fromkeys(row[related.column] for row in place)
        if related.many:
            return tuple(values)
        return next(iter(values), None)


def random_world(r: Random, records: int) -> World:
    """A world of about so many things (and other records), with no filters yet."""
    ids = {name: r.choice(["integer", "integer", "string", "uuid"]) for name in _REFERENCES}
    columns = {
        name: {f"c{number}": r.choice(KINDS) for number in range(r.randint(1, size))}
        for name, size in (("things", 6), ("groups", 3), ("notes", 3))
    }
    for name, references in _REFERENCES.items():
        columns[name] |= {key: IDS[ids[target]] for key, target in references.items()}
    kinds, paths = _paths(r, columns, ids)
    registry = _declared(r, ids, columns, kinds, paths)
    rows = _rows(r, registry, ids, columns, records)
    world = World(registry, kinds, rows, {})
    images = world.images()
    for name, kind in kinds.items():
        found = [image[name] for image in images]
        if name in registry["things"].related and registry["things"].related[name].many:
            found = [value for values in found for value in values]
        pool = [value for value in found if value is not None]
        world.pools[name] = pool or [_plausible(r, registry, name, kind)]
    return world


def _plausible(r: Random, registry: ResourceRegistry, name: str, kind: Kind) -> Any:
    resource = registry["things"]
    related = resource.related.get(name)
    if related is not None:
        field = related.field
        return kind.make(r) if field is None else field.cast(kind.make(r))
    return kind.make(r) if name == "id" else resource.fields[name].cast(kind.make(r))


def _paths(
    r: Random, columns: Mapping[str, Mapping[str, Kind]], ids: Mapping[str, str]
) -> tuple[dict[str, Kind], list[str]]:
    """The kinds of all that things can be asked for, and the paths among it."""
    kinds = {"id": IDS[ids["things"]], **columns["things"]}
    paths = {}
    for chain in (r.choice(_CHAINS) for _ in range(r.choice([0, 1, 2, 3, 4]))):
        place = "things"
        for link in chain.split("."):
            many = _MANY[place].get(link)
            place = many[0] if many is not None else _REFERENCES[place][f"{link}_id"]
        found = {"id": IDS[ids[place]], **columns[place]}
        column = r.choice([name for name, kind in found.items() if not kind.is_container])
        paths[f"{chain}.{column}"] = found[column]
    return kinds | paths, list(paths)


def _declared(
    r: Random,
    ids: Mapping[str, str],
    columns: Mapping[str, Mapping[str, Kind]],
    kinds: Mapping[str, Kind],
    paths: list[str],
) -> ResourceRegistry:
    registry = ResourceRegistry()
    number = next(_numbers)
    for name, found in columns.items():
        schema: dict[str, Any] = {}
        for column, kind in found.items():
            target = _REFERENCES[name].get(column)
            schema[column] = (
                dict(kind.options)
                if target is None
                # No constraint: that a key leads nowhere must be no other than that it is NULL.
                else {"type": "id", "belongs_to": target, "constraint": False}
            )
        search = None
        if name == "things":
            search = {f"path{n}": {"actual_field": path} for n, path in enumerate(paths)}
            search |= {f"f{n}": _search_entry(r, kinds) for n in range(r.randint(1, 8))}
        links = {
            link: {"type": "hasMany", "target": target, "foreign_key": key}
            for link, (target, key) in _MANY[name].items()
        }
        registry.add(
            declare_resource(
                name,
                schema,
                search_schema=search,
                relationships=links,
                id_type=ids[name],
                table=f"{name}_{number}",
            )
        )
    registry.link()
    return registry


def _search_entry(r: Random, kinds: Mapping[str, Kind]) -> dict[str, Any]:
    column = r.choice([name for name, kind in kinds.items() if kind.name != "object"])
    kind = kinds[column]
    if kind.name == "array":
        operator = r.choice(["=", "!=", "in", "in", "like"])
        kinds_of_elements = ["string", "integer", "boolean"] if operator != "like" else ["string"]
        match_all = {"match_all": r.random() < 0.5} if operator == "in" else {}
        return {
            "actual_field": column,
            "type": r.choice(kinds_of_elements),
            "filter_operator": operator,
            **match_all,
        }
    entry: dict[str, Any] = {"filter_operator": r.choice(kind.operators)}
    same = [name for name, other in kinds.items() if other is kind]
    if len(same) > 1 and r.random() < 0.4:
        entry["one_of"] = same[: r.randint(1, len(same))]
    else:
        entry["actual_field"] = column
    if kind.name == "dateTime" and r.random() < 0.5:
        entry["type"] = "date"
    can_split = kind.name in ("string", "text") and entry["filter_operator"] not in LISTED
    if can_split and r.random() < 0.3:
        entry |= {"split_by": r.choice([" ", "a"]), "match_all": r.random() < 0.5}
    return entry


def _rows(
    r: Random,
    registry: ResourceRegistry,
    ids: Mapping[str, str],
    columns: Mapping[str, Mapping[str, Kind]],
    records: int,
) -> dict[str, list[Row]]:
    sizes = {"things": records, "groups": records // 6 + 1, "notes": records // 2 + 1}
    keys: dict[str, list[Any]] = {}
    for name, size in sizes.items():
        found = (IDS[ids[name]].make(r) for _ in range(size * 3))
        keys[name] = list(dict.fromkeys(found))[:size]
    rows: dict[str, list[Row]] = {}
    for name, found in columns.items():
        pools = {column: _pool(r, kind) for column, kind in found.items()}
        for column, target in _REFERENCES[name].items():
            # Few, so that some have many records behind them; and one that leads nowhere.
            some = [r.choice(keys[target]) for _ in range(r.randint(1, 6))]
            pools[column] = [*some, IDS[ids[target]].make(r)]
        resource = registry[name]
        rows[name] = []
        for key in keys[name]:
            values = {column: _value(r, kind, pools[column]) for column, kind in found.items()}
            rows[name].append({"id": key, **validate_new(resource, values)})
    return rows


def _pool(r: Random, kind: Kind) -> list[Any]:
    """Few values per column, some near to others, so that records and filters meet."""
    found = [kind.make(r) for _ in range(r.randint(1, 4))]
    return found + [_storable(r, kind, kind.near(r, value)) for value in found]


def _storable(r: Random, kind: Kind, value: Any) -> Any:
    if kind.name == "decimal" or (kind.name in ("reference", "id") and value in ("", ".", "..")):
        return kind.make(r)
    return value


def _value(r: Random, kind: Kind, pool: list[Any]) -> Any:
    chance = r.random()
    if chance < 0.15:
        return None
    return kind.make(r) if chance < 0.22 and kind.name != "reference" else r.choice(pool)

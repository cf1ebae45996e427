"""Many-to-many relationships: the resource that holds their pairs, declared or made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from tidings.errors import ConfigurationError
from tidings.schema.fields import Field, Relationship

if TYPE_CHECKING:
    from tidings.schema.resource import ResourceType


def with_links(resources: Mapping[str, ResourceType]) -> dict[str, ResourceType]:
    """Complete every many-to-many relationship, and add the link resources that nobody declared.

    Raises:
        ConfigurationError: names the resource, the relationship and what is missing.
    """
    found = dict(resources)
    for resource in resources.values():
        _check_made(resource)
        completed = {
            name: _completed(found, resource, link) if link.kind == "manyToMany" else link
            for name, link in resource.relationships.items()
        }
        found[resource.name] = replace(found[resource.name], relationships=completed)
    return found


def _check_made(resource: ResourceType) -> None:
    """One table of pairs is made for two resources: it could not say of which relationship."""
    made: dict[str, str] = {}
    for name, link in resource.relationships.items():
        if link.kind != "manyToMany" or link.through:
            continue
        if link.target in made:
            raise ConfigurationError(
                f"relationships {made[link.target]!r} and {name!r} of resource {resource.name!r} "
                f"both lead to {link.target!r}: declare a link resource for each, and name it in "
                "'through'"
            )
        made[link.target] = name


def _completed(
    resources: dict[str, ResourceType], resource: ResourceType, link: Relationship
) -> Relationship:
    where = f"relationship {link.name!r} of resource {resource.name!r}"
    target = resources.get(link.target)
    if target is None:
        raise ConfigurationError(f"{where} points at {link.target!r}, which is not declared")
    if not link.through:
        name = "_".join(sorted((resource.name, link.target)))
        if name not in resources:
            resources[name] = _made(resource, name, resource, target)
        link = replace(link, through=name)
    through = resources.get(link.through)
    if through is None:
        raise ConfigurationError(
            f"{where}: through names {link.through!r}, which is not declared; declare it, or leave "
            "through out and have it made"
        )
    keys = _keys(where, through, resource.name, link)
    for key, refers_to in zip(keys, (resource.name, link.target), strict=True):
        field = through.fields.get(key)
        if field is None or field.references != refers_to:
            raise ConfigurationError(
                f"{where}: {through.name!r} has no field {key!r} with belongs_to={refers_to!r}"
            )
        if not field.is_shown:
            raise ConfigurationError(
                f"{where}: {through.name}.{key} is hidden or write-only, and the "
                "relationship would show it"
            )
    return replace(link, foreign_key=keys[0], other_key=keys[1])


def _keys(where: str, through: ResourceType, name: str, link: Relationship) -> tuple[str, str]:
    """The fields of the link resource: those that were named, or the only ones that there are."""
    own = [key for key, one in through.fields.items() if one.references == name]
    others = [key for key, one in through.fields.items() if one.references == link.target]
    if through.is_internal and name == link.target:
        return own[0], own[1]
    first, second = link.foreign_key, link.other_key
    if not first and len(own) == 1:
        first = own[0]
    if not second and len(others) == 1:
        second = others[0]
    if not first or not second or first == second:
        raise ConfigurationError(
            f"{where}: name the fields of {through.name!r}: foreign_key, which refers to {name!r}, "
            f"and other_key, which refers to {link.target!r}"
        )
    return first, second


def _made(
    owner: ResourceType, name: str, resource: ResourceType, target: ResourceType
) -> ResourceType:
    """A link resource that has nothing but the two keys."""
    names = [f"{resource.name}_id", f"{target.name}_id"]
    if resource.name == target.name:
        names = ["source_id", "target_id"]
    fields = {
        key.replace("-", "_"): Field(
            key.replace("-", "_"),
            "id",
            required=True,
            nullable=False,
            references=one.name,
            is_attribute=False,
            on_delete="cascade",
        )
        for key, one in zip(names, (resource, target), strict=True)
    }
    return replace(
        owner,
        name=name,
        table=name.replace("-", "_"),
        fields=fields,
        relationships={},
        search=None,
        related={},
        id_type="integer",
        client_ids=False,
        make_id=None,
        native_uuids=frozenset(),
        rules=None,
        check_permissions=None,
        row_policy={},
        enforced={},
        borrows=(),
        owner_field=None,
        is_internal=True,
    )

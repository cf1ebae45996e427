"""Targets of relationships: models say at which table they point, resources at which resource."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

from sqlalchemy import Table

from tidings.errors import ConfigurationError
from tidings.schema import Field, ResourceType

TABLE: Final = "table:"
"""Begins the target of a relationship until it is known which resource serves that table."""


def targets_of(existing: Mapping[str, Table]) -> Callable[[ResourceType], ResourceType]:
    """Have relationships point at resources: models say only at which table.

    ``existing`` are the tables of all resources that have been declared by a model.
    """
    serving: dict[str, list[str]] = {}
    for name, table in existing.items():
        serving.setdefault(table.info["existing"].fullname, []).append(name)

    def resolve(resource: ResourceType) -> ResourceType:
        return replace(
            resource,
            fields={
                name: _resolved(resource, one, serving) for name, one in resource.fields.items()
            },
            relationships={
                name: replace(link, target=_target(resource, name, link.target, serving))
                for name, link in resource.relationships.items()
            },
        )

    return resolve


def _resolved(resource: ResourceType, found: Field, serving: Mapping[str, list[str]]) -> Field:
    if found.references is None:
        return found
    return replace(found, references=_target(resource, found.name, found.references, serving))


def _target(
    resource: ResourceType, name: str, target: str, serving: Mapping[str, list[str]]
) -> str:
    if not target.startswith(TABLE):
        return target
    table = target.removeprefix(TABLE)
    found = serving.get(table, [])
    if len(found) != 1:
        why = "none serves it" if not found else f"{', '.join(found)} serve it"
        raise ConfigurationError(
            f"resource {resource.name!r}, {name!r}: it leads to the table {table!r}, and {why}. "
            f"Declare one resource of that table, or leave {name!r} out of fields"
        )
    return found[0]

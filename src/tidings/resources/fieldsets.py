"""Sparse fieldsets: which fields of which resource types a client wants to see."""

from __future__ import annotations

from collections.abc import Mapping

from tidings.errors import InvalidRequest
from tidings.schema import ResourceRegistry, ResourceType, describe

Fieldsets = Mapping[str, frozenset[str]]
"""Resource name to names of attributes and relationships; a resource not named shows all."""


def parse_fieldsets(registry: ResourceRegistry, fields: object) -> dict[str, frozenset[str]]:
    """Check sparse fieldsets ``{type: [name, ...]}`` against the schema.

    Raises:
        InvalidRequest: ``INVALID_FIELDS``, naming the type and the field.
    """
    if not isinstance(fields, Mapping):
        raise _invalid(f"expected an object of arrays by resource type, got {describe(fields)}")
    result = {}
    for name, wanted in fields.items():
        resource = registry.get(name)
        if resource is None:
            raise _invalid("there is no such resource type", name)
        if not isinstance(wanted, list | tuple):
            raise _invalid(f"expected an array of field names, got {describe(wanted)}", name)
        for field in wanted:
            if not isinstance(field, str) or not is_visible(resource, field):
                raise _invalid(f"'{resource.name}' has no field {_shown(field)}", name)
        result[resource.name] = frozenset(wanted)
    return result


def is_visible(resource: ResourceType, name: str) -> bool:
    """Tell whether documents may show a field of this name."""
    if name in resource.relationships:
        return True
    found = resource.fields.get(name) or resource.computed.get(name)
    return found is not None and found.is_attribute and found.is_shown


def _shown(field: object) -> str:
    return repr(field[:100]) if isinstance(field, str) else describe(field)


def _invalid(message: str, name: object = None) -> InvalidRequest:
    parameter = f"fields[{name[:100]}]" if isinstance(name, str) else "fields"
    return InvalidRequest(f"{parameter}: {message}", code="INVALID_FIELDS", option=parameter)

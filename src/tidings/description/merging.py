"""Putting the description of resources into that of the application around them."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final

Document = dict[str, Any]
_SCHEMAS: Final = "#/components/schemas/"
_METHODS: Final = frozenset({"get", "post", "patch", "put", "delete"})


def merged(host: Document, own: Document) -> Document:
    """The host's document with the paths and components of another. A schema whose name the host
    has already is called ``Resource...``.
    """
    components = host.get("components", {})
    taken = components.get("schemas", {})
    schemas = own["components"]["schemas"]
    renamed = {name: _free(name, {*taken, *schemas}) for name in schemas if name in taken}
    own = _renamed(own, renamed)
    for item in own["paths"].values():
        for method in _METHODS & item.keys():
            item[method].setdefault("security", own.get("security", []))
    added = own["components"]
    added["schemas"] = {renamed.get(name, name): one for name, one in added["schemas"].items()}
    sections = {name: {**one, **components.get(name, {})} for name, one in added.items()}
    return {
        **host,
        "paths": {**own["paths"], **host.get("paths", {})},
        "components": {**components, **sections},
        "tags": [*host.get("tags", []), *own["tags"]],
    }


def _free(name: str, taken: Collection[str]) -> str:
    found = f"Resource{name}"
    while found in taken:
        found = f"Resource{found}"
    return found


def _renamed(value: Any, names: dict[str, str]) -> Any:
    """A copy in which references go by the new names."""
    if isinstance(value, dict):
        return {key: _renamed(one, names) for key, one in value.items()}
    if isinstance(value, list):
        return [_renamed(one, names) for one in value]
    if isinstance(value, str) and value.startswith(_SCHEMAS):
        name = value.removeprefix(_SCHEMAS)
        return _SCHEMAS + names.get(name, name)
    return value

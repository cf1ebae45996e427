"""What of a record a change carries: the columns that some filter or policy can look at.

The rest would only be work: it is written to the outbox, sent to every process and remembered
there. Where the application's own code says what is looked at, that can be any column.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tidings.hooks import HookRegistry
from tidings.schema import ResourceType


class Carrying:
    """Knows which columns changes carry."""

    def __init__(self, hooks: HookRegistry) -> None:
        self._hooks = hooks
        self._declared: dict[str, frozenset[str] | None] = {}
        self._expected: dict[tuple[str, bool], frozenset[str]] = {}

    def columns(self, resource: ResourceType) -> frozenset[str] | None:
        """The columns that a change of this resource carries; None for all."""
        if self._hooks.has("subscription_filters"):
            return None
        if resource.name not in self._declared:
            self._declared[resource.name] = _declared(resource)
        return self._declared[resource.name]

    def expected(self, resource: ResourceType) -> frozenset[str]:
        """The columns and paths that every change of this resource has, be it known or not."""
        columns = self.columns(resource)
        key = (resource.name, columns is None)
        if key not in self._expected:
            own = frozenset(resource.column_names) if columns is None else columns
            self._expected[key] = own | resource.related.keys()
        return self._expected[key]

    def image(self, resource: ResourceType, row: Mapping[str, Any]) -> Mapping[str, Any]:
        """What of a row its change carries."""
        columns = self.columns(resource)
        if columns is None:
            return row
        return {name: value for name, value in row.items() if name in columns}


def _declared(resource: ResourceType) -> frozenset[str] | None:
    entries = (resource.search or {}).values()
    # What a function looks at is known when it has run, and that may be different each time.
    if resource.row_policy or any(callable(entry.operator) for entry in entries):
        return None
    columns = {column for entry in entries for column in entry.columns}
    return frozenset({"id", *columns, *resource.enforced} | {resource.owner_field or "id"})

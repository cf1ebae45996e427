"""What permission checks and hooks see of an operation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

from tidings.identity import ANONYMOUS, Identity
from tidings.schema import ResourceType
from tidings.storage import Row, UnitOfWork

Method = Literal["query", "get", "post", "put", "patch", "delete"]


@dataclass(slots=True)
class OperationContext:
    """One operation on one resource.

    ``record`` is the row before the change (None for query and post, or where there is none);
    ``values`` is what was given to write, by field name: a ``before_write`` hook may change it.
    ``after`` is the row after the change, in ``after_write`` hooks.
    """

    method: Method
    resource: str
    auth: Identity
    id: str | None = None
    record: Mapping[str, Any] | None = None
    values: dict[str, Any] | None = None
    after: Mapping[str, Any] | None = None
    owner_field: str | None = None
    transaction: UnitOfWork | None = None


def operation_context(
    resource: ResourceType,
    method: Method,
    auth: Identity | None,
    *,
    record_id: object = None,
    record: Row | None = None,
    values: Mapping[str, Any] | None = None,
    uow: UnitOfWork | None = None,
) -> OperationContext:
    """The context of an operation; checks and hooks can look at the row, and not change it."""
    return OperationContext(
        method,
        resource.name,
        auth or ANONYMOUS,
        None if record_id is None else str(record_id),
        None if record is None else MappingProxyType(record),
        None if values is None else dict(values),
        None,
        resource.owner_field,
        uow,
    )

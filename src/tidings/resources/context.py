"""What permission checks and hooks see of an operation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

from tidings.identity import ANONYMOUS, Asker, Identity, Trusted
from tidings.schema import ResourceType
from tidings.storage import Row, UnitOfWork

Method = Literal["query", "get", "post", "put", "patch", "delete"]


@dataclass(slots=True)
class OperationContext:
    """One operation on one resource.

    ``id`` is the record's, spelled as documents spell it: None where it has none yet, or where no
    record can have the id that was given. ``record`` is the row before the change (None for query
    and post, or where there is none). ``values`` is what was given to write, by field name, cast
    to what will be stored; a ``before_write`` hook may change it. ``after`` is the row after the
    change, in ``after_write`` hooks. ``transaction`` is the write's in hooks; a permission check
    is asked before that begins, and has only one that was given by the caller.
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
    is_internal: bool = False
    """Whether it is of a resource that only holds the pairs of a relationship; no hook runs."""


def operation_context(
    resource: ResourceType,
    method: Method,
    auth: Asker,
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
        ANONYMOUS if isinstance(auth, Trusted) else auth,
        None if record_id is None else str(record_id),
        None if record is None else MappingProxyType(record),
        None if values is None else dict(values),
        None,
        resource.owner_field,
        uow,
        resource.is_internal,
    )

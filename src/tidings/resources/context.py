"""What permission checks and hooks see of an operation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from tidings.identity import Identity
from tidings.storage import UnitOfWork

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

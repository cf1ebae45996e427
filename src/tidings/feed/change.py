"""Change: one committed change of one record, before and after; and Invalidation, of many."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

Action = Literal["post", "update", "patch", "delete"]


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Change:
    """What happened to one record.

    ``before`` and ``after`` are the record's column values, Python representation, ``id``
    included; ``before`` is None where it was made, ``after`` where it was deleted. ``action`` is
    what the wire calls it: ``update`` is a PUT that replaced.

    Where filters of the resource look at related records, both also hold the values of these
    *paths* (``category.name``): one value, or for a to-many path a tuple of the distinct ones.
    """

    resource: str
    id: str
    action: Action
    before: Mapping[str, Any] | None
    after: Mapping[str, Any] | None
    at: datetime = field(default_factory=_now)
    derived: bool = False
    """Whether only the values of paths have changed, by a change of a related record."""
    unknown: frozenset[str] = frozenset()
    """Paths with more values than are read: what filters on them come to is not known."""
    trace: str | None = None
    """Where it is traced: the place of its commit in that trace, as a W3C ``traceparent``."""
    resynced: frozenset[str] = frozenset()
    """Those of ``unknown`` whose watchers an invalidation of the same transaction has refetch."""


@dataclass(frozen=True, slots=True)
class Invalidation:
    """Too many records of a resource may have changed, as filters on these paths see them.

    The changes are not listed: whoever watches such a filter is told to refetch. Without
    ``paths`` that is every filter of the resource, without ``resource`` every filter there is.
    """

    resource: str | None
    paths: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class Recheck:
    """What a user (None: anybody) may do with a resource (None: any) has changed."""

    user_id: str | None
    resource: str | None


Notice = Change | Invalidation | Recheck
"""What a feed carries."""

"""Change: one committed change of one record, before and after."""

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
    """

    resource: str
    id: str
    action: Action
    before: Mapping[str, Any] | None
    after: Mapping[str, Any] | None
    at: datetime = field(default_factory=_now)

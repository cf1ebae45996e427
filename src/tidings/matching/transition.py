"""The decision that all depends on: what has a change made of a record, in the eyes of a filter?"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

from tidings.feed import Change, Invalidation
from tidings.filters import Expression, Opaque, columns_used, leaves

Way = Literal["enter", "update", "leave"]


def way_through(change: Change, matches: Callable[[Mapping[str, Any]], bool]) -> Way | None:
    """How the record has gone through a filter: None where it is, and was, outside."""
    was = change.before is not None and matches(change.before)
    now = change.after is not None and matches(change.after)
    if was and now:
        return "update"
    return "enter" if now else "leave" if was else None


def is_told(change: Change, way: Way | None) -> bool:
    """Whether a subscription is told: not that a record which stays is as it was itself."""
    return way is not None and not (change.derived and way == "update")


def is_unknown(change: Change, expression: Expression) -> bool:
    """Whether it cannot be said, since the filter looks at more than the change could carry."""
    return bool(change.unknown) and _looks_at(expression, change.unknown)


def is_stale(stale: Invalidation, resource: str, expression: Expression) -> bool:
    """Whether the view of a filter may be stale."""
    if stale.resource not in (None, resource):
        return False
    return stale.paths is None or _looks_at(expression, stale.paths)


def _looks_at(expression: Expression, names: frozenset[str]) -> bool:
    """Whether a filter looks at one of these, or may: code of the application's own can look at
    any of the record's columns.
    """
    if not names.isdisjoint(columns_used(expression)):
        return True
    return any("." not in name for name in names) and any(
        isinstance(leaf, Opaque) for leaf in leaves(expression)
    )

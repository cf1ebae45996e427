"""Several changes of one record as one; the net effect of a transaction.

What a record was like within a transaction was never there for anybody else. Told, it would be
untrue, and would tell those who can see only such an image of a record that they never could read.
What it was like between two transactions somebody may have read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import reduce

from tidings.feed.change import Action, Change, Invalidation, Notice


def net_changes(changes: Sequence[Notice]) -> list[Notice]:
    """The changes of one transaction, one per record, at the place of its last one.

    Of equal invalidations the last is enough: who refetches then sees the whole transaction.
    """
    by_record: dict[Notice | tuple[str, str], list[Notice | None]] = {}
    for change in changes:
        key = (change.resource, change.id) if isinstance(change, Change) else change
        # Taken out and put in again, so that it stands where its last change stood.
        by_record[key] = [*by_record.pop(key, ()), change]
    if len(by_record) == len(changes):
        net = list(changes)
    else:
        folded = (reduce(_fold, some) for some in by_record.values())
        net = [change for change in folded if change is not None]
    lost: dict[str | None, frozenset[str]] = {}
    for notice in net:
        if isinstance(notice, Invalidation) and notice.paths:
            lost[notice.resource] = lost.get(notice.resource, frozenset()) | notice.paths
    return _without_lost(net, lost) if lost else net


def _without_lost(
    changes: Sequence[Notice], lost: Mapping[str | None, frozenset[str]]
) -> list[Notice]:
    """The changes without what nobody knows of them: the values of paths that other writes of the
    transaction have changed for too many records to say for which.

    What was read before such a write, or after it, was never there for anybody else.
    """
    kept: list[Notice] = []
    for change in changes:
        if isinstance(change, Change) and change.resource in lost:
            paths = lost[change.resource]
            if change.derived and not _differs(change, paths):
                continue  # whom it concerns is told to refetch
            change = replace(change, unknown=change.unknown | paths, resynced=paths)
        kept.append(change)
    return kept


def _differs(change: Change, paths: frozenset[str]) -> bool:
    """Whether a change is one of anything but these paths."""
    before, after = change.before, change.after
    if before is None or after is None:
        return True
    return any(before[name] != after.get(name) for name in before.keys() - paths)


def fold(earlier: Change, later: Change) -> Change:
    """Two changes of one record as one: from what it was before the first to what it is now.

    One that was made and is gone again is a deletion of nothing.
    """
    written = [change for change in (earlier, later) if not change.derived]
    return replace(
        later,
        action=_action(earlier, later, written),
        before=earlier.before,
        unknown=earlier.unknown | later.unknown,
        derived=not written,
    )


def _fold(earlier: Notice | None, later: Notice | None) -> Notice | None:
    if not isinstance(earlier, Change) or not isinstance(later, Change):
        return later
    if earlier.before is None and later.after is None:
        return None
    return fold(earlier, later)


def _action(first: Change, last: Change, written: list[Change]) -> Action:
    if last.after is None:
        return "delete"
    if first.before is None:
        return "post"
    # Deleted and made anew under the same id is what a PUT does.
    replaced = any(change.action != "patch" for change in written)
    return "update" if replaced else "patch"

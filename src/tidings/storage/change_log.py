"""ChangeLog: what one transaction has changed so far, and what of it savepoints undo."""

from __future__ import annotations

import logging
from collections import Counter
from typing import Final

from tidings.feed import Change, Invalidation, Notice, bounded, net_changes, weight

_log = logging.getLogger("tidings.storage")
MAX_CHANGES: Final = 1_000
"""So many changes of one resource are told singly; where they are more, to refetch it."""
MAX_BYTES: Final = 8_000_000
"""The same for what they weigh."""


class ChangeLog:
    """The changes of one transaction; savepoints drop their part or fold into their parent.

    However many and long they are, it does not grow: those of a resource beyond ``most``, or
    `MAX_BYTES`, become one `Invalidation`, within the savepoint that they came in.
    """

    def __init__(self, most: int = MAX_CHANGES) -> None:
        self._most = most
        self._changes: list[Notice] = []
        self._marks: list[tuple[str, int]] = []
        self._counts: Counter[str | None] = Counter()
        self._weights: Counter[str | None] = Counter()
        self._stale: set[str | None] = set()

    def __bool__(self) -> bool:
        return bool(self._changes)

    def record(self, change: Notice) -> None:
        """Hold a change until the commit."""
        if isinstance(change, Change):
            change = bounded(change)
            _log.debug("%s %s %s: held until commit", change.action, change.resource, change.id)
        else:
            _log.debug("%s: too much for single changes; held until commit", change.resource)
        if change.resource in self._stale:
            return
        self._changes.append(change)
        self._counts[change.resource] += 1
        self._weights[change.resource] += weight(change)
        self._compact(change.resource)

    def savepoint(self, name: str) -> None:
        """Note where a savepoint was set."""
        self._marks.append((name, len(self._changes)))

    def rollback_to(self, name: str) -> None:
        """Drop what came after the savepoint.

        One that is not known was set before the log began, so everything came after it.
        """
        start = 0
        while self._marks:
            mark, start = self._marks.pop()
            if mark == name:
                break
        else:
            start = 0
        dropped = len(self._changes) - start
        if dropped:
            _log.debug("%d changes dropped: rolled back to a savepoint", dropped)
            del self._changes[start:]
            self._count()

    def release(self, name: str) -> None:
        """Forget a savepoint and those within it; their changes now belong to its parent."""
        while self._marks:
            mark, start = self._marks.pop()
            if mark == name:
                for resource in {change.resource for change in self._changes[start:]}:
                    self._compact(resource)
                return

    def clear(self) -> None:
        """Drop everything: the transaction was rolled back."""
        if self._changes:
            _log.debug("%d changes dropped: rolled back", len(self._changes))
        self._changes.clear()
        self._marks.clear()
        self._count()

    def take(self) -> list[Notice]:
        """What the transaction, which is to be committed, comes to; it leaves the log empty."""
        changes = [
            change
            for change in self._changes
            if change.resource not in self._stale or _is_whole(change)
        ]
        self._changes = []
        self._marks.clear()
        self._count()
        return net_changes(changes)

    def _compact(self, resource: str | None) -> None:
        """Put one invalidation in place of too many changes, if they are in the same savepoint."""
        if self._counts[resource] <= self._most and self._weights[resource] <= MAX_BYTES:
            return
        start = self._marks[-1][1] if self._marks else 0
        part = self._changes[start:]
        own = [change for change in part if change.resource == resource]
        if len(own) <= self._most and sum(map(weight, own)) <= MAX_BYTES:
            return
        _log.info("%s: too many or too long changes in one transaction", resource)
        others = [change for change in part if change.resource != resource]
        self._changes[start:] = [*others, Invalidation(resource)]
        self._count()

    def _count(self) -> None:
        self._counts = Counter(change.resource for change in self._changes)
        self._weights = Counter()
        for change in self._changes:
            self._weights[change.resource] += weight(change)
        self._stale = {change.resource for change in self._changes if _is_whole(change)}


def _is_whole(change: Notice) -> bool:
    return isinstance(change, Invalidation) and change.paths is None

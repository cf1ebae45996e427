"""Publishing: what a transaction has to tell, on its way from the commit to a feed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Protocol

from sqlalchemy import Dialect

from tidings.feed import Cursor, Invalidation, LocalFeed, Notice, Recheck
from tidings.storage.database import Connection
from tidings.storage.order import CommitOrder, Place


class Publication(Protocol):
    """What one transaction has to tell, begun when its COMMIT is about to be sent."""

    @property
    def cursor(self) -> Cursor | None:
        """The place in the feed of the last of it; None while that is not known here."""
        ...

    async def keep(self, connection: Connection) -> None:
        """Write it into the outbox within the transaction, where there is an outbox."""
        ...

    def statements(self, dialect: Dialect) -> Sequence[tuple[str, Any]]:
        """The same, for a connection that is not ours: SQL and parameters for its driver."""
        ...

    def committed(self, *, kept: bool = True) -> None:
        """It was committed; ``kept`` tells whether it was written into the outbox before."""
        ...

    def failed(self, *, doubtful: bool = False) -> None:
        """It was not committed; or, where ``doubtful``, nobody knows whether it was."""
        ...


class Publisher(Protocol):
    """Takes over what transactions have to tell."""

    @property
    def opening(self) -> str | None:
        """The SQL that each writing transaction has to begin with; mostly none."""
        ...

    def begin(self, changes: Sequence[Notice]) -> Publication:
        """The publication of a transaction that comes to these changes."""
        ...


class _Silence:
    cursor: Cursor | None = None

    async def keep(self, connection: Connection) -> None:
        pass

    def statements(self, dialect: Dialect) -> Sequence[tuple[str, Any]]:
        return ()

    def committed(self, *, kept: bool = True) -> None:
        pass

    def failed(self, *, doubtful: bool = False) -> None:
        pass


SILENCE: Final = _Silence()
"""The publication of a transaction that has nothing to tell."""


class NobodyPublisher:
    """For tidings' own tables: their changes are nobody's business."""

    opening: Final = None

    def begin(self, changes: Sequence[Notice]) -> Publication:
        """Nothing is told."""
        return SILENCE


class DirectPublisher:
    """Publishes to a feed of this process, at once."""

    opening: Final = None

    def __init__(self, feed: LocalFeed) -> None:
        self._feed = feed
        self._order: CommitOrder[tuple[_Direct, Sequence[Notice]]] = CommitOrder(self._publish)

    def begin(self, changes: Sequence[Notice]) -> Publication:
        """Take the next place in the order of commits."""
        return _Direct(self._order.enter(), changes) if changes else SILENCE

    def _publish(self, one: tuple[_Direct, Sequence[Notice]]) -> None:
        publication, notices = one
        self._feed.publish(notices)
        publication.cursor = self._feed.position


class _Direct(_Silence):
    def __init__(
        self, place: Place[tuple[_Direct, Sequence[Notice]]], changes: Sequence[Notice]
    ) -> None:
        self._place = place
        self._changes = changes

    def committed(self, *, kept: bool = True) -> None:
        self._place.fill((self, self._changes))

    def failed(self, *, doubtful: bool = False) -> None:
        self._place.fill((self, invalidations(self._changes)) if doubtful else None)


def invalidations(changes: Sequence[Notice]) -> list[Notice]:
    """What to tell where nobody knows what has become of these changes."""
    rights: list[Notice] = [one for one in changes if isinstance(one, Recheck)]
    stale = dict.fromkeys(one.resource for one in changes if not isinstance(one, Recheck))
    return [*rights, *(Invalidation(resource) for resource in stale)]

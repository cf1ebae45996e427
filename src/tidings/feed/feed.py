"""Feed: the seam between those who write changes and those who tell of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from tidings.feed.change import Change, Notice
from tidings.feed.cursor import Cursor
from tidings.feed.window import Place


class Feed(Protocol):
    """The one order of changes, as one process reads it.

    Whatever has a place in it has been committed. Offsets of one epoch have no gaps.
    """

    @property
    def position(self) -> Cursor:
        """The place of the newest change that this process has read."""
        ...

    async def open(self) -> None:
        """Begin to follow what other processes write, where there are any."""
        ...

    async def close(self) -> None:
        """Follow it no longer."""
        ...

    async def read(self, after: Cursor, limit: int) -> Sequence[Place]:
        """Wait for changes beyond ``after``; at most ``limit``, in order.

        Raises:
            FeedGap: changes beyond ``after`` are gone.
        """
        ...

    def recent(self, after: Cursor) -> Sequence[Place]:
        """The changes beyond ``after`` up to `position`, which this process still holds.

        Raises:
            FeedGap: it does not hold all of them.
        """
        ...

    async def since(self, after: Cursor, limit: int) -> Sequence[Place]:
        """The changes beyond ``after`` up to `position`, wherever they are kept.

        Nothing where ``after`` is ahead of this process: another one has read further.

        Raises:
            FeedGap: some are gone, or are more than ``limit``, or ``after`` is no place of this
                history.
            FeedUnavailable: they cannot be asked for at the moment.
        """
        ...

    async def changes_of(
        self, resource: str, record_id: str, limit: int
    ) -> Sequence[tuple[int, Change]]:
        """The last changes of one record that this process remembers, in order."""
        ...


class LocalFeed(Feed, Protocol):
    """A feed within one process: what is published has its place at once."""

    def publish(self, changes: Sequence[Notice]) -> None:
        """Give committed changes their place. Never waits and never fails."""
        ...


class FeedUnavailable(Exception):
    """The server that keeps a feed cannot be reached, or does not answer; the text says why."""

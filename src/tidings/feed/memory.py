"""MemoryFeed: the one order of changes inside one process."""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from collections.abc import Sequence
from typing import Protocol

from tidings.feed.change import Change, Notice
from tidings.feed.cursor import Cursor

_ALPHABET = "0123456789abcdefghijklmnopqrstuvwxyz"


class Feed(Protocol):
    """The seam between writers and readers of changes."""

    @property
    def position(self) -> Cursor:
        """The place of the newest change."""
        ...

    def publish(self, changes: Sequence[Notice]) -> None:
        """Give committed changes their place. Never waits and never fails for want of a reader."""
        ...

    async def read(self, after: int, limit: int) -> Sequence[tuple[int, Notice]]:
        """Wait for changes beyond offset ``after``; at most ``limit``, in order.

        Raises:
            FeedGap: changes beyond ``after`` are gone.
        """
        ...

    async def changes_of(
        self, resource: str, record_id: str, limit: int
    ) -> Sequence[tuple[int, Change]]:
        """The last changes of one record that the feed remembers, in order."""
        ...


class FeedGap(Exception):
    """A reader is further behind than the feed remembers; ``resume`` is where it may go on."""

    def __init__(self, resume: int) -> None:
        super().__init__(f"changes up to offset {resume} are gone")
        self.resume = resume


class MemoryFeed:
    """The default feed: changes of this process, the newest ``window`` of them kept.

    Each process start is a new epoch, so that a cursor from before it is recognised.
    """

    def __init__(self, window: int = 10_000) -> None:
        self._epoch = "".join(secrets.choice(_ALPHABET) for _ in range(5))
        self._history: deque[Notice] = deque(maxlen=window)
        self._offset = 0
        self._waiting: set[asyncio.Future[None]] = set()

    @property
    def position(self) -> Cursor:
        """The place of the newest change."""
        return Cursor(self._epoch, self._offset)

    def publish(self, changes: Sequence[Notice]) -> None:
        """Append changes and wake the readers."""
        self._history.extend(changes)
        self._offset += len(changes)
        for reader in self._waiting:
            if not reader.done():
                reader.set_result(None)

    async def read(self, after: int, limit: int) -> Sequence[tuple[int, Notice]]:
        """Wait for changes beyond offset ``after``; at most ``limit``, in order."""
        while self._offset <= after:
            reader = asyncio.get_running_loop().create_future()
            self._waiting.add(reader)
            try:
                await reader
            finally:
                self._waiting.discard(reader)
        oldest = self._offset - len(self._history) + 1
        if after + 1 < oldest:
            raise FeedGap(oldest - 1)
        start = after + 1 - oldest
        stop = min(start + limit, len(self._history))
        return [(oldest + index, self._history[index]) for index in range(start, stop)]

    async def changes_of(
        self, resource: str, record_id: str, limit: int
    ) -> Sequence[tuple[int, Change]]:
        """The last changes of one record that the feed remembers, in order."""
        found: list[tuple[int, Change]] = []
        for back, notice in enumerate(reversed(self._history)):
            if (
                isinstance(notice, Change)
                and notice.id == record_id
                and notice.resource == resource
            ):
                found.append((self._offset - back, notice))
                if len(found) == limit:
                    break
        return found[::-1]

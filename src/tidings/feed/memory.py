"""MemoryFeed: the one order of changes inside one process."""

from __future__ import annotations

from collections.abc import Sequence

from tidings.feed.change import Change, Notice
from tidings.feed.cursor import Cursor
from tidings.feed.log import Batch
from tidings.feed.packed import Carried, nothing_carried, read_notice
from tidings.feed.window import WINDOW_BYTES, FeedGap, Place, Window, new_epoch


class MemoryFeed:
    """The default feed: changes of this process, the newest ``window`` of them kept, and
    ``max_bytes`` at most.

    Each opening is a new epoch, so that a cursor from before it is recognised: nobody knows what
    was written while it was closed.
    """

    def __init__(self, window: int = 10_000, max_bytes: int = WINDOW_BYTES) -> None:
        self._window = Window(window, Cursor(new_epoch(), 0), max_bytes)
        self.carried: Carried = nothing_carried
        """What changes carry here: what waits in an outbox may be from before a new declaration."""

    @property
    def position(self) -> Cursor:
        """The place of the newest change."""
        return self._window.position

    @property
    def weight(self) -> int:
        """About how many bytes the changes take that are remembered."""
        return self._window.weight

    async def open(self) -> None:
        """Begin a new history, where there has been one."""
        if self._window.position.offset:
            self._window.restart(Cursor(new_epoch(), 0))

    async def close(self) -> None:
        """Nothing is followed."""

    def publish(self, changes: Sequence[Notice]) -> None:
        """Append changes and wake the readers."""
        self._window.extend(changes)

    async def append(self, batches: Sequence[Batch]) -> None:
        """Publish what has come by way of an outbox."""
        for batch in batches:
            self.publish([read_notice(entry, self.carried) for entry in batch.entries])

    async def read(self, after: Cursor, limit: int) -> Sequence[Place]:
        """Wait for changes beyond ``after``; at most ``limit``, in order."""
        return await self._window.read(after, limit)

    def recent(self, after: Cursor) -> Sequence[Place]:
        """The changes beyond ``after``."""
        return self._window.beyond(after)

    async def since(self, after: Cursor, limit: int) -> Sequence[Place]:
        """The changes beyond ``after``, if they are no more than ``limit``."""
        found = self._window.beyond(after)
        if len(found) > limit:
            raise FeedGap(self.position)
        return found

    async def changes_of(
        self, resource: str, record_id: str, limit: int
    ) -> Sequence[tuple[int, Change]]:
        """The last changes of one record that the feed remembers, in order."""
        return self._window.changes_of(resource, record_id, limit)

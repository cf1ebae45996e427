"""SharedFeed: a feed that many processes write and read, over a log that a server keeps."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

from tidings.feed.backoff import FIRST, LONGEST, Backoff
from tidings.feed.change import Change, Notice, Recheck
from tidings.feed.cursor import Cursor
from tidings.feed.feed import FeedUnavailable
from tidings.feed.log import Batch, Entry, Log
from tidings.feed.packed import Carried, Packed, nothing_carried, read_entry
from tidings.feed.window import WINDOW_BYTES, FeedGap, Place, Window, new_epoch

_log = logging.getLogger("tidings.feed")
_BATCH: Final = 500
_OLDER_BYTES: Final = 16_000_000
"""So many bytes of what a process holds no more are read again for one client."""


class SharedFeed:
    """Follows a log from where it was when the process began, and holds its newest part.

    While the log's server is away the feed waits for it, for as long as that takes, and then goes
    on where it was; what it has missed for good it tells its readers of as a `FeedGap`.
    """

    def __init__(self, log: Log, window: int = 10_000, max_bytes: int = WINDOW_BYTES) -> None:
        self.log = log
        self._size = window
        # Until the log is there, a history of its own: whoever reads from it is told to refetch.
        self._window = Window(window, Cursor(new_epoch(), 0), max_bytes)
        self._task: asyncio.Task[None] | None = None
        self.is_connected = False
        """Whether the log has answered when it was last asked."""
        self.is_watched: Callable[[str], bool] = lambda _: True
        """Whether somebody here looks at the changes of a resource: others stay packed."""
        self.carried: Carried = nothing_carried
        """What changes carry here: those of a process with another declaration may lack some."""
        self.on_recheck: Callable[[], None] = lambda: None
        """Called when any process has said that rights have changed, or may have: in a gap."""

    @property
    def position(self) -> Cursor:
        """The place of the newest change that this process has read."""
        return self._window.position

    @property
    def weight(self) -> int:
        """About how many bytes the changes take that are remembered."""
        return self._window.weight

    async def open(self) -> None:
        """Connect and begin to follow. Without the server it is tried again, and again."""
        try:
            await self.log.open()
            await self._synchronise()
        except FeedUnavailable as error:
            self._lost(error)
        self._task = asyncio.create_task(self._run(), name="tidings-feed")

    async def close(self) -> None:
        """Follow it no longer."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        self.is_connected = False
        await self.log.close()

    async def catch_up(self) -> None:
        """Wait until this process has read what the log holds now.

        Raises:
            FeedUnavailable: the log cannot be reached.
        """
        head = await self.log.head()
        while (at := self.position).epoch == head.epoch and at.offset < head.offset:
            with suppress(FeedGap):  # it has begun anew meanwhile
                await self._window.read(at, 1)

    async def append(self, batches: Sequence[Batch]) -> None:
        """Append to the log.

        Raises:
            FeedUnavailable: it cannot be reached; whether the batches are there is not known.
        """
        await self.log.append(batches)

    async def read(self, after: Cursor, limit: int) -> Sequence[Place]:
        """Wait for changes beyond ``after``; at most ``limit``, in order."""
        return await self._window.read(after, limit)

    def recent(self, after: Cursor) -> Sequence[Place]:
        """The changes beyond ``after`` that this process still holds."""
        return self._window.beyond(after)

    async def since(self, after: Cursor, limit: int) -> Sequence[Place]:
        """The changes beyond ``after``: those that are held, and those before from the log."""
        window = self._window
        if after.epoch != window.epoch:
            raise FeedGap(window.position, "epoch")
        if after.offset > window.position.offset:
            return await self._ahead(after)
        if window.position.offset - after.offset > limit:
            raise FeedGap(window.position)
        older: list[Place] = []
        held = 0
        while after.offset < window.start:
            entries = await self.log.between(after, window.start, _BATCH)
            older += [(offset, self._read(entry)) for offset, entry in entries]
            held += sum(len(entry) for _, entry in entries)
            if held > _OLDER_BYTES:  # several clients at once may ask for as much
                raise FeedGap(window.position)
            after = Cursor(after.epoch, _last(after, entries))
        return [*older, *window.beyond(after)]

    async def changes_of(
        self, resource: str, record_id: str, limit: int
    ) -> Sequence[tuple[int, Change]]:
        """The last changes of one record that this process remembers, in order."""
        return self._window.changes_of(resource, record_id, limit)

    async def _ahead(self, after: Cursor) -> Sequence[Place]:
        head = await self.log.head()
        if head.epoch != after.epoch:
            raise FeedGap(head, "epoch")
        if after.offset > head.offset:
            raise FeedGap(head)
        return []

    async def _run(self) -> None:
        backoff = Backoff()
        while True:
            try:
                if not self.is_connected:
                    await self._synchronise()
                entries = await self.log.follow(self.position, _BATCH)
                self._take(entries)
                backoff.reset()
            except FeedGap as gap:
                _log.warning("changes of the feed were missed (%s): %s", gap.reason, gap)
                await self._go_on(gap)
            except FeedUnavailable as error:
                self._lost(error)
                await backoff.pause()
            except Exception:  # noqa: BLE001  the feed must go on; what it is is in the log
                self.is_connected = False
                _log.exception("the feed could not be followed")
                await asyncio.sleep(LONGEST)

    async def _go_on(self, gap: FeedGap) -> None:
        if gap.reason == "window":
            self._window.restart(gap.resume)
            self.on_recheck()
        else:
            self.is_connected = False  # so that it is looked at from the beginning
            await asyncio.sleep(FIRST)

    async def _synchronise(self) -> None:
        """See what has become of the log since it was last read."""
        head = await self.log.head()
        if head.epoch != self._window.epoch or head.offset < self.position.offset:
            await self._restart(head)
        if not self.is_connected:
            self.is_connected = True
            _log.info("following the feed at %s", self.log.where)

    async def _restart(self, head: Cursor) -> None:
        """Begin anew at the head, with what the log holds before it: clients come back for it."""
        start = Cursor(head.epoch, max(0, head.offset - self._size))
        self._window.restart(start)
        while self._window.position.offset < head.offset:
            try:
                older = await self.log.between(self._window.position, head.offset, _BATCH)
            except FeedGap as gap:  # it has been trimmed
                start = gap.resume
                if start.epoch != head.epoch or start.offset > head.offset:
                    start = head
                self._window.restart(start)
            else:
                self._window.extend([self._read(entry) for _, entry in older])
        self.on_recheck()

    def _take(self, entries: Sequence[Entry]) -> None:
        if not entries:
            return
        _last(self.position, entries)
        notices = [self._read(entry) for _, entry in entries]
        self._window.extend(notices)
        if any(isinstance(notice, Recheck) for notice in notices):
            self.on_recheck()

    def _read(self, entry: bytes) -> Notice | Packed:
        return read_entry(entry, self.is_watched, self.carried)

    def _lost(self, error: FeedUnavailable) -> None:
        if self.is_connected or self._task is None:
            _log.warning("the feed at %s cannot be followed: %s", self.log.where, error)
        self.is_connected = False


def _last(after: Cursor, entries: Sequence[Entry]) -> int:
    """The offset of the last entry, which follow ``after`` and each other without a gap.

    Raises:
        FeedGap: they do not.
    """
    expected = after.offset
    for offset, _ in entries:
        expected += 1
        if offset != expected:
            raise FeedGap(Cursor(after.epoch, entries[-1][0]))
    if not entries:
        raise FeedGap(after)
    return expected

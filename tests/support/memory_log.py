"""A log of a shared feed within the test's process: the twin of those that servers keep.

Tests can take it away, and look at what is in it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from tidings.feed import (
    Batch,
    Cursor,
    Entry,
    FeedGap,
    FeedUnavailable,
    Notice,
    decode_notice,
    new_epoch,
)


class MemoryLog:
    """A `Log`; any number of feeds may share it."""

    name = "feed"
    where = "memory"

    def __init__(self) -> None:
        self.is_there = True
        self.opened = 0
        self.epoch = new_epoch()
        self.entries: list[bytes] = []
        self.start = 0
        self.keys: list[str] = []
        self.dropped: list[str] = []
        self._changed = asyncio.Condition()

    @property
    def notices(self) -> list[Notice]:
        return [decode_notice(entry) for entry in self.entries]

    @property
    def words(self) -> list[str]:
        """What is in it, as "patch 7", and "resync notes"."""
        return [
            f"{notice.action} {notice.id}" if hasattr(notice, "id") else f"resync {notice.resource}"
            for notice in self.notices
        ]

    def trim(self, start: int) -> None:
        self.start = start

    def restart_empty(self) -> None:
        """What a server without persistence does when it is restarted."""
        self.epoch, self.entries, self.start = new_epoch(), [], 0

    async def open(self) -> None:
        self.opened += 1

    async def close(self) -> None:
        self.opened -= 1

    async def head(self) -> Cursor:
        self._check()
        return Cursor(self.epoch, len(self.entries))

    async def append(self, batches: Sequence[Batch]) -> None:
        await asyncio.sleep(0)
        self._check()
        for batch in batches:
            if batch.key in self.keys:
                self.dropped.append(batch.key)
                continue
            self.keys.append(batch.key)
            self.entries += batch.entries
        async with self._changed:
            self._changed.notify_all()

    async def follow(self, after: Cursor, limit: int) -> Sequence[Entry]:
        self._check()
        if after.epoch == self.epoch and after.offset == len(self.entries):
            try:
                async with asyncio.timeout(0.02), self._changed:
                    await self._changed.wait()
            except TimeoutError:
                pass
        return await self.between(after, len(self.entries), limit)

    async def between(self, after: Cursor, until: int, limit: int) -> Sequence[Entry]:
        self._check()
        if after.epoch != self.epoch:
            raise FeedGap(Cursor(self.epoch, len(self.entries)), "epoch")
        if after.offset < self.start:
            raise FeedGap(Cursor(self.epoch, self.start))
        found = list(enumerate(self.entries, start=1))[after.offset : until]
        return found[:limit]

    def _check(self) -> None:
        if not self.is_there:
            raise FeedUnavailable("it was taken away")

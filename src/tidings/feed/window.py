"""Window: the newest notices of a feed, in order, as one process holds them."""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from collections.abc import Sequence
from typing import Final, Literal

from tidings.feed.change import Change, Notice
from tidings.feed.cursor import Cursor
from tidings.feed.packed import Packed, unpacked
from tidings.feed.weight import Interned, weight

_ALPHABET: Final = "0123456789abcdefghijklmnopqrstuvwxyz"
Place = tuple[int, Notice | Packed]
"""A notice and its offset."""


def new_epoch() -> str:
    """A name for a history that has just begun, which no other has."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(5))


class FeedGap(Exception):
    """Notices are gone that a reader has not seen; ``resume`` is where it may go on.

    ``reason`` is what subscriptions are told: ``window``, the feed does not remember that far, or
    ``epoch``, it is another history.
    """

    def __init__(self, resume: Cursor, reason: Literal["window", "epoch"] = "window") -> None:
        what = "of another epoch" if reason == "epoch" else "gone"
        super().__init__(f"changes up to offset {resume.offset} are {what}")
        self.resume = resume
        self.reason = reason


WINDOW_BYTES: Final = 64_000_000
"""What the notices that a process remembers weigh, unless it is said otherwise."""


class Window:
    """The newest notices: at most ``size``, and of ``max_bytes`` together. Their offsets have no
    gaps.
    """

    def __init__(self, size: int, position: Cursor, max_bytes: int = WINDOW_BYTES) -> None:
        self.epoch = position.epoch
        self.weight = 0
        """About how many bytes are held."""
        self._size = size
        self._max_bytes = max_bytes
        self._history: deque[Notice | Packed] = deque()
        self._weights: deque[int] = deque()
        self._interned = Interned(max_bytes // 4)
        self._offset = position.offset
        self._waiting: set[asyncio.Future[None]] = set()

    @property
    def position(self) -> Cursor:
        """The place of the newest notice."""
        return Cursor(self.epoch, self._offset)

    @property
    def start(self) -> int:
        """The offset before the oldest notice that is held."""
        return self._offset - len(self._history)

    def extend(self, notices: Sequence[Notice | Packed]) -> None:
        """Append notices and wake the readers."""
        for notice in notices:
            if isinstance(notice, Packed):
                notice.on_grown = self._grown
                self._history.append(notice)
                self._weights.append(notice.weight)
            else:
                shared = self._interned.share(notice)
                self._history.append(shared)
                self._weights.append(weight(shared))
            self.weight += self._weights[-1]
        while len(self._history) > self._size or self.weight > self._max_bytes:
            oldest, held = self._history.popleft(), self._weights.popleft()
            if isinstance(oldest, Packed):
                oldest.on_grown, held = None, oldest.weight
            self.weight -= held
        self._offset += len(notices)
        self._wake()

    def _grown(self, packed: Packed, notice: Notice) -> int:
        more = weight(notice)
        self.weight += more - packed.weight
        return more

    def restart(self, position: Cursor) -> None:
        """Begin anew, behind this place; who reads from an earlier one is told of a gap."""
        self.epoch, self._offset = position.epoch, position.offset
        for notice in self._history:
            if isinstance(notice, Packed):
                notice.on_grown = None
        self._history.clear()
        self._weights.clear()
        self.weight = 0
        self._wake()

    async def read(self, after: Cursor, limit: int) -> Sequence[Place]:
        """Wait for notices beyond ``after``; at most ``limit``, in order.

        Raises:
            FeedGap: some are gone.
        """
        while self.position == after:
            reader = asyncio.get_running_loop().create_future()
            self._waiting.add(reader)
            try:
                await reader
            finally:
                self._waiting.discard(reader)
        return self.beyond(after, limit)

    def beyond(self, after: Cursor, limit: int | None = None) -> Sequence[Place]:
        """The notices beyond ``after`` that are held.

        Raises:
            FeedGap: some are not, or ``after`` is no place of this history.
        """
        if after.epoch != self.epoch:
            raise FeedGap(self.position, "epoch")
        start = after.offset - self.start
        if start < 0:
            raise FeedGap(Cursor(self.epoch, self.start))
        if after.offset > self._offset:
            raise FeedGap(self.position)
        stop = len(self._history) if limit is None else min(start + limit, len(self._history))
        first = self.start + 1
        return [(first + index, self._history[index]) for index in range(start, stop)]

    def changes_of(self, resource: str, record_id: str, limit: int) -> Sequence[tuple[int, Change]]:
        """The last changes of one record, in order."""
        found: list[tuple[int, Change]] = []
        for back, notice in enumerate(reversed(self._history)):
            if isinstance(notice, Change | Packed) and (notice.resource, notice.id) == (
                resource,
                record_id,
            ):
                change = unpacked(notice)
                if isinstance(change, Change):
                    found.append((self._offset - back, change))
                if len(found) == limit:
                    break
        return found[::-1]

    def _wake(self) -> None:
        for reader in self._waiting:
            if not reader.done():
                reader.set_result(None)

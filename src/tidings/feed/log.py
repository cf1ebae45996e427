"""Log: what a server must offer to keep a feed that many processes share.

One Protocol, and behind it Redis Streams or PostgreSQL. A log holds entries as bytes, in one
order; what they mean is the business of `SharedFeed`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from tidings.feed.cursor import Cursor

Entry = tuple[int, bytes]
"""An offset and what was appended there."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Entries that are appended together: of one transaction, or a part of a large one.

    ``key`` tells the batch from all others, so that one appended twice is there once.
    """

    key: str
    entries: Sequence[bytes]


class Log(Protocol):
    """A shared, bounded log. Every process follows it from its own position.

    An *epoch* is one history of it: offsets begin with 1 and have no gaps, and an entry that was
    readable once is at its place until it is trimmed. Where the server may have lost entries (it
    was restarted, emptied, replaced by a replica) there has to be another epoch.

    All methods but `close` raise `FeedUnavailable` where the server cannot be reached or does not
    answer in time, and may be called again. Appending and following go on side by side.
    """

    @property
    def where(self) -> str:
        """The server, as messages name it: without secrets."""
        ...

    async def open(self) -> None:
        """Connect. Where this raises `FeedUnavailable`, the other methods connect by themselves.

        Raises:
            ConfigurationError: the server refuses, so that trying again would not help.
        """
        ...

    async def close(self) -> None:
        """Give up all connections, and what is being waited for."""
        ...

    async def head(self) -> Cursor:
        """The epoch, begun now where there is none, and the newest entry's offset (0: none).

        Notices where entries may have been lost, and then begins another epoch.
        """
        ...

    async def append(self, batches: Sequence[Batch]) -> None:
        """Append batches in their order, each whole; one whose key is known is dropped.

        When this returns, every process can read them. Where it fails they may be there or not.
        """
        ...

    async def follow(self, after: Cursor, limit: int) -> Sequence[Entry]:
        """Wait for entries beyond ``after``, at most for some seconds; the next ones, in order.

        Raises:
            FeedGap: they have been trimmed (``window``), or it is another epoch (``epoch``).
        """
        ...

    async def between(self, after: Cursor, until: int, limit: int) -> Sequence[Entry]:
        """Entries beyond ``after`` up to offset ``until``, at most ``limit``, without waiting.

        Raises:
            FeedGap: the first of them have been trimmed, or it is another epoch.
        """
        ...

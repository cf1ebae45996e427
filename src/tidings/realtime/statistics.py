"""What there is to tell of sockets and deliveries: counted on the way, read now and then."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from tidings.counting import SECONDS, SHORT_SECONDS, Histogram
from tidings.feed import Change, Cursor, Notice, Packed

if TYPE_CHECKING:
    from tidings.realtime.subscriptions import Message, Subscription


@dataclass(slots=True)
class DeliveryCounters:
    """What delivery has come to in this process since it started."""

    notifications: int = 0
    """Handed over to connections, replayed ones included; ``resyncs``, by reason, are not."""
    resyncs: Counter[str] = field(default_factory=Counter)
    matching: Histogram = field(default_factory=lambda: Histogram(SHORT_SECONDS))
    """Seconds that changes took to be matched."""
    delay: Histogram = field(default_factory=lambda: Histogram(SECONDS))
    """Seconds from the write of a change to the moment when all had been told of it."""
    newest_at: float | None = None
    """When the newest delivered change was written, in seconds since the epoch."""

    def told(self, count: int, resync_reason: str | None = None) -> None:
        """Count what was handed over: notifications, or resyncs with their reason."""
        if resync_reason is None:
            self.notifications += count
        else:
            self.resyncs[resync_reason] += count

    def delivered(self, notice: Notice | Packed) -> None:
        """Count a change of the feed that has been dealt with."""
        if isinstance(notice, Change | Packed):
            self.newest_at = notice.at.timestamp()
            # Another process wrote it, maybe one whose clock is ahead.
            self.delay.observe(max(0.0, time.time() - self.newest_at))


@dataclass(frozen=True, slots=True)
class SocketStatistics:
    """The sockets of a process at one moment.

    ``filters`` counts the distinct ones that are watched; ``queue_bytes`` is what has been queued
    for clients and not been sent; ``position`` is the place up to which changes are delivered.
    """

    connections: int
    subscriptions: int
    filters: int
    queue_bytes: int
    position: Cursor
    notifications: int
    resyncs: Mapping[str, int]
    matching: Histogram
    delay: Histogram
    newest_at: float | None


class DeliveryTracer(Protocol):
    """Notes in a trace what becomes of a change."""

    def delivery(self, notice: Notice) -> AbstractContextManager[None]:
        """Around everything that is done for a change."""
        ...

    def matching(self) -> AbstractContextManager[None]:
        """Around the search for the filters that it concerns."""
        ...


class DeliveryObserver(Protocol):
    """Sees what is delivered, and to whom. It is called for every message, so it must be quick."""

    def begin(self, cursor: Cursor, notice: Notice) -> None:
        """This notice of the feed is delivered next."""
        ...

    def told(self, subscription: Subscription, message: Message) -> None:
        """A notification or resync was handed to a subscription's connection."""
        ...

"""WireConnection: the wire to one client, of whom nobody knows how fast it reads."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from tidings.feed import Cursor
from tidings.realtime.backlog import Backlog, SlowCounters
from tidings.realtime.limits import SocketLimits
from tidings.realtime.queues import BURST, SendQueue
from tidings.realtime.subscriptions import Frame, Message, Subscription

MAX_UNSENT: Final = 8_000_000
"""So many bytes of answers may wait (those to one large restore do); then the connection ends."""


@dataclass(frozen=True, slots=True)
class Pace:
    """What all connections of a server have in common."""

    limits: SocketLimits
    position: Callable[[], Cursor]
    counters: SlowCounters


class WireConnection:
    """Sends to one client, and never waits for it.

    Notifications go into its queue while less than ``limits.queue_bytes`` are unsent, and else
    into a backlog, until the queue has taken all of that. Answers go into the queue in any case:
    a client whose answers wait is not asked for more (see `WireServer`).
    """

    def __init__(
        self,
        queue: SendQueue,
        pace: Pace,
        overflow: Callable[[], None],
        finished: Callable[[], None] = lambda: None,
    ) -> None:
        self._queue = queue
        self._pace = pace
        self._overflow = overflow
        self._finished = finished
        self._is_over = False
        self._backlog: Backlog | None = None

    @property
    def held(self) -> int:
        """How many notifications are not even in the queue."""
        return 0 if self._backlog is None else len(self._backlog)

    def send(self, frame: Frame) -> None:
        """Queue a frame; a client that reads nothing is disconnected, and gets no more."""
        if self._is_over:
            return
        if self._queue.unsent < MAX_UNSENT:
            self._queue.put_nowait(frame)
            return
        self._pace.counters.dropped += 1
        self.forget()
        self._queue.discard()
        self._overflow()

    def notify(self, subscription: Subscription, message: Message) -> None:
        """Tell a subscription something, now or when the client has read what came before it."""
        if self._is_over:
            return
        if self._backlog is None:
            if self._queue.unsent < self._pace.limits.queue_bytes:
                self._queue.put_nowait(message.frame(subscription))
                return
            self._pace.counters.behind += 1
            self._backlog = self._new_backlog()
            self._queue.refill = self._refill
        self._backlog.add(subscription, message)

    def finish(self, last: Sequence[Frame]) -> None:
        """Queue these frames and end the connection; nothing that comes later is sent."""
        if not self._is_over:
            self.forget()
            for frame in last:
                self._queue.put_nowait(frame)
            self._finished()

    def forget(self) -> None:
        """Send nothing any more, and let go of what is held."""
        self._is_over = True
        if self._backlog is not None:
            self._end_backlog()

    def _new_backlog(self) -> Backlog:
        pace = self._pace
        return Backlog(pace.limits.held_notifications, pace.position, pace.counters)

    def _end_backlog(self) -> None:
        self._backlog = None
        self._queue.refill = None

    def _refill(self) -> None:
        """Move a burst from the backlog into the queue; what stays there may still be folded."""
        now, enough = time.time(), min(BURST, self._pace.limits.queue_bytes)
        while self._backlog is not None and self._queue.waiting < enough:
            told = self._backlog.take(now)
            if told is None:
                self._end_backlog()
            else:
                subscription, message = told
                self._queue.put_nowait(message.frame(subscription))

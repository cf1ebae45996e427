"""SocketConnection: the wire to one client, of whom nobody knows how fast it reads."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from tidings.feed import Cursor
from tidings.realtime.backlog import Backlog, SlowCounters
from tidings.realtime.limits import SocketLimits
from tidings.realtime.messages import Event
from tidings.realtime.subscriptions import Message, Subscription
from tidings.socketio import Frame, Socket

BURST: Final = 32_768
"""So many bytes leave the backlog at once: what stays there may still be folded."""

_UPDATE: Final = b'42["subscription.update",'


@dataclass(frozen=True, slots=True)
class Pace:
    """What all connections of a server have in common."""

    limits: SocketLimits
    position: Callable[[], Cursor]
    counters: SlowCounters


class SocketConnection:
    """Sends to one client, and never waits for it.

    Notifications are sent while less than ``limits.queue_bytes`` are unsent, and else go into a
    backlog, until the client has read all of that. Answers are sent in any case: a client whose
    answers wait is not answered any more (see `tidings.socketio.Options`).
    """

    __slots__ = ("_backlog", "_is_over", "_most", "_pace", "_session", "_socket")

    def __init__(self, socket: Socket, pace: Pace) -> None:
        self._socket = socket
        self._session = socket.session
        self._pace = pace
        self._most = pace.limits.queue_bytes
        self._is_over = False
        self._backlog: Backlog | None = None

    @property
    def held(self) -> int:
        """How many notifications are not even on their way."""
        return 0 if self._backlog is None else len(self._backlog)

    @property
    def unsent(self) -> int:
        """How many bytes are on their way and have not been sent."""
        return self._session.unsent

    def send(self, event: Event) -> None:
        """Send an event."""
        if not self._is_over:
            self._session.send(event.form or _frame(event))

    def notify(self, subscription: Subscription, message: Message) -> None:
        """Tell a subscription something, now or when the client has read what came before it."""
        if self._is_over:
            return
        if self._backlog is None:
            session = self._session
            is_fast = not session.is_behind and session.size < self._most
            if is_fast or session.unsent < self._most:
                event = message.event(subscription)
                session.tell(event.form or _frame(event))
                return
            self._pace.counters.behind += 1
            self._backlog = self._new_backlog()
            self._socket.when_read(self._refill)
        self._backlog.add(subscription, message)

    def finish(self, last: Sequence[Event], *, for_good: bool = False) -> None:
        """Send these events and end the connection; nothing that comes later is sent."""
        if self._is_over:
            return
        self.forget()
        for event in last:
            self._session.send(event.form or _frame(event))
        self._socket.end(for_good=for_good)

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
        self._socket.when_read(None)

    def _refill(self) -> None:
        """Send a burst out of the backlog."""
        now, session = time.time(), self._session
        enough = min(BURST, self._most)
        while self._backlog is not None and session.size < enough:
            told = self._backlog.take(now)
            if told is None:
                self._end_backlog()
            else:
                subscription, message = told
                event = message.event(subscription)
                session.send(event.form or _frame(event))


def _frame(event: Event) -> Frame:
    """An event as Socket.IO's packet, made once for all who get it."""
    head = _UPDATE if event.name == "subscription.update" else b'42["%b",' % event.name.encode()
    frame = event.form = Frame(head + event.payload + b"]")
    return frame

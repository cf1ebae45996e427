"""Session: one Engine.IO client, whichever transport it has at the moment."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from tidings.socketio import upgrades
from tidings.socketio.frames import NORMAL, POLICY_VIOLATION, TOO_LARGE, Frame
from tidings.socketio.links import Link, WebSocketLink
from tidings.socketio.lobby import Guest

if TYPE_CHECKING:
    from tidings.socketio.engine import Engine

_log = logging.getLogger("tidings.socketio")

LAST_SECONDS: Final = 0.5
"""So long the last frames may take on their way to a client that has been disconnected."""
_STALLED: Final = 1.0
"""A deadline that comes so many seconds too late says nothing about the client."""
_PIECE: Final = 16_384
"""So many bytes leave before the batch that they belong to has ended."""
_CLOSE: Final = Frame(b"1")
_PING: Final = Frame(b"2")


class Session:
    """One client. What is sent is held until the end of the event loop's turn, and then leaves in
    one piece; while the client does not read it stays here.

    ``state`` is for whoever handles the messages. While ``wants_room`` is set the handler is told
    whenever something has been sent.
    """

    __slots__ = (
        "_is_pinged",
        "_malformed",
        "_ping_at",
        "deadline",
        "descriptor",
        "engine",
        "guest",
        "id",
        "is_behind",
        "is_held",
        "is_open",
        "is_probed",
        "is_queued",
        "link",
        "out",
        "probe",
        "problem",
        "scope",
        "size",
        "state",
        "tick",
        "turn",
        "wants_room",
    )

    def __init__(
        self, engine: Engine, session_id: str, link: Link, guest: Guest, scope: Mapping[str, Any]
    ) -> None:
        self.engine = engine
        self.id = session_id
        self.link = link
        self.guest = guest
        self.scope: Mapping[str, Any] | None = scope
        """The first request, until the client is in a namespace."""
        self.state: Any = None
        self.is_open = True
        self.is_held = False
        self.wants_room = False
        self.out: list[Frame] = []
        self.size = 0
        """How many bytes are in ``out``."""
        self.is_queued = False
        self.descriptor: int | None = None
        """Where a frame may be written at once: while the link has nothing to say before it."""
        self.turn = -1
        """When it was last written to at once."""
        self.is_behind = False
        """Whether the link may hold something that is not sent (see `Link.unsent`)."""
        self.problem: str | None = None
        """What its client was disconnected for, if that had broken the protocol."""
        self.probe: WebSocketLink | None = None
        """What is to become its transport."""
        self.tick: int | None = None
        self.deadline: float | None = None
        self._malformed = 0
        self.is_probed = False
        self._is_pinged = False
        self._ping_at = time.monotonic() + engine.options.ping_interval
        self.set_deadline(engine.options.connect_deadline)

    # Sending

    @property
    def unsent(self) -> int:
        """How many bytes have not been sent."""
        if not self.is_behind:
            return self.size
        unsent = self.link.unsent
        self.is_behind = unsent > 0
        return self.size + unsent

    def send(self, frame: Frame) -> None:
        """Send a frame; a client that reads far too little is disconnected."""
        if not self.is_open:
            return
        self.out.append(frame)
        self.size += len(frame.wire)
        if not self.is_queued:
            self.is_queued = True
            self.engine.turns.flush_later(self)
            if len(self.out) == 1:
                return
        options = self.engine.options
        if self.size > options.unsent_bytes or len(self.out) > options.unsent_frames:
            self.engine.too_slow(self)

    def tell(self, frame: Frame) -> None:
        """Send a frame, and at once if it is the first of this turn: of many clients that get
        the same, each is looked at once. What else the client gets in this turn leaves at its end.
        """
        turns, wire = self.engine.turns, frame.wire
        if (
            self.descriptor is None
            or self.is_queued
            or self.turn == turns.number
            or turns.is_together
        ):
            self.send(frame)
            if self.size >= _PIECE and turns.is_together and self.is_open:
                # What waits for the end of a batch has not been offered to the client: without
                # this, one that reads everything at once would be taken for a slow one.
                self.link.flush(self)
            return
        try:
            written = os.write(self.descriptor, wire)
        except OSError:  # the system takes no more, or the client has gone: the link finds out
            self.send(frame)
            return
        if written < len(wire):
            self.link.write_rest(wire[written:])
        self.turn = turns.number
        if not turns.is_counted:
            turns.count()

    def take(self, most: int) -> list[Frame]:
        """Take frames of so many bytes out of what is held, and one at least if there is any."""
        out = self.out
        if self.size <= most:
            self.out, self.size = [], 0
            return out
        count = size = 0
        while count < len(out) and (not count or size + len(out[count].wire) <= most):
            size += len(out[count].wire)
            count += 1
        self.out, self.size = out[count:], self.size - size
        return out[:count]

    def drop(self) -> None:
        """Send nothing of what is held."""
        self.out, self.size = [], 0

    def has_room(self) -> None:
        """Tell whoever waits for it that something has been sent."""
        if self.wants_room and self.is_open:
            self.engine.handler.drained(self)

    # Receiving

    @property
    def limit(self) -> int:
        """How many bytes a message may have."""
        options = self.engine.options
        if self.guest.is_unconnected:
            return min(options.first_payload, options.max_payload)
        return options.max_payload

    def receive(self, text: str) -> None:
        """Take a packet."""
        if not self.is_open:
            return
        if text[:1] == "4":
            self.engine.handler.received(self, text)
        elif text == "3":
            self._is_pinged = False
            self._ping_at = time.monotonic() + self.engine.options.ping_interval
        elif text == "1":
            self._leave()
        elif text != "6":
            self.has_erred("a packet is not of Engine.IO 4")

    def receive_binary(self, data: bytes) -> None:
        """Take a binary message."""
        if self.is_open:
            self.engine.handler.received(self, data)

    def too_large(self, link: Link) -> bool:
        """A message is larger than the limit; True where the connection goes on without it."""
        if link is self.link and self.guest.is_unconnected:
            self.has_erred("a message is too large", TOO_LARGE)
        elif link is self.link:
            self.close("transport error", TOO_LARGE, says_so=False)
        else:
            upgrades.fail(self, "a message is too large")
        return self.is_open and link is self.link

    def has_erred(self, what: str, code: int = POLICY_VIOLATION) -> None:
        """Bear with a client that does not speak the protocol, or disconnect it."""
        self._malformed += 1
        if self._malformed > self.engine.options.malformed and self.is_open:
            _log.debug("%s disconnected: %s", self.id, what)
            self.problem = what
            self.close("parse error", code, why=what)

    def hold(self) -> None:
        """Read no more from the client, for now."""
        if not self.is_held:
            self.is_held = True
            self.link.pause_reading()

    def release(self) -> None:
        """Read on."""
        if self.is_held:
            self.is_held = False
            self.link.resume_reading()

    # The transport

    def link_lost(self, link: Link) -> None:
        """A transport has ended."""
        if link is self.link:
            self._leave()
        elif link is self.probe:
            self.probe = None

    # The end

    def _leave(self) -> None:
        """The client has gone. What it has asked before is begun, at least."""
        asyncio.get_running_loop().call_soon(partial(self.close, "transport close", says_so=False))

    def has_connected(self) -> None:
        """It is in a namespace now."""
        self.guest.has_connected()
        self.deadline = self.scope = None
        if self.link.is_websocket:
            self.link.limit = self.limit  # type: ignore[attr-defined]  # a WebSocketLink

    def has_disconnected(self) -> None:
        """It is in no namespace any more, and is to be in one again soon."""
        if self.is_open:
            self.guest.has_disconnected()
            self.set_deadline(self.engine.options.connect_deadline)

    def set_deadline(self, seconds: float) -> None:
        """Have it disconnected after so long, unless it is in a namespace then."""
        self.deadline = time.monotonic() + seconds
        self.engine.wheel.set(self, min(self.deadline, self._ping_at))

    def close(
        self,
        reason: str,
        code: int = NORMAL,
        *,
        why: str = "",
        says_so: bool = True,
        waits: bool = False,
    ) -> None:
        """End it. What is held leaves before, if the client reads that in time: one that polls
        and has no GET waiting gets it with the next where this ``waits``. ``reason`` is Socket.IO's
        word for it; ``why`` goes into the close frame.
        """
        if not self.is_open:
            return
        if says_so:
            self.out.append(_CLOSE)
        self.is_open = False
        self.descriptor = None
        upgrades.fail(self, "the session has ended")
        self.engine.ended(self, code, why, waits=waits)
        self.engine.handler.closed(self, reason)

    def due(self, now: float) -> float | None:
        """Look at the deadlines (see `Wheel`)."""
        if not self.is_open:
            self.engine.forget(self)
            return None
        if self.deadline is not None and now >= self.deadline:
            _log.debug("%s disconnected: it has not connected in time", self.id)
            self.close("connect timeout")
            return None
        if now >= self._ping_at:
            options = self.engine.options
            if now - self._ping_at > _STALLED:
                self._ping_at = now  # we are late, not the client: its pong may lie there, unread
            if not self._is_pinged:
                self._is_pinged = True
                self._ping_at += options.ping_timeout
                self.send(_PING)
            elif now == self._ping_at:
                self._ping_at += _STALLED
            else:
                self.close("ping timeout")
                return None
        return self._ping_at if self.deadline is None else min(self._ping_at, self.deadline)

"""The fast way: the transport itself, once an ASGI server has handed it over."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from tidings.socketio import upgrades
from tidings.socketio.descriptors import descriptor_of, rest_after
from tidings.socketio.frames import RESTART, TRY_AGAIN, Frame, close_frame, pong_frame
from tidings.socketio.packets import joined
from tidings.socketio.reader import FrameReader
from tidings.socketio.session import LAST_SECONDS, Session

if TYPE_CHECKING:
    from tidings.socketio.engine import Engine

TAKEOVER: Final = "tidings.takeover"
"""The extension of an ASGI scope that is called with a `FastLink` before ``websocket.accept``."""
TakeOver = Callable[["FastLink"], None]
_REPLY_SECONDS: Final = 1.5
"""So long a client that has got everything may take to say that it has."""


class FastLink(FrameReader, asyncio.Protocol):
    """A WebSocket without a task: it reads what comes and writes what the session holds."""

    is_websocket = True
    __slots__ = (
        "_closing_at",
        "_connections",
        "_descriptor",
        "_engine",
        "_head",
        "_is_behind",
        "_is_paused",
        "_session",
        "_transport",
        "_weight",
        "is_open",
        "tick",
    )

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine.options.first_payload)
        self.is_held = True
        self.is_open = False
        self.tick: int | None = None
        self._engine = engine
        self._session: Session | None = None
        self._transport: asyncio.Transport | None = None
        self._connections: set[Any] = set()
        self._descriptor: int | None = None
        self._head = b""
        self._weight = 0
        self._is_paused = False
        self._is_behind = False
        self._closing_at: float | None = None

    def take(self, transport: asyncio.Transport, connections: set[Any], head: bytes = b"") -> None:
        """Serve this transport from now on, as one of a server's connections.

        ``head`` is the answer to the handshake; it leaves with what comes first.
        """
        self._head = head
        self._transport = transport
        self._connections = connections
        connections.add(self)
        options = self._engine.options
        # Whoever waits because so much is unsent is told when it is not: that is at the low mark.
        high = min(options.buffer_bytes, options.answer_bytes) - 1
        transport.set_write_buffer_limits(high=high, low=high // 4)
        transport.set_protocol(self)
        self._descriptor = descriptor_of(transport)
        self.is_open = not transport.is_closing()
        self.pause_reading()

    def begin(self, session: Session) -> None:
        """Be the transport of a session, or try to become it."""
        self._session = session
        self.limit = session.limit
        if session.probe is self:
            deadline = time.monotonic() + self._engine.options.connect_deadline
            self._engine.wheel.set(self, deadline)
            self._write(b"")
        self._look()
        self.resume_reading()

    # Writing

    @property
    def unsent(self) -> int:
        """What the system has not taken yet."""
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    def flush(self, session: Session) -> None:
        """Write what the session holds, in one piece, unless the client does not read."""
        out = session.out
        if self._is_paused or not out:
            return
        data = out[0].wire if len(out) == 1 else joined(out)
        out.clear()
        session.size = 0
        self._write(data)
        if session.wants_room and not self._is_paused:
            session.has_room()

    def write_rest(self, data: bytes) -> None:
        """Write what is left of a frame that the session has written itself."""
        self._write(data)

    def write(self, frame: Frame) -> None:
        """Send a frame of a WebSocket that is not the session's yet."""
        self._write(frame.wire)

    def close(self, session: Session, code: int, why: str = "") -> None:
        """Write what is held and the last frame; the client's answer to it ends the connection."""
        if self._closing_at is not None or not self.is_open:
            return
        data = close_frame(code, why)
        if session.link is self:
            data = joined(session.out) + data
            session.drop()
        self._write(data)
        self._end(is_answered=False)

    def pause_writing(self) -> None:
        """The client does not read."""
        self._is_paused = True
        self._look()

    def resume_writing(self) -> None:
        """It does again."""
        self._is_paused = False
        self._look()
        session = self._session
        if session is not None and session.link is self:
            if session.out:
                self.flush(session)
            else:
                session.has_room()

    def _write(self, data: bytes) -> None:
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        is_first = bool(self._head)
        data, self._head = self._head + data, b""
        try:
            if self._descriptor is not None and not self._is_behind:
                # The transport holds nothing that this would overtake, and takes 2 us more.
                data = rest_after(self._descriptor, data)
                if not data and not is_first:
                    return
            if data:
                transport.write(data)
        except (RuntimeError, OSError):  # it is lost
            transport.abort()
        self._look()

    def _look(self) -> None:
        """See whether the session may write by itself: while everything has left."""
        session, transport = self._session, self._transport
        is_lost = transport is None or transport.is_closing() or self._closing_at is not None
        self._is_behind = not is_lost and self.unsent > 0
        if session is not None and session.link is self:
            is_free = not (is_lost or self._is_behind or self._is_paused or self._head)
            session.descriptor = self._descriptor if is_free else None
            session.is_behind = self._is_behind

    # Reading

    def data_received(self, data: bytes) -> None:
        """Read what has come; large messages are weighed all together while they come."""
        self.feed(data)
        if self._buffer is not None or self._weight:
            self._weigh()

    def _weigh(self) -> None:
        kept = self.kept if self.is_open and not self.has_ended else 0
        weight = kept if kept > self._engine.options.first_payload else 0
        has_room = self._engine.reading.add(weight - self._weight)
        self._weight = weight
        if not has_room and weight:
            self._fail(TRY_AGAIN, "too much is being read at the moment")

    def text_received(self, text: str) -> None:
        """Hand a packet over."""
        session = self._session
        if session is None:
            return
        if session.link is self:
            session.receive(text)
        else:
            upgrades.receive(session, self, text)

    def binary_received(self, data: bytes) -> None:
        """Hand a binary message over."""
        session = self._session
        if session is None:
            return
        if session.link is self:
            session.receive_binary(data)
        else:
            upgrades.receive(session, self, "")

    def ping_received(self, payload: bytes) -> None:
        """Answer it, as long as the client reads."""
        if not self._is_paused and self._closing_at is None:
            self._write(pong_frame(payload))

    def close_received(self, code: int, reason: str) -> None:
        """The client goes, or answers that we do."""
        if self._closing_at is None:
            self._write(close_frame(code))
        self._end(is_answered=True)
        if self._session is not None:
            self._session.link_lost(self)

    def failed(self, code: int, reason: str) -> None:
        """Tell a client that breaks the protocol."""
        session = self._session
        if session is not None and session.link is self:
            session.close("transport error", code, why=reason, says_so=False)
        elif session is not None:
            upgrades.fail(session, reason)

    def too_large(self) -> bool:
        """Bear with it, or not."""
        return self._session is not None and self._session.too_large(self)

    def turn_ended(self) -> None:
        """Give others a turn."""
        transport = self._transport
        if transport is not None and not transport.is_closing():
            transport.pause_reading()
            asyncio.get_running_loop().call_soon(self._go_on)

    def pause_reading(self) -> None:
        """Read nothing."""
        self.is_held = True
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Read again, from the next turn on."""
        self.is_held = False
        asyncio.get_running_loop().call_soon(self._go_on)

    def _go_on(self) -> None:
        transport = self._transport
        if transport is not None and not transport.is_closing() and not self.is_held:
            transport.resume_reading()
            self.read_on()

    # The end

    def _end(self, *, is_answered: bool) -> None:
        """End the connection, at the latest when the client has had the time to read."""
        transport = self._transport
        if transport is None:
            return
        if self._closing_at is None:
            self._closing_at = time.monotonic()
            self._look()
        if is_answered:
            transport.close()
        elif self.is_held:
            self.resume_reading()
        self._engine.wheel.discard(self)
        self._engine.wheel.set(self, self._closing_at + LAST_SECONDS)

    def due(self, now: float) -> float | None:
        """A client that does not read to the end, or an upgrade that has not come in time."""
        session, transport = self._session, self._transport
        if self._closing_at is None:
            if session is not None and session.probe is self:
                upgrades.fail(session, "it has not come in time")
            return None
        if transport is None:
            return None
        if transport.get_write_buffer_size() > 0 or now >= self._closing_at + _REPLY_SECONDS:
            transport.abort()
        elif self.has_ended:
            # Nothing was read after an error. Had it been closed at once, what came then would
            # have made the system drop the frame that says why.
            transport.close()
        return self._closing_at + _REPLY_SECONDS

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has gone. Up to now the descriptor was the connection's."""
        self.is_open = False
        self._transport = self._descriptor = None
        self._look()
        self._weigh()
        self._connections.discard(self)
        self._engine.wheel.discard(self)
        if self._session is not None:
            self._session.link_lost(self)

    def eof_received(self) -> None:
        """The client says nothing more: the transport closes."""
        self._descriptor = None
        self._look()

    def shutdown(self) -> None:
        """End, since the server stops (uvicorn asks for that)."""
        session = self._session
        if session is None or session.link is not self:
            if self._transport is not None:
                self._transport.close()
        else:
            session.close("server shutting down", RESTART)

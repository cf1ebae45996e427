"""Reading WebSocket frames (RFC 6455) as they come from a client.

No extension is spoken: per-message deflate would cost each connection memory and each packet time.
"""

from __future__ import annotations

from typing import Final

from tidings.socketio.frames import (
    BINARY,
    CLOSE,
    CONTINUATION,
    INVALID_DATA,
    MOST_IN_CONTROL,
    NO_CODE,
    PING,
    PONG,
    PROTOCOL_ERROR,
    TOO_LARGE,
)

_CODES: Final = frozenset({1000, 1001, 1002, 1003, *range(1007, 1015)})

TURN: Final = 64
"""So many frames of one connection are read before others get a turn."""


def unmasked(payload: bytes | bytearray, mask: bytes | bytearray) -> bytes:
    """The payload as it was before its client masked it; the XOR of whole numbers is fast."""
    size = len(payload)
    key = int.from_bytes((mask * (size // 4 + 1))[:size], "little")
    return (int.from_bytes(payload, "little") ^ key).to_bytes(size, "little")


class FrameReader:
    """Reads what one client sends; a class derived from it is told of messages by the methods
    that it overrides, in order.

    While `is_held` nothing is read. What has come meanwhile waits until `read_on`, as it does
    where a client sends more than `TURN` frames at once. A message of more than ``limit`` bytes is
    an error, or skipped (see `too_large`): it is never kept.
    """

    __slots__ = (
        "_buffer",
        "_is_skipping",
        "_left_out",
        "_message",
        "_needed",
        "_opcode",
        "has_ended",
        "is_held",
        "limit",
    )

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.is_held = False
        self.has_ended = False
        """Whether nothing more is read: after a close frame, or an error."""
        self._buffer: bytearray | None = None
        self._needed = 0
        """Before so many bytes are in the buffer, there is no whole frame in it."""
        self._message: bytearray | None = None
        """What has come of a message in several frames, and its opcode."""
        self._opcode = 0
        self._is_skipping = False
        self._left_out = 0
        """So many of the next bytes belong to a frame that is skipped."""

    # What is found: override these

    def text_received(self, text: str) -> None:
        """A text message has come."""
        raise NotImplementedError

    def binary_received(self, data: bytes) -> None:
        """A binary message has come."""
        raise NotImplementedError

    def ping_received(self, payload: bytes) -> None:
        """A ping has come, which wants a pong."""
        raise NotImplementedError

    def close_received(self, code: int, reason: str) -> None:
        """The client's last frame has come, with `NO_CODE` where it has none."""
        raise NotImplementedError

    def failed(self, code: int, reason: str) -> None:
        """The client has broken the protocol: the connection is to be closed with this code."""
        raise NotImplementedError

    def too_large(self) -> bool:
        """A message is larger than the limit; True has it skipped, and not be an error."""
        return False

    def turn_ended(self) -> None:
        """More has come than is read in one turn: `read_on` is to be called in the next."""
        raise NotImplementedError

    # Reading

    @property
    def kept(self) -> int:
        """How many bytes of messages that are not whole are kept."""
        return len(self._buffer or b"") + len(self._message or b"")

    def feed(self, data: bytes) -> None:
        """Take what has come from the network."""
        if self.has_ended:
            return
        if self._buffer is None:
            if self.is_held:
                self._buffer = bytearray(data)
            else:
                self._read(data)
            return
        self._buffer += data
        if len(self._buffer) >= self._needed and not self.is_held:
            self.read_on()

    def read_on(self) -> None:
        """Go on with what has come and has not been read."""
        if self._buffer is not None and not self.is_held and not self.has_ended:
            data, self._buffer = self._buffer, None
            self._read(data)

    def _read(self, data: bytes | bytearray) -> None:
        position, end = 0, len(data)
        for _ in range(TURN):
            if self._left_out:
                left_out = min(self._left_out, end - position)
                self._left_out -= left_out
                position += left_out
            if self.is_held or end - position < 2:
                self._keep(data, position, 2)
                return
            first, second = data[position], data[position + 1]
            if not self._is_allowed(first, second):
                return
            size, start = second & 0x7F, 6
            if size > 125:
                start = 8 if size == 126 else 14
            if end - position < start:
                self._keep(data, position, start)
                return
            payload = position + start
            if size > 125:
                size = int.from_bytes(data[position + 2 : payload - 4], "big")
            opcode = first & 0x0F
            if opcode < CLOSE and not self._has_room(first, size):
                if self.has_ended:
                    return
                position, self._left_out = payload, size
                continue
            if end < payload + size:
                self._keep(data, position, start + size)
                return
            position = payload + size
            mask = data[payload - 4 : payload]
            self._take(first, unmasked(data[payload:position], mask) if size else b"")
            if self.has_ended:
                return
        self._keep(data, position, 0)
        if self._buffer is not None:
            self.turn_ended()

    def _keep(self, data: bytes | bytearray, position: int, needed: int) -> None:
        """Keep what has not been read until so many bytes are there."""
        self._needed = needed
        if position < len(data):
            rest = data[position:] if position else data
            self._buffer = rest if isinstance(rest, bytearray) else bytearray(rest)

    def _is_allowed(self, first: int, second: int) -> bool:
        """Whether a frame may begin so; where not, reading has ended."""
        opcode = first & 0x0F
        problem = None
        if first & 0x70:
            problem = "reserved bits are set"
        elif not second & 0x80:
            problem = "a client's frame is not masked"
        elif opcode >= CLOSE:
            if opcode > PONG:
                problem = "the opcode is reserved"
            elif not first & 0x80:
                problem = "a control frame is fragmented"
            elif second & 0x7F > MOST_IN_CONTROL:
                problem = "a control frame is too long"
        elif opcode > BINARY:
            problem = "the opcode is reserved"
        elif opcode == CONTINUATION and not self._opcode:
            problem = "there is nothing to continue"
        elif opcode and self._opcode:
            problem = "a message begins in the middle of another"
        if problem is not None:
            self._fail(PROTOCOL_ERROR, problem)
        return problem is None

    def _has_room(self, first: int, size: int) -> bool:
        """Whether a frame of so many bytes is kept; if not it is skipped, or reading has ended."""
        kept = 0 if self._message is None else len(self._message)
        if not self._is_skipping:
            if kept + size <= self.limit:
                return True
            if not self.too_large():
                self._fail(TOO_LARGE, f"a message may have {self.limit} bytes")
                return False
        is_last = bool(first & 0x80)
        self._message = None
        self._is_skipping = not is_last
        self._opcode = 0 if is_last else self._opcode or first & 0x0F
        return False

    def _stop(self) -> None:
        self.has_ended = True
        self._buffer = self._message = None

    def _fail(self, code: int, reason: str) -> None:
        if not self.has_ended:
            self._stop()
            self.failed(code, reason)

    def _take(self, first: int, payload: bytes) -> None:
        opcode = first & 0x0F
        if opcode >= CLOSE:
            if opcode == PING:
                self.ping_received(payload)
            elif opcode == CLOSE:
                self._close(payload)
            return
        is_last = first & 0x80
        if opcode == CONTINUATION or not is_last:
            if self._message is None:
                self._message, self._opcode = bytearray(), opcode
            self._message += payload
            if not is_last:
                return
            opcode, payload = self._opcode, bytes(self._message)
            self._opcode, self._message = 0, None
        if opcode == BINARY:
            self.binary_received(payload)
            return
        try:
            text = payload.decode()
        except UnicodeDecodeError:
            self._fail(INVALID_DATA, "a text is not UTF-8")
        else:
            self.text_received(text)

    def _close(self, payload: bytes) -> None:
        code = int.from_bytes(payload[:2], "big") if payload else NO_CODE
        if payload and (len(payload) == 1 or not (code in _CODES or 3000 <= code < 5000)):
            self._fail(PROTOCOL_ERROR, "the code of a close frame is not allowed")
            return
        try:
            reason = payload[2:].decode()
        except UnicodeDecodeError:
            self._fail(INVALID_DATA, "the reason of a close frame is not UTF-8")
            return
        self._stop()
        self.close_received(code, reason)

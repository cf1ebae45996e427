"""WebSocket frames (RFC 6455), as a server writes them: once for all clients that get the same.

No extension is spoken: per-message deflate would cost each connection memory and each packet time.
"""

from __future__ import annotations

import struct
from base64 import b64encode
from typing import Final

CONTINUATION: Final = 0
TEXT: Final = 1
BINARY: Final = 2
CLOSE: Final = 8
PING: Final = 9
PONG: Final = 10
MOST_IN_CONTROL: Final = 125
"""So many bytes a control frame may hold."""

NORMAL: Final = 1000
GOING_AWAY: Final = 1001
PROTOCOL_ERROR: Final = 1002
NO_CODE: Final = 1005
INVALID_DATA: Final = 1007
POLICY_VIOLATION: Final = 1008
TOO_LARGE: Final = 1009
RESTART: Final = 1012
TRY_AGAIN: Final = 1013


def _head(opcode: int, size: int) -> bytes:
    """The beginning of a frame that is whole, and not masked, as a server sends it."""
    first = 0x80 | opcode
    if size < 126:
        return bytes((first, size))
    if size < 65_536:
        return bytes((first, 126, size >> 8, size & 0xFF))
    return struct.pack("!BBQ", first, 127, size)


class Frame:
    """One Engine.IO packet, in the forms that transports need; one object for all receivers."""

    __slots__ = ("_text", "is_binary", "start", "wire")

    def __init__(self, payload: bytes, *, is_binary: bool = False) -> None:
        head = _head(BINARY if is_binary else TEXT, len(payload))
        self.wire = head + payload
        """The packet as a WebSocket frame."""
        self.start = len(head)
        self.is_binary = is_binary
        self._text: str | None = None

    @property
    def payload(self) -> bytes:
        """The packet alone."""
        return self.wire[self.start :]

    @property
    def text(self) -> str:
        """A packet that is not binary, as text."""
        if self._text is None:
            self._text = self.payload.decode()
        return self._text

    @property
    def polled(self) -> bytes:
        """The packet as a part of the body that a poll gets."""
        return b"b" + b64encode(self.payload) if self.is_binary else self.payload


def close_frame(code: int = NORMAL, reason: str = "") -> bytes:
    """The frame that ends a connection; with `NO_CODE` an empty one."""
    payload = b""
    if code != NO_CODE:
        # A reason that is cut must be UTF-8 all the same.
        text = reason.encode()[: MOST_IN_CONTROL - 2].decode(errors="ignore")
        payload = struct.pack("!H", code) + text.encode()
    return _head(CLOSE, len(payload)) + payload


def pong_frame(payload: bytes) -> bytes:
    """The answer to a ping."""
    return _head(PONG, len(payload)) + payload

"""Socket.IO packets: strict and bounded on the way in, encoded once on the way out.

Implements the text part of the Socket.IO protocol, revision 5; binary attachments are not used.
"""

from __future__ import annotations

import re
from typing import Any, ClassVar

import msgspec
from engineio.packet import MESSAGE
from engineio.packet import Packet as EnginePacket
from socketio.packet import Packet as SocketPacket

from tidings.numbers import decode_json
from tidings.realtime.requests import Unreadable
from tidings.realtime.subscriptions import Frame

_PACKET = re.compile(r"([0-4])(?:(/[^,?]*)(?:\?[^,]*)?(?:,|$))?([0-9]{1,15})?(.*)", re.DOTALL)
_EVENT_NAME = re.compile(r'\["([^"\\]{1,100})"')
_EVENT, _ACK = 2, 3
_encoder = msgspec.json.Encoder(decimal_format="string")


class MalformedPacket(ValueError):
    """A packet that is not Socket.IO."""


class Codec:
    """JSON as python-socketio wants it: a module with ``dumps`` and ``loads``."""

    @staticmethod
    def dumps(value: Any, **_options: Any) -> str:
        return _encoder.encode(value).decode()

    @staticmethod
    def loads(text: str, **_options: Any) -> Any:
        return msgspec.json.decode(text)


class Packet(SocketPacket):  # type: ignore[misc]  # python-socketio is untyped
    """A packet whose decoding neither trusts nor overworks.

    An event whose payload cannot be read still is an event, with an `Unreadable` in place of its
    arguments, so that its sender gets an error for an answer.
    """

    uses_binary_events = False
    most: ClassVar[int] = 0
    """How many characters a payload may have; a longer one stays unread."""
    json = Codec

    def decode(self, encoded_packet: str) -> int:
        found = _PACKET.fullmatch(encoded_packet) if isinstance(encoded_packet, str) else None
        if found is None:
            raise MalformedPacket("not a Socket.IO packet")
        self.packet_type = int(found[1])
        self.namespace = found[2]
        self.id = int(found[3]) if found[3] else None
        self.data = self._payload(found[4])
        return 0

    def _payload(self, text: str) -> Any:
        is_event = self.packet_type == _EVENT
        too_large = len(text) > self.most
        value: Any = None
        if text and not too_large:
            try:
                value = decode_json(text)
            except (msgspec.DecodeError, RecursionError):
                value = Unreadable(too_large=False)
        if isinstance(value, Unreadable) or too_large:
            name = _EVENT_NAME.match(text)
            if not is_event or name is None:
                raise MalformedPacket("the payload cannot be read")
            return [name[1], Unreadable(too_large=too_large)]
        if is_event and not (isinstance(value, list) and value and isinstance(value[0], str)):
            raise MalformedPacket("an event is an array that starts with its name")
        if self.packet_type == _ACK and not isinstance(value, list):
            raise MalformedPacket("an ack is an array")
        return value


def packets_of(message_size: int) -> type[Packet]:
    """The class of packets whose payloads have at most so many characters."""

    class Bounded(Packet):
        most = message_size

    return Bounded


def event_frame(event: str, payload: Any) -> Frame:
    """An event for the default namespace, as the Engine.IO message that carries it."""
    return text_frame(f"2{_encoder.encode([event, payload]).decode()}")


def text_frame(text: str) -> Frame:
    """A Socket.IO packet, already encoded, as the Engine.IO message that carries it."""
    frame: Frame = EnginePacket(MESSAGE, data=text)
    return frame


def json_text(value: str) -> str:
    """A string as JSON."""
    return msgspec.json.encode(value).decode()

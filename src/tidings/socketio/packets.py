"""Socket.IO packets, revision 5: strict and bounded on the way in, encoded once on the way out."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from tidings.numbers import decode_json, encode_number
from tidings.socketio.frames import Frame

CONNECT, DISCONNECT, EVENT, ACK, CONNECT_ERROR, BINARY_EVENT, BINARY_ACK = range(7)
MAIN: Final = "/"
"""The namespace that clients connect to by default."""

_PACKET: Final = re.compile(
    r"([0-6])(?:([0-9]{1,10})-)?(?:(/[^,?]*)(?:\?[^,]*)?(?:,|$))?([0-9]{1,15})?(.*)", re.DOTALL
)
_EVENT_NAME: Final = re.compile(r'\["([^"\\]{1,100})"')
_encoder: Final = msgspec.json.Encoder(decimal_format="string", enc_hook=encode_number)


class MalformedPacket(ValueError):
    """Something that is not Socket.IO."""


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Stands in place of an event's arguments where they could not be read, so that whoever has
    sent it can be given an answer. ``reason``: ``size``, ``json`` or ``binary``.
    """

    reason: str


@dataclass(slots=True)
class Packet:
    """One packet. ``data`` is an array for events and acks, and any JSON otherwise."""

    kind: int
    namespace: str = MAIN
    id: int | None = None
    data: Any = None
    attachments: int = 0
    """How many binary attachments follow."""

    @property
    def is_readable(self) -> bool:
        """Whether the arguments of an event could be read."""
        return not (len(self.data) == 2 and isinstance(self.data[1], Unreadable))


def decode(text: str, start: int = 0, *, most: int) -> Packet:
    """The packet in a text from ``start`` on; a payload of more than ``most`` characters, or one
    that is no JSON, stays unread where it is an event's.

    Raises:
        MalformedPacket: it is none.
    """
    found = _PACKET.fullmatch(text, start)
    if found is None:
        raise MalformedPacket("not a Socket.IO packet")
    kind, attachments, namespace, number, payload = found.groups()
    packet = Packet(int(kind), namespace or MAIN, int(number) if number else None)
    if (attachments is not None) != (packet.kind >= BINARY_EVENT):
        raise MalformedPacket(
            "the number of attachments belongs to binary packets, and to no other"
        )
    if attachments is not None:
        packet.attachments = int(attachments)
        packet.kind -= BINARY_EVENT - EVENT
    packet.data = _payload(packet, payload, most)
    return packet


def _payload(packet: Packet, text: str, most: int) -> Any:
    value: Any = None
    reason = "size" if len(text) > most else ""
    if text and not reason:
        try:
            value = decode_json(text)
        except (msgspec.DecodeError, RecursionError):
            reason = "json"
    if reason:
        name = _EVENT_NAME.match(text)
        if packet.kind != EVENT or name is None:
            raise MalformedPacket("the payload cannot be read")
        return [name[1], Unreadable(reason)]
    if packet.kind == EVENT and not (
        isinstance(value, list) and value and isinstance(value[0], str)
    ):
        raise MalformedPacket("an event is an array that begins with its name")
    if packet.kind == ACK and (packet.id is None or not isinstance(value, list)):
        raise MalformedPacket("an ack is an array, and has an id")
    return value


def encode(
    kind: int,
    data: Any = None,
    *,
    namespace: str = MAIN,
    id: int | None = None,  # noqa: A002
) -> list[Frame]:
    """A packet as the frames that carry it: one, and one for each attachment that it has."""
    attachments: list[bytes] = []
    if kind in (EVENT, ACK):
        data = _without_bytes(data, attachments)
    head = f"4{kind + (BINARY_EVENT - EVENT if attachments else 0)}"
    if attachments:
        head += f"{len(attachments)}-"
    if namespace != MAIN:
        head += f"{namespace},"
    if id is not None:
        head += str(id)
    payload = b"" if data is None else _encoder.encode(data)
    first = Frame(head.encode() + payload)
    return [first, *(Frame(one, is_binary=True) for one in attachments)]


def event_frame(event: str, payload: Any) -> Frame:
    """An event with one argument without bytes, for the main namespace."""
    return Frame(b"42" + _encoder.encode([event, payload]))


def text_frame(packet: str) -> Frame:
    """A Socket.IO packet that is encoded already."""
    return Frame(b"4" + packet.encode())


def _without_bytes(value: Any, attachments: list[bytes]) -> Any:
    """The value with a placeholder for all bytes in it."""
    if isinstance(value, bytes | bytearray | memoryview):
        attachments.append(bytes(value))
        return {"_placeholder": True, "num": len(attachments) - 1}
    if isinstance(value, list | tuple):
        return [_without_bytes(one, attachments) for one in value]
    if isinstance(value, dict):
        return {key: _without_bytes(one, attachments) for key, one in value.items()}
    return value


def joined(frames: Iterable[Frame]) -> bytes:
    """The frames, as one write."""
    return b"".join([frame.wire for frame in frames])

"""A tap on the wire: no frame may hold a value of a record.

While it is open it keeps every text that is written to a record, and every frame that is made for
a client. At the end no string in any frame may contain such a text, unless it is a word of the
protocol, the id of a record, or something that a client has itself sent.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import pytest

from tidings.realtime.admission import Admission
from tidings.realtime.messages import Event
from tidings.socketio import Frame, client
from tidings.storage import RecordStore

SHORTEST: Final = 6
"""Shorter texts are in many words by chance."""
_MOST_SENT = 4_000_000
_MOMENT = r"\d{4}-\d\d-\d\dT[\d:.]+Z"
_PROTOCOL: Final[dict[str, str]] = {
    "type": r"resource\.(?:created|updated|deleted)",
    "action": "post|update|patch|delete",
    "change": "enter|update|leave",
    "reason": "window|epoch|overflow|bulk|permission",
    "status": "active",
    "code": "[A-Z_]+",
    "cursor": r"[0-9a-z]+\.\d+",
    "timestamp": _MOMENT,
    "serverTime": _MOMENT,
    "expiresAt": _MOMENT,
    "socketId": r"[\w-]+",
    "sid": r"[\w-]+",
}
_WORDS = {name: re.compile(pattern) for name, pattern in _PROTOCOL.items()}
_ID_OF_SERVER = re.compile(r"(.+)-[a-z2-7]{5}(?:-\d+)?")


@dataclass
class Tap:
    """What has gone into records, what clients have sent, and what they have been sent."""

    written: set[str] = field(default_factory=set)
    ids: set[str] = field(default_factory=set)
    resources: set[str] = field(default_factory=set)
    sent: set[str] = field(default_factory=set)
    frames: set[str] = field(default_factory=set)

    def write(self, resource: Any, values: Any) -> None:
        self.resources.add(resource.name)
        for name, value in values.items():
            kind = resource.fields.get(name)
            if name == "id" or (kind is not None and kind.type == "id"):
                self.ids.add(str(value))
            else:
                self.written |= {one for one in _texts(value) if len(one) >= SHORTEST}

    def leaks(self) -> list[str]:
        """Frames that hold a value of a record, each with the value."""
        found: list[str] = []
        if not self.frames:
            return found
        sent = "\n".join(self.sent)
        secret = {text for text in self.written - self.ids if text not in sent}
        if not secret:
            return []
        for frame in sorted(self.frames):
            for text in self._unknown(frame):
                found += [f"{value!r} in {frame[:500]}" for value in secret if value in text]
        return found

    def _unknown(self, frame: str) -> Iterator[str]:
        """The strings of a frame that are no words of the protocol, nor ids."""
        body = frame.lstrip("0123456789-")
        try:
            packet = json.loads(body) if body else None
        except ValueError:
            yield frame
            return
        for name, text in _members("", packet):
            word = _WORDS.get(name)
            if (
                (word is not None and word.fullmatch(text))
                or (name in ("resource", "type") and text in self.resources)
                or (name == "id" and text in self.ids)
            ):
                continue
            made = _ID_OF_SERVER.fullmatch(text) if name in ("subscriptionId", "") else None
            if made is None or made[1] not in self.resources:
                yield text


def _texts(value: Any) -> Iterator[str]:
    """The strings in a value, with those that JSON would be made of."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _texts(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _texts(inner)


def _members(name: str, value: Any) -> Iterator[tuple[str, str]]:
    """Every string with the name of the member that it is, or is in an array of; names, too."""
    if isinstance(value, str):
        yield name, value
    elif isinstance(value, list):
        for inner in value:
            yield from _members(name, inner)
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield "", key
            yield from _members(key, inner)


@contextmanager
def tapped() -> Iterator[Tap]:
    """Record everything meanwhile."""
    tap = Tap()
    with pytest.MonkeyPatch.context() as patch:
        _tap_records(patch, tap)
        _tap_clients(patch, tap)
        _tap_frames(patch, tap)
        yield tap


def _tap_frames(patch: pytest.MonkeyPatch, tap: Tap) -> None:
    """Events, since not all go over a wire, and Socket.IO's packets: acks and refusals."""
    say, write = Event.__init__, Frame.__init__

    def saying(self: Any, name: str, payload: bytes) -> None:
        tap.frames.add(f'2["{name}",{payload.decode()}]')
        say(self, name, payload)

    def writing(self: Any, payload: bytes, *, is_binary: bool = False) -> None:
        if payload.startswith(b"4") and not is_binary:
            tap.frames.add(payload[1:].decode())
        write(self, payload, is_binary=is_binary)

    patch.setattr(Event, "__init__", saying)
    patch.setattr(Frame, "__init__", writing)


def _tap_records(patch: pytest.MonkeyPatch, tap: Tap) -> None:
    insert, update = RecordStore.insert, RecordStore.update

    async def inserting(self: Any, connection: Any, resource: Any, values: Any) -> Any:
        row = await insert(self, connection, resource, values)
        tap.write(resource, row)
        return row

    async def updating(self: Any, connection: Any, resource: Any, key: Any, values: Any) -> Any:
        tap.ids.add(str(key))
        row = await update(self, connection, resource, key, values)
        tap.write(resource, row)
        return row

    patch.setattr(RecordStore, "insert", inserting)
    patch.setattr(RecordStore, "update", updating)


def _tap_clients(patch: pytest.MonkeyPatch, tap: Tap) -> None:
    decode, admit = client.decode, Admission.admit

    def decoding(text: str, start: int, *, most: int) -> Any:
        if len(text) < _MOST_SENT:
            tap.sent.add(text)
        packet = decode(text, start, most=most)
        tap.sent |= set(_texts(packet.data))  # as it is without its escapes
        return packet

    async def admitting(self: Any, identity: Any, payload: Any) -> Any:
        tap.sent |= set(_texts(payload))
        return await admit(self, identity, payload)

    patch.setattr(client, "decode", decoding)
    patch.setattr(Admission, "admit", admitting)


@pytest.fixture(autouse=True)
def no_values_in_frames(request: pytest.FixtureRequest) -> Iterator[None]:
    """For every test but those marked ``leaks``, which try out the tap itself."""
    if request.node.get_closest_marker("leaks") is not None:
        yield
        return
    with tapped() as tap:
        yield
    assert tap.leaks() == [], tap.leaks()[:3]

"""Packed: a change of which only the head has been read, for as long as nobody looks at it.

Every process reads every change, and has subscribers to a few. To decode a change costs ten times
as much as to see of which resource it is.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

import msgspec

from tidings.feed.change import Notice
from tidings.feed.codec import CHANGE, decode_notice, moment

_OVERHEAD: Final = 400


class _Head(msgspec.Struct, array_like=True):
    """What an entry of the log begins with; the rest is passed over."""

    form: Any = None
    resource: Any = None
    id: Any = None
    _action: Any = None
    at: Any = None


_decoder: Final = msgspec.msgpack.Decoder(_Head, ext_hook=lambda _code, _data: None)


class Packed:
    """A change as the log has it. It is decoded once, when somebody asks for it."""

    __slots__ = ("_at", "_entry", "_notice", "id", "on_grown", "resource", "weight")

    def __init__(self, entry: bytes, resource: str, record_id: str, at: int) -> None:
        self.resource = resource
        self.id = record_id
        self.weight = _OVERHEAD + len(entry)
        """About how many bytes it takes."""
        self.on_grown: Callable[[Packed, Notice], int] | None = None
        """Is told of the notice when it has been decoded, and gives what that weighs."""
        self._at = at
        self._entry: bytes = entry
        self._notice: Notice | None = None

    @property
    def at(self) -> datetime:
        """When it was written."""
        return moment(self._at)

    def unpack(self) -> Notice:
        """The change; `EVERYTHING_CHANGED` where the rest of it cannot be read."""
        if self._notice is None:
            self._notice = decode_notice(self._entry)
            self._entry = b""
            if self.on_grown is not None:
                self.weight = self.on_grown(self, self._notice)
        return self._notice


def read_entry(entry: bytes, is_watched: Callable[[str], bool]) -> Notice | Packed:
    """A notice of the log; a change of a resource that nobody watches stays packed."""
    try:
        head = _decoder.decode(entry)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return decode_notice(entry)  # which says what is wrong
    if (
        head.form == CHANGE
        and type(head.resource) is str
        and type(head.id) is str
        and type(head.at) is int
        and not is_watched(head.resource)
    ):
        return Packed(entry, head.resource, head.id, head.at)
    return decode_notice(entry)


def unpacked(notice: Notice | Packed) -> Notice:
    """The notice itself."""
    return notice.unpack() if isinstance(notice, Packed) else notice

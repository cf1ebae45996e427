"""Packed: a change of which only the head has been read, for as long as nobody looks at it.

Every process reads every change, and has subscribers to a few. To decode a change costs ten times
as much as to see of which resource it is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

import msgspec

from tidings.feed.change import Change, Notice
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


Carried = Callable[[str], frozenset[str]]
"""The columns that changes of a resource carry, as this process has it declared."""


def nothing_carried(_resource: str) -> frozenset[str]:
    """Of a feed by itself, nothing is known to be carried."""
    return frozenset()


def read_notice(entry: bytes, carried: Carried) -> Notice:
    """A notice of the log. A process with another declaration may have written it: what this one's
    filters look at and the change does not carry is unknown, and not null.
    """
    notice = decode_notice(entry)
    if not isinstance(notice, Change):
        return notice
    expected, lacking = carried(notice.resource), frozenset[str]()
    for image in (notice.before, notice.after):
        if image is not None and not expected <= image.keys():
            lacking |= expected - image.keys()
    if lacking <= notice.unknown:
        return notice
    return replace(notice, unknown=notice.unknown | lacking)


class Packed:
    """A change as the log has it. It is decoded once, when somebody asks for it."""

    __slots__ = ("_at", "_carried", "_entry", "_notice", "id", "on_grown", "resource", "weight")

    def __init__(
        self, entry: bytes, resource: str, record_id: str, at: int, carried: Carried
    ) -> None:
        self.resource = resource
        self.id = record_id
        self.weight = _OVERHEAD + len(entry)
        """About how many bytes it takes."""
        self.on_grown: Callable[[Packed, Notice], int] | None = None
        """Is told of the notice when it has been decoded, and gives what that weighs."""
        self._at = at
        self._carried = carried
        self._entry: bytes = entry
        self._notice: Notice | None = None

    @property
    def at(self) -> datetime:
        """When it was written."""
        return moment(self._at)

    def unpack(self) -> Notice:
        """The change; `EVERYTHING_CHANGED` where the rest of it cannot be read."""
        if self._notice is None:
            self._notice = read_notice(self._entry, self._carried)
            self._entry = b""
            if self.on_grown is not None:
                self.weight = self.on_grown(self, self._notice)
        return self._notice


def read_entry(
    entry: bytes, is_watched: Callable[[str], bool], carried: Carried = nothing_carried
) -> Notice | Packed:
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
        return Packed(entry, head.resource, head.id, head.at, carried)
    return read_notice(entry, carried)


def unpacked(notice: Notice | Packed) -> Notice:
    """The notice itself."""
    return notice.unpack() if isinstance(notice, Packed) else notice

"""Notices as bytes, for a log and for the outbox: MessagePack, every value with its type.

An entry begins with a number that tells its form. What a process cannot read (a newer version of
tidings wrote it) is no reason to be silent: it stands for an `Invalidation` of everything. What is
only added to a change comes after what there was, so that older processes can leave it unread.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Final

import msgspec

from tidings.feed.change import Action, Change, Invalidation, Notice, Recheck

_log = logging.getLogger("tidings.feed")
CHANGE: Final = 1
"""The form of a change."""
_INVALIDATION, _RECHECK = 2, 3
_DATE, _TIME, _DECIMAL, _TUPLE, _JSON, _DURATION = range(1, 7)
_START: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_PLAIN: Final = frozenset({str, int, float, bool, type(None), datetime})

EVERYTHING_CHANGED: Final = Invalidation(None)


def encode_notice(notice: Notice) -> bytes:
    """A notice as bytes."""
    if isinstance(notice, Invalidation):
        paths = None if notice.paths is None else sorted(notice.paths)
        return msgspec.msgpack.encode([_INVALIDATION, notice.resource, paths])
    if isinstance(notice, Recheck):
        return msgspec.msgpack.encode([_RECHECK, notice.user_id, notice.resource])
    before = _image(notice.before)
    after = _image(notice.after)
    is_short = False
    if before is not None and after is not None and before.keys() == after.keys():
        is_short = True
        # What has not changed need not be said twice. Compared as encoded: 1 is not True.
        after = {name: value for name, value in after.items() if not _same(before[name], value)}
    fields = [
        CHANGE,
        notice.resource,
        notice.id,
        notice.action,
        (notice.at - _START) // _MICROSECOND,
        notice.derived,
        sorted(notice.unknown),
        is_short,
        before,
        after,
    ]
    if notice.trace is not None or notice.resynced:
        fields.append(notice.trace)
    if notice.resynced:
        fields.append(sorted(notice.resynced))
    return msgspec.msgpack.encode(fields)


def decode_notice(entry: bytes) -> Notice:
    """The notice that was encoded; `EVERYTHING_CHANGED` for what cannot be read."""
    try:
        form, *fields = msgspec.msgpack.decode(entry, ext_hook=_value)
        if form == CHANGE:
            return _change(msgspec.convert(fields, _Fields, from_attributes=False))
        if form == _INVALIDATION:
            resource, paths = msgspec.convert(fields[:2], tuple[str | None, list[str] | None])
            return Invalidation(resource, None if paths is None else frozenset(paths))
        if form == _RECHECK:
            return Recheck(*msgspec.convert(fields[:2], tuple[str | None, str | None]))
    except Exception as error:  # noqa: BLE001  whatever it is, everybody is told to refetch
        _log.error("an entry of the feed cannot be read: %s", error)
        return EVERYTHING_CHANGED
    _log.error("an entry of the feed has the unknown form %r", form)
    return EVERYTHING_CHANGED


def moment(microseconds: int) -> datetime:
    """A time of an entry."""
    return _START + microseconds * _MICROSECOND


class _Fields(msgspec.Struct, array_like=True):
    """The fields of a change, in their order; what follows them an older process does not know."""

    resource: str
    record_id: str
    action: Action
    at: int
    derived: bool
    unknown: list[str]
    is_short: bool
    before: dict[str, Any] | None
    after: dict[str, Any] | None
    trace: Any = None
    resynced: Any = None


def _change(fields: _Fields) -> Change:
    before, after = fields.before, fields.after
    if before is None and after is None:
        raise ValueError("a change with neither image")
    if fields.is_short and before is not None and after is not None:
        after = {**before, **after}
    return Change(
        fields.resource,
        fields.record_id,
        fields.action,
        before,
        after,
        moment(fields.at),
        fields.derived,
        frozenset(fields.unknown),
        fields.trace if isinstance(fields.trace, str) else None,
        _names(fields.resynced),
    )


def _names(value: object) -> frozenset[str]:
    """Names; none where it is something else: then more is resynced than need be."""
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        return frozenset()
    return frozenset(value)


def _image(image: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if image is None:
        return None
    return {
        name: value if type(value) in _PLAIN else _encoded(value) for name, value in image.items()
    }


def _same(one: object, other: object) -> bool:
    return type(one) is type(other) and one == other


def _encoded(value: Any) -> Any:
    match value:
        case date() if type(value) is date:
            return msgspec.msgpack.Ext(_DATE, value.isoformat().encode())
        case time():
            return msgspec.msgpack.Ext(_TIME, value.isoformat().encode())
        case timedelta():
            return msgspec.msgpack.Ext(_DURATION, str(value // _MICROSECOND).encode())
        case Decimal():
            return msgspec.msgpack.Ext(_DECIMAL, str(value).encode())
        case tuple():
            inner = [one if type(one) in _PLAIN else _encoded(one) for one in value]
            return msgspec.msgpack.Ext(_TUPLE, msgspec.msgpack.encode(inner))
        case list() | dict():
            # JSON has integers of any size, MessagePack has not.
            return msgspec.msgpack.Ext(_JSON, json.dumps(value).encode())
        case _:
            return value


def _value(code: int, data: memoryview) -> Any:
    text = bytes(data)
    match code:
        case 1:
            return date.fromisoformat(text.decode())
        case 2:
            return time.fromisoformat(text.decode())
        case 3:
            return Decimal(text.decode())
        case 4:
            return tuple(msgspec.msgpack.decode(text, ext_hook=_value))
        case 5:
            return json.loads(text)
        case 6:
            return int(text) * _MICROSECOND
    raise ValueError(f"unknown extension {code}")

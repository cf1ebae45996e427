"""What changes weigh: a text or an array may be a million times as long as another."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from sys import getsizeof
from typing import Any, Final

from tidings.cache import Cache
from tidings.feed.change import Change, Notice
from tidings.memory import memory_of

MAX_VALUE: Final = 65_536
"""A change carries no value that takes more bytes in memory."""
MAX_IMAGE: Final = 262_144
"""Nor a record that takes more in all."""
_LONG: Final = 512
"""Values of this length are worth being held once only."""
_NOTICE: Final = 400
"""About what a notice takes without its values."""
_SMALL: Final = 40

Image = Mapping[str, Any]


def bounded(change: Change) -> Change:
    """A change that is not too long to be kept, and sent to every process.

    What is too long is left out: whoever looks at it with a filter is told to refetch, as with
    what is `Change.unknown` otherwise. Values that stay as they are are one object.
    """
    before, after = change.before or {}, change.after or {}
    weights = {
        name: max(weigh(before.get(name)), weigh(after.get(name)))
        for name in (before if len(before) >= len(after) else after)
    }
    total = sum(weights.values())
    dropped: set[str] = set()
    if total > MAX_VALUE:
        for name in sorted(weights, key=lambda name: -weights[name]):
            if weights[name] <= MAX_VALUE and total <= MAX_IMAGE:
                break
            dropped.add(name)
            total -= weights[name]
    if not dropped and total < _LONG:
        return change
    return replace(
        change,
        before=None if change.before is None else _without(change.before, dropped),
        after=None if change.after is None else _shared(_without(change.after, dropped), before),
        unknown=change.unknown | dropped,
    )


def weight(notice: Notice) -> int:
    """About how many bytes a notice takes; what both images share counts once."""
    if not isinstance(notice, Change):
        return _NOTICE
    total = _NOTICE
    before, after = notice.before, notice.after
    for image in (before, after):
        if image is not None:
            total += weigh_all(image.values()) + 100 * len(image)
    if before is not None and after is not None:
        total -= sum(
            weigh(value) for name, value in after.items() if before.get(name, None) is value
        )
    return total


class Interned:
    """Long texts that are the same are held once, however many changes carry them."""

    def __init__(self, max_bytes: int) -> None:
        self._kept: Cache[str, str] = Cache(max_bytes, lambda text, _: getsizeof(text))

    def share(self, notice: Notice) -> Notice:
        """The notice with texts that other notices hold, too."""
        if not isinstance(notice, Change):
            return notice
        for image in (notice.before, notice.after):
            if image is None or not any(_is_long(value) for value in image.values()):
                continue
            found = {
                name: self._same(value) if _is_long(value) else value
                for name, value in image.items()
            }
            if image is notice.before:
                notice = replace(notice, before=found)
            else:
                notice = replace(notice, after=found)
        return notice

    def _same(self, text: str) -> str:
        return self._kept.get(text, lambda: text)


def _is_long(value: Any) -> bool:
    return isinstance(value, str) and len(value) >= _LONG


def weigh_all(values: Iterable[Any]) -> int:
    """The same of several."""
    total = 0
    for value in values:
        kind = type(value)
        if kind is str:
            total += getsizeof(value)
        elif kind is int or value is None:
            total += _SMALL
        else:
            total += weigh(value)
    return total


def weigh(value: Any) -> int:
    """About how many bytes a value takes in memory."""
    if isinstance(value, str):
        return getsizeof(value)
    return memory_of(value) if isinstance(value, list | dict | tuple) else _SMALL


def _without(image: Image, names: set[str]) -> Image:
    if not names:
        return image
    return {name: None if name in names else value for name, value in image.items()}


def _shared(after: Image, before: Image) -> Image:
    """What is after, with the objects of before wherever nothing has changed."""
    return {
        name: before[name]
        if name in before and type(before[name]) is type(value) and before[name] == value
        else value
        for name, value in after.items()
    }

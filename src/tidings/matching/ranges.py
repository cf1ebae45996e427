"""Which ranges contain a value? Closed ones by length and low end, open ones by their one end.

Closed ranges that have further atoms are kept in cells instead, in the one or two that they touch
of a grid whose cells are just longer: a cell with many of them becomes an index of its own.
"""

from __future__ import annotations

from math import floor, frexp, inf
from typing import Final

from tidings.matching.access import ByRange
from tidings.matching.buckets import Bucket, Buckets, Nest
from tidings.matching.node import Entry
from tidings.matching.spans import Spans

_STEP: Final = 2
_LONGEST: Final = 64
"""Lengths are told apart by powers of two, every second one up to here and down to its inverse:
a value looks at the ranges of each length in use.
"""
_FINEST: Final = -1000
"""A finer grid's cells could not be counted from 1: floats end at 2**1024."""


class Ranges:
    """The ranges on one column."""

    def __init__(self, nest: Nest) -> None:
        self._nest = nest
        self._closed: dict[float, Spans] = {}
        self._above = Spans(inf)
        self._below = Spans(inf)  # mirrored: from the negated bound upwards
        self._grids: dict[int, Buckets] = {}

    def __bool__(self) -> bool:
        return bool(self._closed or self._above or self._below or self._grids)

    def add(self, access: ByRange, entry: Entry) -> None:
        """Add an entry."""
        low, high = access.low, access.high
        if low is None:
            assert high is not None
            self._below.add(-high, inf, entry)
        elif high is None:
            self._above.add(low, inf, entry)
        elif self._nest is None or not entry.atoms:
            length = _length(low, high)
            if length not in self._closed:
                self._closed[length] = Spans(length)
            self._closed[length].add(low, high, entry)
        else:
            level = _level(low, high)
            if level not in self._grids:
                self._grids[level] = Buckets(self._nest)
            for cell in _cells(level, low, high):
                self._grids[level].put(cell, entry)

    def discard(self, access: ByRange, entry: Entry) -> None:
        """Remove an entry."""
        low, high = access.low, access.high
        if low is None:
            assert high is not None
            self._below.discard(-high, entry)
        elif high is None:
            self._above.discard(low, entry)
        elif self._nest is None or not entry.atoms:
            length = _length(low, high)
            self._closed[length].discard(low, entry)
            if not self._closed[length]:
                del self._closed[length]
        else:
            level = _level(low, high)
            for cell in _cells(level, low, high):
                self._grids[level].discard(cell, entry)
            if not self._grids[level].table:
                del self._grids[level]

    def around(self, place: float, inside: list[Entry], at_end: list[Entry]) -> None:
        """Add the entries whose ranges contain the place: truly inside, or as one of their ends."""
        for spans in self._closed.values():
            spans.around(place, inside, at_end)
        if self._above:
            self._above.around(place, inside, at_end)
        if self._below:
            self._below.around(-place, inside, at_end)

    def cells(self, place: float) -> list[Bucket]:
        """The buckets of the cells that the place is in."""
        if not self._grids:
            return []
        found = [grid.table.get(_cell(level, place)) for level, grid in self._grids.items()]
        return [bucket for bucket in found if bucket is not None]


def _length(low: float, high: float) -> float:
    """A length that the range does not exceed."""
    # Half of it, since the whole could be more than a float can hold.
    exponent = frexp(high / 2 - low / 2)[1] + 1 if low < high else -_LONGEST
    exponent = max(-_LONGEST, exponent + exponent % _STEP)
    return 2.0**exponent if exponent <= _LONGEST else inf


def _level(low: float, high: float) -> int:
    """The exponent of the cells: wider than the range, and coarse enough for floats to count."""
    width = frexp(max(high / 2 - low / 2, 0.0))[1] + 1
    return max(width, frexp(max(abs(low), abs(high)))[1] - 50, _FINEST)


def _cell(level: int, place: float) -> float:
    try:
        return floor(place * 2.0**-level)
    except OverflowError:  # far outside a grid this fine
        return place


def _cells(level: int, low: float, high: float) -> tuple[float, ...]:
    first, last = _cell(level, low), _cell(level, high)
    return (first,) if first >= last else (first, last)

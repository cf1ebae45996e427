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
        self._spans: dict[tuple[float, float], Spans] = {}
        self._grids: dict[int, Buckets] = {}

    def __bool__(self) -> bool:
        return bool(self._spans or self._grids)

    def add(self, access: ByRange, entry: Entry) -> None:
        """Add an entry."""
        low, high = access.low, access.high
        if self._nest is not None and entry.atoms and low is not None and high is not None:
            level = _level(low, high)
            if level not in self._grids:
                self._grids[level] = Buckets(self._nest)
            for cell in _cells(level, low, high):
                self._grids[level].put(cell, entry)
            return
        kind, start, end = _span(low, high)
        if kind not in self._spans:
            self._spans[kind] = Spans(kind[1])
        self._spans[kind].add(start, end, entry)

    def discard(self, access: ByRange, entry: Entry) -> None:
        """Remove an entry."""
        low, high = access.low, access.high
        if self._nest is not None and entry.atoms and low is not None and high is not None:
            level = _level(low, high)
            for cell in _cells(level, low, high):
                self._grids[level].discard(cell, entry)
            if not self._grids[level].table:
                del self._grids[level]
            return
        kind, start, _ = _span(low, high)
        self._spans[kind].discard(start, entry)
        if not self._spans[kind]:
            del self._spans[kind]

    def around(self, place: float, inside: list[Entry], at_end: list[Entry]) -> None:
        """Add the entries whose ranges contain the place: truly inside, or as one of their ends."""
        for (direction, _), spans in self._spans.items():
            spans.around(direction * place, inside, at_end)

    def cells(self, place: float) -> list[Bucket]:
        """The buckets of the cells that the place is in."""
        if not self._grids:
            return []
        found = [grid.table.get(_cell(level, place)) for level, grid in self._grids.items()]
        return [bucket for bucket in found if bucket is not None]


def _span(low: float | None, high: float | None) -> tuple[tuple[float, float], float, float]:
    """The direction in which a range is kept and the length of its like; its start and end.

    What has no low end is kept backwards, from its high end on.
    """
    if low is None:
        assert high is not None
        return (-1.0, inf), -high, inf
    if high is None:
        return (1.0, inf), low, inf
    # Half of it, since the whole could be more than a float can hold.
    exponent = frexp(high / 2 - low / 2)[1] + 1 if low < high else -_LONGEST
    exponent = max(-_LONGEST, exponent + exponent % _STEP)
    return (1.0, 2.0**exponent if exponent <= _LONGEST else inf), low, high


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

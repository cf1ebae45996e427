"""Which ranges contain a value? Closed ranges on grids of doubling size, open ones by threshold.

A closed range is kept on the grid whose cells are just wider than it, in the one or two cells it
touches; a value looks at one cell per grid in use. An open range is kept by its bound, in order,
so that a value walks just over the bounds it passes, each of which is (nearly) a match.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator
from math import floor, frexp
from typing import Final

from tidings.matching.access import ByRange
from tidings.matching.buckets import Bucket, Buckets, Nest
from tidings.matching.node import Entry

_BLOCK: Final = 1000
_FINEST: Final = -1000
"""A finer grid's cells could not be counted from 1: floats end at 2**1024."""


class SortedKeys:
    """Distinct floats in order, in blocks, so that adding one moves few others."""

    def __init__(self) -> None:
        self._blocks: list[list[float]] = []
        self._last: list[float] = []

    def __len__(self) -> int:
        return sum(map(len, self._blocks))

    def add(self, key: float) -> None:
        """Add a key that is not there."""
        if not self._blocks:
            self._blocks.append([key])
            self._last.append(key)
            return
        index = min(bisect_left(self._last, key), len(self._blocks) - 1)
        block = self._blocks[index]
        insort(block, key)
        if len(block) > 2 * _BLOCK:
            self._blocks[index : index + 1] = [block[:_BLOCK], block[_BLOCK:]]
            self._last[index : index + 1] = [block[_BLOCK - 1], block[-1]]
        else:
            self._last[index] = block[-1]

    def remove(self, key: float) -> None:
        """Remove a key that is there."""
        index = bisect_left(self._last, key)
        block = self._blocks[index]
        del block[bisect_left(block, key)]
        if block:
            self._last[index] = block[-1]
        else:
            del self._blocks[index]
            del self._last[index]

    def up_to(self, key: float) -> Iterator[float]:
        """The keys that are not greater."""
        for block in self._blocks:
            if block[-1] <= key:
                yield from block
            else:
                yield from block[: bisect_right(block, key)]
                return

    def down_to(self, key: float) -> Iterator[float]:
        """The keys that are not smaller."""
        for index in range(bisect_left(self._last, key), len(self._blocks)):
            block = self._blocks[index]
            yield from block if block[0] >= key else block[bisect_left(block, key) :]


class _Thresholds:
    """Open ranges on one side."""

    def __init__(self, nest: Nest) -> None:
        self.keys = SortedKeys()
        self.buckets = Buckets(nest)

    def add(self, key: float, entry: Entry) -> None:
        if key not in self.buckets.table:
            self.keys.add(key)
        self.buckets.put(key, entry)

    def discard(self, key: float, entry: Entry) -> None:
        self.buckets.discard(key, entry)
        if key not in self.buckets.table:
            self.keys.remove(key)


class Ranges:
    """The ranges on one column."""

    def __init__(self, nest: Nest) -> None:
        self._nest = nest
        self._grids: dict[int, Buckets] = {}
        self._above = _Thresholds(nest)
        self._below = _Thresholds(nest)

    def __bool__(self) -> bool:
        return bool(self._grids or self._above.buckets.table or self._below.buckets.table)

    def add(self, access: ByRange, entry: Entry) -> None:
        """Add an entry."""
        low, high = access.low, access.high
        if low is not None and high is not None:
            level = _level(low, high)
            if level not in self._grids:
                self._grids[level] = Buckets(self._nest)
            for cell in _cells(level, low, high):
                self._grids[level].put(cell, entry)
        elif low is not None:
            self._above.add(low, entry)
        elif high is not None:
            self._below.add(high, entry)

    def discard(self, access: ByRange, entry: Entry) -> None:
        """Remove an entry."""
        low, high = access.low, access.high
        if low is not None and high is not None:
            level = _level(low, high)
            for cell in _cells(level, low, high):
                self._grids[level].discard(cell, entry)
            if not self._grids[level].table:
                del self._grids[level]
        elif low is not None:
            self._above.discard(low, entry)
        elif high is not None:
            self._below.discard(high, entry)

    def around(self, place: float) -> Iterator[Bucket]:
        """The buckets in which the ranges that may contain the place are."""
        for level, grid in self._grids.items():
            bucket = grid.table.get(_cell(level, place))
            if bucket is not None:
                yield bucket
        above, below = self._above.buckets.table, self._below.buckets.table
        for key in self._above.keys.up_to(place):
            yield above[key]
        for key in self._below.keys.down_to(place):
            yield below[key]


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

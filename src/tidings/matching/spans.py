"""Spans: ranges that are about equally long, in the order of their low ends.

So long as none is longer than ``longest``, those that contain a place begin between ``longest``
before it and the place itself: one stretch, most of which does contain it. The ends are packed
into arrays, because following pointers is what costs most among a million ranges.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from typing import Final

from tidings.matching.node import Entry

_BLOCK: Final = 512


class _Block:
    """Neighbours: the range of ``entries[n]`` goes from ``lows[n]`` to ``highs[n]``."""

    __slots__ = ("entries", "highs", "lows")

    def __init__(self, lows: array[float], highs: array[float], entries: list[Entry]) -> None:
        self.lows = lows
        self.highs = highs
        self.entries = entries

    def cut_off(self) -> _Block:
        """The second half, which this block gives up."""
        half = len(self.entries) // 2
        rest = _Block(self.lows[half:], self.highs[half:], self.entries[half:])
        del self.lows[half:], self.highs[half:], self.entries[half:]
        return rest


class Spans:
    """The entries of ranges, in blocks, so that adding one moves few others."""

    __slots__ = ("_blocks", "_firsts", "_longest")

    def __init__(self, longest: float) -> None:
        self._longest = longest
        self._firsts = array("d")
        self._blocks: list[_Block] = []

    def __bool__(self) -> bool:
        return bool(self._blocks)

    def add(self, low: float, high: float, entry: Entry) -> None:
        """Add an entry."""
        if not self._blocks:
            self._firsts.append(low)
            self._blocks.append(_Block(array("d"), array("d"), []))
        number = max(bisect_right(self._firsts, low) - 1, 0)
        block = self._blocks[number]
        place = bisect_right(block.lows, low)
        block.lows.insert(place, low)
        block.highs.insert(place, high)
        block.entries.insert(place, entry)
        self._firsts[number] = block.lows[0]
        if len(block.entries) > 2 * _BLOCK:
            rest = block.cut_off()
            self._blocks.insert(number + 1, rest)
            self._firsts.insert(number + 1, rest.lows[0])

    def discard(self, low: float, entry: Entry) -> None:
        """Remove an entry."""
        for number in self._numbers(low, low):
            block = self._blocks[number]
            start, end = bisect_left(block.lows, low), bisect_right(block.lows, low)
            if entry in block.entries[start:end]:
                place = block.entries.index(entry, start)
                del block.lows[place], block.highs[place], block.entries[place]
                if block.entries:
                    self._firsts[number] = block.lows[0]
                else:
                    del self._blocks[number], self._firsts[number]
                return

    def around(self, place: float, inside: list[Entry], at_end: list[Entry]) -> None:
        """Add the entries whose ranges contain the place: truly inside, or as one of their ends.

        Places keep the order of values, but not strictly. Inside a range that settles it; at one
        of its ends it is for the values themselves to decide.
        """
        begin = place - self._longest
        for number in self._numbers(begin, place):
            block = self._blocks[number]
            lows, highs, entries = block.lows, block.highs, block.entries
            for n in range(bisect_left(lows, begin), bisect_right(lows, place)):
                high = highs[n]
                if high >= place:
                    (inside if lows[n] < place < high else at_end).append(entries[n])

    def _numbers(self, low: float, high: float) -> range:
        """The blocks in which ranges may begin from one place to the other."""
        firsts = self._firsts
        return range(max(bisect_left(firsts, low) - 1, 0), bisect_right(firsts, high))

"""Counting: figures that a hot path adds to, and others read now and then.

Plain numbers, without locks: they belong to one event loop.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from typing import Final

SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds for how long requests and deliveries take."""
SHORT_SECONDS: Final = (
    0.00001,
    0.000025,
    0.00005,
    0.0001,
    0.00025,
    0.0005,
    0.001,
    0.005,
    0.025,
    0.1,
)
"""Upper bounds for how long matching takes."""


class Histogram:
    """How often values were at most so large, for each of a few bounds; and their sum."""

    __slots__ = ("_bounds", "_counts", "total")

    def __init__(self, bounds: tuple[float, ...] = SECONDS) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    @property
    def count(self) -> int:
        """How many values there were."""
        return sum(self._counts)

    def observe(self, value: float) -> None:
        """Count a value."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self.total += value

    def cumulative(self) -> Iterator[tuple[float, int]]:
        """Each bound with the number of values up to it; infinity is the last."""
        sum_so_far = 0
        for bound, count in zip((*self._bounds, float("inf")), self._counts, strict=True):
            sum_so_far += count
            yield bound, sum_so_far

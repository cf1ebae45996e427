"""Which texts to look for are in a value? By one run of letters of each.

A text is kept under one of its runs of the greatest fitting length (the run that fewest others
are kept under); a value looks up its own runs of the lengths in use.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Final

from tidings.filters import fold
from tidings.matching.access import ByText
from tidings.matching.buckets import Buckets, Nest
from tidings.matching.node import Entry

LENGTHS: Final = (1, 2, 3, 5, 8)
"""Few, so that a value has few runs; growing, so that a run says nearly as much as its text."""


_STEP: Final = 20_000
"""So many runs are looked up in one step."""


class Texts:
    """The texts to look for in one column."""

    def __init__(self, nest: Nest) -> None:
        self.buckets = Buckets(nest)
        self._chosen: dict[Entry, str] = {}
        self._lengths: Counter[int] = Counter()

    def __bool__(self) -> bool:
        return bool(self.buckets.table)

    def add(self, access: ByText, entry: Entry) -> None:
        """Add an entry."""
        run = min(_runs(access.part, _length(access.part)), key=self.buckets.size)
        self._chosen[entry] = run
        self._lengths[len(run)] += 1
        self.buckets.put(run, entry)

    def discard(self, entry: Entry) -> None:
        """Remove an entry."""
        run = self._chosen.pop(entry)
        self._lengths[len(run)] -= 1
        if not self._lengths[len(run)]:
            del self._lengths[len(run)]
        self.buckets.discard(run, entry)

    def collect_runs(self, value: str | None, found: set[str]) -> Iterator[None]:
        """Add the runs of the value's letters under which there are texts, in steps that are short
        each.
        """
        if value is None:
            return
        text, runs = fold(value), self.buckets.table.keys()
        yield
        for length in list(self._lengths):
            end = len(text) - length + 1
            for start in range(0, end, _STEP):
                found |= runs & {
                    text[i : i + length] for i in range(start, min(start + _STEP, end))
                }
                yield


def _length(part: str) -> int:
    return max(length for length in LENGTHS if length <= len(part))


def _runs(text: str, length: int) -> dict[str, None]:
    """The distinct runs of this length, in the order of the text."""
    return dict.fromkeys(text[i : i + length] for i in range(len(text) - length + 1))

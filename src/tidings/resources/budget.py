"""What one answer may read: counted in records, and weighed, as it is read.

A page has few records, but one text may be as long as a million others. So records that may be long
are read in steps, of which each is small; and no answer grows beyond what can be built, encoded and
held for a client that reads slowly.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

from tidings.errors import InvalidRequest
from tidings.feed import weigh_all
from tidings.storage import Row

MAX_BYTES: Final = 8_000_000
"""What the records of one answer may weigh, those brought in included."""
MAX_READ: Final = 5_000
"""How many related records are read for one answer, each as often as paths lead to it."""
MAX_WRITTEN: Final = 1_000
_STEP_BYTES: Final = 2_000_000
_LEAST: Final = 4
_UNKNOWN: Final = 32
"""So many records are read at first, of a resource of which none has been seen yet."""
_LONG: Final = 16_384
_AT_ONCE: Final = 4
"""So many answers with long records are read side by side."""

ReadStep = Callable[[int, int], Awaitable[list[Row]]]
"""Reads so many records, beyond so many that have been read."""


class Weights:
    """How long the records of each resource are, as far as they have been seen."""

    def __init__(self) -> None:
        self._longest: dict[str, int] = {}
        self._turns = asyncio.Semaphore(_AT_ONCE)

    def note(self, resource: str, rows: Iterable[Row]) -> int:
        """Look at records that were read or written; gives what they weigh in all."""
        total, longest = 0, self._longest.get(resource, 1)
        for row in rows:
            size = weigh_all(row.values())
            total += size
            longest = max(longest, size)
        self._longest[resource] = longest
        return total

    def step(self, resource: str) -> int:
        """How many records may be read at once."""
        longest = self._longest.get(resource)
        if longest is None:
            return _UNKNOWN
        return max(_LEAST, _STEP_BYTES // longest) if longest > _LONG else MAX_READ + 1

    def turn(self) -> asyncio.Semaphore:
        """A turn at reading long records."""
        return self._turns


class WriteBudget:
    """How many records the operations of one request may write in all, which hold the locks."""

    def __init__(self, most: int = MAX_WRITTEN) -> None:
        self._left = self._most = most

    def take(self, count: int) -> None:
        """Count records that are written.

        Raises:
            InvalidRequest: ``TOO_MANY_MEMBERS``.
        """
        self._left -= count
        if self._left < 0:
            raise InvalidRequest(
                f"the operations of a request write at most {self._most} records in all",
                code="TOO_MANY_MEMBERS",
            )


class ReadBudget:
    """What is left of one answer's budget."""

    def __init__(self, weights: Weights) -> None:
        self._weights = weights
        self._bytes = MAX_BYTES
        self.related = MAX_READ
        """So many related records may still be read."""

    async def read(
        self, resource: str, most: int, read: ReadStep, *, option: str = "page[size]"
    ) -> list[Row]:
        """Read ``most`` records at most, in steps.

        Raises:
            InvalidRequest: ``ANSWER_TOO_LARGE``, naming the parameter that asks for too much.
        """
        step = self._weights.step(resource)
        if most <= step:
            rows = await read(most, 0)
            self._take(resource, rows, option)
            return rows
        async with self._weights.turn():
            return await self._in_steps(resource, most, read, option)

    async def _in_steps(self, resource: str, most: int, read: ReadStep, option: str) -> list[Row]:
        rows: list[Row] = []
        while len(rows) < most:
            step = min(self._weights.step(resource), most - len(rows))
            some = await read(step, len(rows))
            self._take(resource, some, option)
            rows += some
            if len(some) < step:
                break
        return rows

    def _take(self, resource: str, rows: list[Row], option: str) -> None:
        self._bytes -= self._weights.note(resource, rows)
        if self._bytes < 0:
            raise InvalidRequest(
                f"the records of this answer are longer than {MAX_BYTES:,} bytes in all: ask for "
                "fewer at a time",
                code="ANSWER_TOO_LARGE",
                option=option,
            )

    def take_related(self, count: int) -> None:
        """Count related records.

        Raises:
            InvalidRequest: ``INCLUDE_TOO_LARGE``.
        """
        self.related -= count
        if self.related < 0:
            raise InvalidRequest(
                f"More than {MAX_READ} related records; ask for fewer at a time",
                code="INCLUDE_TOO_LARGE",
                option="include",
            )

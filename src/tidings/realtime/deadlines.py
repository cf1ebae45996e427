"""Deadlines: many moments, one timer."""

from __future__ import annotations

import asyncio
import heapq
import logging
import time
from collections.abc import Callable, Hashable
from itertools import count
from typing import Final, Generic, TypeVar

_log = logging.getLogger("tidings.realtime")
_Key = TypeVar("_Key", bound=Hashable)
_LOOK: Final = 1.0
"""The longest sleep: moments are the wall clock's, which may be set while the timer runs."""
_TURN: Final = 100
"""After so many that are due at once other work gets a turn."""


class Deadlines(Generic[_Key]):
    """Calls ``due(key)`` when the moment of a key has come (seconds since the epoch).

    A key has one moment at a time, which costs less than half of what a timer of the event loop
    for each key would, in time and in memory.
    """

    def __init__(self, due: Callable[[_Key], None]) -> None:
        self._due = due
        self._moments: dict[_Key, float] = {}
        self._heap: list[tuple[float, int, _Key]] = []
        self._numbers = count()
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._moments)

    def set(self, key: _Key, moment: float) -> None:
        """Set a key's moment, in place of another; one that has passed is due at once."""
        self._moments[key] = moment
        heapq.heappush(self._heap, (moment, next(self._numbers), key))
        if len(self._heap) > 2 * len(self._moments) + _TURN:
            # What was discarded or replaced stays in the heap until then.
            self._heap = [entry for entry in self._heap if self._is_set(entry)]
            heapq.heapify(self._heap)
        if self._timer is None or self._heap[0][0] == moment:
            self._arm()

    def discard(self, key: _Key) -> None:
        """Forget a key, if it has a moment."""
        self._moments.pop(key, None)

    def clear(self) -> None:
        """Forget everything."""
        self._moments.clear()
        self._heap.clear()
        self._arm()

    def _is_set(self, entry: tuple[float, int, _Key]) -> bool:
        return self._moments.get(entry[2]) == entry[0]

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._moments:
            delay = min(max(self._heap[0][0] - time.time(), 0.0), _LOOK)
            self._timer = asyncio.get_running_loop().call_later(delay, self._run)

    def _run(self) -> None:
        now = time.time()
        for _ in range(_TURN):
            if not self._heap or self._heap[0][0] > now:
                break
            entry = heapq.heappop(self._heap)
            if self._is_set(entry):
                del self._moments[entry[2]]
                try:
                    self._due(entry[2])
                except Exception:  # noqa: BLE001  one that fails must not cost the others theirs
                    _log.exception("a deadline could not be kept")
        self._arm()

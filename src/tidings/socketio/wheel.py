"""The wheel: the deadlines of all connections, and one timer for them."""

from __future__ import annotations

import asyncio
import heapq
import logging
import time
from typing import Final, Protocol

_log = logging.getLogger("tidings.socketio")
_AT_ONCE: Final = 100
"""After so many that are due at once other work gets a turn."""


class Timed(Protocol):
    """Something that has deadlines. ``tick`` is the wheel's: None while it is not in it."""

    tick: int | None

    def due(self, now: float) -> float | None:
        """Do what is due; gives the next deadline (of `time.monotonic`), or None."""
        ...


class Wheel:
    """Calls `Timed.due` when the time has come, at most ``grain`` seconds too late.

    A deadline that moves further away costs nothing until the old one comes.
    """

    def __init__(self, grain: float) -> None:
        self._grain = grain
        self._slots: dict[int, set[Timed]] = {}
        self._ticks: list[int] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._fires_at = 0

    def __len__(self) -> int:
        return sum(map(len, self._slots.values()))

    def set(self, one: Timed, moment: float) -> None:
        """Have something looked at when this moment (of `time.monotonic`) has come."""
        loop = asyncio.get_running_loop()
        if loop is not self._loop:  # timers of another will not fire any more
            self.clear()
            self._loop = loop
        tick = int(moment / self._grain) + 1
        if one.tick is not None:
            if one.tick <= tick:
                return  # it is looked at before, and tells then when to look again
            self.discard(one)
        one.tick = tick
        slot = self._slots.get(tick)
        if slot is not None:
            slot.add(one)
            return
        self._slots[tick] = {one}
        heapq.heappush(self._ticks, tick)
        if self._timer is None or tick < self._fires_at:
            self._arm()

    def discard(self, one: Timed) -> None:
        """Look at something no more."""
        if one.tick is not None:
            self._slots[one.tick].discard(one)
            one.tick = None

    def clear(self) -> None:
        """Forget everything."""
        for slot in self._slots.values():
            for one in slot:
                one.tick = None
        self._slots.clear()
        self._ticks.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._ticks and self._loop is not None:
            self._fires_at = self._ticks[0]
            delay = max(0.0, self._fires_at * self._grain - time.monotonic())
            self._timer = self._loop.call_later(delay, self._turn)

    def _turn(self) -> None:
        self._timer = None
        now, left = time.monotonic(), _AT_ONCE
        while self._ticks and self._ticks[0] * self._grain <= now and left > 0:
            tick = self._ticks[0]
            slot = self._slots[tick]
            while slot and left > 0:
                left -= 1
                one = slot.pop()
                one.tick = None
                self._look(one, now)
            if not slot and self._ticks[0] == tick:
                del self._slots[heapq.heappop(self._ticks)]
        self._arm()

    def _look(self, one: Timed, now: float) -> None:
        try:
            following = one.due(now)
        except Exception:  # noqa: BLE001  one that fails must not cost the others theirs
            _log.exception("a deadline could not be kept")
        else:
            if following is not None:
                self.set(one, following)

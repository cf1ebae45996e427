"""CommitOrder: hands on what commits bring in the order in which they were asked for.

Of two transactions that changed the same row the second could not ask for its commit before the
first had committed, whichever of the two this process hears of first. So places are taken just
before the COMMIT is sent, and what is in them goes on in the order of the places.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from typing import Final, Generic, TypeVar

_log = logging.getLogger("tidings.storage")
_T = TypeVar("_T")
PATIENCE: Final = 1.0
"""So long (seconds) others wait for a commit that does not end."""


class Place(Generic[_T]):
    """A place that was taken, to be filled once."""

    __slots__ = ("_order", "is_filled", "is_passed", "outcome", "since")

    def __init__(self, order: CommitOrder[_T]) -> None:
        self._order = order
        self.since = time.monotonic()
        self.is_filled = False
        self.is_passed = False
        self.outcome: _T | None = None

    def fill(self, outcome: _T | None) -> None:
        """Say what the commit has brought; None for nothing."""
        self.is_filled, self.outcome = True, outcome
        if self.is_passed:
            self._order.release(self)
        else:
            self._order.advance()


class CommitOrder(Generic[_T]):
    """``hand_on`` gets what the places are filled with. One commit that hangs (its connection is
    dead, say) holds the others up for ``patience`` seconds, and then goes on by itself.
    """

    def __init__(self, hand_on: Callable[[_T], None], patience: float = PATIENCE) -> None:
        self._hand_on = hand_on
        self._patience = patience
        self._places: deque[Place[_T]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def enter(self) -> Place[_T]:
        """Take the next place."""
        place = Place(self)
        self._places.append(place)
        return place

    def advance(self) -> None:
        """Hand on what no earlier place holds up."""
        places = self._places
        while places and (places[0].is_filled or self._is_overdue(places[0])):
            self.release(places.popleft())
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if any(place.is_filled for place in places):
            delay = places[0].since + self._patience - time.monotonic()
            self._timer = asyncio.get_running_loop().call_later(max(delay, 0.0), self.advance)

    def _is_overdue(self, place: Place[_T]) -> bool:
        return time.monotonic() - place.since >= self._patience

    def release(self, place: Place[_T]) -> None:
        """Hand on what is in a place, or pass it over."""
        if not place.is_filled:
            place.is_passed = True
            _log.warning("a commit does not end; later ones are told of before it")
        elif place.outcome is not None:
            self._hand_on(place.outcome)

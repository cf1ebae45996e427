"""Freezer: keeps the stops of Python's garbage collector short, however much is subscribed.

A full collection looks at every object there is, while nothing else runs: for as much as a second
with a million subscriptions. They do not need it: nothing of a subscription is part of a reference
cycle once it has ended, so that it is freed without the collector, which therefore may forget it.
"""

from __future__ import annotations

import gc
from typing import Final

EVERY: Final = 10_000
"""So many subscriptions are collected in some 10 to 20 ms."""


class Freezer:
    """Freezes what lives, each time when so many subscriptions have come.

    Freezing takes in whatever lives at that moment, the application's own objects and those of
    the sockets' libraries, too, and some of those do end in cycles. They must be found again: so
    the collector gets everything back when few subscriptions are left, and where they come and go,
    each time when as many have gone as there had been (which is one long stop). With few
    subscriptions, or where the application has turned the collector off, nothing is done at all.
    """

    def __init__(self, every: int = EVERY) -> None:
        self._every = every
        self._living = 0
        self._most = 0
        self._come = 0
        self._gone = 0
        self._has_frozen = False

    def added(self) -> None:
        """A subscription has come."""
        self._living += 1
        self._most = max(self._most, self._living)
        self._come += 1
        if self._come >= self._every:
            self._freeze()

    def removed(self) -> None:
        """A subscription has gone."""
        self._living -= 1
        self._gone += 1
        if self._has_frozen and (self._living < self._every or self._gone >= self._most):
            gc.unfreeze()
            self._has_frozen = False
            self._most = self._living
            if self._living >= self._every:
                self._freeze()

    def _freeze(self) -> None:
        self._come = 0
        if not gc.isenabled():
            return
        gc.collect()
        gc.freeze()
        if not self._has_frozen:
            self._has_frozen = True
            self._gone = 0

"""Backoff: how long to wait for a server that is away, before it is asked again."""

from __future__ import annotations

import asyncio
import random
from typing import Final

FIRST: Final = 0.05
LONGEST: Final = 2.0


class Backoff:
    """Pauses that double from one failure to the next, up to some seconds.

    Each is shortened by chance, so that not all processes ask a server that comes back at the same
    moment.
    """

    def __init__(self) -> None:
        self._next = FIRST

    def reset(self) -> None:
        """It went well: the next failure is the first one again."""
        self._next = FIRST

    async def pause(self) -> None:
        """Wait after a failure."""
        await asyncio.sleep(self._next * random.uniform(0.5, 1.0))  # noqa: S311  no secret
        self._next = min(2 * self._next, LONGEST)

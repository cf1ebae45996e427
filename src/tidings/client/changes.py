"""Change: what a subscription was told; and those that wait to be looked at."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import Final, Literal

from tidings.client.errors import ClientError

Kind = Literal["enter", "update", "leave", "resync"]
MOST_WAITING: Final = 10_000
"""So many changes wait for whoever watches; beyond that they are one resync."""


@dataclass(frozen=True, slots=True)
class Change:
    """What a subscription was told: the record ``id`` has entered what it watches, was updated or
    has left it.

    ``resync`` says that something was missed, so that all of it is to be fetched again; ``id`` is
    empty then, and ``reason`` says why: ``subscribed`` at first, or one of the server's (``epoch``,
    ``window``, ``overflow``, ``bulk``, ``permission``). ``cursor`` is the change's place in the
    order of changes.
    """

    kind: Kind
    id: str
    resource: str
    cursor: str
    reason: str = ""


class Changes:
    """The changes of one subscription that nobody has taken yet, in order."""

    def __init__(self, most: int = MOST_WAITING) -> None:
        self._most = most
        self._waiting: deque[Change] = deque()
        self._error: ClientError | None = None
        self._arrived = asyncio.Event()

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, change: Change) -> None:
        """Add a change. A resync stands for all that waits; too many become one."""
        if len(self._waiting) >= self._most and change.kind != "resync":
            change = Change("resync", "", change.resource, change.cursor, "overflow")
        if change.kind == "resync":
            self._waiting.clear()
        self._waiting.append(change)
        self._arrived.set()

    def fail(self, error: ClientError) -> None:
        """Have whoever watches get this error, after what still waits."""
        self._error = error
        self._arrived.set()

    async def get(self) -> Change:
        """The next change.

        Raises:
            ClientError: the server has ended the subscription.
        """
        while not self._waiting:
            if self._error is not None:
                raise self._error
            self._arrived.clear()
            await self._arrived.wait()
        return self._waiting.popleft()

    async def take(self) -> list[Change]:
        """All that waits, as soon as there is something.

        Raises:
            ClientError: the server has ended the subscription.
        """
        found = [await self.get(), *self._waiting]
        self._waiting.clear()
        return found


def is_covered(cursor: str, by: str | None) -> bool:
    """Whether what was read at the place ``by`` has a change of the place ``cursor`` in it.

    Places of different epochs cannot be compared, and then the answer is no.
    """
    if by is None:
        return False
    epoch, _, offset = cursor.rpartition(".")
    its_epoch, _, its_offset = by.rpartition(".")
    if not epoch or epoch != its_epoch or not (offset.isdigit() and its_offset.isdigit()):
        return False
    return int(offset) <= int(its_offset)

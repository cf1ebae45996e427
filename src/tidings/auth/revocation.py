"""Revocation: tokens that are no longer accepted although they have not expired."""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, runtime_checkable

from tidings.errors import ConfigurationError
from tidings.identity import Identity

FOREVER: Final = 253_402_300_799.0
"""The last second of the year 9999, for what must not be forgotten."""
_SWEEP: Final = 10
"""So many entries that have run out go with each new one, so that no call does much."""


@dataclass(frozen=True, slots=True)
class Revocation:
    """One token that is revoked, or all tokens of a user issued before a moment.

    Times are in seconds since the epoch. After ``keep_until`` the entry is of no use, since what
    it is about has expired.
    """

    keep_until: float
    token_id: str | None = None
    user_id: str | None = None
    issued_before: float = 0.0

    def __post_init__(self) -> None:
        if (self.token_id is None) == (self.user_id is None):
            raise ConfigurationError("a Revocation names a token_id or a user_id")


Notify = Callable[[Sequence[Revocation]], None]
"""Told of new revocations, whichever process they come from; never waits."""


@runtime_checkable
class RevocationStore(Protocol):
    """Remembers what has been revoked."""

    async def open(self, notify: Notify) -> None:
        """Begin: have everything in memory, and call ``notify`` with whatever comes later."""
        ...

    async def close(self) -> None:
        """Undo `open`."""
        ...

    def is_revoked(self, identity: Identity) -> bool:
        """Whether the identity's token is revoked; asked for every request, so from memory."""
        ...

    async def revoke(self, revocation: Revocation) -> None:
        """Revoke: at once in this process, and for the others and the next start."""
        ...


class MemoryRevocations:
    """A `RevocationStore` of one process: a restart forgets it."""

    def __init__(self) -> None:
        self._tokens: dict[str, float] = {}
        self._users: dict[str, tuple[float, float]] = {}
        self._ends: list[tuple[float, int, Revocation]] = []
        self._notify: Notify | None = None

    def __len__(self) -> int:
        return len(self._tokens) + len(self._users)

    async def open(self, notify: Notify) -> None:
        """Begin to tell of revocations."""
        self._notify = notify

    async def close(self) -> None:
        """Tell of them no more."""
        self._notify = None

    def is_revoked(self, identity: Identity) -> bool:
        """Whether the identity's token is revoked."""
        if identity.token_id in self._tokens:
            return True
        entry = self._users.get(identity.user_id or "")
        # A token that does not say when it was issued may be as old as any.
        return entry is not None and (identity.issued_at is None or identity.issued_at < entry[0])

    async def revoke(self, revocation: Revocation) -> None:
        """Revoke, at once."""
        self.add([revocation])

    def add(self, revocations: Sequence[Revocation]) -> None:
        """Take revocations in and tell of those that are new."""
        now = time.time()
        new = [entry for entry in revocations if entry.keep_until > now and self._put(entry)]
        self._sweep(now, len(new) + _SWEEP)
        if new and self._notify is not None:
            self._notify(new)

    def _put(self, entry: Revocation) -> bool:
        if entry.token_id is not None:
            if self._tokens.get(entry.token_id, 0.0) >= entry.keep_until:
                return False
            self._tokens[entry.token_id] = entry.keep_until
        else:
            assert entry.user_id is not None
            before, until = self._users.get(entry.user_id, (0.0, 0.0))
            if before >= entry.issued_before and until >= entry.keep_until:
                return False
            self._users[entry.user_id] = (
                max(before, entry.issued_before),
                max(until, entry.keep_until),
            )
        heapq.heappush(self._ends, (entry.keep_until, id(entry), entry))
        return True

    def _sweep(self, now: float, limit: int) -> None:
        """Forget entries that have run out, at most so many."""
        while self._ends and limit and self._ends[0][0] <= now:
            limit -= 1
            entry = heapq.heappop(self._ends)[-1]
            if entry.token_id is not None:
                if self._tokens.get(entry.token_id, FOREVER) <= now:
                    del self._tokens[entry.token_id]
            elif self._users.get(entry.user_id or "", (0.0, FOREVER))[1] <= now:
                del self._users[entry.user_id or ""]

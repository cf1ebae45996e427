"""Revocations that are kept in the api's database, and shared by all of its processes."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from typing import Final

from sqlalchemy import Table

from tidings.auth import MemoryRevocations, Notify, Revocation
from tidings.errors import ConfigurationError, TidingsError
from tidings.identity import Identity
from tidings.storage import Database, RevocationTable, Row
from tidings.storage.waiting import uninterrupted

_log = logging.getLogger("tidings.auth")
_PAGE: Final = 1000
_OVERLAP: Final = 1000
_SETTLED: Final = 10.0
"""After so many seconds a row hardly comes whose id is lower than one that has been read."""
_LATE: Final = 3600.0
"""After so many none does: no transaction lasts that long."""
_SWEEP_SECONDS: Final = 60.0


class _Horizon:
    """The highest id that had been read so many seconds ago.

    Transactions may commit in another order than that of their ids; so each reading looks again
    at what is beyond it.
    """

    def __init__(self, seconds: float, start: int) -> None:
        self.id = start
        self._seconds = seconds
        self._marks: deque[tuple[float, int]] = deque()

    def __len__(self) -> int:
        return len(self._marks)

    def note(self, last: int) -> None:
        """Say that everything up to an id has been read that could be."""
        now = time.monotonic()
        self._marks.append((now, last))
        while self._marks[0][0] < now - self._seconds:
            self.id = self._marks.popleft()[1]


class SqlRevocations:
    """A `RevocationStore` in the table ``tidings_revocations``.

    All that count are in memory as well, so that asking costs no SQL. What other processes add is
    read every ``poll`` seconds.
    """

    def __init__(self, database: Database, *, poll: float = 0.5) -> None:
        self._database = database
        self._rows = RevocationTable(database)
        self._memory = MemoryRevocations()
        self._poll = poll
        self._task: asyncio.Task[None] | None = None
        self._seen = 0
        self._settled = _Horizon(_SETTLED, 0)
        self._late = _Horizon(_LATE, 0)
        self._is_failing = False

    def __len__(self) -> int:
        return len(self._memory)

    @property
    def table(self) -> Table:
        """The table, for ``create_tables``."""
        return self._rows.table

    async def open(self, notify: Notify) -> None:
        """Load what has been revoked and begin to follow it."""
        try:
            await self._refresh(0)
        except TidingsError:
            raise
        except Exception as error:
            raise ConfigurationError(
                f"the table {self.table.name!r} cannot be read: create it with "
                "api.create_tables() or SqlAlchemyPlugin(..., create_tables=True)"
            ) from error
        start = max(0, self._seen - _OVERLAP)
        self._settled, self._late = _Horizon(_SETTLED, start), _Horizon(_LATE, start)
        await self._memory.open(notify)
        self._task = asyncio.create_task(self._run(), name="tidings-revocations")

    async def close(self) -> None:
        """Follow it no longer."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        await self._memory.close()

    def is_revoked(self, identity: Identity) -> bool:
        """Whether the identity's token is revoked."""
        return self._memory.is_revoked(identity)

    async def revoke(self, revocation: Revocation) -> None:
        """Revoke: at once in this process, and with a row for the others and the next start."""
        # First here: should the database fail, the caller learns it and the token is out anyway.
        await self._memory.revoke(revocation)
        await uninterrupted(self._rows.add(_row(revocation)))

    async def _run(self) -> None:
        swept = time.monotonic()
        # A database in memory has no other processes.
        pause = _SWEEP_SECONDS if self._database.in_memory else self._poll
        while True:
            await asyncio.sleep(pause)
            try:
                is_long_ago = time.monotonic() - swept >= _SWEEP_SECONDS
                if not self._database.in_memory:
                    await self._refresh(self._late.id if is_long_ago else self._settled.id)
                    self._settled.note(self._seen)
                if is_long_ago:
                    swept = time.monotonic()
                    self._late.note(self._seen)
                    await self._rows.sweep(time.time(), _PAGE)
                self._is_failing = False
            except Exception as error:  # noqa: BLE001  it is tried again; what is known still holds
                if not self._is_failing:
                    _log.warning("the revocations of other processes cannot be read: %s", error)
                self._is_failing = True

    async def _refresh(self, beyond: int) -> None:
        while True:
            rows = await self._rows.newer(beyond, time.time(), _PAGE)
            self._memory.add([_revocation(row) for row in rows])
            if rows:
                beyond = rows[-1]["id"]
            if len(rows) < _PAGE:
                break
        self._seen = max(self._seen, beyond)


def _row(revocation: Revocation) -> Row:
    return {
        "token_id": revocation.token_id,
        "user_id": revocation.user_id,
        "issued_before": revocation.issued_before,
        "keep_until": revocation.keep_until,
    }


def _revocation(row: Row) -> Revocation:
    return Revocation(row["keep_until"], row["token_id"], row["user_id"], row["issued_before"])

"""Relay: brings what has been committed to a feed, however long that feed is away."""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final, Protocol

from sqlalchemy import Dialect

from tidings.errors import DatabaseBusy
from tidings.feed import Batch, FeedUnavailable, Invalidation, Notice, Recheck, encode_notice
from tidings.feed.backoff import LONGEST, Backoff
from tidings.storage.database import Connection
from tidings.storage.order import CommitOrder, Place
from tidings.storage.outbox import Keeps, new_key, outbox_rows
from tidings.storage.publishing import SILENCE, Publication, invalidations
from tidings.storage.statements import Row

_log = logging.getLogger("tidings.feed")
_ROWS: Final = 100
MAX_WAITING: Final = 16_000_000
"""So many bytes of changes wait in memory for a feed that is away, where there is no outbox."""
_LAST_SECONDS: Final = 5.0


class Appends(Protocol):
    """The writing side of a feed."""

    async def append(self, batches: Sequence[Batch]) -> None:
        """Append batches in order; one that is there already is dropped."""
        ...


@dataclass(frozen=True, slots=True)
class _Waiting:
    batch: Batch
    resources: frozenset[str | None]
    size: int


class Relay:
    """A `Publisher` for a feed that may be away.

    With an outbox nothing is lost: what is committed waits in it. Without one it waits in memory,
    and goes with the process; where it comes to more than ``max_waiting`` bytes, subscriptions on
    the resources concerned are told to refetch instead.
    """

    def __init__(
        self, feed: Appends, outbox: Keeps | None = None, *, max_waiting: int = MAX_WAITING
    ) -> None:
        self.outbox = outbox
        self.overflows = 0
        """How often too much was waiting."""
        self._feed = feed
        self._max_waiting = max_waiting
        self._order: CommitOrder[list[_Waiting]] = CommitOrder(self._take)
        self._waiting: deque[_Waiting] = deque()
        self._waiting_bytes = 0
        self._wake = asyncio.Event()
        self._publishing = asyncio.Lock()
        self._has_rows = True  # what an earlier process may have left
        self._is_failing = False
        self._task: asyncio.Task[None] | None = None

    @property
    def opening(self) -> str | None:
        """What the outbox asks for."""
        return None if self.outbox is None else self.outbox.opening

    @property
    def waiting(self) -> int:
        """How many bytes of changes wait in memory."""
        return self._waiting_bytes

    def begin(self, changes: Sequence[Notice]) -> Publication:
        """The publication of a transaction that comes to these changes."""
        return _Relayed(self, changes, self._order.enter()) if changes else SILENCE

    def start(self) -> None:
        """Begin to publish."""
        self._wake = asyncio.Event()
        self._publishing = asyncio.Lock()
        self._task = asyncio.create_task(self._run(), name="tidings-relay")

    async def close(self) -> None:
        """Publish what can be published at once, and stop."""
        if self._task is None:
            return
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._task = None
        try:
            async with asyncio.timeout(_LAST_SECONDS):
                await self._publish()
        except (FeedUnavailable, DatabaseBusy, TimeoutError) as error:
            where = "stays in the outbox" if not self._waiting else "is lost"
            _log.warning("what has not been published %s: %s", where, error)

    async def settle(self) -> None:
        """Publish what has been committed until now.

        Raises:
            FeedUnavailable: the feed is away.
            DatabaseBusy: the outbox is.
        """
        self._has_rows = True
        await self._publish()

    def found_in_outbox(self) -> None:
        """There are new rows in the outbox, or there may be."""
        self._has_rows = True
        self._wake.set()

    def _take(self, some: list[_Waiting]) -> None:
        self._waiting.extend(some)
        self._waiting_bytes += sum(one.size for one in some)
        if self._waiting_bytes > self._max_waiting:
            self._overflow()
        self._wake.set()

    def _overflow(self) -> None:
        resources = frozenset[str | None]().union(*(one.resources for one in self._waiting))
        self.overflows += 1
        _log.error(
            "the feed is away for too long: changes of %s are dropped, and will be told as resync",
            ", ".join(sorted(map(str, resources))),
        )
        self._waiting.clear()
        # Word of rights that have changed may be among it, and must not be lost.
        stale: list[Notice] = [Invalidation(name) for name in resources]
        one = waiting_for([Recheck(None, None), *stale])
        self._waiting.append(one)
        self._waiting_bytes = one.size

    async def _run(self) -> None:
        backoff = Backoff()
        while True:
            try:
                await self._publish()
                self._mark(None)
                backoff.reset()
                await self._woken()
            except (FeedUnavailable, DatabaseBusy) as error:
                self._mark(error)
                await backoff.pause()
            except Exception:  # noqa: BLE001  what waits must not wait for ever; the log has it
                _log.exception("changes could not be published; it is tried again")
                await asyncio.sleep(LONGEST)

    def _mark(self, error: Exception | None) -> None:
        if error is not None and not self._is_failing:
            _log.warning("changes cannot be published at the moment, and wait: %s", error)
        elif error is None and self._is_failing:
            _log.info("changes are published again")
        self._is_failing = error is not None

    async def _woken(self) -> None:
        """Wait until there is something to do; now and then, look for what others have left."""
        if self.outbox is None:
            await self._wake.wait()
        else:
            try:
                seconds = self.outbox.sweep_seconds * random.uniform(0.5, 1.0)  # noqa: S311
                async with asyncio.timeout(seconds):
                    await self._wake.wait()
            except TimeoutError:
                self._has_rows = True
        self._wake.clear()

    async def _publish(self) -> None:
        async with self._publishing:
            await self._publish_all()

    async def _publish_all(self) -> None:
        while self._waiting:
            some = list(islice(self._waiting, _ROWS))
            await self._feed.append([one.batch for one in some])
            for one in some:
                # Unless it was dropped meanwhile, for want of room.
                if self._waiting and self._waiting[0] is one:
                    self._waiting.popleft()
                    self._waiting_bytes -= one.size
        while self.outbox is not None and self._has_rows:
            self._has_rows = False
            await self._publish_rows(self.outbox)

    async def _publish_rows(self, outbox: Keeps) -> None:
        async with outbox.turn() as is_ours:
            pending = await outbox.pending() if is_ours else None
            if pending is None:
                return
            try:
                if pending.batches:
                    await self._feed.append(pending.batches)
                await outbox.remove(pending)
            except BaseException:
                self._has_rows = True
                raise
            if not pending.is_all:
                self._has_rows = True


class _Relayed:
    """What one transaction has to tell: in the outbox, or in memory where there is none."""

    cursor: Final = None  # the log gives it a place later

    def __init__(
        self, relay: Relay, changes: Sequence[Notice], place: Place[list[_Waiting]]
    ) -> None:
        self._relay = relay
        self._changes = changes
        self._place = place
        self._rows: list[Row] = [] if relay.outbox is None else outbox_rows(changes)

    async def keep(self, connection: Connection) -> None:
        if self._relay.outbox is not None:
            await self._relay.outbox.add(connection, self._rows)

    def statements(self, dialect: Dialect) -> Sequence[tuple[str, Any]]:
        outbox = self._relay.outbox
        return () if outbox is None else outbox.statements(dialect, self._rows)

    def committed(self, *, kept: bool = True) -> None:
        if kept and self._relay.outbox is not None:
            self._place.fill(None)
            self._relay.found_in_outbox()
        else:
            self._place.fill([waiting_for(self._changes)])

    def failed(self, *, doubtful: bool = False) -> None:
        if doubtful and self._relay.outbox is None:
            self._place.fill([waiting_for(invalidations(self._changes))])
        else:
            self._place.fill(None)
            self._relay.found_in_outbox()


def waiting_for(changes: Sequence[Notice]) -> _Waiting:
    """Changes as they wait in memory."""
    entries = [encode_notice(change) for change in changes]
    resources = frozenset(change.resource for change in changes)
    return _Waiting(Batch(new_key(), entries), resources, sum(map(len, entries)))

"""A field: a cluster, writers, followers and a ledger, put together and held to account."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field

import aiohttp

from tests.chaos.app import Setup
from tests.chaos.cluster import Cluster, cluster
from tests.chaos.follower import Follower, fetched
from tests.chaos.ledger import Ledger, Op, Tally, Told, Values, matches
from tests.chaos.writers import GROUPS, STATUSES, Writer

FILTERS: Sequence[Values] = (
    {},
    {"status": "open"},
    {"status": "done"},
    {"grp": "a"},
    {"rank": 49},
    {"status": "late", "grp": "b"},
    {"rank": 20, "grp": "c"},
)
_ROUNDS = 40
REQUEST_SECONDS = 60.0


@dataclass
class Field:
    """What a scenario works with."""

    cluster: Cluster
    http: aiohttp.ClientSession
    seed: str
    ledger: Ledger = field(default_factory=Ledger)
    followers: list[Follower] = field(default_factory=list)
    writers: list[Writer] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic)

    def follow(
        self,
        count: int,
        urls: Callable[[int], Sequence[str]] | None = None,
        notice: Callable[[Told], None] = lambda told: None,
    ) -> None:
        """Make so many followers, each with one of the filters."""
        for number in range(len(self.followers), len(self.followers) + count):
            where = self.cluster.urls if urls is None else urls(number)
            filters = FILTERS[number % len(FILTERS)]
            seed = f"{self.seed}/follower/{number}"
            self.followers.append(
                Follower(self.http, where, filters, seed, rest=self.cluster.urls, notice=notice)
            )

    def write(self, count: int, *, pause: float = 0.0, records: int = 12) -> None:
        """Make so many writers."""
        for number in range(count):
            name, seed = f"w{number}", f"{self.seed}/writer/{number}"
            urls = self.cluster.urls
            self.writers.append(
                Writer(self.http, urls, self.ledger, name, seed, records=records, pause=pause)
            )

    @contextlib.asynccontextmanager
    async def writing(self) -> AsyncIterator[None]:
        """Have the writers write, until the end of the block."""
        goes_on = True
        tasks = [asyncio.create_task(one.run(lambda: goes_on)) for one in self.writers]
        try:
            yield
            for task in tasks:
                if task.done():
                    task.result()
        finally:
            goes_on = False
            await asyncio.gather(*tasks)

    async def account(self) -> Tally:
        """Wait until everything has been told, and hold the journals against the ledger.

        Call it while the followers follow, and when nobody writes any more.
        """
        missing = await self._settled()
        everything, _ = await fetched(self.http, self.cluster.urls[0], {})
        unknown = sum(op.fate == "unknown" for ops in self.ledger.ops.values() for op in ops)
        self.ledger.settle_unknown(everything.versions)
        truth = {}
        for filters in FILTERS:
            found, _ = await fetched(self.http, self.cluster.urls[0], filters)
            truth[str(filters)] = set(found.versions)
        journals = [one.journal for one in self.followers]
        tally = self.ledger.check(journals, [truth[str(one.filters)] for one in journals])
        tally.unknown = unknown
        tally.faults += missing
        tally.faults += [error for writer in self.writers for error in writer.errors]
        tally.faults += self.cluster.died
        return tally

    async def _settled(self) -> list[str]:
        """Marks that concern everybody, until each has been told of one (and not by a resync):
        what comes before it in the feed has then come as well. Gives those of which nobody is told.
        """
        for number in range(_ROUNDS):
            marks = [await self._mark(number, place) for place in range(len(FILTERS))]
            # The last one of those that concern it.
            mine = {
                str(filters): [op.record for op in marks if matches(filters, op.after)][-1]
                for filters in FILTERS
            }
            waiting = (
                one.until(lambda journal, mark=mine[str(one.journal.filters)]: mark in journal.view)
                for one in self.followers
            )
            missing = [one for one in await asyncio.gather(*waiting, return_exceptions=True) if one]
            if missing:
                return [str(one) for one in missing]
            if all(self._is_told(one, mine[str(one.journal.filters)]) for one in self.followers):
                return []
        return [f"in {_ROUNDS} rounds there was always somebody who had to refetch"]

    def _is_told(self, follower: Follower, mark: str) -> bool:
        return any(told.record == mark for told in reversed(follower.journal.told))

    async def _mark(self, number: int, place: int) -> Op:
        values = {"status": STATUSES[0], "grp": GROUPS[0], "rank": 0, "version": 0}
        values |= {"status": "mark", "grp": "mark", **FILTERS[place]}
        values |= {"rank": FILTERS[place].get("rank", -1) + 1}
        values["version"] = next(self.ledger.versions)
        op = Op(f"mark-{number}-{place}", None, values, time.time())
        document = {"data": {"type": "notes", "id": op.record, "attributes": values}}
        with self.ledger.attempts([op]) as settle:
            async with self.http.post(
                f"{self.cluster.urls[0]}/api/notes",
                json=document,
                headers={"content-type": "application/vnd.api+json"},
            ) as answer:
                assert answer.status == 201, await answer.text()
            settle("committed")
        return op


@contextlib.asynccontextmanager
async def field_of(
    setup: Setup, seed: str, *, slots: int = 2, mutant: str | None = None, start: bool = True
) -> AsyncIterator[Field]:
    """A field over a cluster of its own."""
    timeout = aiohttp.ClientTimeout(total=REQUEST_SECONDS)
    connector = aiohttp.TCPConnector(limit=0, force_close=False)
    async with (
        cluster(setup, slots, mutant=mutant, start=start) as made,
        aiohttp.ClientSession(timeout=timeout, connector=connector) as http,
    ):
        yield Field(made, http, seed)

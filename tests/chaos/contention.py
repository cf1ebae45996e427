"""Many writers at once, on the same rows: the order of commits is the order of what is told."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from tests.chaos.app import Setup, make_api
from tests.chaos.field import Field, field_of
from tests.chaos.follower import following
from tests.chaos.ledger import Op, Tally, Told, Values
from tests.chaos.writers import GROUPS, STATUSES, step_of
from tidings.feed import Change, Cursor, SharedFeed, decode_notice

SHARED = 40
_NEVER = -1


@dataclass
class Reader:
    """Reads each record as soon as it is told of it."""

    place: Field
    seen: list[tuple[Told, int]] = field(default_factory=list)
    """What was told, and the version that was there (-1: none)."""
    reading: set[asyncio.Task[None]] = field(default_factory=set)

    def notice(self, told: Told) -> None:
        task = asyncio.create_task(self._read(told))
        self.reading.add(task)
        task.add_done_callback(self.reading.discard)

    async def _read(self, told: Told) -> None:
        answer, document = await self._answer(told.record)
        while answer.status == 503:  # writers have all connections, and wait for each other
            answer, document = await self._answer(told.record)
        if answer.status == 404:
            self.seen.append((told, _NEVER))
        else:
            assert answer.status == 200, document
            self.seen.append((told, document["data"]["attributes"]["version"]))

    async def _answer(self, record: str) -> tuple[aiohttp.ClientResponse, Any]:
        url = random.choice(self.place.cluster.urls)
        async with self.place.http.get(f"{url}/api/notes/{record}") as answer:
            return answer, await answer.json(content_type=None)


async def contend(
    setup: Setup,
    seed: str,
    *,
    writers: int = 64,
    transactions: int,
    followers: int = 7,
    slots: int = 2,
    mutant: str | None = None,
) -> Tally:
    """Transactions with delays, savepoints and rollbacks, at so many processes."""
    async with field_of(setup, seed, slots=slots, mutant=mutant) as place:
        shared = await _shared(place)
        reader = Reader(place)
        # One follower reads whatever it is told of: all of them would be a load of its own.
        place.follow(1, notice=reader.notice)
        place.follow(followers - 1, lambda number: [place.cluster.urls[number % slots]])
        async with following(place.followers):
            rounds = (
                _transactions(place, shared, f"c{number}", transactions)
                for number in range(writers)
            )
            await asyncio.gather(*rounds)
            tally = await place.account()
            await asyncio.gather(*reader.reading)
        entries = await entries_of(setup)
        tally.faults += _check_feed(place, entries)
        tally.faults += _check_reads(reader, entries)
        tally.faults += _check_whole(place, entries)
    return tally


async def _shared(place: Field) -> dict[str, Values]:
    """Rows that everybody changes; only their version does."""
    rows: dict[str, Values] = {}
    for number in range(SHARED):
        values = {"status": STATUSES[number % 3], "grp": GROUPS[number % 4], "rank": 2 * number}
        op = Op(f"shared-{number}", None, {**values, "version": next(place.ledger.versions)}, 0.0)
        await _attempt(place, [op], [step_of(op)])
        rows[op.record] = values
    return rows


async def _transactions(place: Field, shared: dict[str, Values], name: str, count: int) -> None:
    chance = random.Random(f"{place.seed}/{name}")
    for number in range(count):
        ops: list[Op] = []
        steps: list[dict[str, Any]] = []
        # In one order, so that they wait for each other and not in a circle.
        for record in sorted(chance.sample(sorted(shared), chance.randint(1, 2))):
            if chance.random() < 0.3:
                lost = _shared_op(place, record, shared[record])
                lost.fate = "undone"
                steps.append({"do": "savepoint", "steps": [step_of(lost)], "undo": True})
                ops.append(lost)
            op = _shared_op(place, record, shared[record])
            ops.append(op)
            steps += [_delay(chance), {"do": "patch", "id": record, "values": _version(op)}]
        own = Op(f"{name}-{number}", None, _fresh(place, chance), time.time())
        ops.append(own)
        steps.insert(chance.randint(0, len(steps)), step_of(own))
        steps.append(_delay(chance))
        await _attempt(place, ops, steps, rollback=chance.random() < 0.25)


def _shared_op(place: Field, record: str, values: Values) -> Op:
    version = next(place.ledger.versions)
    return Op(record, {**values, "version": 0}, {**values, "version": version}, time.time())


def _fresh(place: Field, chance: random.Random) -> dict[str, Any]:
    return {
        "status": chance.choice(STATUSES),
        "grp": chance.choice(GROUPS),
        "rank": chance.randrange(100),
        "version": next(place.ledger.versions),
    }


def _version(op: Op) -> dict[str, Any]:
    assert op.after is not None
    return {"version": op.after["version"]}


def _delay(chance: random.Random) -> dict[str, Any]:
    return {"do": "sleep", "seconds": chance.choice((0, 0, chance.uniform(0, 0.02)))}


async def _attempt(
    place: Field, ops: Sequence[Op], steps: Sequence[Any], *, rollback: bool = False
) -> None:
    url = f"{random.choice(place.cluster.urls)}/script"
    for op in ops:
        op.sent = time.time()
    with place.ledger.attempts(ops) as settle:
        async with place.http.post(url, json={"steps": steps, "rollback": rollback}) as answer:
            text = await answer.text()
        # A deadlock's victim is undone, and told to try again.
        assert answer.status in (200, 503), text
        settle("committed" if answer.status == 200 and not rollback else "undone")


async def entries_of(setup: Setup) -> dict[int, Change]:
    """All that is in the feed, by offset."""
    feed = make_api(setup)._feed
    assert isinstance(feed, SharedFeed)
    found: dict[int, Change] = {}
    await feed.log.open()
    try:
        head = await feed.log.head()
        while len(found) < head.offset:
            after = Cursor(head.epoch, len(found))
            for offset, entry in await feed.log.between(after, head.offset, 500):
                notice = decode_notice(entry)
                assert isinstance(notice, Change)
                found[offset] = notice
    finally:
        await feed.log.close()
    return found


def _check_feed(place: Field, entries: dict[int, Change]) -> list[str]:
    """Each commit once, none that was undone, and each row's in the order of its commits."""
    faults: list[str] = []
    told = Counter(
        (change.id, change.after["version"]) for change in entries.values() if change.after
    )
    for op in (op for ops in place.ledger.ops.values() for op in ops):
        expected = 1 if op.fate == "committed" else 0
        if told[op.record, op.version] != expected:
            faults.append(f"in the feed {told[op.record, op.version]} times: {op}")
    last: dict[str, Any] = {}
    for offset, change in entries.items():
        before = None if change.before is None else change.before["version"]
        if before != last.get(change.id):
            faults.append(f"not in the order of commits: {offset} {change}")
        last[change.id] = None if change.after is None else change.after["version"]
    return faults


def _check_reads(reader: Reader, entries: dict[int, Change]) -> list[str]:
    """Who is told finds what it was told of, or something later."""
    places: dict[str, dict[Any, int]] = defaultdict(dict)
    for offset, change in entries.items():
        if change.after is not None:
            places[change.id][change.after["version"]] = offset
    return [
        f"told before the commit: {told}, found {version}"
        for told, version in reader.seen
        if places[told.record].get(version, -1) < told.cursor[1]
    ]


def _check_whole(place: Field, entries: dict[int, Change]) -> list[str]:
    """Who follows everything has been told of each place in the feed, one after the other."""
    faults = []
    for number, one in enumerate(place.followers):
        if not one.journal.filters and not one.journal.gaps and not one.journal.resyncs:
            offsets = [told.cursor[1] for told in one.journal.told]
            if offsets != list(range(offsets[0], len(entries) + 1)):
                faults.append(f"follower {number} was not told of each place in order")
    return faults

"""Redis whose master is replaced: by hand, by sentinels, within a cluster. Nothing goes unsaid.

A process writes without a pause and follows, another one only follows. Of each change that the
log has taken, each of them hears: it reads it, or is told afterwards that it has missed some.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.feed.conformance import PATIENCE, batch, opened
from tests.support.redis import RedisServer
from tests.support.redis_groups import (
    SERVICE,
    address,
    follow,
    redis_cluster,
    redis_pair,
    redis_sentinels,
    slot_of,
    wait_for,
)
from tidings import ConfigurationError
from tidings.feed import (
    Batch,
    Change,
    Cursor,
    FeedGap,
    FeedUnavailable,
    SharedFeed,
    encode_notice,
)
from tidings.feed.redis import redis_log
from tidings.feed.redis.scripts import HEAD

pytestmark = pytest.mark.usefixtures("lasting_redis")


@dataclass
class Reader:
    """What a process has heard: changes, and in which order with the writer it missed some."""

    feed: SharedFeed
    heard: set[int] = field(default_factory=set)
    told_at: int = -1
    """The newest change that had been appended when it was told of a gap."""
    gaps: list[str] = field(default_factory=list)

    def knows(self, number: int) -> bool:
        return number in self.heard or number <= self.told_at


class Group:
    """A writer, and readers, of one log."""

    def __init__(self, options: Any, others: Sequence[Any] = ()) -> None:
        self.writer = SharedFeed(redis_log(options))
        feeds = [self.writer, *(SharedFeed(redis_log(one)) for one in others or [options])]
        self.readers = [Reader(feed) for feed in feeds]
        self.appended = -1
        self._tasks: list[asyncio.Task[None]] = []

    async def open(self) -> None:
        for reader in self.readers:
            await reader.feed.open()
            self._tasks.append(asyncio.create_task(self._read(reader)))
        self._tasks.append(asyncio.create_task(self._write()))

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for reader in self.readers:
            await reader.feed.close()

    async def more(self, count: int = 20) -> None:
        """Wait until so many more have been appended."""
        wanted = self.appended + count
        async with asyncio.timeout(PATIENCE):
            while self.appended < wanted:
                self._check()
                await asyncio.sleep(0.01)

    async def all_told(self) -> None:
        """Wait until everybody knows of everything that the log has taken so far."""
        wanted = range(self.appended + 1)
        async with asyncio.timeout(PATIENCE):
            for reader in self.readers:
                while not all(map(reader.knows, wanted)):
                    self._check()
                    await asyncio.sleep(0.02)

    def _check(self) -> None:
        for task in self._tasks:
            assert not task.done(), task.result()

    async def _write(self) -> None:
        while True:
            number = self.appended + 1
            change = Change("notes", str(number), "post", None, {"id": number})
            one = Batch(f"batch {number}", [encode_notice(change)])
            try:
                await self.writer.append([one])
            except FeedUnavailable:
                await asyncio.sleep(0.02)
            else:
                self.appended = number
                await asyncio.sleep(0.002)

    async def _read(self, reader: Reader) -> None:
        after = reader.feed.position
        while True:
            try:
                places = await reader.feed.read(after, 500)
            except FeedGap as gap:
                # Whoever is told refetches: what was committed before then is known.
                reader.told_at = self.appended
                reader.gaps.append(gap.reason)
                after = gap.resume
            else:
                reader.heard |= {int(n.id) for _, n in places if isinstance(n, Change)}
                after = Cursor(after.epoch, places[-1][0])


@asynccontextmanager
async def group(options: Any, *others: Any) -> AsyncIterator[Group]:
    async with AsyncExitStack() as stack:
        one = Group(options, others)
        stack.push_async_callback(one.close)
        await one.open()
        await one.more()
        yield one


def addresses(*servers: RedisServer) -> dict[str, Any]:
    return {"nodes": [address(server) for server in servers]}


# By hand


@pytest.mark.parametrize("order", [1, -1], ids=["the master first", "the replica first"])
async def test_of_several_nodes_the_master_is_found(order: int) -> None:
    with redis_pair() as pair:
        log = redis_log(addresses(*pair[::order]))
        async with opened(log):
            await log.append([batch("a")])
            assert pair[0].clients > 0
            assert (await log.head()).offset == 1


async def test_a_replica_alone_is_not_read() -> None:
    with redis_pair() as (master, replica):
        async with opened(redis_log(addresses(master))):
            # Also where all that tells it from the master is that it refuses to write.
            replica.execute("SCRIPT", "LOAD", HEAD.text)
            replica.execute("ACL", "SETUSER", "default", "-info")
            with pytest.raises(FeedUnavailable, match="READONLY"):
                await redis_log(addresses(replica)).open()


@pytest.mark.parametrize("is_dead", [True, False], ids=["killed", "demoted"])
async def test_a_promoted_replica_takes_over(is_dead: bool) -> None:
    with redis_pair() as (master, replica):
        async with group(addresses(master, replica)) as both:
            if is_dead:
                master.kill()
                replica.execute("REPLICAOF", "NO", "ONE")
            else:
                replica.execute("REPLICAOF", "NO", "ONE")
                follow(master, replica)
            await both.more()
            await both.all_told()
            assert all("epoch" in reader.gaps for reader in both.readers)


async def test_a_master_that_was_a_replica_meanwhile_is_another_epoch() -> None:
    # Nobody looked at the other one, which had not got the last entries.
    with redis_pair() as (master, replica):
        log = redis_log(addresses(master))
        async with opened(log):
            await log.append([batch("a", 5)])
            start = await log.head()
            replica.execute("REPLICAOF", "NO", "ONE")
            replica.execute("XTRIM", "tidings:{feed}:entries", "MAXLEN", 5)
        follow(master, replica)
        master.execute("REPLICAOF", "NO", "ONE")
        async with opened(log):
            assert (await log.head()).epoch != start.epoch


async def test_what_only_a_replaced_master_has_taken_is_told() -> None:
    # The writer does not see that there is another master; the reader follows that one.
    with redis_pair() as (old, new):
        writer, reader = redis_log(addresses(old, new)), redis_log(addresses(new, old))
        async with opened(writer, reader):
            start = await writer.head()
            new.execute("REPLICAOF", "NO", "ONE")
            await reader.close()
            await reader.open()
            place = await reader.head()
            assert place.epoch != start.epoch
            await writer.append([batch("lost")])
            assert (await reader.head()) == place
            follow(old, new)
            async with asyncio.timeout(PATIENCE):
                while True:
                    try:
                        await writer.head()
                        break
                    except FeedUnavailable:
                        await asyncio.sleep(0.02)
            with pytest.raises(FeedGap) as caught:
                async with asyncio.timeout(PATIENCE):
                    while True:
                        assert await reader.follow(place, 10) == []
            assert caught.value.reason == "epoch"
            # Once is enough.
            place = await writer.head()
            await writer.append([batch("known")])
            assert await reader.head() == Cursor(place.epoch, 1)


# Sentinels


@pytest.mark.parametrize("count", [1, 3])
async def test_sentinels_lead_to_the_master_that_takes_over(count: int) -> None:
    with redis_sentinels(count) as sentinels:
        url = f"redis+sentinel://{','.join(sentinels.addresses)}/{SERVICE}/0"
        async with group(url) as both:
            sentinels.master.kill()
            await both.more()
            assert sentinels.replica.port in sentinels.masters()  # not all know it at once
            await both.all_told()
            assert all("epoch" in reader.gaps for reader in both.readers)


async def test_a_master_that_hangs_is_replaced_and_comes_back_as_a_replica() -> None:
    with redis_sentinels(3) as sentinels:
        options = {"sentinels": sentinels.addresses, "service": SERVICE}
        async with group(options) as both:
            sentinels.master.freeze()
            try:
                await both.more()
            finally:
                sentinels.master.thaw()
            await asyncio.to_thread(
                wait_for,
                lambda: sentinels.master.execute("ROLE")[0] == b"slave",
            )
            await both.more()
            await both.all_told()
            assert all("epoch" in reader.gaps for reader in both.readers)


async def test_sentinels_that_are_away_or_know_nothing_are_named() -> None:
    with redis_sentinels(1) as sentinels:
        [known] = sentinels.addresses
        async with opened(redis_log(f"redis+sentinel://127.0.0.1:1,{known}/{SERVICE}")):
            pass
        log = redis_log({"sentinels": [known], "service": "other"})
        with pytest.raises(FeedUnavailable, match="knows no master of the name 'other'"):
            await log.open()
        log = redis_log({"sentinels": [address(sentinels.master)], "service": SERVICE})
        with pytest.raises(ConfigurationError, match="unknown command"):
            await log.open()


# A cluster


async def test_a_cluster_of_three_masters_fails_over() -> None:
    with redis_cluster(3, 3) as nodes:
        slot = slot_of("tidings:{feed}:state")
        owner = 3 * (slot + 1) // 16_384
        async with group(addresses(*nodes[:3])) as both:
            assert nodes[owner].execute("EXISTS", "tidings:{feed}:state")
            nodes[owner].kill()
            await both.more()
            await both.all_told()
            assert all("epoch" in reader.gaps for reader in both.readers)
            assert nodes[owner + 3].execute("EXISTS", "tidings:{feed}:state")


async def test_a_slot_that_moves_is_followed() -> None:
    with redis_cluster(3, 0) as nodes:
        slot = slot_of("tidings:{feed}:state")
        owner = 3 * (slot + 1) // 16_384
        source, target = nodes[owner], nodes[(owner + 1) % 3]
        async with group(addresses(*nodes)) as both:
            move_slot(nodes, slot, source, target)
            await both.more()
            await both.all_told()
            assert target.execute("EXISTS", "tidings:{feed}:state")
            assert all("epoch" in reader.gaps for reader in both.readers)


def move_slot(
    nodes: Sequence[RedisServer], slot: int, source: RedisServer, target: RedisServer
) -> None:
    names = [server.execute("CLUSTER", "MYID").decode() for server in (source, target)]
    target.execute("CLUSTER", "SETSLOT", slot, "IMPORTING", names[0])
    source.execute("CLUSTER", "SETSLOT", slot, "MIGRATING", names[1])
    while keys := source.execute("CLUSTER", "GETKEYSINSLOT", slot, 10):
        to = ("127.0.0.1", target.port, "", 0, 5000, "KEYS", *keys)
        source.execute("MIGRATE", *to)
    for server in (target, source, *nodes):
        server.execute("CLUSTER", "SETSLOT", slot, "NODE", names[1])

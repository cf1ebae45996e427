"""Redis that dies, comes back with its data or without, hangs, or cuts everybody off."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Mapping

from tests.chaos.app import Setup
from tests.chaos.field import Field, field_of
from tests.chaos.follower import following
from tests.chaos.ledger import Tally
from tests.chaos.writers import Writer
from tests.support.redis import RedisServer

Outage = Callable[[RedisServer, float], None]


def _killed(server: RedisServer, seconds: float) -> None:
    server.kill()
    _wait(seconds)
    server.start()


def _emptied(server: RedisServer, seconds: float) -> None:
    server.kill()
    _wait(seconds)
    server.restart_empty()


def _frozen(server: RedisServer, seconds: float) -> None:
    server.freeze()
    _wait(seconds)
    server.thaw()


def _cut_off(server: RedisServer, seconds: float) -> None:
    server.drop_connections()


def _flushed(server: RedisServer, seconds: float) -> None:
    server.execute("FLUSHALL")


def _narrow(server: RedisServer, seconds: float) -> None:
    """Whoever is sent more than a little at once is cut off."""
    server.execute("CONFIG", "SET", "client-output-buffer-limit", "normal 256 128 1")
    _wait(seconds)
    # The administrator's own answers are short.
    server.execute("CONFIG", "SET", "client-output-buffer-limit", "normal 0 0 0")


def _wait(seconds: float) -> None:
    time.sleep(seconds)  # in a thread of its own; so long an outage lasts


OUTAGES: Mapping[str, Outage] = {
    "killed": _killed,
    "emptied": _emptied,
    "frozen": _frozen,
    "cut off": _cut_off,
    "flushed": _flushed,
    "narrow": _narrow,
}


async def hurt(
    setup: Setup,
    redis: RedisServer,
    seed: str,
    *,
    outages: list[str],
    seconds: float,
    between: float = 0.3,
    writers: int = 4,
    followers: int = 14,
    mutant: str | None = None,
) -> Tally:
    """Two processes, and what happens to their Redis, while clients write and follow."""
    chance = random.Random(f"{seed}/outages")
    async with field_of(setup, seed, mutant=mutant) as field:
        # One half follows each process, for as long as that lives.
        field.follow(followers, lambda number: [field.cluster.urls[number % 2]])
        field.write(writers, pause=0.01)
        bulk = Writer(field.http, field.cluster.urls, field.ledger, "bulk", seed)
        async with following(field.followers):
            async with field.writing():
                for name in outages:
                    await _written(field.writers[0].written + 5, field)
                    length = seconds * chance.uniform(0.7, 1.3)
                    outage = asyncio.create_task(asyncio.to_thread(OUTAGES[name], redis, length))
                    if name == "narrow":
                        await bulk.write_many(300)
                    await outage
                    await asyncio.sleep(between * chance.uniform(0.5, 1.5))
            tally = await field.account()
            tally.faults += bulk.errors
    if "narrow" in outages and "output buffer limits" not in redis.log():
        tally.faults.append("Redis has cut off nobody: the limit was not tight enough")
    return tally


async def _written(count: int, field: Field) -> None:
    """Writes go on, whatever Redis does."""
    async with asyncio.timeout(60):
        while field.writers[0].written < count:
            await asyncio.sleep(0.01)

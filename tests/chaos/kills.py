"""SIGKILL of server processes, between any two steps on the way of a change."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter

import aiohttp

from tests.chaos.app import Setup
from tests.chaos.faults import POINTS
from tests.chaos.field import Field, field_of
from tests.chaos.follower import following
from tests.chaos.ledger import Tally

SLOTS = 2
MOST = {"restoring": 5, "restored": 5, "sent": 80, "delivering": 60, "delivered": 60, "reading": 30}
"""How often a process may come by a point, before it dies there; elsewhere 12."""


async def kill(
    setup: Setup,
    seed: str,
    *,
    kills: int,
    writers: int = 6,
    followers: int = 14,
    mutant: str | None = None,
) -> tuple[Tally, Counter[str]]:
    """Kill processes so many times while clients write and follow; where they died, by point."""
    chance = random.Random(f"{seed}/kills")
    died: Counter[str] = Counter()
    async with field_of(setup, seed, slots=SLOTS, mutant=mutant) as field:
        field.follow(followers)
        field.write(writers, pause=0.004)
        async with following(field.followers):
            async with field.writing():
                rounds = (
                    _rounds(field, slot, chance, kills, died, mutant) for slot in range(SLOTS)
                )
                await asyncio.gather(*rounds)
            tally = await field.account()
    return tally, died


async def _rounds(
    field: Field,
    slot: int,
    chance: random.Random,
    kills: int,
    died: Counter[str],
    mutant: str | None,
) -> None:
    """One slot's servers, each with its own way to die."""
    cluster = field.cluster
    await cluster.kill(slot)
    while cluster.kills < kills and not cluster.died:
        point = chance.choice([*POINTS, "anywhere", "anywhere"])
        die = None if point == "anywhere" else (point, chance.randint(1, MOST.get(point, 12)))
        await cluster.start(slot, die=die, mutant=mutant)
        await _answers(field, slot)
        try:
            async with asyncio.timeout(chance.uniform(0.0, 0.3) if die is None else 1.5):
                await cluster.ended(slot)
        except TimeoutError:
            point = "anywhere"
            await cluster.kill(slot)
        died[point] += 1
    await cluster.start(slot, mutant=mutant)


async def _answers(field: Field, slot: int) -> None:
    """Wait until a slot's server has answered something, or is dead."""

    async def ask() -> None:
        with contextlib.suppress(aiohttp.ClientError, OSError):
            async with field.http.get(f"{field.cluster.urls[slot]}/api/notes?page[size]=1"):
                pass

    asking = asyncio.create_task(ask())
    ending = asyncio.create_task(field.cluster.ended(slot))
    await asyncio.wait([asking, ending], return_when=asyncio.FIRST_COMPLETED)
    for task in (asking, ending):
        task.cancel()
    await asyncio.gather(asking, ending, return_exceptions=True)

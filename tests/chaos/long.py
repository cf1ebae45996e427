"""The proof at length: `make prove`, or `python -m tests.chaos --seed 123`.

Server processes, Redis, databases and networks of its own, hurt in every way that is claimed to be
survived. `--only kills` runs one part.
"""

from __future__ import annotations

import argparse
import asyncio
import secrets
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.chaos.app import Setup
from tests.chaos.contention import contend
from tests.chaos.cuts import cut, cut_plain
from tests.chaos.cycles import cycle
from tests.chaos.kills import kill
from tests.chaos.ledger import Tally
from tests.chaos.outages import OUTAGES, hurt
from tests.support.databases import DatabaseServer, mariadb, postgresql
from tests.support.redis import RedisServer, redis_server

SHOWN = 10
DATABASES = ("sqlite", "postgresql", "mariadb", "postgresql alone")
"""What processes share; but for the last, with Redis beside it."""
AT_ONCE = 100
"""So many kills share one field, since of a long run no list could be held against another."""


@dataclass
class World:
    """What a part of the proof may use."""

    seed: str
    scale: float
    directory: Path
    stack: ExitStack
    servers: Mapping[str, DatabaseServer]
    redis: RedisServer

    def count(self, number: int) -> int:
        """How many of so many, at this scale."""
        return max(1, round(number * self.scale))

    def setup(self, kind: str) -> Setup:
        """A database that nobody has used, and a Redis that is empty."""
        if kind == "postgresql alone":
            url = self.database("postgresql")
            return Setup(url, postgres=url)
        self.redis.execute("FLUSHALL")
        return Setup(self.database(kind), redis=self.redis.redis())

    def database(self, kind: str) -> str:
        """The URL of a database that nobody has used."""
        if kind == "sqlite":
            return f"sqlite+aiosqlite:///{self.directory}/{secrets.token_hex(4)}.db"
        return self.stack.enter_context(self.servers[kind].database())


Part = Callable[[World], Awaitable[int]]


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _report(what: str, tally: Tally, started: float) -> int:
    """Print what came of it; gives the number of faults."""
    _say(f"{what}: {tally}; {time.monotonic() - started:.0f} s")
    for fault in tally.faults[:SHOWN]:
        _say(f"  {fault}")
    return len(tally.faults)


async def kills(world: World) -> int:
    """SIGKILL, 1,000 times, on each database in turn."""
    faults = done = number = 0
    where: Counter[str] = Counter()
    while done < world.count(1000):
        kind = DATABASES[number % len(DATABASES)]
        name = f"{world.seed}/{number}"
        started = time.monotonic()
        share = min(AT_ONCE, world.count(1000) // 4 + 1)
        tally, died = await kill(world.setup(kind), name, kills=share)
        where += died
        number += 1
        done += died.total()
        faults += _report(f"{done} kills, {kind}", tally, started)
    _say(f"{done} kills, by where the process was: {dict(where.most_common())}")
    return faults


async def outages(world: World) -> int:
    """Redis killed, emptied, stopped, and so on, in any order; and away for 10 s."""
    faults = 0
    for name in OUTAGES:
        started = time.monotonic()
        some = [name] * world.count(5)
        setup = world.setup("sqlite")
        tally = await hurt(setup, world.redis, f"{world.seed}/{name}", outages=some, seconds=1)
        faults += _report(f"Redis {name}, {len(some)} times", tally, started)
    for name in ("killed", "frozen"):
        started = time.monotonic()
        some = [name] * world.count(3)
        setup = world.setup("sqlite")
        tally = await hurt(setup, world.redis, f"{world.seed}/10", outages=some, seconds=10)
        faults += _report(f"Redis {name} for 10 s, {len(some)} times", tally, started)
    return faults


async def cuts(world: World) -> int:
    """The network of each client away for 2 s, 100 times; beside it plain Socket.IO."""
    started = time.monotonic()
    count = world.count(100)
    tally = await cut(world.setup("sqlite"), world.seed, cuts=count, seconds=2)
    faults = _report(f"{count} cuts of 2 s", tally, started)
    known = tally.told + tally.folded + tally.fetched + tally.cancelled
    _say(f"{count} cuts of 2 s: tidings: {100 * known / tally.due:.2f} % told or refetched")
    plain = await cut_plain(world.seed, cuts=count, seconds=2)
    _say(f"{count} cuts of 2 s: plain Socket.IO, a room: {plain}")
    return faults


async def contention(world: World) -> int:
    """64 writers on the same rows."""
    faults = 0
    for kind in DATABASES[1:]:
        started = time.monotonic()
        tally = await contend(
            world.setup(kind),
            world.seed,
            transactions=world.count(30),
            mutant="commit slowly",
        )
        faults += _report(f"64 writers, {kind}", tally, started)
    started = time.monotonic()
    tally = await contend(
        world.setup("postgresql"),
        world.seed,
        writers=8,
        transactions=max(10, world.count(100)),
        slots=1,
        mutant="read on by id",
    )
    found = len(tally.faults)
    _say(f"8 writers, one process that reads on by id: {found} faults found (0 would be one)")
    return faults + (0 if found else 1)


async def cycles(world: World) -> int:
    """10,000 connections that come and go."""
    started = time.monotonic()
    curve = await cycle(Setup(world.database("sqlite")), world.seed, cycles=world.count(10_000))
    _say(f"{curve}; {time.monotonic() - started:.0f} s")
    return int(any(curve.books)) + int(curve.growth > 5)


PARTS: Mapping[str, Part] = {
    "kills": kills,
    "outages": outages,
    "cuts": cuts,
    "contention": contention,
    "cycles": cycles,
}


@contextmanager
def _world(seed: str, scale: float) -> Iterator[World]:
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        yield World(
            seed,
            scale,
            directory,
            stack,
            {
                "postgresql": stack.enter_context(postgresql()),
                "mariadb": stack.enter_context(mariadb()),
            },
            stack.enter_context(redis_server()),
        )


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seed", default="", help="any text; by default a random number")
    parser.add_argument("--only", choices=PARTS, help="one part")
    parser.add_argument("--scale", type=float, default=1.0, help="0.1 for a tenth of everything")
    options = parser.parse_args()
    seed = options.seed or str(secrets.randbelow(10**9))
    _say(f"chaos: seed {seed}")
    faults = 0
    for name, part in PARTS.items():
        if options.only in (None, name):
            # A world for each, with databases in which nothing has been.
            with _world(f"{seed}/{name}", options.scale) as world:
                faults += asyncio.run(part(world))
    _say(f"chaos: seed {seed}: {faults} faults")
    return 1 if faults else 0

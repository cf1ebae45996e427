"""The proof at length: `make prove`, or `python -m tests.proof --seed 123`.

World by world, each made from the seed and its number, its filters are held against SQLite, a
private PostgreSQL and a private MariaDB, and against the index. `--world 17` looks at one again.
"""

from __future__ import annotations

import argparse
import asyncio
import secrets
import sys
import time
import traceback
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from queue import Empty
from random import Random
from typing import Any

from tests.proof.bench import Bench
from tests.proof.proving import Disagreement, make_world, prove_canonical, prove_index, prove_sql
from tests.support.databases import mariadb, postgresql

RECORDS, FILTERS, CHANGES = 60, 60, 60
SAMPLED = 3
"""Of so many filters the store is asked for one, as it is for the API."""
EVERY = 15.0
"""Seconds between lines of progress."""


@dataclass
class Tally:
    """What has been looked at: by database, and by the index."""

    worlds: int = 0
    filters: int = 0
    decisions: Counter[str] = field(default_factory=Counter)
    seconds: Counter[str] = field(default_factory=Counter)
    disagreements: Counter[str] = field(default_factory=Counter)
    reports: list[str] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        self.worlds += other.worlds
        self.filters += other.filters
        self.decisions.update(other.decisions)
        self.seconds.update(other.seconds)
        self.disagreements.update(other.disagreements)
        self.reports += other.reports

    def note(self, what: str, started: float, decisions: int, failure: str) -> None:
        self.seconds[what] += time.perf_counter() - started
        self.decisions[what] += decisions
        if failure:
            self.disagreements[what] += 1
            self.reports.append(failure)


async def prove_world(name: str, benches: Sequence[Bench]) -> Tally:
    """Hold one world's filters against everything."""
    found = make_world(name, records=RECORDS, filters=FILTERS)
    tally = Tally(worlds=1, filters=len(found.matches))
    samples = range(Random(name).randrange(SAMPLED), len(found.matches), SAMPLED)

    async def ask(bench: Bench) -> None:
        started, failure = time.perf_counter(), ""
        try:
            await prove_sql(bench, found, samples)
        except Disagreement as error:
            failure = f"world {name}: {error}"
        tally.note(bench.name, started, found.count, failure)

    started, failure = time.perf_counter(), ""
    try:
        prove_canonical(Random(name), found)
        prove_index(Random(name), found, CHANGES)
    except Disagreement as error:
        failure = f"world {name}: {error}"
    tally.note("index", started, CHANGES * len(found.matches), failure)
    for bench in benches:
        await ask(bench)
    return tally


async def _prove(seed: str, numbers: Sequence[int], urls: Sequence[str], results: Any) -> None:
    benches = [Bench(url) for url in urls]
    for bench in benches:
        await bench.open()
    for number in numbers:
        try:
            results.put(await prove_world(f"{seed}/{number}", benches))
        except Exception:
            results.put(Tally(reports=[f"world {seed}/{number}: {traceback.format_exc()}"]))
    for bench in benches:
        await bench.close()


def _work(seed: str, numbers: Sequence[int], urls: Sequence[str], results: Any) -> None:
    asyncio.run(_prove(seed, numbers, urls, results))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.proof", description=__doc__)
    parser.add_argument("--seed", default="", help="any text; by default a random number")
    parser.add_argument("--decisions", type=int, default=1_000_000, help="for each database")
    parser.add_argument("--world", type=int, help="only the world of this number")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--databases", default="sqlite,postgresql,mariadb")
    return parser.parse_args()


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _urls(names: Sequence[str], jobs: int, stack: ExitStack) -> list[list[str]]:
    """For each process a database of its own, of each kind."""
    found = []
    if "sqlite" in names:
        found.append(["sqlite+aiosqlite://"] * jobs)
    for name, start in (("postgresql", postgresql), ("mariadb", mariadb)):
        if name in names:
            server = stack.enter_context(start())
            found.append([stack.enter_context(server.database()) for _ in range(jobs)])
    return [list(urls) for urls in zip(*found, strict=True)]


def main() -> int:
    options = _options()
    seed, jobs = options.seed or str(secrets.randbelow(10**9)), options.jobs
    # Some worlds have a record less, where two ids came out the same.
    worlds = range(-(-options.decisions // ((RECORDS - 1) * FILTERS)))
    if options.world is not None:
        worlds = range(options.world, options.world + 1)
    _say(f"seed {seed}: {len(worlds)} worlds of {RECORDS} records and {FILTERS} filters")
    started = spoken = time.monotonic()
    total = Tally()
    with ExitStack() as stack:
        context = get_context("spawn")
        results = context.Queue()
        urls = _urls(options.databases.split(","), jobs, stack)
        workers = [
            context.Process(target=_work, args=(seed, worlds[job::jobs], urls[job], results))
            for job in range(jobs)
        ]
        for worker in workers:
            worker.daemon = True
            worker.start()
            stack.callback(worker.join)
        for _ in worlds:
            tally = _next(results, workers)
            for report in tally.reports:
                _say(report)
            total.add(tally)
            if time.monotonic() - spoken > EVERY:
                spoken = time.monotonic()
                _say(_progress(total, len(worlds), spoken - started))
    for name, decisions in total.decisions.items():
        _say(
            f"{name}: {decisions:,} decisions, {total.worlds} worlds, {total.filters:,} filters, "
            f"{total.seconds[name]:.0f} s, {total.disagreements[name]} disagreements"
        )
    _say(f"seed {seed}: {time.monotonic() - started:.0f} s in all, {len(total.reports)} reports")
    return 1 if total.reports else 0


def _next(results: Any, workers: Sequence[BaseProcess]) -> Tally:
    while True:
        running = any(worker.is_alive() for worker in workers)
        try:
            tally: Tally = results.get(timeout=1)
        except Empty:
            if not running:
                raise SystemExit("the processes have ended before their time") from None
        else:
            return tally


def _progress(total: Tally, worlds: int, seconds: float) -> str:
    figures = ", ".join(f"{name} {count:,}" for name, count in total.decisions.items())
    return f"{seconds:4.0f} s: {total.worlds} of {worlds} worlds; {figures}"

"""The proof at length: `make prove`, or `python -m tests.security --seed 123`.

Worlds, each made from the seed and its number, until so many decisions have been held against
REST (a decision is a change and a subscription of its resource). `--world 17` looks at one again.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import secrets
import sys
import time
from multiprocessing import get_context

from tests.security.differential import Prover, Tally

STEPS, SOCKETS = 150, 8
SHOWN = 5
EVERY = 15.0
"""Seconds between lines of progress."""


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def prove(name: str) -> Tally:
    """One world; always the same for a name."""
    logging.disable(logging.WARNING)  # that sockets are open to all origins
    return asyncio.run(Prover(name, sockets=SOCKETS).run(STEPS))


def prove_all(seed: str, decisions: int, jobs: int) -> int:
    """Prove, print what came of it, and give the exit status."""
    _say(f"who may know: seed {seed}")
    started = spoken = time.monotonic()
    total, worlds = Tally(), 0
    with get_context("spawn").Pool(jobs) as pool:
        names = (f"{seed}/{number}" for number in range(10**6))
        # Only a few ahead: what is given to the pool is worked off.
        waiting = [pool.apply_async(prove, (next(names),)) for _ in range(jobs + 1)]
        while total.decisions < decisions:
            tally = waiting.pop(0).get()
            waiting.append(pool.apply_async(prove, (next(names),)))
            for line in tally.disagreements[:SHOWN]:
                _say(line)
            total.add(tally)
            worlds += 1
            if time.monotonic() - spoken > EVERY:
                spoken = time.monotonic()
                _say(f"{spoken - started:4.0f} s: {total.decisions:,} decisions, {worlds} worlds")
        pool.terminate()
    _say(
        f"who may know: seed {seed}: {total.decisions:,} decisions, {total.commits:,} commits, "
        f"{worlds} worlds, {total.queries:,} REST queries, {time.monotonic() - started:.0f} s, "
        f"{len(total.disagreements)} disagreements; told {dict(total.told)}"
    )
    return 1 if total.disagreements else 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.security", description=__doc__)
    parser.add_argument("--seed", default="", help="any text; by default a random number")
    parser.add_argument("--decisions", type=int, default=1_000_000)
    parser.add_argument("--world", type=int, help="only the world of this number")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    options = parser.parse_args()
    seed = options.seed or str(secrets.randbelow(10**9))
    if options.world is None:
        return prove_all(seed, options.decisions, options.jobs)
    tally = prove(f"{seed}/{options.world}")
    for line in tally.disagreements:
        _say(line)
    return 1 if tally.disagreements else 0

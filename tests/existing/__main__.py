"""The model test of capture at length: ``python -m tests.existing --seed 1 --worlds 40``."""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tests.existing.test_capture_model import run
from tests.support.databases import MissingServer, mariadb, postgresql


@contextmanager
def _sqlite() -> Iterator[str]:
    with tempfile.TemporaryDirectory() as folder:
        yield f"sqlite+aiosqlite:///{folder}/model.db"


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main() -> None:
    """Run worlds on each database, and say how many transactions that were."""
    parser = argparse.ArgumentParser(prog="python -m tests.existing", description=__doc__)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--worlds", type=int, default=20, help="how many on each database")
    parser.add_argument("--transactions", type=int, default=400, help="how many in each")
    given = parser.parse_args()
    say(f"seed {given.seed}")
    for name, server in (("sqlite", None), ("postgresql", postgresql), ("mariadb", mariadb)):
        began, changes, resyncs = time.monotonic(), 0, 0
        try:
            for number in range(given.worlds) if server is None else ():
                with _sqlite() as url:
                    client = asyncio.run(run(url, given.seed + number, given.transactions))
                changes, resyncs = changes + client.changes, resyncs + client.resyncs
            if server is not None:
                with server() as running:
                    for number in range(given.worlds):
                        with running.database() as url:
                            client = asyncio.run(run(url, given.seed + number, given.transactions))
                        changes, resyncs = changes + client.changes, resyncs + client.resyncs
        except MissingServer as missing:
            say(f"{name}: {missing}")
            continue
        steps = given.worlds * given.transactions
        took = time.monotonic() - began
        say(f"{name}: {steps:,} transactions, {changes:,} changes, {resyncs} resyncs, {took:.0f} s")


if __name__ == "__main__":
    main()

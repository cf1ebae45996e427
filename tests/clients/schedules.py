"""Random schedules against the JavaScript client: ``python -m tests.clients --schedules 10000``."""

from __future__ import annotations

import argparse
import asyncio
import sys

from tests.clients.server import counted, run_node, run_world
from tidings import SocketLimits

BESIDE = 40


async def play(schedules: int, *, seed: int = 1, client: str = "package") -> tuple[int, str]:
    """Play schedules with the seeds from `seed` on: 0 if all ended right, and the report."""
    async with run_world() as world:
        return await run_node(
            "tests/schedules.mjs",
            *("--schedules", str(schedules), "--seed", str(seed), "--client", client),
            *("--beside", str(BESIDE)),
            world=world,
            patience=120 + schedules,
        )


async def amplify(clients: int, *, client: str = "package") -> tuple[int, str]:
    """Measure how many requests and statements changes cost with many clients."""
    async with run_world(SocketLimits()) as world:
        with counted(world):
            return await run_node(
                "tests/amplification.mjs",
                *("--clients", str(clients), "--client", client),
                world=world,
                patience=900,
            )


def main() -> int:
    """Play them in portions, each against a new server, and say how it went."""
    parser = argparse.ArgumentParser(prog="python -m tests.clients", description=__doc__)
    parser.add_argument("--schedules", type=int, default=1_000, help="how many (default 1000)")
    parser.add_argument("--seed", type=int, default=1, help="the first seed (default 1)")
    parser.add_argument("--client", choices=["package", "old"], default="package")
    parser.add_argument("--portion", type=int, default=1_000, help="schedules per server")
    parser.add_argument("--amplification", type=int, help="instead, so many clients of one list")
    given = parser.parse_args()
    worst = 0
    if given.amplification:
        worst, report = asyncio.run(amplify(given.amplification, client=given.client))
        print(report, end="")  # noqa: T201
        return worst
    for done in range(0, given.schedules, given.portion):
        count = min(given.portion, given.schedules - done)
        code, report = asyncio.run(play(count, seed=given.seed + done, client=given.client))
        print(report, end="", flush=True)  # noqa: T201 - it is a command
        worst = max(worst, code)
    return worst


if __name__ == "__main__":
    sys.exit(main())

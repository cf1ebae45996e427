"""The command: ``python -m benchmarks [names...] [--quick] [--json FILE]``."""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from benchmarks import capture, connections, cost, fanout, feeds, following, latency, rest, slow
from benchmarks.machine import FULL, QUICK, Effort, allow_open_files, describe
from benchmarks.matching import curve, holding
from benchmarks.tables import Table

BENCHMARKS: dict[str, Callable[[Effort], Awaitable[Table]]] = {
    "rest": rest.run,
    "latency": latency.run,
    "connections": connections.run,
    "fanout": fanout.run,
    "slow": slow.run,
    "feeds": feeds.run,
    "matching": curve.run,
    "subscriptions": holding.run,
    "cost": cost.run,
    "capture": capture.run,
    "following": following.run,
    "rest-postgres": rest.run_postgres,
}


def main() -> None:
    """Run the named benchmarks, or all of them."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="name", help=", ".join(BENCHMARKS))
    parser.add_argument("--quick", action="store_true", help="less work, figures that vary more")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    parser.add_argument(
        "--src", type=Path, metavar="FOLDER", help="for cost: the src of another checkout"
    )
    arguments = parser.parse_args()
    unknown = [name for name in arguments.names if name not in BENCHMARKS]
    if unknown:
        parser.error(f"no benchmark {unknown[0]!r} (known: {', '.join(BENCHMARKS)})")
    allow_open_files(8192)
    machine, begin = describe(), time.perf_counter()
    print(", ".join(f"{name}: {value}" for name, value in machine.items()))
    tables: dict[str, Table] = {}
    for name in arguments.names or BENCHMARKS:
        tables[name] = asyncio.run(_run(name, QUICK if arguments.quick else FULL, arguments.src))
        print(f"\n{tables[name]}", flush=True)
    print(f"\n{time.perf_counter() - begin:.0f} s in all")
    if arguments.json is not None:
        results = {name: table.as_json() for name, table in tables.items()}
        document = {"machine": machine, "quick": arguments.quick, "results": results}
        arguments.json.write_text(json.dumps(document, indent=2) + "\n")


async def _run(name: str, effort: Effort, src: Path | None) -> Table:
    if name == "cost":
        return await cost.run(effort, src)
    return await BENCHMARKS[name](effort)


if __name__ == "__main__":
    main()

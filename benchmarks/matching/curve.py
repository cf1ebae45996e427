"""The curve: what a change costs as subscriptions grow, against a scan of all of them."""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Iterator
from itertools import islice
from random import Random
from typing import Any, Final

from benchmarks.machine import Effort, in_a_process_of_its_own, resident_bytes
from benchmarks.matching.workloads import WORKLOADS, Workload, changes
from benchmarks.tables import Table, median
from tidings.feed import Change
from tidings.filters import compile_predicate
from tidings.matching import Matcher, Node

_COLUMNS: Final = [
    "p50 µs",
    "matches",
    "µs per match",
    "naive µs",
    "bytes each",
    "subscribe µs",
    "unsubscribe µs",
]
_BATCH: Final = 10_000
_MEASURABLE: Final = 10_000
"""Fewer subscriptions do not show in the memory of a process."""
_CHANGES: Final = 2_000
_SCANNED: Final = 100_000
"""The naive scan goes over so many filters at most, and its figure is scaled."""
_SCANS: Final = 200_000
"""How many filters it looks at in all, at least."""


async def run(effort: Effort) -> Table:
    """Run the benchmark."""
    table = Table(
        "matching: one change (the row before and the row after), by number of subscriptions",
        [*_COLUMNS],
        notes=[
            "Every cell is a process of its own, its garbage collector off; no change comes twice.",
            f"naive: every filter's compiled predicate on both rows; beyond {_SCANNED:,} scaled.",
        ],
    )
    for name in WORKLOADS:
        for size in effort.subscriptions:
            table.add(f"{name}, {size:,}", in_a_process_of_its_own(measure, name, size))
    return table


def measure(name: str, size: int) -> dict[str, float]:
    """The figures of one workload at one size."""
    workload = WORKLOADS[name]
    matcher = Matcher()
    gc.collect()
    gc.disable()
    begin = resident_bytes()
    nodes, subscribing = _subscribe(matcher, workload, size)
    bytes_each = (resident_bytes() - begin) / size if size >= _MEASURABLE else math.nan
    p50, matches = _match(matcher, changes(size, _CHANGES))
    unsubscribing = _unsubscribe(matcher, nodes)
    naive = _scan(workload, size)
    figures = (p50, matches, p50 / matches, naive, bytes_each, subscribing, unsubscribing)
    return dict(zip(_COLUMNS, figures, strict=True))


def _subscribe(matcher: Matcher, workload: Workload, size: int) -> tuple[list[Node], float]:
    nodes: list[Node] = []
    took: list[float] = []
    filters = workload.filters(size)
    while batch := list(islice(filters, _BATCH)):
        begin = time.perf_counter()
        nodes += [matcher.acquire("posts", one) for one in batch]
        took.append(1e6 * (time.perf_counter() - begin) / len(batch))
    return nodes, median(took)


def _unsubscribe(matcher: Matcher, nodes: list[Node]) -> float:
    """The cost of leaving, for some at random."""
    return _each(matcher.release, Random(3).sample(nodes, min(_BATCH, len(nodes))))


def _match(matcher: Matcher, coming: Iterator[Change]) -> tuple[float, float]:
    """The median of the changes' times, and how many nodes they match on average."""
    took, matches = [], 0
    for change in coming:
        begin = time.perf_counter_ns()
        found = matcher.match(change)
        took.append((time.perf_counter_ns() - begin) / 1000)
        matches += sum(map(len, found))
    return median(took), matches / len(took)


def _scan(workload: Workload, size: int) -> float:
    sample = min(size, _SCANNED)
    tests = [compile_predicate(one) for one in workload.filters(sample)]

    def scan(change: Change) -> None:
        for image in (change.before, change.after):
            assert image is not None
            for test in tests:
                test(image)

    return _each(scan, list(changes(size, max(3, _SCANS // sample)))) * size / sample


def _each(work: Callable[[Any], object], over: list[Any]) -> float:
    """Microseconds per call."""
    begin = time.perf_counter()
    for one in over:
        work(one)
    return 1e6 * (time.perf_counter() - begin) / len(over)

"""matching: which of many distinct filters does a change concern? In process, no I/O."""

from __future__ import annotations

import time
from collections.abc import Callable

from benchmarks.machine import Effort
from benchmarks.tables import Table, median
from tidings.feed import Change
from tidings.filters import Atom, Expression, all_of, compile_predicate
from tidings.matching import Matcher

_SIZES = (1_000, 10_000)


def _equality(number: int) -> Expression:
    return Atom("author_id", "=", str(number))


def _conjunction(number: int) -> Expression:
    status = Atom("status", "=", ("draft", "published")[number % 2])
    return all_of([status, Atom("author_id", "=", str(number))])


def _threshold(number: int) -> Expression:
    # A change that raises the views from 10 to 11 is told to ever so few of them.
    return Atom("views", ">=", float(number + 11))


_KINDS: dict[str, Callable[[int], Expression]] = {
    "author_id = n": _equality,
    "status = s and author_id = n": _conjunction,
    "views >= n": _threshold,
}


async def run(effort: Effort) -> Table:
    """Run the benchmark."""
    columns = [f"{size:,} {unit}" for size in _SIZES for unit in ("µs", "naive µs")]
    table = Table(
        "matching: µs per change (before and after), by distinct filters",
        columns,
        notes=["naive: every filter's compiled predicate, on both rows."],
    )
    for name, make in _KINDS.items():
        figures: list[float] = []
        for size in _SIZES:
            expressions = [make(number) for number in range(size)]
            figures += [_matched(expressions, effort), _scanned(expressions, effort)]
        table.add(name, dict(zip(columns, figures, strict=True)))
    return table


def _changes(count: int) -> list[Change]:
    before = {"id": 1, "title": "x", "status": "draft", "views": 10.0}
    return [
        Change(
            "posts",
            "1",
            "patch",
            {**before, "author_id": str(number)},
            {**before, "author_id": str(number), "views": 11.0},
        )
        for number in range(count)
    ]


def _matched(expressions: list[Expression], effort: Effort) -> float:
    matcher = Matcher()
    for expression in expressions:
        matcher.acquire("posts", expression)
    changes = _changes(500)

    def once() -> float:
        begin = time.perf_counter()
        for change in changes:
            matcher.match(change)
        return 1e6 * (time.perf_counter() - begin) / len(changes)

    return median(once() for _ in range(effort.rounds))


def _scanned(expressions: list[Expression], effort: Effort) -> float:
    tests = [compile_predicate(expression) for expression in expressions]
    changes = _changes(10)

    def once() -> float:
        begin = time.perf_counter()
        for change in changes:
            for image in (change.before, change.after):
                assert image is not None
                for test in tests:
                    test(image)
        return 1e6 * (time.perf_counter() - begin) / len(changes)

    return median(once() for _ in range(effort.rounds))

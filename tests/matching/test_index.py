"""The index finds what a scan over all filters finds, and forgets what is released."""

from __future__ import annotations

import gc
import os
import random
import weakref
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import pytest

from tidings.feed import Change
from tidings.filters import (
    AllOf,
    AnyOf,
    Atom,
    Expression,
    Not,
    Opaque,
    all_of,
    any_of,
    compile_predicate,
    element_keys,
    predicate,
)
from tidings.filters.text import has_element
from tidings.matching import Matcher, Node
from tidings.matching.access import ByRange, ByText, ByValues, choose
from tidings.matching.node import Entry
from tidings.matching.spans import Spans

SEEDS = int(os.environ.get("TIDINGS_PROVE_MATCHING", "60"))
EPOCH = datetime(2020, 1, 1, tzinfo=UTC)

Make = Callable[[random.Random], Any]
NUMBERS = [1e308, -1e308, 1e-300, 0.0, 2.0**53, 2.0**53 + 2]

VALUES: dict[str, Make] = {
    "number": lambda r: r.choice([r.uniform(-100, 100), float(r.randint(-3, 3)), *NUMBERS]),
    "integer": lambda r: r.choice([r.randint(-5, 5), 2**53 + r.randint(0, 3), -(2**63), 2**63 - 1]),
    "decimal": lambda r: Decimal(r.randint(-300, 300)) / 100,
    "text": lambda r: "".join(r.choice("abcAB éÉ") for _ in range(r.randint(0, 9))),
    "moment": lambda r: EPOCH + timedelta(seconds=r.randint(-9, 9), microseconds=r.randint(0, 2)),
    "day": lambda r: date(2020, 1, 1) + timedelta(days=r.randint(-4, 4)),
    "hour": lambda r: time(r.randint(0, 3), r.randint(0, 2)),
    "flag": lambda r: r.random() < 0.5,
}
ORDERED = [">", ">=", "<", "<=", "between"]


def random_elements(r: random.Random) -> list[Any] | None:
    made = [r.choice([1, 2, True, "a", "b", None, 2.0, [1]]) for _ in range(r.randint(0, 4))]
    return None if r.random() < 0.1 else made


def random_atom(r: random.Random) -> Atom:
    if r.random() < 0.08:
        wanted = [r.choice([1, 2, True, "a", "b", "c"]) for _ in range(r.randint(1, 3))]
        if r.random() < 0.5:
            return Atom("many", "=", wanted[0], some=True)
        return Atom("many", "in", tuple(wanted), some=True)
    column = r.choice(list(VALUES))
    make = VALUES[column]
    operators = ["=", "=", "!=", "in", "is null", "is not null"]
    operators += ["like"] * 6 if column == "text" else []
    operators += ORDERED if column != "flag" else []
    operator: Any = r.choice(operators)
    if operator == "in":
        return Atom(column, "in", tuple(make(r) for _ in range(r.choice([0, 1, 3, 80]))))
    if operator == "between":
        bounds = [make(r), make(r)]
        if r.random() < 0.9:
            bounds.sort()
        return Atom(column, "between", tuple(bounds))
    return Atom(column, operator, None if operator.startswith("is") else make(r))


def random_filter(r: random.Random, depth: int = 2) -> Expression:
    kind = r.random()
    if depth == 0 or kind < 0.4:
        return random_atom(r)
    terms = [random_filter(r, depth - 1) for _ in range(r.randint(0, 4))]
    if kind < 0.7:
        return all_of(terms)
    return any_of(terms) if kind < 0.9 else Not(random_filter(r, depth - 1))


def random_record(r: random.Random) -> dict[str, Any]:
    record = {name: None if r.random() < 0.15 else make(r) for name, make in VALUES.items()}
    return record | {"many": random_elements(r)}


def scan(nodes: set[Node], record: dict[str, Any] | None) -> set[Node]:
    if record is None:
        return set()
    return {node for node in nodes if compile_predicate(node.expression)(record)}


@pytest.mark.parametrize("seed", range(SEEDS))
def test_index_finds_what_a_scan_finds(seed: int) -> None:
    r = random.Random(seed)
    matcher = Matcher()
    held = [matcher.acquire("x", random_filter(r)) for _ in range(r.choice([5, 60, 300]))]
    for _ in range(10):
        for _ in range(3):
            if held and r.random() < 0.5:
                matcher.release(held.pop(r.randrange(len(held))))
            else:
                held.append(matcher.acquire("x", random_filter(r)))
        before = random_record(r) if r.random() < 0.8 else None
        after = random_record(r) if r.random() < 0.8 else None
        was, now = scan(set(held), before), scan(set(held), after)
        found = matcher.match(Change("x", "1", "patch", before, after))
        assert (set(found.enter), set(found.update), set(found.leave)) == (
            now - was,
            now & was,
            was - now,
        )
    for node in held:
        matcher.release(node)
    assert len(matcher) == 0
    assert not matcher._indexes


def test_equal_filters_are_one_node() -> None:
    matcher = Matcher()
    a, b = Atom("status", "=", "x"), Atom("views", ">", 1.0)
    first = matcher.acquire("posts", all_of([a, b]))
    assert matcher.acquire("posts", all_of([b, a, b])) is first
    assert matcher.acquire("users", all_of([a, b])) is not first
    assert matcher.find("posts", all_of([b, a])) is first
    matcher.release(first)
    assert matcher.match(Change("posts", "1", "post", None, {"status": "x", "views": 2.0})).enter
    matcher.release(first)
    assert matcher.find("posts", all_of([a, b])) is None


def test_many_filters_behind_one_value_are_split_and_freed() -> None:
    matcher = Matcher()
    nodes = [
        matcher.acquire("x", all_of([Atom("s", "=", "a"), Atom("n", "between", (i, i + 0.5))]))
        for i in range(500)
    ]
    found = matcher.match(Change("x", "1", "post", None, {"s": "a", "n": 250.25}))
    assert found.enter == [nodes[250]]
    for node in nodes:
        matcher.release(node)
    assert not matcher._indexes


def test_a_failing_custom_filter_is_no_match_and_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(_: object) -> bool:
        raise RuntimeError("broken")

    matcher = Matcher()
    matcher.acquire("x", Opaque("custom", "1", lambda columns: columns, fail))
    good = matcher.acquire("x", Atom("s", "=", "a"))
    for _ in range(3):
        found = matcher.match(Change("x", "1", "post", None, {"s": "a"}))
        assert found.enter == [good]
    assert [record.levelname for record in caplog.records] == ["ERROR"]


@pytest.mark.parametrize(
    ("atoms", "kind"),
    [
        ([Atom("a", ">", 1), Atom("b", "=", 2), Atom("c", "=", 3)], ByValues),
        ([Atom("a", "in", (1, 2)), Atom("b", "between", (1, 2))], ByValues),
        ([Atom("a", "in", tuple(range(500))), Atom("b", "between", (1, 2))], ByRange),
        ([Atom("a", ">", 1), Atom("a", "<", 2), Atom("t", "like", "abc")], ByRange),
        ([Atom("a", ">", 1), Atom("t", "like", "abc")], ByText),
        ([Atom("a", ">", 1), Atom("t", "like", "ab")], ByRange),
        ([Atom("t", "like", "a")], ByText),
        ([Atom("t", "like", "")], type(None)),
        ([Atom("a", "!=", 1)], type(None)),
    ],
)
def test_access_takes_the_most_selective_key(atoms: list[Atom], kind: type) -> None:
    assert isinstance(choose(atoms), kind)


def entry() -> Entry:
    return Entry(Node("x", b"", all_of([])), (), (), ())


def test_spans_find_ranges_around_a_place_through_splits_and_removals() -> None:
    r = random.Random(1)
    spans = Spans(0.5)
    held = {entry(): (low, low + r.choice([0.0, 0.5])) for low in grid(r, 5000)}
    for one, (low, high) in held.items():
        spans.add(low, high, one)
    for _ in range(3):
        for place in (*grid(r, 20), -1.0, 9.0):
            inside: list[Entry] = []
            at_end: list[Entry] = []
            spans.around(place, inside, at_end)
            assert set(inside) == {one for one, (low, high) in held.items() if low < place < high}
            assert set(at_end) == {one for one, ends in held.items() if place in ends}
        for one in r.sample(list(held), 1600):
            spans.discard(held.pop(one)[0], one)
    for one, (low, _) in held.items():
        spans.discard(low, one)
    assert not spans


def grid(r: random.Random, count: int) -> list[float]:
    """Numbers of which many are equal, so that equal ends reach over several blocks."""
    return [r.randrange(8) / 4 if r.random() < 0.8 else r.uniform(0, 2) for _ in range(count)]


class Canary(str):
    """A text whose end can be noticed, as a node's cannot."""


def test_a_released_node_is_freed_without_a_collection() -> None:
    matcher = Matcher()
    gc.collect()
    gc.disable()
    try:
        for shape in range(3):
            text = Canary(f"abc{shape}")
            canary = weakref.ref(text)
            like, other = Atom("t", "like", text), Atom("a", "=", 1)
            expression = (all_of([like, other]), any_of([like, other]), Not(like))[shape]
            node = matcher.acquire("x", expression)
            del text, like, other, expression
            assert canary() is not None
            matcher.release(node)
            del node
            assert canary() is None
    finally:
        gc.enable()


def test_columns_with_many_values_are_found_by_each_of_them() -> None:
    matcher = Matcher()
    tagged = matcher.acquire("x", Atom("tags", "=", "a", some=True))
    listed = matcher.acquire("x", all_of([Atom("s", "=", 1), Atom("n", ">", 2, some=True)]))
    one = matcher.acquire("x", Atom("n", "in", (1, 7), some=True))
    many = [
        matcher.acquire("x", all_of([Atom("tags", "=", "z", some=True), Atom("m", "=", number)]))
        for number in range(100)
    ]
    assert not matcher._indexes["x"]._rest

    def entered(tags: Any, n: Any, s: int = 0, m: int = -1) -> set[Node]:
        image = {"tags": tags, "s": s, "n": n, "m": m}
        return set(matcher.match(Change("x", "1", "post", None, image)).enter)

    assert entered(["b", "a"], [1, 3], s=1) == {tagged, listed, one}
    assert entered(["b"], [1]) == {one}
    assert entered(["b", ["a"], {"a": 1}, None], [True]) == set(), "1 is not true"
    assert entered(None, []) == set()
    assert entered(["z", "q"], (None,), m=42) == {many[42]}
    before = {"tags": ["a"], "s": 0, "n": [7], "m": 0}
    found = matcher.match(Change("x", "1", "patch", before, before | {"tags": ["c", "z"]}))
    assert (found.enter, found.update, found.leave) == ([many[0]], [one], [tagged])
    for node in [tagged, listed, one, *many]:
        matcher.release(node)
    assert not matcher._indexes


def test_a_match_takes_steps_that_are_short(monkeypatch: pytest.MonkeyPatch) -> None:
    """However much is looked for in however long a value: counted in letters, not in seconds."""
    looked = 0
    contains = predicate._contains

    def counted(found: str, part: str) -> bool:
        nonlocal looked
        looked += len(found)
        return contains(found, part)

    monkeypatch.setattr(predicate, "_contains", counted)
    matcher = Matcher()
    for number in range(20):
        words = tuple(Atom("text", "like", f"w{number}x{word}") for word in range(60))
        matcher.acquire("posts", AnyOf(words))
    text = "w" * 2_000 + "x" + "lorem ipsum w3x7 " * 1_000
    assert matcher.match(Change("posts", "1", "post", None, {"text": text})).enter
    most, steps = 0, matcher.steps(Change("posts", "1", "post", None, {"text": text}))
    while True:
        looked = 0
        try:
            next(steps)
        except StopIteration:
            break
        most = max(most, looked)
    assert most <= len(text), "one of them at a time"


def test_filters_may_come_and_go_between_the_steps() -> None:
    matcher = Matcher()
    nodes = [matcher.acquire("posts", Atom("text", "like", f"a{number}")) for number in range(30)]
    others = [
        matcher.acquire("posts", AllOf((Atom("tag", "in", (1, 2), some=True), Atom("n", "=", n))))
        for n in range(30)
    ]
    image = {"text": " ".join(f"a{n}" for n in range(30)) + "x" * 9_000, "n": 3, "tag": [1] * 9_000}
    steps = matcher.steps(Change("posts", "1", "post", None, image))
    found = None
    for number in range(10_000):
        try:
            next(steps)
        except StopIteration as end:
            found = end.value
            break
        if number < 20:
            matcher.release(nodes[number])
            matcher.release(others[number])
            matcher.acquire("posts", Atom("text", "like", f"xx{number}"))
    assert found is not None
    assert {node.key for node in nodes[20:]} <= {node.key for node in found.enter}


def test_arrays_are_looked_up_once_and_by_type() -> None:
    long = [True, 0, None, "a", [1], {"b": 1}, 2.0, *range(100, 300)]
    for elements in (long, long[:7]):
        wanted = ["a", 2, 0, True, False, 1, "b", None, 2.5]
        assert [one for one in wanted if has_element(elements, [one])] == ["a", 2, 0, True]
    assert element_keys(long) is element_keys(long)

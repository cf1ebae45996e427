"""Holding the filters of a world against a database, and what does not agree made small."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import msgspec

from tests.proof.bench import Bench
from tests.proof.expressions import random_filters, shuffled
from tests.proof.worlds import Row, World, random_world
from tidings.feed import Change
from tidings.filters import (
    AllOf,
    AnyOf,
    Atom,
    Comparison,
    Expression,
    Not,
    TextMatch,
    canonical,
    columns_used,
    compile_predicate,
)
from tidings.filters.values import Arithmetic, Coalesce, Value
from tidings.matching import Matcher


class Disagreement(AssertionError):
    """SQL and Python, or the index and Python, have answered differently."""


@dataclass
class Decisions:
    """What the predicates say: for each filter, the ids of the things that match."""

    world: World
    images: list[Row]
    matches: list[set[Any]]

    @property
    def count(self) -> int:
        return len(self.images) * len(self.matches)


def make_world(seed: str, *, records: int, filters: int) -> Decisions:
    """A world, its filters, and what Python says of them; always the same for a seed."""
    return decide(Random(seed), records=records, filters=filters)


def decide(r: Random, *, records: int, filters: int) -> Decisions:
    world = random_world(r, records)
    world.filters = random_filters(r, world, filters)
    images = world.images()
    predicates = [compile_predicate(expression) for expression in world.filters]
    matches = [{image["id"] for image in images if test(image)} for test in predicates]
    return Decisions(world, images, matches)


# Against a database


async def prove_sql(
    bench: Bench,
    found: Decisions,
    samples: Sequence[int],
    *,
    by_store: bool = False,
    shrink: bool = True,
) -> None:
    """What is written is read; each filter selects what its predicate accepts.

    All filters are asked in one statement, those of the samples by the store as well.
    """
    world = found.world
    await bench.load(world, by_store=by_store)
    for name, rows in (await bench.rows()).items():
        by_id = {row["id"]: row for row in rows}
        if by_id != {row["id"]: row for row in world.rows[name]}:
            raise Disagreement(f"{bench.name}: {name}\nwritten {world.rows[name]}\nread {rows}")
    try:
        selected = await bench.selected(world.filters)
    except Exception:
        async for report in _failures(bench, world):
            raise Disagreement(report) from None
        raise
    for expression, by_sql, by_python in zip(world.filters, selected, found.matches, strict=True):
        if by_sql != by_python:
            report = await _smallest(bench, found, expression) if shrink else f"{expression}"
            raise Disagreement(report)
    for number in samples:
        expression, by_python = world.filters[number], found.matches[number]
        ids, counted = await bench.found(expression)
        if ids != by_python or counted != len(ids):
            raise Disagreement(
                f"{bench.name}: RecordStore.find (and .count: {counted})\n{expression}\n"
                f"SQL only {ids - by_python}\nPython only {by_python - ids}\n"
                f"{bench.told(expression)}"
            )


async def _failures(bench: Bench, world: World) -> AsyncIterator[str]:
    for expression in world.filters:
        try:
            await bench.selected([expression])
        except Exception as error:
            sql, values = bench.told(expression)
            yield (
                f"{bench.name} failed: {error!r:.500}\n{expression}\n"
                f"schema {_schema(world)}\nSQL {sql}\nparameters {values}"
            )


async def _smallest(bench: Bench, found: Decisions, expression: Expression) -> str:
    """The report of a disagreement, on one record and a filter of which no part can go."""

    async def differing(candidate: Expression) -> list[Row]:
        try:
            (ids,) = await bench.selected([candidate])
            matches = compile_predicate(candidate)
            return [image for image in found.images if matches(image) != (image["id"] in ids)]
        except Exception:
            return []

    images = await differing(expression)
    if not images:
        return f"{bench.name}: only beside other filters: {expression}"
    while True:
        for candidate in smaller(expression):
            if left := await differing(candidate):
                expression, images = candidate, left
                break
        else:
            break
    image = images[0]
    (ids,) = await bench.selected([expression])
    sql, values = bench.told(expression)
    used = columns_used(expression) or image.keys()
    return (
        f"{bench.name} says {image['id'] in ids}, Python {image['id'] not in ids} "
        f"(for {len(images)} of {len(found.images)} records)\n"
        f"expression {expression}\nrecord { {name: image[name] for name in used} }\n"
        f"schema {_schema(found.world)}\nSQL {sql}\nparameters {values}"
    )


def _schema(world: World) -> dict[str, Any]:
    return {name: kind.options or kind.name for name, kind in world.kinds.items()}


def smaller(expression: Expression) -> Iterator[Expression]:
    """What is left of a filter without some part of it."""
    match expression:
        case AllOf(terms) | AnyOf(terms):
            yield from terms
            for place, term in enumerate(terms):
                before, after = terms[:place], terms[place + 1 :]
                if len(terms) > 1:
                    yield type(expression)(before + after)
                for part in smaller(term):
                    yield type(expression)((*before, part, *after))
        case Not(term):
            yield term
            yield from (Not(part) for part in smaller(term))
        case Atom(operator="in", value=values):
            for place in range(len(values)):
                yield _with(expression, value=values[:place] + values[place + 1 :])
        case Comparison(left, _, right):
            yield from (_with(expression, left=part) for part in _parts(left))
            if right is not None:
                yield from (_with(expression, right=part) for part in _parts(right))
        case TextMatch(text, segments):
            yield from (_with(expression, text=part) for part in _parts(text))
            for place, segment in enumerate(segments):
                before, after = segments[:place], segments[place + 1 :]
                if before or after:
                    yield _with(expression, segments=before + after)
                for cut in range(len(segment)):
                    rest = segment[:cut] + segment[cut + 1 :]
                    yield _with(expression, segments=(*before, rest, *after))


def _with(part: Any, **changes: Any) -> Any:
    kind = msgspec.structs if isinstance(part, msgspec.Struct) else dataclasses
    return kind.replace(part, **changes)


def _parts(value: Value) -> Iterator[Value]:
    match value:
        case Arithmetic(_, left, right):
            yield from (left, right)
            yield from (_with(value, left=part) for part in _parts(left))
            yield from (_with(value, right=part) for part in _parts(right))
        case Coalesce(values) if len(values) > 1:
            yield Coalesce(values[1:])
            yield Coalesce(values[:-1])


# Without a database


def prove_canonical(r: Random, found: Decisions) -> None:
    """Equal forms mean the same; and another order is the same form."""
    by_form: dict[str, set[Any]] = {}
    for expression, matches in zip(found.world.filters, found.matches, strict=True):
        form = canonical(expression)
        if by_form.setdefault(form, matches) != matches:
            raise Disagreement(f"one form, two meanings: {form}\n{expression}")
        other = shuffled(r, expression)
        if canonical(other) != form:
            raise Disagreement(f"one meaning, two forms:\n{expression}\n{other}")
        test = compile_predicate(other)
        if {image["id"] for image in found.images if test(image)} != matches:
            raise Disagreement(f"the order decides:\n{expression}\n{other}")


def prove_index(r: Random, found: Decisions, changes: int) -> None:
    """The index finds what a look at every filter finds, and forgets what is released."""
    matcher, held = Matcher(), []
    for expression, matches in zip(found.world.filters, found.matches, strict=True):
        held.append((matcher.acquire("things", expression), matches))
    for number in range(changes):
        if number == changes // 2:  # what is left must still be found
            r.shuffle(held)
            for node, _ in held[: len(held) // 3]:
                matcher.release(node)
            del held[: len(held) // 3]
        before, after = (r.choice([None, *found.images * 3]) for _ in range(2))
        answer = matcher.match(Change("things", "1", "patch", before, after))
        expected: dict[str, set[Any]] = {"enter": set(), "update": set(), "leave": set()}
        for node, matches in held:
            was = before is not None and before["id"] in matches
            now = after is not None and after["id"] in matches
            if was or now:
                expected["update" if was and now else "enter" if now else "leave"].add(node)
        given = {way: set(nodes) for way, nodes in answer._asdict().items()}
        if given != expected:
            way = next(way for way in expected if expected[way] != given[way])
            node = next(iter(expected[way] ^ given[way]))
            raise Disagreement(
                f"index: {way} is {node in given[way]}, for\n{node.expression}\n"
                f"before {before}\nafter {after}"
            )
    for node, _ in held:
        matcher.release(node)
    if len(matcher) or matcher._indexes:
        raise Disagreement("the index keeps what was released")

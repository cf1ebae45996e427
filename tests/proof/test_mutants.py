"""What is proved is worth no more than what the proof would find: here it is put to the test.

Each mutant is one fault, put in for the length of a test, in which the proof has to stumble over
it. A mutant that survives is a hole in the generators.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

import pytest
from sqlalchemy import literal_column, true

from tests.proof.conftest import Benched
from tests.proof.proving import Disagreement, make_world, prove_canonical, prove_index, prove_sql
from tidings.filters import AllOf, Atom, Expression, Not, canonical, predicate, sql, text
from tidings.matching import access, conjunctions, matcher

Mutate = Callable[[pytest.MonkeyPatch], None]
MOST = 60
"""How many worlds a mutant may survive."""


def not_of_unknown_is_true(patch: pytest.MonkeyPatch) -> None:
    compiled = predicate._compile

    def compile_(expression: Expression) -> Any:
        if isinstance(expression, Not):
            inner = compile_(expression.term)
            return lambda record: inner(record) is not True
        return compiled(expression)

    patch.setattr(predicate, "_compile", compile_)


def pattern_is_not_escaped(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(text, "_spelled", lambda letter, case: letter.replace("\x00", "."))


def like_text_is_not_escaped(patch: pytest.MonkeyPatch) -> None:
    def unescaped(segments: tuple[str, ...], _: str) -> str:
        return "%".join(segment.replace("\x00", "_") for segment in segments)

    patch.setattr(sql, "like_text", unescaped)


def case_is_pythons_lower(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(predicate, "fold", str.lower)


def upper_case_is_pythons(patch: pytest.MonkeyPatch) -> None:
    patch.setitem(text.SEEN_AS, "upper", str.upper)
    text.text_matcher.cache_clear()


def empty_list_is_true(patch: pytest.MonkeyPatch) -> None:
    made = sql._Builder._in

    def in_(self: Any, column: Any, count: int) -> Any:
        return made(self, column, count) if count else true()

    patch.setattr(sql._Builder, "_in", in_)


def between_is_exclusive(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(predicate, "_is_between", lambda found, ends: ends[0] < found < ends[1])


def elements_have_no_type(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(
        predicate, "has_element", lambda found, wanted: any(one in found for one in wanted)
    )


def elements_of_inner_arrays_count(patch: pytest.MonkeyPatch) -> None:
    def flat(items: Any) -> list[Any]:
        return [
            part for item in items for part in (flat(item) if isinstance(item, list) else [item])
        ]

    found = text.has_element
    patch.setattr(predicate, "has_element", lambda items, wanted: found(flat(items), wanted))


def some_is_all(patch: pytest.MonkeyPatch) -> None:
    some = predicate._compile_some

    def every(atom: Atom) -> Any:
        single = some(atom)
        column = atom.column
        return lambda record: (
            all(single({**record, column: (value,)}) for value in record[column] or ())
            and bool(record[column])
        )

    patch.setattr(predicate, "_compile_some", every)


def some_may_be_unknown(patch: pytest.MonkeyPatch) -> None:
    some = predicate._compile_some

    def unknown(atom: Atom) -> Any:
        single, column = some(atom), atom.column
        return lambda record: single(record) if record[column] else None

    patch.setattr(predicate, "_compile_some", unknown)


def division_by_zero_is_zero(patch: pytest.MonkeyPatch) -> None:
    patch.setitem(predicate._COMPUTE, "/", lambda left, right: left / right if right else 0.0)


def numbers_have_no_limit(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(predicate, "_within_limit", lambda value: value)


def integers_are_compared_exactly(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(predicate, "_as_double", lambda value: value)


def texts_follow_the_servers_order(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(
        sql,
        "EXACT",
        {"sqlite": "NOCASE", "postgresql": "en-x-icu", "mariadb": "utf8mb4_general_ci"},
    )


def negated_elements_may_be_unknown(patch: pytest.MonkeyPatch) -> None:
    made = sql._Builder._some_element

    def some_element(self: Any, atom: Atom, column: Any) -> Any:
        before, self._negated = self._negated, False
        found = made(self, atom, column)
        self._negated = before
        return found

    patch.setattr(sql._Builder, "_some_element", some_element)


def empty_any_is_true(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(sql, "_NEVER", literal_column("1 = 1"))


def greater_includes_equal(patch: pytest.MonkeyPatch) -> None:
    patch.setitem(predicate._COMPARE, ">", operator.ge)


def key_that_leads_nowhere_is_not_null(patch: pytest.MonkeyPatch) -> None:
    made = sql._Builder._related

    def related(self: Any, atom: Atom, found: Any) -> Any:
        if atom.operator == "is null" and not found.many:
            return self._table.c[found.hops[0].near].is_(None)
        return made(self, atom, found)

    patch.setattr(sql._Builder, "_related", related)


@dataclass(frozen=True)
class Mutant:
    mutate: Mutate
    databases: tuple[str, ...] = ("sqlite",)


SERVERS = ("postgresql", "mariadb")
MUTANTS = [
    Mutant(not_of_unknown_is_true),
    Mutant(pattern_is_not_escaped, SERVERS),
    Mutant(like_text_is_not_escaped, ("postgresql",)),
    Mutant(case_is_pythons_lower),
    Mutant(upper_case_is_pythons, SERVERS),
    Mutant(empty_list_is_true),
    Mutant(between_is_exclusive),
    Mutant(elements_have_no_type),
    Mutant(elements_of_inner_arrays_count),
    Mutant(some_is_all),
    Mutant(some_may_be_unknown),
    Mutant(division_by_zero_is_zero),
    Mutant(numbers_have_no_limit),
    Mutant(integers_are_compared_exactly),
    Mutant(texts_follow_the_servers_order, ("mariadb",)),
    Mutant(negated_elements_may_be_unknown, ("postgresql",)),
    Mutant(empty_any_is_true),
    Mutant(greater_includes_equal),
    Mutant(key_that_leads_nowhere_is_not_null),
]


@pytest.mark.parametrize(
    ("mutate", "name"),
    [
        pytest.param(mutant.mutate, name, id=f"{mutant.mutate.__name__}-{name}")
        for mutant in MUTANTS
        for name in mutant.databases
    ],
)
def test_the_proof_finds_the_fault(
    mutate: Mutate,
    name: str,
    database: Callable[[str], Benched],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    benched = database(name)
    mutate(monkeypatch)
    try:
        with pytest.raises(Disagreement):
            for number in range(MOST):
                found = make_world(f"mutant/{number}", records=60, filters=30)
                benched.run(prove_sql(benched.bench, found, (), shrink=False))
    finally:
        text.text_matcher.cache_clear()


def test_a_report_has_what_is_needed_and_no_more(
    database: Callable[[str], Benched], monkeypatch: pytest.MonkeyPatch
) -> None:
    benched = database("sqlite")
    between_is_exclusive(monkeypatch)
    with pytest.raises(Disagreement) as caught:
        for number in range(MOST):
            found = make_world(f"mutant/{number}", records=60, filters=30)
            benched.run(prove_sql(benched.bench, found, ()))
    first, expression, record, schema, *sql, parameters = str(caught.value).split("\n")
    assert first.startswith("sqlite says True, Python False")
    assert expression.startswith("expression Atom(")
    assert record.startswith("record {")
    assert schema.startswith("schema {")
    assert sql[0].startswith("SQL SELECT")
    assert parameters.startswith("parameters {'f0': ")


# Of what needs no database


def null_passes_checks(patch: pytest.MonkeyPatch) -> None:
    made = matcher.check_of

    def check_of(term: Expression) -> Any:
        name, test, operand = made(term)
        if name is None:
            return name, test, operand
        return None, lambda record, _: record[name] is None or test(record[name], operand), None

    patch.setattr(matcher, "check_of", check_of)


def lists_give_their_first_key(patch: pytest.MonkeyPatch) -> None:
    by_values = access._by_values

    def first(atoms: Any) -> Any:
        found = by_values(atoms)
        return found and access.ByValues(found.shape, found.keys[:1], found.used)

    patch.setattr(access, "_by_values", first)


def alternatives_are_forgotten(patch: pytest.MonkeyPatch) -> None:
    found = conjunctions.conjunctions
    patch.setattr(matcher, "conjunctions", lambda expression: found(expression)[:1])


def texts_are_looked_up_unfolded(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(access, "fold", lambda value: value)


def all_and_any_have_one_form(patch: pytest.MonkeyPatch) -> None:
    def form(expression: Expression) -> str:
        found = canonical(expression)
        return found.replace("all(", "any(") if isinstance(expression, AllOf) else found

    patch.setattr("tests.proof.proving.canonical", form)
    patch.setattr(matcher, "canonical", form)


@pytest.mark.parametrize(
    "mutate",
    [
        null_passes_checks,
        lists_give_their_first_key,
        alternatives_are_forgotten,
        texts_are_looked_up_unfolded,
        all_and_any_have_one_form,
    ],
)
def test_the_proof_of_the_index_finds_the_fault(
    mutate: Mutate, monkeypatch: pytest.MonkeyPatch
) -> None:
    mutate(monkeypatch)
    with pytest.raises(Disagreement):
        for number in range(MOST):
            found = make_world(f"mutant/{number}", records=30, filters=60)
            prove_canonical(Random(number), found)
            prove_index(Random(number), found, 40)

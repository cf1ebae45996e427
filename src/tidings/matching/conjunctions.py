"""From a filter to conjunctions of atoms, and from atoms to checks of one record.

A filter is true where one of its conjunctions is: with SQL's three values, "is true" distributes
over AND and OR, so the disjunctive form matches exactly what the filter matches.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import product
from typing import Any, Final

from tidings.filters import AllOf, AnyOf, Atom, Expression, Not, comparison, compile_predicate

MAX_CONJUNCTIONS: Final = 64
"""A filter that would come to more keeps its ORs as checks."""

Record = Mapping[str, Any]
Check = tuple[str | None, Callable[[Any, Any], bool], Any]
"""Column, test and operand; without a column the test gets the whole record."""


def conjunctions(expression: Expression) -> list[tuple[Expression, ...]]:
    """The filter as alternatives, each a tuple of terms that must all hold."""
    if isinstance(expression, AnyOf):
        found = [part for term in expression.terms for part in conjunctions(term)]
        return found if len(found) <= MAX_CONJUNCTIONS else [(expression,)]
    if isinstance(expression, AllOf):
        return _joined([conjunctions(term) for term in expression.terms], expression)
    if isinstance(expression, Atom) and expression.operator == "in" and not expression.value:
        return []
    return [(expression,)]


def _joined(
    parts: list[list[tuple[Expression, ...]]], whole: AllOf
) -> list[tuple[Expression, ...]]:
    count = 1
    for part in parts:
        count *= len(part)
    if count > MAX_CONJUNCTIONS:
        parts = [
            part if len(part) == 1 else [(term,)]
            for part, term in zip(parts, whole.terms, strict=True)
        ]
    return [tuple(term for part in choice for term in part) for choice in product(*parts)]


def is_heavy(term: Expression) -> bool:
    """Whether the check of a term takes longer for a longer value, or nobody knows how long."""
    match term:
        case Atom(operator=operator, some=some):
            return some or operator == "like"
        case AllOf(terms) | AnyOf(terms):
            return any(map(is_heavy, terms))
        case Not(inner):
            return is_heavy(inner)
    return True


def check_of(term: Expression) -> Check:
    """The check of one term; like SQL, a comparison with NULL is not true."""
    if not isinstance(term, Atom) or term.some:
        test = compile_predicate(term)
        return None, lambda record, _: test(record), None
    if term.operator == "is null":
        return None, lambda record, name: record[name] is None, term.column
    if term.operator == "is not null":
        return None, lambda record, name: record[name] is not None, term.column
    return (term.column, *comparison(term))

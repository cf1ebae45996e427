"""Reading an expression as a Python predicate over one record (a dict of column values).

Compiled once into closures, run for every change. Inside, True, False and None are SQL's true,
false and unknown.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any, Final

from tidings.filters.expression import AllOf, AnyOf, Atom, Expression, Not, Opaque

Record = Mapping[str, Any]
_Ternary = Callable[[Record], bool | None]

_COMPARE: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "=": operator.eq,
    "!=": operator.ne,
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
}


def compile_predicate(expression: Expression) -> Callable[[Record], bool]:
    """A function that tells whether a record matches, with the same answer as the SQL reader.

    Raises:
        ValueError: the expression holds a custom filter without ``filter_record``.
    """
    ternary = _compile(expression)
    return lambda record: ternary(record) is True


def _compile(expression: Expression) -> _Ternary:
    match expression:
        case Atom():
            return _compile_atom(expression)
        case AllOf(terms):
            return _compile_all(tuple(_compile(term) for term in terms))
        case AnyOf(terms):
            return _compile_any(tuple(_compile(term) for term in terms))
        case Not(term):
            inner = _compile(term)
            return lambda record: None if (answer := inner(record)) is None else not answer
        case Opaque(name=name, record_test=test):
            if test is None:
                raise ValueError(f"filter {name!r} has no filter_record")
            # A custom function answers for itself; it knows no "unknown".
            return lambda record: bool(test(record))


def _compile_all(parts: tuple[_Ternary, ...]) -> _Ternary:
    def every(record: Record) -> bool | None:
        answer: bool | None = True
        for part in parts:
            found = part(record)
            if found is False:
                return False
            if found is None:
                answer = None
        return answer

    return every


def _compile_any(parts: tuple[_Ternary, ...]) -> _Ternary:
    def some(record: Record) -> bool | None:
        answer: bool | None = False
        for part in parts:
            found = part(record)
            if found is True:
                return True
            if found is None:
                answer = None
        return answer

    return some


def _compile_atom(atom: Atom) -> _Ternary:
    column, value = atom.column, atom.value
    if atom.operator == "is null":
        return lambda record: record[column] is None
    if atom.operator == "is not null":
        return lambda record: record[column] is not None
    if atom.operator == "in" and not value:
        return lambda record: False  # also for NULL, as in SQL
    test, operand = comparison(atom)
    return lambda record: None if (found := record[column]) is None else test(found, operand)


def comparison(atom: Atom) -> tuple[Callable[[Any, Any], bool], Any]:
    """How an atom compares a value that is not NULL: a test of value and operand, and the operand.

    For every operator but ``is null`` and ``is not null``.
    """
    if atom.operator == "in":
        return _is_in, frozenset(atom.value)
    if atom.operator == "between":
        return _is_between, atom.value
    if atom.operator == "like":
        return _contains, atom.value.lower()
    return _COMPARE[atom.operator], atom.value


def _is_in(found: Any, values: frozenset[Any]) -> bool:
    return found in values


def _is_between(found: Any, bounds: tuple[Any, Any]) -> bool:
    return bool(bounds[0] <= found <= bounds[1])


def _contains(found: str, part: str) -> bool:
    return part in found.lower()

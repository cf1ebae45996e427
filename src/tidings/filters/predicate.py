"""Reading an expression as a Python predicate over one record (a dict of column values).

Compiled once into closures, run for every change. Inside, True, False and None are SQL's true,
false and unknown.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any, Final

from tidings.filters.expression import (
    AllOf,
    AnyOf,
    Atom,
    Comparison,
    Expression,
    Linked,
    Not,
    Opaque,
    TextMatch,
)
from tidings.filters.text import fold, has_element, text_matcher
from tidings.filters.values import (
    LIMIT,
    RECIPROCAL,
    Arithmetic,
    Coalesce,
    Column,
    Constant,
    Length,
    Value,
    kind_of,
)

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
        case Atom(some=True):
            return _compile_some(expression)
        case Atom():
            return _compile_atom(expression)
        case Comparison():
            return _compile_comparison(expression)
        case TextMatch(text, segments, case):
            return _compile_text(_compile_value(text), text_matcher(segments, case))
        case AllOf(terms):
            return _compile_all(tuple(_compile(term) for term in terms))
        case AnyOf(terms):
            return _compile_any(tuple(_compile(term) for term in terms))
        case Not(term):
            inner = _compile(term)
            return lambda record: None if (answer := inner(record)) is None else not answer
        case Linked(column=column):
            raise ValueError(f"a record does not tell what refers to it by {column!r}")
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


def _compile_some(atom: Atom) -> _Ternary:
    """True where one of the column's values makes it so, else false, as with EXISTS."""
    column = atom.column
    if atom.operator == "is null":
        return lambda record: None in (record[column] or ())
    if atom.operator == "is not null":
        return lambda record: any(found is not None for found in record[column] or ())
    if atom.operator in ("=", "in"):
        wanted = atom.value if atom.operator == "in" else (atom.value,)
        return lambda record: has_element(record[column] or (), wanted)
    test, operand = comparison(atom)
    if atom.operator == "like":
        return lambda record: any(
            isinstance(found, str) and test(found, operand) for found in record[column] or ()
        )
    return lambda record: any(
        found is not None and test(found, operand) for found in record[column] or ()
    )


def _compile_comparison(term: Comparison) -> _Ternary:
    left = _compile_value(term.left)
    if term.operator == "is null":
        return lambda record: left(record) is None
    if term.operator == "is not null":
        return lambda record: left(record) is not None
    assert term.right is not None
    right = _compile_value(term.right)
    if kind_of(term.left) != kind_of(term.right):
        # A database compares an integer with a double as doubles; Python would do it exactly.
        left, right = _as_double(left), _as_double(right)
    test = _COMPARE[term.operator]

    def compare(record: Record) -> bool | None:
        first, second = left(record), right(record)
        return None if first is None or second is None else test(first, second)

    return compare


def _compile_text(value: Callable[[Record], Any], matches: Callable[[str], bool]) -> _Ternary:
    return lambda record: None if (found := value(record)) is None else matches(found)


def _compile_value(value: Value) -> Callable[[Record], Any]:
    match value:
        case Column(name):
            return operator.itemgetter(name)
        case Constant(constant):
            return lambda record: constant
        case Length(text):
            inner = _compile_value(text)
            return lambda record: None if (found := inner(record)) is None else len(found)
        case Coalesce(values):
            ways = tuple(_compile_value(item) for item in values)
            return lambda record: next(
                (found for way in ways if (found := way(record)) is not None), None
            )
        case Arithmetic():
            return _compile_arithmetic(value)


def _compile_arithmetic(value: Arithmetic) -> Callable[[Record], float | None]:
    left, right = (_operand(side) for side in (value.left, value.right))
    compute = _COMPUTE[value.operator]

    def result(record: Record) -> float | None:
        first, second = left(record), right(record)
        return None if first is None or second is None else compute(first, second)

    return result


def _operand(value: Value) -> Callable[[Record], float | None]:
    found = _compile_value(value)
    if isinstance(value, Arithmetic):
        return found
    return _as_double(found) if kind_of(value) == "integer" else _within_limit(found)


def _as_double(value: Callable[[Record], Any]) -> Callable[[Record], float | None]:
    return lambda record: None if (found := value(record)) is None else float(found)


def _within_limit(value: Callable[[Record], Any]) -> Callable[[Record], float | None]:
    def limited(record: Record) -> float | None:
        found: float | None = value(record)
        if found is None or found == 0 or RECIPROCAL <= abs(found) <= LIMIT:
            return found
        return None

    return limited


def _divide(left: float, right: float) -> float | None:
    return None if right == 0 else left / right


_COMPUTE: Final[dict[str, Callable[[float, float], float | None]]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": _divide,
}


def comparison(atom: Atom) -> tuple[Callable[[Any, Any], bool], Any]:
    """How an atom compares a value that is not NULL: a test of value and operand, and the operand.

    For every operator but ``is null`` and ``is not null``.
    """
    if atom.operator == "in":
        return _is_in, frozenset(atom.value)
    if atom.operator == "between":
        return _is_between, atom.value
    if atom.operator == "like":
        return _contains, fold(atom.value)
    return _COMPARE[atom.operator], atom.value


def _is_in(found: Any, values: frozenset[Any]) -> bool:
    return found in values


def _is_between(found: Any, bounds: tuple[Any, Any]) -> bool:
    return bool(bounds[0] <= found <= bounds[1])


def _contains(found: str, part: str) -> bool:
    return part in fold(found)

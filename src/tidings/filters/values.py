"""Values inside a filter: columns, constants, and what custom filters compute from them.

Arithmetic is done in double precision on every database and in Python, one operation after the
other, so that all of them round alike.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, Literal

import msgspec

ValueKind = Literal["string", "number", "integer", "boolean", "date", "dateTime", "time"]
ArithmeticOperator = Literal["+", "-", "*", "/"]
NUMBER_KINDS: Final = frozenset({"number", "integer"})


class Column(msgspec.Struct, frozen=True, gc=False):
    """The value of a column of the resource's own table."""

    name: str
    kind: ValueKind


class Constant(msgspec.Struct, frozen=True, gc=False):
    """A value that is the same for every record, already cast; never None."""

    value: Any
    kind: ValueKind


class Arithmetic(msgspec.Struct, frozen=True, gc=False):
    """Two numbers computed to a third, in double precision.

    It is unknown (NULL) where one of them is, after a division by zero, and where a number of a
    column is beyond `LIMIT` or, but for zero, below its reciprocal: databases do not agree on
    what an overflow is.
    """

    operator: ArithmeticOperator
    left: Value
    right: Value


class Coalesce(msgspec.Struct, frozen=True, gc=False):
    """The first of some values, all of one kind, that is not NULL."""

    values: tuple[Value, ...]


class Length(msgspec.Struct, frozen=True, gc=False):
    """How many code points a text has."""

    text: Value


Value = Column | Constant | Arithmetic | Coalesce | Length

LIMIT: Final = 1e60
RECIPROCAL: Final = 1e-60
"""Not 1 / LIMIT, which is rounded to another number."""
_LIMIT_EXPONENT: Final = 60.0
_SAFE_EXPONENT: Final = 300.0
_CANCELLED_DIGITS: Final = 16.0


def kind_of(value: Value) -> ValueKind:
    """The kind of a value."""
    match value:
        case Column() | Constant():
            return value.kind
        case Coalesce(values):
            return kind_of(values[0])
        case Length():
            return "integer"
        case Arithmetic():
            return "number"


def parts(value: Value) -> Iterator[Value]:
    """The value and everything inside it."""
    yield value
    match value:
        case Arithmetic():
            yield from parts(value.left)
            yield from parts(value.right)
        case Coalesce(values):
            for item in values:
                yield from parts(item)
        case Length():
            yield from parts(value.text)
        case _:
            pass


def is_safe(value: Value) -> bool:
    """Whether no record can make the arithmetic overflow, or vanish for want of exponents."""
    low, high = _exponents(value)
    return low >= -_SAFE_EXPONENT and high <= _SAFE_EXPONENT


def _exponents(value: Value) -> tuple[float, float]:
    """Bounds of the decimal exponent of a number that is not zero."""
    match value:
        case Arithmetic(operator="*"):
            (low, high), (low2, high2) = _exponents(value.left), _exponents(value.right)
            return low + low2, high + high2
        case Arithmetic(operator="/"):
            (low, high), (low2, high2) = _exponents(value.left), _exponents(value.right)
            return low - high2, high - low2
        case Arithmetic():
            (low, high), (low2, high2) = _exponents(value.left), _exponents(value.right)
            return min(low, low2) - _CANCELLED_DIGITS, max(high, high2) + 1
        case Coalesce(values):
            bounds = [_exponents(item) for item in values]
            return min(low for low, _ in bounds), max(high for _, high in bounds)
        case _:
            return -_LIMIT_EXPONENT, _LIMIT_EXPONENT

"""The canonical form: equal filters written differently become the same text.

It decides which subscriptions share a room, so it must never join two filters that differ:
every value carries its type, every name and text is quoted.
"""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import msgspec

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
from tidings.filters.text import fold
from tidings.filters.values import Arithmetic, Coalesce, Column, Constant, Length, Value
from tidings.numbers import exact, trimmed
from tidings.schema.moments import duration_text


def canonical(expression: Expression) -> str:
    """Text that is equal for two expressions exactly where they are the same filter.

    The order of terms, repetitions, the order and repetition of ``in`` values do not matter.
    """
    if isinstance(expression, Atom):
        return f"some {_atom(expression)}" if expression.some else _atom(expression)
    if isinstance(expression, Comparison):
        right = "" if expression.right is None else f",{_operand(expression.right)}"
        return f"compare({expression.operator},{_operand(expression.left)}{right})"
    if isinstance(expression, TextMatch):
        segments = ",".join(_quoted(segment) for segment in expression.segments)
        return f"match({expression.case},{_operand(expression.text)},{segments})"
    if isinstance(expression, Linked):
        where = canonical(expression.where)
        return f"linked({expression.resource.name},{_quoted(expression.column)},{where})"
    if isinstance(expression, Opaque):
        return f"custom({_quoted(expression.name)},{_quoted(expression.key)})"
    if isinstance(expression, Not):
        return f"not({canonical(expression.term)})"
    name = "all" if isinstance(expression, AllOf) else "any"
    return f"{name}({','.join(_canonical_terms(expression))})"


def _canonical_terms(expression: AllOf | AnyOf) -> list[str]:
    return sorted({canonical(term) for term in expression.terms})


def _atom(atom: Atom) -> str:
    column, operator, value = _quoted(atom.column), atom.operator, atom.value
    if operator == "in":
        values = sorted({_value(item) for item in value})
        if len(values) == 1:
            return f"{column}={values[0]}"
        return f"{column} in({','.join(values)})"
    if operator == "between":
        return f"{column} between({_value(value[0])},{_value(value[1])})"
    if operator in ("is null", "is not null"):
        return f"{column} {operator}"
    if operator == "like":
        return f"{column} like {_value(fold(value))}"
    return f"{column}{operator}{_value(value)}"


def _operand(value: Value) -> str:
    match value:
        case Column(name, kind):
            return f"{kind}:{_quoted(name)}"
        case Constant(constant, kind):
            return f"{kind}:{_value(constant)}"
        case Coalesce(values):
            return f"coalesce({','.join(_operand(item) for item in values)})"
        case Length(text):
            return f"length({_operand(text)})"
        case Arithmetic(operator, left, right):
            return f"({_operand(left)}{operator}{_operand(right)})"


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return f"b:{value}"
    if isinstance(value, str):
        return _quoted(value)
    if isinstance(value, int | float | Decimal):
        # Numbers compare by value whatever their type: 1, 1.0 and Decimal("1.00") are one filter.
        number = trimmed(exact(value))
        return f"n:{number if number else 0}"
    if isinstance(value, datetime | date | time):
        return f"{type(value).__name__}:{value.isoformat()}"
    if isinstance(value, timedelta):
        return f"duration:{duration_text(value)}"
    raise TypeError(f"a filter cannot hold a value of type {type(value).__name__}")


def _quoted(text: str) -> str:
    return msgspec.json.encode(text).decode()

"""Filters in words, for people who ask why a record does or does not match."""

from __future__ import annotations

from datetime import date, time, timedelta
from typing import Any

from tidings.filters.expression import (
    ANY_CHARACTER,
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
from tidings.filters.values import Arithmetic, Coalesce, Column, Constant, Length, Value
from tidings.schema.moments import duration_text

_LISTED = 5


def in_words(expression: Expression) -> str:
    """The filter as a sentence of columns and values: ``status = 'open' and views > 10``."""
    match expression:
        case AllOf(()):
            return "always"
        case AnyOf(()):
            return "never"
        case AllOf(terms):
            return " and ".join(_grouped(term) for term in terms)
        case AnyOf(terms):
            return " or ".join(_grouped(term) for term in terms)
        case Not(term):
            return f"not ({in_words(term)})"
        case Atom():
            return _atom(expression)
        case Comparison(left, operator, right):
            words = f"{_value(left)} {operator}"
            return words if right is None else f"{words} {_value(right)}"
        case TextMatch():
            return _text_match(expression)
        case Linked(resource, column, where):
            return f"is {column} of some {resource.name} where {in_words(where)}"
        case Opaque(name):
            return f"the custom filter {name!r}"


def value_in_words(value: Any) -> str:
    """One value as it would be written in a filter."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, date | time):  # a datetime is a date, too
        return value.isoformat()
    if isinstance(value, timedelta):
        return duration_text(value)
    return repr(value) if isinstance(value, str) else str(value)


def _grouped(term: Expression) -> str:
    words = in_words(term)
    return f"({words})" if isinstance(term, AllOf | AnyOf) and len(term.terms) > 1 else words


def _atom(atom: Atom) -> str:
    column = f"some {atom.column}" if atom.some else atom.column
    match atom.operator:
        case "is null" | "is not null":
            return f"{column} {atom.operator}"
        case "like":
            return f"{column} contains {value_in_words(atom.value)}, whatever the case"
        case "between":
            low, high = (value_in_words(value) for value in atom.value)
            return f"{column} is from {low} to {high}"
        case "in":
            return f"{column} is one of {_list(atom.value)}"
        case operator:
            return f"{column} {operator} {value_in_words(atom.value)}"


def _list(values: tuple[Any, ...]) -> str:
    words = [value_in_words(value) for value in values[:_LISTED]]
    more = len(values) - len(words)
    return ", ".join(words) + (f" and {more} more" if more else "") if words else "nothing"


def _text_match(match: TextMatch) -> str:
    pattern = "%".join(segment.replace(ANY_CHARACTER, "_") for segment in match.segments)
    seen_as = {"exact": "", "fold": ", whatever the case"}
    text = _value(match.text)
    if match.case in ("lower", "upper"):
        text = f"{match.case}({text})"
    return f"{text} is like {pattern!r}{seen_as.get(match.case, '')}"


def _value(value: Value) -> str:
    match value:
        case Column(name):
            return name
        case Constant(constant):
            return value_in_words(constant)
        case Coalesce(values):
            return f"coalesce({', '.join(_value(item) for item in values)})"
        case Length(text):
            return f"length({_value(text)})"
        case Arithmetic(operator, left, right):
            return f"({_value(left)} {operator} {_value(right)})"

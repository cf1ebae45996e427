"""The one form that every filter takes: a small tree over a resource's own columns.

Values in it are already cast (see ``tidings.schema.types``). Logic is SQL's: a comparison with
NULL is unknown, `Not` of unknown is unknown, and a record matches only what is true.

    AllOf(Atom("status", "=", "published"), Atom("view_count", ">", 100.0))
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

AtomOperator = Literal[
    "=", "!=", ">", ">=", "<", "<=", "in", "between", "like", "is null", "is not null"
]


@dataclass(frozen=True, slots=True)
class Atom:
    """One column compared with one value.

    ``value`` is a tuple for ``in`` (any length) and ``between`` (two, inclusive), and None for
    ``is null`` and ``is not null``. ``like`` is "contains", ignoring case, with no wildcards.
    """

    column: str
    operator: AtomOperator
    value: Any = None


@dataclass(frozen=True, slots=True)
class AllOf:
    """True where every term is; with no terms, always."""

    terms: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class AnyOf:
    """True where some term is; with no terms, never."""

    terms: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Not:
    """True where the term is false (and not where it is unknown)."""

    term: Expression


@dataclass(frozen=True, slots=True)
class Opaque:
    """A custom filter: an SQLAlchemy expression, and a Python function that decides one record.

    ``key`` tells equal ones apart from others: name of the filter, value, and identity where the
    filter looks at it. ``record_test`` is None where the filter cannot be used in subscriptions.
    """

    name: str
    key: str
    clause: Callable[[Any], Any]
    """Given the table's columns, the SQLAlchemy expression."""
    record_test: Callable[[Mapping[str, Any]], bool] | None = None


Expression = Atom | AllOf | AnyOf | Not | Opaque

EVERYTHING = AllOf(())
NOTHING = AnyOf(())


def all_of(terms: Iterable[Expression]) -> Expression:
    """The conjunction, flattened, without repetitions; a single term stays itself."""
    return _joined(AllOf, NOTHING, terms)


def any_of(terms: Iterable[Expression]) -> Expression:
    """The disjunction, flattened, without repetitions; a single term stays itself."""
    return _joined(AnyOf, EVERYTHING, terms)


def _joined(
    kind: type[AllOf] | type[AnyOf], absorbing: Expression, terms: Iterable[Expression]
) -> Expression:
    flat: dict[Expression, None] = {}
    for term in terms:
        if term == absorbing:
            return absorbing
        flat.update(dict.fromkeys(term.terms if isinstance(term, kind) else (term,)))
    return next(iter(flat)) if len(flat) == 1 else kind(tuple(flat))


def opaque_without_record_test(expression: Expression) -> str | None:
    """The name of the first custom filter that cannot decide a record; None if all can."""
    if isinstance(expression, Opaque):
        return expression.name if expression.record_test is None else None
    if isinstance(expression, Not):
        return opaque_without_record_test(expression.term)
    if isinstance(expression, Atom):
        return None
    found = (opaque_without_record_test(term) for term in expression.terms)
    return next((name for name in found if name is not None), None)

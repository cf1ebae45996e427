"""The one form that every filter takes: a small tree over a resource's own columns.

Values in it are already cast (see ``tidings.schema.types``). Logic is SQL's: a comparison with
NULL is unknown, `Not` of unknown is unknown, and a record matches only what is true.

    AllOf(Atom("status", "=", "published"), Atom("view_count", ">", 100.0))
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import msgspec

from tidings.filters.values import Column, Value, parts

AtomOperator = Literal[
    "=", "!=", ">", ">=", "<", "<=", "in", "between", "like", "is null", "is not null"
]


class Atom(msgspec.Struct, frozen=True, gc=False):
    """One column compared with one value.

    ``value`` is a tuple for ``in`` (any length) and ``between`` (two, inclusive), and None for
    ``is null`` and ``is not null``. ``like`` is "contains", ignoring case, with no wildcards.

    With ``some`` the column holds many values (an array, or a path to many related records) and
    the comparison is true where it is true for one of them, else false; never unknown.
    """

    column: str
    operator: AtomOperator
    value: Any = None
    some: bool = False


class Comparison(msgspec.Struct, frozen=True, gc=False):
    """Two values compared; ``right`` is None for ``is null`` and ``is not null``.

    What a single column and a constant come to is an `Atom`, which an index can use.
    """

    left: Value
    operator: Literal["=", "!=", ">", ">=", "<", "<=", "is null", "is not null"]
    right: Value | None = None


TextCase = Literal["exact", "fold", "lower", "upper"]
"""How a text is seen when it is compared: as it is, ignoring case, in lower or in upper case."""
ANY_CHARACTER: Final = "\x00"
"""Stands in a pattern's segment for any one character; no text holds a NUL."""


class TextMatch(msgspec.Struct, frozen=True, gc=False):
    """A text held against a pattern: ``segments`` that stand apart by any number of characters.

    ``("abc",)`` is the text itself, ``("", "abc", "")`` contains it, ``("abc", "")`` starts with
    it. The text is seen as ``case`` says, the pattern has been brought to that case.
    """

    text: Value
    segments: tuple[str, ...]
    case: TextCase = "exact"


class AllOf(msgspec.Struct, frozen=True, gc=False):
    """True where every term is; with no terms, always."""

    terms: tuple[Expression, ...]


class AnyOf(msgspec.Struct, frozen=True, gc=False):
    """True where some term is; with no terms, never."""

    terms: tuple[Expression, ...]


class Not(msgspec.Struct, frozen=True, gc=False):
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


@dataclass(frozen=True, slots=True)
class Linked:
    """The id is in a column of those records of another resource for which something is true.

    For queries alone: a subscription's filters are made of what a change carries.
    """

    resource: Any
    """The other one, a ``ResourceType``."""
    column: str
    where: Expression


Expression = Atom | Comparison | TextMatch | AllOf | AnyOf | Not | Opaque | Linked

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
    flat: list[Expression] = []
    for term in terms:
        if term == absorbing:
            return absorbing
        flat += term.terms if isinstance(term, kind) else (term,)
    if len(flat) > 1:
        # By how they print, since Python takes 1, 1.0 and True for equal.
        distinct: dict[str, Expression] = {}
        for term in flat:
            distinct.setdefault(repr(term), term)
        flat = list(distinct.values())
    return flat[0] if len(flat) == 1 else kind(tuple(flat))


def leaves(expression: Expression) -> Iterator[Atom | Comparison | TextMatch | Opaque | Linked]:
    """Everything in an expression that is not and, or, not."""
    match expression:
        case AllOf(terms) | AnyOf(terms):
            for term in terms:
                yield from leaves(term)
        case Not(term):
            yield from leaves(term)
        case _:
            yield expression


def opaque_without_record_test(expression: Expression) -> str | None:
    """The name of the first custom filter that cannot decide a record; None if all can."""
    for leaf in leaves(expression):
        if isinstance(leaf, Opaque) and leaf.record_test is None:
            return leaf.name
    return None


def columns_used(expression: Expression) -> frozenset[str]:
    """The columns that an expression looks at, paths to related records among them.

    What a custom filter that could not be read looks at is not known, and not in it.
    """
    names: set[str] = set()
    for leaf in leaves(expression):
        match leaf:
            case Atom():
                names.add(leaf.column)
            case Comparison(left, _, right):
                for value in (left, right):
                    names |= set() if value is None else _columns_in(value)
            case TextMatch(text):
                names |= _columns_in(text)
            case _:
                pass
    return frozenset(names)


def _columns_in(value: Value) -> set[str]:
    return {part.name for part in parts(value) if isinstance(part, Column)}


def is_too_large(expression: Expression, *, comparisons: int, depth: int) -> bool:
    """Whether an expression has more than so many comparisons, or nests deeper than that.

    Each value of a list is a comparison: databases bound the parameters of a statement.
    """
    return (
        _depth(expression, depth) > depth
        or sum(_comparisons(leaf) for leaf in leaves(expression)) > comparisons
    )


def searches(expression: Expression) -> int:
    """How many texts an expression looks for within others."""
    return sum(
        isinstance(leaf, TextMatch) or (isinstance(leaf, Atom) and leaf.operator == "like")
        for leaf in leaves(expression)
    )


def _comparisons(leaf: Expression) -> int:
    return len(leaf.value) or 1 if isinstance(leaf, Atom) and leaf.operator == "in" else 1


def _depth(expression: Expression, limit: int) -> int:
    match expression:
        case AllOf(terms) | AnyOf(terms) if limit and terms:
            return 1 + max(_depth(term, limit - 1) for term in terms)
        case Not(term) if limit:
            return 1 + _depth(term, limit - 1)
        case _:
            return 1

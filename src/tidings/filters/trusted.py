"""Clauses from trusted code (hooks, plugins): dicts over any column, with $or, $and and $not.

{"workspace_id": 7, "$or": [{"owner_id": "u1"}, {"is_public": True}]}
{"status": ["open", "late"], "amount": {">=": 100}}
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Final
from typing import cast as typing_cast

from sqlalchemy import BinaryExpression, BindParameter, ClauseElement, ColumnClause
from sqlalchemy.sql.visitors import iterate

from tidings.errors import ConfigurationError
from tidings.filters.columns import (
    cast_column,
    cast_element,
    column_type,
    compare,
    has_many,
    holds_text,
    is_not_null,
    is_null,
)
from tidings.filters.expression import (
    EVERYTHING,
    NOTHING,
    Atom,
    AtomOperator,
    Expression,
    Not,
    all_of,
    any_of,
)
from tidings.filters.reading import read, stub_columns
from tidings.filters.reading_constants import stored_type
from tidings.filters.truth import Misread, refusing_truth
from tidings.identity import ClaimDict, ClaimList
from tidings.schema import ResourceType, ValueProblem
from tidings.schema.search import OF_ARRAYS, OPERATORS
from tidings.schema.types import TypeName

_NO_TEXTS: Final = frozenset(
    {"integer", "number", "decimal", "boolean", "date", "dateTime", "time", "duration"}
)


def build_clause(resource: ResourceType, clause: object, *, depth: int | None = None) -> Expression:
    """Turn a clause of trusted code into an expression; it fails closed.

    A value of None is refused rather than compared: it nearly always is a claim that is missing.
    ``{"column": {"is null": True}}`` asks for null on purpose.

    ``depth`` is how deep it may be nested, by default as the resource's limits say.

    Raises:
        ConfigurationError: names the resource, the column and what is wrong.
    """
    depth = resource.filter_limits.depth if depth is None else depth
    if not isinstance(clause, Mapping):
        raise ConfigurationError(
            f"clause on {resource.name!r}: expected a dict, got {type(clause).__name__}"
        )
    if not clause:
        raise ConfigurationError(
            f"clause on {resource.name!r}: the dict is empty (is a claim missing?)"
        )
    if not depth:
        raise ConfigurationError(f"clause on {resource.name!r}: nested too deep")
    return all_of(_term(resource, key, value, depth - 1) for key, value in clause.items())


@dataclass(frozen=True, slots=True)
class Either:
    """Several answers of trusted code, any of which suffices."""

    answers: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Both:
    """Several answers of trusted code, all of which are needed."""

    answers: tuple[Any, ...]


class Mistyped(ConfigurationError):
    """A column that is no text is compared with one; ``value`` is that text."""

    def __init__(self, resource: str, column: str, value: str, kind: str) -> None:
        super().__init__(
            f"clause on {resource!r}: {column!r} is of type {kind!r} and is compared with a text, "
            "as a user id is one: convert it (int(...)), or declare a text column"
        )
        self.value = value


def read_clause(resource: ResourceType, make: Callable[[Any], Any]) -> Expression:
    """Call trusted code with the resource's columns and read what it answers.

    It may answer True or False, a dict as `build_clause` takes it, an SQLAlchemy expression that
    can be read (see ``tidings.filters.reading``), or an `Either` or `Both` of such.

    Raises:
        ConfigurationError: the answer is nothing of this (`Misread`), or not what it seems.
    """
    columns = stub_columns(resource)
    try:
        with refusing_truth():
            answer = make(columns)
    except (AttributeError, KeyError) as error:
        # What SQLAlchemy raises has the name and nothing else.
        name = error.args[0] if len(error.args) == 1 else None
        if not isinstance(name, str) or name in columns or " " in name:
            raise
        raise Misread(_no_column(resource, name)) from None
    return _answer(resource, answer)


def read_answer(resource: ResourceType, answer: Any) -> Expression | None:
    """What an application's function returned (a bool, a dict, an SQLAlchemy expression), as an
    expression; None where it cannot be read.
    """
    if isinstance(answer, bool):
        return EVERYTHING if answer else NOTHING
    if isinstance(answer, Mapping):
        return build_clause(resource, answer)
    return read(resource, answer)


def _answer(resource: ResourceType, answer: Any) -> Expression:
    if isinstance(answer, Either):
        return any_of(_answer(resource, one) for one in answer.answers)
    if isinstance(answer, Both):
        return all_of(_answer(resource, one) for one in answer.answers)
    found = read_answer(resource, answer)
    if isinstance(answer, list | tuple) and any(isinstance(one, ClauseElement) for one in answer):
        raise Misread(
            f"clause on {resource.name!r}: a list of conditions says nothing: join them with & or |"
        )
    if found is None and not isinstance(answer, ClauseElement):
        raise ConfigurationError(
            f"clause on {resource.name!r}: expected True, False, a dict or an SQLAlchemy "
            f"expression, got {type(answer).__name__}"
        )
    if found is None:
        mistyped = _compared_with_text(resource, answer)
        if mistyped is not None:
            raise Mistyped(resource.name, *mistyped, stored_type(resource, mistyped[0]))
        raise ConfigurationError(
            f"clause on {resource.name!r}: an SQLAlchemy expression that tidings cannot read "
            "(docs/filters.md); does it compare a column with a value of another type?"
        )
    return found


def _compared_with_text(resource: ResourceType, clause: ClauseElement) -> tuple[str, str] | None:
    """A column of numbers or moments that a clause compares with a text, and that text."""
    for element in iterate(clause):
        if not isinstance(element, BinaryExpression):
            continue
        for one, other in ((element.left, element.right), (element.right, element.left)):
            name = getattr(one, "name", None)
            if (
                isinstance(one, ColumnClause)
                and isinstance(other, BindParameter)
                and isinstance(other.value, str)
                and isinstance(name, str)
                and stored_type(resource, name) in _NO_TEXTS
            ):
                return name, other.value
    return None


def _no_column(resource: ResourceType, name: str) -> str:
    said = f"clause on {resource.name!r}: there is no column {name!r}"
    first = name.split(".")[0]
    if "." in name and first in resource.relationships:
        return f"{said}: name it in borrows=[{name!r}], so that changes carry it"
    if first in resource.relationships:
        return (
            f"{said}, but a relationship: for a column of its records answer a dict, as in "
            f"{{'{first}.name': ...}}, and name that path in borrows=[...]"
        )
    close = get_close_matches(first, resource.column_names, n=1)
    return f"{said}; did you mean {close[0]!r}?" if close else said


def _term(resource: ResourceType, key: object, value: object, depth: int) -> Expression:
    if key in ("$or", "$and"):
        if not isinstance(value, list | tuple) or not value:
            raise ConfigurationError(
                f"clause on {resource.name!r}: {key!r} takes a list of dicts, with at least one"
            )
        terms = [build_clause(resource, part, depth=depth) for part in value]
        return any_of(terms) if key == "$or" else all_of(terms)
    if key == "$not":
        return Not(build_clause(resource, value, depth=depth))
    if not isinstance(key, str) or not (
        key == "id" or key in resource.fields or key in resource.related
    ):
        if not isinstance(key, str):
            raise ConfigurationError(f"clause on {resource.name!r}: there is no column {key!r}")
        raise Misread(_no_column(resource, key))
    _refuse_claim(resource, key, value)
    if isinstance(value, Mapping):
        if not value:
            raise ConfigurationError(
                f"clause on {resource.name!r}, column {key!r}: the dict names no operator"
            )
        return all_of(_atom(resource, key, name, item) for name, item in value.items())
    return _atom(resource, key, "in" if isinstance(value, list | tuple | set) else "=", value)


def _refuse_claim(resource: ResourceType, column: str, value: object) -> None:
    """What a token's issuer wrote is a value: it chooses no operator, and no several values."""
    if not isinstance(value, ClaimList | ClaimDict):
        return
    what = "a list" if isinstance(value, ClaimList) else "an object"
    hint = "; write {'in': ...} to allow several values" if isinstance(value, ClaimList) else ""
    raise ConfigurationError(
        f"clause on {resource.name!r}, column {column!r}: the claim holds {what}, not one value"
        f"{hint}"
    )


def _atom(resource: ResourceType, column: str, name: str, value: Any) -> Expression:
    place = f"clause on {resource.name!r}, column {column!r}"
    if name == "is null":
        return is_null(resource, column) if value else is_not_null(resource, column)
    if name not in OPERATORS:
        known = ", ".join(sorted(OPERATORS | {"is null"}))
        raise ConfigurationError(f"{place}: unknown operator {name!r} (known: {known})")
    kind, many = column_type(resource, column), has_many(resource, column)
    fits = holds_text(resource, column) or kind == "array" if name == "like" else kind != "object"
    if not fits or (kind == "array" and name not in OF_ARRAYS):
        raise ConfigurationError(f"{place}: {name!r} cannot be used on a {kind}")
    operator = typing_cast(AtomOperator, name)
    if name not in ("in", "between"):
        return compare(resource, column, operator, _cast(place, resource, column, operator, value))
    if not isinstance(value, list | tuple | set) or (name == "between" and len(value) != 2):
        raise ConfigurationError(f"{place}: {name!r} takes a list" + " of two" * (name != "in"))
    items = tuple(_cast(place, resource, column, operator, item) for item in value)
    return Atom(column, operator, items, many)


def _cast(
    place: str, resource: ResourceType, column: str, operator: AtomOperator, value: Any
) -> Any:
    if value is None:
        raise ConfigurationError(f"{place}: the value is None (is a claim missing?)")
    try:
        if column_type(resource, column) == "array":
            return cast_element("string" if operator == "like" else _element_type(value), value)
        return cast_column(resource, column, value)
    except ValueProblem as problem:
        raise ConfigurationError(f"{place}: {problem.message}") from None


def _element_type(value: object) -> TypeName:
    if isinstance(value, bool):
        return "boolean"
    return "integer" if isinstance(value, int) else "string"

"""From what clients ask (names of the search schema and values) to an expression."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Final
from typing import cast as typing_cast

import msgspec
from sqlalchemy import BindParameter, ClauseElement
from sqlalchemy.sql.visitors import iterate

from tidings.errors import MAX_PROBLEMS, FilterError, PermissionDenied, Problem
from tidings.filters.columns import (
    MAX_ELEMENT,
    cast_operand,
    column_type,
    compare,
    day_bounds,
    has_many,
    is_not_null,
    is_null,
)
from tidings.filters.expression import (
    Atom,
    AtomOperator,
    Expression,
    Opaque,
    all_of,
    any_of,
    is_too_large,
    searches,
)
from tidings.filters.reading import stub_columns
from tidings.filters.trusted import read_answer
from tidings.filters.truth import Misread, refusing_truth
from tidings.identity import Identity
from tidings.numbers import decode_json
from tidings.schema import FilterLimits, ResourceType, SearchField, ValueProblem, cast, describe
from tidings.schema.search import CLIENT_OPERATORS
from tidings.schema.types import TypeName, check_spelling

_NULL: Final = {"null": "true"}
_LEAST: Final = -(2**63)
_MOST: Final = 2**63 - 1
_BY_ID: Final = SearchField("id", "id", "in", ("id",))
"""Without being declared: what has been notified of is fetched by it, many records at once."""


@dataclass(frozen=True, slots=True)
class ClientFilters:
    """A client's filters: ``normalised`` as they are shown back, ``terms`` as they work.

    Both go by the filters' names; ``expression`` is all terms together.
    """

    normalised: dict[str, Any]
    terms: dict[str, Expression]
    expression: Expression

    def changed(self, change: Callable[[Expression], Expression]) -> ClientFilters:
        """The same filters with other terms."""
        terms = {name: change(term) for name, term in self.terms.items()}
        return ClientFilters(self.normalised, terms, all_of(terms.values()))


def build_filters(
    resource: ResourceType, filters: Mapping[str, Any], identity: Identity, *, text: bool = False
) -> ClientFilters:
    """Check and cast a client's filters; with ``text`` they come from a query string.

    Raises:
        FilterError: ``FILTERING_NOT_ENABLED``, or ``INVALID_FILTERS`` with every wrong filter.
    """
    if resource.search is None and filters.keys() - {_BY_ID.name}:
        raise FilterError(
            f"Resource '{resource.name}' does not have searchSchema defined",
            code="FILTERING_NOT_ENABLED",
            resource=resource.name,
        )
    normalised: dict[str, Any] = {}
    terms: dict[str, Expression] = {}
    problems: list[Problem] = []
    for name, value in filters.items():
        if len(problems) >= MAX_PROBLEMS:
            break
        entry = (resource.search or {}).get(name) or (_BY_ID if name == _BY_ID.name else None)
        if entry is None:
            message = "Field not defined in searchSchema"
            problems.append(Problem(name[:100], message, "UNKNOWN_FIELD"))
            continue
        try:
            normalised[name], terms[name] = _build(resource, entry, value, identity, text=text)
        except ValueProblem as problem:
            problems.append(Problem(name, problem.message, "INVALID_VALUE", problem.path))
    if problems:
        raise FilterError(problems=problems, resource=resource.name)
    _check_enforced(resource, terms, identity)
    expression = all_of(terms.values())
    limits = resource.filter_limits
    if is_too_large(expression, comparisons=limits.comparisons, depth=limits.depth):
        message = (
            f"The filters come to more than {limits.comparisons} comparisons, or are nested "
            f"deeper than {limits.depth}"
        )
        raise FilterError(message, resource=resource.name)
    if searches(expression) > limits.searches:
        message = f"The filters look for more than {limits.searches} texts within others"
        raise FilterError(message, resource=resource.name)
    return ClientFilters(normalised, terms, expression)


def _build(
    resource: ResourceType, entry: SearchField, value: Any, identity: Identity, *, text: bool
) -> tuple[Any, Expression]:
    if callable(entry.operator):
        value = _parsed(entry.type, value) if text else value
        _check_size(resource.filter_limits, value)
        value = cast(entry.type, value)
        return value, _custom(resource, entry, value, identity)
    if isinstance(value, dict) and entry.operators and not (text and value == _NULL):
        return _chosen(resource, entry, value, identity, text=text)
    if text and isinstance(value, dict):
        _check_null(value)
        value = None
    if entry.operator == "in":
        return _in(resource, entry, _listed(value) if text else value)
    if entry.operator == "between":
        return _between(resource, entry, _listed(value) if text else value)
    if entry.split_by is not None:
        return _split(resource, entry, entry.split_by, value)
    return _comparison(resource, entry, value)


def _chosen(
    resource: ResourceType,
    entry: SearchField,
    value: dict[str, Any],
    identity: Identity,
    *,
    text: bool,
) -> tuple[Any, Expression]:
    """Operators by name, each with its value: all of them must be true."""
    if not value:
        raise ValueProblem(f"expected a value, or operators of {', '.join(entry.operators)}")
    normalised: dict[str, Any] = {}
    terms: list[Expression] = []
    for name in sorted(value):
        if name not in entry.operators:
            known = ", ".join(entry.operators)
            raise ValueProblem(f"{name[:40]!r} is none of its operators: {known}")
        chosen = entry.chosen(CLIENT_OPERATORS[name])
        try:
            normalised[name], term = _build(resource, chosen, value[name], identity, text=text)
        except ValueProblem as problem:
            raise ValueProblem(f"{name}: {problem.message}", (name, *problem.path)) from None
        terms.append(term)
    return normalised, all_of(terms)


def _check_enforced(
    resource: ResourceType, terms: Mapping[str, Expression], identity: Identity
) -> None:
    """Refuse filters for what is another's by a claim: an empty answer would look like the truth.

    Raises:
        PermissionDenied: names the filter.
    """
    for name, term in terms.items() if resource.enforced else ():
        if not isinstance(term, Atom) or term.operator not in ("=", "in"):
            continue
        claim = resource.enforced.get(term.column)
        own = getattr(identity, claim) if claim is not None else None
        if own is None:
            continue
        asked = term.value if term.operator == "in" else (term.value,)
        if any(str(value) != str(own) for value in asked):
            raise PermissionDenied(f"You may not ask for another {name}", resource=resource.name)


def _parsed(type_name: TypeName, value: Any) -> Any:
    """In a query string an object comes in brackets (parsed already) or as JSON."""
    if type_name == "array":
        return _listed(value)
    if type_name != "object" or not isinstance(value, str):
        return value
    found = _json(value)
    return value if found is None else found


def _listed(value: Any) -> Any:
    """A list, as a query string gives it: the key repeated, or one text with commas or in JSON.

    A text that is one of several is a value as it stands, so that it may hold a comma.
    """
    if not isinstance(value, str):
        return value
    found = _json(value) if value.startswith("[") else None
    if isinstance(found, list):
        return found
    return value.split(",") if value else []


def _json(text: str) -> Any:
    try:
        return decode_json(text)
    except (msgspec.DecodeError, RecursionError):
        return None


def _check_null(value: dict[str, Any]) -> None:
    """``filter[name][null]=true`` is what null is elsewhere: a query string holds only text."""
    if value != _NULL:
        raise ValueProblem("expected a value, a list, or [null]=true for null")


def _in(resource: ResourceType, entry: SearchField, value: Any) -> tuple[Any, Expression]:
    values = value if isinstance(value, list | tuple) else [value]
    most = resource.filter_limits.values
    if len(values) > most:
        raise ValueProblem(f"at most {most} values")
    terms: list[Expression] = []
    items: list[Any] = []
    for column in entry.columns:
        items = [_item(resource, entry, column, index, item) for index, item in enumerate(values)]
        if entry is _BY_ID:
            _check_spellings(values, items)
        each = [compare(resource, column, "=", item) for item in items]
        if entry.match_all:
            terms.append(all_of(each))
        elif all(isinstance(term, Atom) and term.operator == "=" for term in each):
            terms.append(Atom(column, "in", tuple(items), has_many(resource, column)))
        else:
            terms.append(any_of(each))
    return [_shown(item) for item in items], any_of(terms)


def _check_spellings(values: Sequence[Any], items: Sequence[Any]) -> None:
    """One record has one id, as its documents spell it."""
    for index, (value, item) in enumerate(zip(values, items, strict=True)):
        try:
            check_spelling(value, item)
        except ValueProblem as problem:
            raise ValueProblem(f"value {index}: {problem.message}", (index,)) from None


def _item(resource: ResourceType, entry: SearchField, column: str, index: int, item: Any) -> Any:
    try:
        return cast_operand(resource, column, entry.type, item, str(entry.operator))
    except ValueProblem as problem:
        raise ValueProblem(f"value {index}: {problem.message}", (index,)) from None


def _between(resource: ResourceType, entry: SearchField, value: Any) -> tuple[Any, Expression]:
    if not isinstance(value, list | tuple):
        raise ValueProblem(f"expected an array of two values, got {describe(value)}")
    if len(value) != 2:
        raise ValueProblem(f"expected an array of two values, got {len(value)}")
    terms: list[Expression] = []
    bounds: list[Any] = []
    for column in entry.columns:
        bounds = [_item(resource, entry, column, index, item) for index, item in enumerate(value)]
        low, high = bounds
        if column_type(resource, column) == "dateTime":
            low, high = day_bounds(low)[0], day_bounds(high)[1]
        terms.append(Atom(column, "between", (low, high), has_many(resource, column)))
    return [_shown(bound) for bound in bounds], any_of(terms)


def _split(
    resource: ResourceType, entry: SearchField, separator: str, value: Any
) -> tuple[Any, Expression]:
    whole = cast("string", value)
    parts = [part.strip() for part in whole.split(separator) if part.strip()]
    most = max(1, resource.filter_limits.values // len(entry.columns))
    if len(parts) > most:
        raise ValueProblem(f"at most {most} values")
    terms = [_comparison(resource, entry, part)[1] for part in parts]
    return whole, all_of(terms) if entry.match_all else any_of(terms)


def _comparison(resource: ResourceType, entry: SearchField, value: Any) -> tuple[Any, Expression]:
    operator = typing_cast(AtomOperator, entry.operator)
    if value is None:
        return None, _null_comparison(resource, entry, operator)
    terms: list[Expression] = []
    operand: Any = None
    for column in entry.columns:
        operand = cast_operand(resource, column, entry.type, value, operator)
        terms.append(compare(resource, column, operator, operand))
    return _shown(operand), any_of(terms)


def _shown(operand: Any) -> Any:
    """An operand as the client gets it back: JavaScript rounds longer numbers, and would restore
    another filter.
    """
    is_long = type(operand) is int and abs(operand) > MAX_ELEMENT
    return str(operand) if is_long else operand


def _null_comparison(
    resource: ResourceType, entry: SearchField, operator: AtomOperator
) -> Expression:
    if operator not in ("=", "!="):
        raise ValueProblem(f"null cannot be compared with {operator!r}")
    return any_of(
        is_null(resource, column) if operator == "=" else is_not_null(resource, column)
        for column in entry.columns
    )


def _custom(
    resource: ResourceType, entry: SearchField, value: Any, identity: Identity
) -> Expression:
    operator, test = entry.operator, entry.filter_record
    assert callable(operator)
    extra = {"identity": identity}
    sql_extra = extra if _takes_identity(operator) else {}
    clause = _try_out(resource, lambda columns: operator(columns, value, **sql_extra))
    _check_constants(clause)
    found = read_answer(resource, clause)
    if found is not None:
        return found
    record_extra = extra if test is not None and _takes_identity(test) else {}
    key = msgspec.json.encode(value, order="deterministic").decode()
    if sql_extra or record_extra:
        who = (identity.user_id, identity.roles, identity.permissions, dict(identity.claims))
        key = f"{key}|{msgspec.json.encode(who, order='deterministic').decode()}"
    return Opaque(
        entry.name,
        key,
        lambda columns: operator(columns, value, **sql_extra),
        None
        if test is None
        else (lambda record: test(MappingProxyType(record), value, **record_extra)),
    )


def _check_constants(clause: object) -> None:
    """Refuse whole numbers that no database can take for a parameter."""
    if not isinstance(clause, ClauseElement):
        return
    for part in iterate(clause):
        value = part.value if isinstance(part, BindParameter) else None
        for one in value if isinstance(value, list | tuple) else (value,):
            if isinstance(one, int) and not _LEAST <= one <= _MOST:
                raise ValueProblem("is a number that is too large")


def _check_size(limits: FilterLimits, value: Any) -> None:
    """Hold the value of a custom filter against the limits, as deep as it goes.

    Raises:
        ValueProblem: it is too large.
    """
    waiting, size = [value], 0
    while waiting:
        found = waiting.pop()
        if isinstance(found, str) and len(found) > limits.text:
            raise ValueProblem(f"must have at most {limits.text} characters")
        if isinstance(found, Mapping | list):
            size += len(found)
            waiting.extend(found)
        if isinstance(found, Mapping):
            waiting.extend(found.values())
        if size > limits.values:
            raise ValueProblem(f"at most {limits.values} values")


def _try_out(resource: ResourceType, clause: Callable[[Any], Any]) -> Any:
    """A ValueError from a custom filter is its way to say that it cannot use the value.

    Raises:
        Misread: it says less than it seems to, whatever the value.
    """
    try:
        with refusing_truth():
            return clause(stub_columns(resource))
    except (ValueProblem, Misread):
        raise
    except ValueError as error:
        raise ValueProblem(str(error)) from error
    except (LookupError, TypeError) as error:
        raise ValueProblem("cannot be used by this filter") from error
    except Exception:  # noqa: BLE001  columns of no table may not do; a query has the real ones
        return None


@lru_cache(maxsize=1024)
def _takes_identity(function: Any) -> bool:
    return "identity" in inspect.signature(function).parameters

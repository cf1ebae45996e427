"""Comparing one column with one value that came from outside: casting, and days on moments."""

from __future__ import annotations

from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any, Final

from tidings.filters.expression import Atom, AtomOperator, Expression, Not, any_of
from tidings.numbers import trimmed
from tidings.schema import Field, ResourceType, ValueProblem, cast, cast_id
from tidings.schema.types import TEXT_TYPES, TypeName

_OF_WHOLE: Final = ("=", "!=", "in")
MAX_ELEMENT: Final = 2**53 - 1
"""JSON numbers beyond it are not the same in every reader."""


def field_of(resource: ResourceType, column: str) -> Field | None:
    """The field behind a column of the resource, or behind a path; None for an ``id``."""
    related = resource.related.get(column)
    if related is not None:
        return related.field
    return None if column == "id" else resource.fields[column]


def column_type(resource: ResourceType, column: str) -> TypeName:
    """The type of a column of the resource's table, ``id`` included, or of a path's values."""
    field = field_of(resource, column)
    return "id" if field is None else field.type


def has_many(resource: ResourceType, column: str) -> bool:
    """Whether the column has many values: an array, or a path over a to-many relationship."""
    related = resource.related.get(column)
    return column_type(resource, column) == "array" if related is None else related.many


def holds_text(resource: ResourceType, column: str) -> bool:
    """Tell whether the column has text to look into, rather than the id of a record."""
    field = field_of(resource, column)
    return field is not None and field.references is None and field.type in TEXT_TYPES


def cast_column(resource: ResourceType, column: str, value: Any, *, is_whole: bool = False) -> Any:
    """Cast a value to what the column of this name holds; ``is_whole``: to a value that it may
    hold, and no part or bound of one.

    Raises:
        ValueProblem: the value cannot be taken.
    """
    field = field_of(resource, column)
    if field is None:
        related = resource.related.get(column)
        return cast_id(resource.id_type if related is None else related.id_type, value)
    result = field.cast(value)
    if is_whole:
        field.check_enum(result)
    if field.type == "decimal" and _is_too_fine(result, field.scale):
        raise ValueProblem(f"must have at most {field.scale} digits after the point")
    return result


def cast_element(type_name: TypeName, value: Any) -> Any:
    """Cast a value to what an array's elements are compared with.

    Raises:
        ValueProblem: the value cannot be taken.
    """
    result = cast(type_name, value)
    if type_name == "integer" and abs(result) > MAX_ELEMENT:
        raise ValueProblem("must be a number that JSON can hold exactly")
    return result


def _is_too_fine(value: Decimal, scale: int) -> bool:
    """Smaller numbers may have more digits than the column: no float (SQLite) tells large ones
    apart from their neighbours.
    """
    exponent = trimmed(value).as_tuple().exponent
    return value.adjusted() + scale > 14 and isinstance(exponent, int) and -exponent > scale


def cast_operand(
    resource: ResourceType,
    column: str,
    type_name: TypeName,
    value: Any,
    operator: str = "=",
) -> Any:
    """Cast the operand of a comparison: as the column, but a whole day may stand for a dateTime.

    A filter of type ``date`` on a ``dateTime`` column takes a day, and then means all of it.
    """
    most = resource.filter_limits.text  # every subscription keeps its own
    if isinstance(value, str) and len(value) > most:
        raise ValueProblem(f"must have at most {most} characters")
    kind = column_type(resource, column)
    if kind == "array":
        return cast_element(type_name, value)
    if type_name == "date" and kind == "dateTime":
        try:
            return cast("date", value)
        except ValueProblem:
            return cast("dateTime", value)
    return cast_column(resource, column, value, is_whole=operator in _OF_WHOLE)


def compare(resource: ResourceType, column: str, operator: AtomOperator, value: Any) -> Expression:
    """``column operator value``, where the value may be a day and the column hold moments.

    Of a column with many values one has to satisfy the comparison; ``!=`` says that none is it.
    """
    many = has_many(resource, column)
    if many and operator == "!=":
        return Not(compare(resource, column, "=", value))
    if column_type(resource, column) != "dateTime" or isinstance(value, datetime):
        return Atom(column, operator, value, many)
    start, end = day_bounds(value)
    match operator:
        case "=":
            return Atom(column, "between", (start, end), many)
        case "!=":
            return any_of([Atom(column, "<", start), Atom(column, ">", end)])
        case ">" | "<=":
            return Atom(column, operator, end, many)
        case _:
            return Atom(column, operator, start, many)


def is_null(resource: ResourceType, column: str) -> Expression:
    """That the column is NULL; of a path with many values, that one of them is."""
    related = resource.related.get(column)
    return Atom(column, "is null", None, related is not None and related.many)


def is_not_null(resource: ResourceType, column: str) -> Expression:
    """That the column is not NULL; of a path with many values, that none of them is."""
    found = is_null(resource, column)
    assert isinstance(found, Atom)
    return Not(found) if found.some else Atom(column, "is not null")


def day_bounds(value: date) -> tuple[datetime, datetime]:
    """The first and the last moment of a day; a moment is both of its own.

    A day lasts to its last microsecond: what comes after the last day there is has no name.
    """
    if isinstance(value, datetime):
        return value, value
    return datetime.combine(value, time.min, UTC), datetime.combine(value, time.max, UTC)

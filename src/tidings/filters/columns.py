"""Comparing one column with one value that came from outside: casting, and days on moments."""

from __future__ import annotations

from datetime import UTC, datetime, time
from decimal import Decimal
from typing import Any, Final

from tidings.filters.expression import Atom, AtomOperator, Expression, any_of
from tidings.schema import ResourceType, ValueProblem, cast
from tidings.schema.types import TEXT_TYPES, TypeName

MAX_TEXT: Final = 1_000
"""How many characters a filter's value may have: every subscription keeps its own."""


def column_type(resource: ResourceType, column: str) -> TypeName:
    """The type of a column of the resource's table, ``id`` included."""
    return "id" if column == "id" else resource.fields[column].type


def holds_text(resource: ResourceType, column: str) -> bool:
    """Tell whether the column has text to look into, rather than the id of a record."""
    if column == "id" or resource.fields[column].references is not None:
        return False
    return resource.fields[column].type in TEXT_TYPES


def cast_column(resource: ResourceType, column: str, value: Any) -> Any:
    """Cast a value to what the column of this name holds.

    Raises:
        ValueProblem: the value cannot be taken.
    """
    if column == "id":
        return resource.cast_id(value)
    found = resource.fields[column]
    result = found.cast(value)
    if found.type == "decimal" and _is_too_fine(result, found.scale):
        raise ValueProblem(f"must have at most {found.scale} digits after the point")
    return result


def _is_too_fine(value: Decimal, scale: int) -> bool:
    """Smaller numbers may have more digits than the column: no float (SQLite) tells large ones
    apart from their neighbours.
    """
    exponent = value.normalize().as_tuple().exponent
    return value.adjusted() + scale > 14 and isinstance(exponent, int) and -exponent > scale


def cast_operand(resource: ResourceType, column: str, type_name: TypeName, value: Any) -> Any:
    """Cast the operand of a comparison: as the column, but a whole day may stand for a dateTime.

    A filter of type ``date`` on a ``dateTime`` column takes a day, and then means all of it.
    """
    if isinstance(value, str) and len(value) > MAX_TEXT:
        raise ValueProblem(f"must have at most {MAX_TEXT} characters")
    if type_name == "date" and column_type(resource, column) == "dateTime":
        try:
            return cast("date", value)
        except ValueProblem:
            return cast("dateTime", value)
    return cast_column(resource, column, value)


def compare(column: str, operator: AtomOperator, value: Any, *, moment: bool) -> Expression:
    """``column operator value``; with ``moment`` the column holds dateTimes, the value maybe a day.

    A day lasts to its last microsecond: what comes after the last day there is has no name.
    """
    if not moment or isinstance(value, datetime):
        return Atom(column, operator, value)
    start = datetime.combine(value, time.min, UTC)
    end = datetime.combine(value, time.max, UTC)
    match operator:
        case "=":
            return Atom(column, "between", (start, end))
        case "!=":
            return any_of([Atom(column, "<", start), Atom(column, ">", end)])
        case ">" | "<=":
            return Atom(column, operator, end)
        case _:
            return Atom(column, operator, start)

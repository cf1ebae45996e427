"""Comparing one column with one value that came from outside: casting, and days on moments."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from tidings.filters.expression import Atom, AtomOperator, Expression, all_of, any_of
from tidings.schema import ResourceType, ValueProblem, cast
from tidings.schema.types import TypeName


def column_type(resource: ResourceType, column: str) -> TypeName:
    """The type of a column of the resource's table, ``id`` included."""
    return "id" if column == "id" else resource.fields[column].type


def cast_column(resource: ResourceType, column: str, value: Any) -> Any:
    """Cast a value to what the column of this name holds.

    Raises:
        ValueProblem: the value cannot be taken.
    """
    if column == "id":
        return resource.cast_id(value)
    return resource.fields[column].cast(value)


def cast_operand(resource: ResourceType, column: str, type_name: TypeName, value: Any) -> Any:
    """Cast the operand of a comparison: as the column, but a whole day may stand for a dateTime.

    A filter of type ``date`` on a ``dateTime`` column takes a day, and then means all of it.
    """
    if type_name == "date" and column_type(resource, column) == "dateTime":
        try:
            return cast("date", value)
        except ValueProblem:
            return cast("dateTime", value)
    return cast_column(resource, column, value)


def compare(column: str, operator: AtomOperator, value: Any, *, moment: bool) -> Expression:
    """``column operator value``; with ``moment`` the column holds dateTimes, the value maybe a day.

    Raises:
        ValueProblem: the day is the last one there is.
    """
    if not moment or isinstance(value, datetime):
        return Atom(column, operator, value)
    start, end = _day(value)
    match operator:
        case "=":
            return all_of([Atom(column, ">=", start), Atom(column, "<", end)])
        case "!=":
            return any_of([Atom(column, "<", start), Atom(column, ">=", end)])
        case ">" | "<=":
            return Atom(column, ">=" if operator == ">" else "<", end)
        case _:
            return Atom(column, operator, start)


def _day(day: date) -> tuple[datetime, datetime]:
    start = datetime.combine(day, time(), UTC)
    try:
        return start, start + timedelta(days=1)
    except OverflowError:
        raise ValueProblem("the date is out of range") from None

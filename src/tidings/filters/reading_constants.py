"""Reading constants, where what they are compared with can hold them as they are."""

from __future__ import annotations

import enum
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from sqlalchemy import types

from tidings.filters.columns import cast_column, field_of
from tidings.filters.values import Constant, ValueKind
from tidings.schema import ResourceType, ValueProblem, cast
from tidings.schema.types import OPAQUE_TYPES, text_of_member

_NUMBERS = (
    *(types.Integer, types.BigInteger, types.SmallInteger),
    *(types.Float, types.Double, types.Numeric),
)
_BOUND: Final[dict[type, tuple[type, ...]]] = {
    str: (types.String, types.Text, types.Unicode, types.UnicodeText),
    bool: (types.Boolean,),
    int: _NUMBERS,
    float: (types.Float, types.Double, types.Numeric),
    Decimal: (types.Float, types.Double, types.Numeric),
    date: (types.Date,),
    datetime: (types.DateTime,),
    time: (types.Time,),
    timedelta: (types.Interval,),
}
"""The types with which SQLAlchemy passes a constant on as it is."""
_CHANGING: Final = ("length", "collation", "precision", "scale", "_variant_mapping")
"""Options with which a type may change a constant."""
_TAKEN: Final[dict[str, tuple[type, ...]]] = {
    "string": (str,),
    "text": (str,),
    "number": (int, float, Decimal),
    "integer": (int, float),
    "decimal": (int, float, Decimal),
    "boolean": (bool,),
    "date": (date,),
    "dateTime": (datetime,),
    "time": (time,),
    "duration": (timedelta,),
}
"""The constants that each type of column is compared with."""


class Unreadable(Exception):
    """The expression has something in it that cannot be read."""


def stored_type(resource: ResourceType, column: str) -> str:
    """The type of a column as it is stored: an id is ``integer``, ``uuid``, or ``id`` for text."""
    field = field_of(resource, column)
    if column in resource.native_uuids:
        return "uuid"
    if field is None:
        return "integer" if resource.id_type == "integer" else "id"
    if field.reference_type is not None:
        return "integer" if field.reference_type == "integer" else "id"
    return field.type


def constant(kind: ValueKind, value: Any) -> Constant:
    """A constant beside values of a kind, where that kind can hold it as it is."""
    return Constant(_cast_exactly(kind, value, lambda: cast(kind, value)), kind)


def cast_for_column(resource: ResourceType, column: str, value: Any) -> Any:
    """A constant as the column holds it, where the column can hold it as it is."""
    kind = stored_type(resource, column)
    is_key = column == "id" or resource.fields[column].references is not None
    if kind == "id":
        return _cast_text_id(resource, column, value)
    if kind in OPAQUE_TYPES:
        if not isinstance(value, str):
            raise Unreadable
        return _cast(lambda: cast_column(resource, column, value))
    if kind == "integer" and is_key and isinstance(value, str):
        # Users have ids of text in tokens, and every database takes the number for it.
        result = _cast(lambda: cast_column(resource, column, value))
        if f"{result}" != value:
            raise Unreadable
        return result
    return _cast_exactly(kind, value, lambda: cast_column(resource, column, value))


def _cast_text_id(resource: ResourceType, column: str, value: Any) -> str:
    if not isinstance(value, str):
        raise Unreadable
    try:
        result: str = cast_column(resource, column, value)
    except ValueProblem:  # the id of no record; but a text that ids can be compared with
        result = _cast(lambda: cast("string", value))
    return result


def _cast_exactly(kind: str, value: Any, casting: Callable[[], Any]) -> Any:
    if type(value) not in _TAKEN.get(kind, ()):
        raise Unreadable
    result = _cast(casting)
    # A float beside a decimal column means the digits that it prints as.
    means_digits = kind == "decimal" and type(value) is float
    if kind in ("number", "integer", "decimal") and result != value and not means_digits:
        raise Unreadable
    return result


def _cast(casting: Callable[[], Any]) -> Any:
    try:
        return casting()
    except ValueError:
        raise Unreadable from None


def bound_value(clause: Any) -> Any:
    """The value of a bound parameter, where it is known now and for good."""
    if clause.callable is not None or clause.required or clause.isoutparam:
        raise Unreadable
    return clause.value


def plain(value: Any, bound: Any, *, listed: bool = False) -> Any:
    """A constant without what its class may add (an enumeration's member is its value).

    A list has its type from its first number.
    """
    if isinstance(value, enum.Enum) and not isinstance(value, int | float):
        value = text_of_member(value)
    elif isinstance(value, UUID):
        value = str(value)
    elif isinstance(value, str):
        value = str.__str__(value)
    elif isinstance(value, float):
        value = float.__float__(value)
    elif isinstance(value, int) and not isinstance(value, bool):
        value = int.__int__(value)
    fitting = _BOUND.get(type(value), ())
    if listed and fitting and fitting[-1] is types.Numeric:
        fitting = _NUMBERS
    if type(bound) is types.NullType and fitting:
        return value
    if type(bound) not in fitting or any(getattr(bound, name, None) for name in _CHANGING):
        raise Unreadable
    return value

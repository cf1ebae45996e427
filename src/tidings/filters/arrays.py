"""Looking into arrays, which are JSON to a database: whether they have an element.

Only the array's own elements count, not those of arrays inside it; elements equal a value of
their own type.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, Literal

from sqlalchemy import (
    Boolean,
    ColumnElement,
    and_,
    case,
    cast,
    exists,
    func,
    literal_column,
    or_,
    select,
)
from sqlalchemy.dialects.postgresql import JSONB

from tidings.filters.grouping import joined

ElementKind = Literal["string", "integer", "boolean"]
# Without a character set it would be the database's own, which may not hold all texts.
_MYSQL_VALUE = "LONGTEXT CHARACTER SET utf8mb4"
_MYSQL_ELEMENTS = f"'$[*]' COLUMNS (value {_MYSQL_VALUE} PATH '$', raw JSON PATH '$')"
_MYSQL_QUOTED = "LEFT(raw, 1) = '\"'"
_MYSQL_NUMBER = "raw REGEXP '^[-0-9]'"


def element_kind(value: object) -> ElementKind:
    """Of which type of JSON the elements are that equal this value."""
    if isinstance(value, bool):
        return "boolean"
    return "integer" if isinstance(value, int) else "string"


def element_parameter(value: Any, dialect: str) -> Any:
    """The value as the parameter that `has_element_sql` compares with."""
    if dialect in ("sqlite", "postgresql") or isinstance(value, bool):
        text = json.dumps(value, ensure_ascii=False)
        return f"[{text}]" if dialect == "sqlite" else text
    return str(value)


def elements_parameter(values: Sequence[Any]) -> str:
    """Several values as one parameter, as SQLite's function takes them."""
    return json.dumps(list(values), ensure_ascii=False)


def has_element_sql(
    column: ColumnElement[Any],
    wanted: Sequence[tuple[ElementKind, ColumnElement[Any]]],
    dialect: str,
    exact: Callable[[ColumnElement[Any]], ColumnElement[Any]],
) -> ColumnElement[bool]:
    """True where the array has one of the elements; may be NULL where there is no array."""
    if dialect == "sqlite":
        tests = [func.tidings_some(column, value) == literal_column("1") for _, value in wanted]
        return joined(or_, tests, dialect)
    if dialect == "postgresql":
        array = _as_jsonb(column)
        return or_(*(array.contains(cast(value, JSONB)) for _, value in wanted))
    elements = _mysql_elements(column)
    is_one = or_(*(_mysql_equals(elements, kind, value, exact) for kind, value in wanted))
    return exists(select(literal_column("1")).select_from(elements).where(is_one))


def has_text_sql(
    column: ColumnElement[Any],
    part: ColumnElement[Any],
    dialect: str,
    matches: Callable[[ColumnElement[Any], ColumnElement[Any]], ColumnElement[bool]],
) -> ColumnElement[bool]:
    """True where ``matches(text, part)`` is for a text among the array's elements."""
    if dialect == "sqlite":
        return func.tidings_some_like(column, part) == literal_column("1")
    if dialect == "postgresql":
        array = _as_jsonb(column)
        # A column that is not tidings' own may hold something else than arrays.
        is_array = func.jsonb_typeof(array) == literal_column("'array'")
        elements = func.jsonb_array_elements(case((is_array, array))).table_valued("value")
        value: ColumnElement[Any] = elements.c.value
        is_text = func.jsonb_typeof(value) == literal_column("'string'")
        text = value.op("#>>")(literal_column("'{}'"))
        test = and_(is_text, matches(text, part))
    else:
        elements = _mysql_elements(column)
        quoted = literal_column(_MYSQL_QUOTED, Boolean)
        test = and_(quoted, matches(elements.c.value, part))
    return exists(select(literal_column("1")).select_from(elements).where(test))


def _as_jsonb(column: ColumnElement[Any]) -> ColumnElement[Any]:
    if getattr(column.type, "is_native_array", False):
        return func.to_jsonb(column, type_=JSONB)
    return cast(column, JSONB)


def _mysql_elements(column: ColumnElement[Any]) -> Any:
    table = func.json_table(column, literal_column(_MYSQL_ELEMENTS))
    return table.table_valued("value", "raw", name="element")


def _mysql_equals(
    elements: Any,
    kind: ElementKind,
    value: ColumnElement[Any],
    exact: Callable[[ColumnElement[Any]], ColumnElement[Any]],
) -> ColumnElement[bool]:
    match kind:
        case "string":
            quoted = literal_column(_MYSQL_QUOTED, Boolean)
            return and_(quoted, elements.c.value == exact(value))
        case "integer":
            number = literal_column(_MYSQL_NUMBER, Boolean)
            zero: ColumnElement[float] = literal_column("0e0")
            return and_(number, elements.c.value.op("+")(zero) == value.op("+")(zero))
        case "boolean":
            is_it: ColumnElement[bool] = elements.c.raw == exact(value)
            return is_it

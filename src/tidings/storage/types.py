"""Column types that read back exactly what was written, on every database."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Date,
    DateTime,
    Dialect,
    Float,
    Integer,
    Numeric,
    String,
    Text,
    Time,
)
from sqlalchemy.types import TypeDecorator, TypeEngine

from tidings.schema import Field
from tidings.schema.types import INT64_MAX, MAX_ID_LENGTH


class UTCDateTime(TypeDecorator[datetime]):
    """Aware datetimes: stored in UTC, naive where the database knows no zone."""

    impl = DateTime
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return dialect.type_descriptor(DateTime(timezone=dialect.name == "postgresql"))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None or dialect.name == "postgresql":
            return value
        return value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Double(TypeDecorator[float]):
    """Floats: SQLite's RETURNING gives whole ones as integers."""

    impl = Float
    cache_ok = True

    def __init__(self) -> None:
        super().__init__(53)

    def process_result_value(self, value: float | None, dialect: Dialect) -> float | None:
        return None if value is None else float(value)


class ExactDecimal(TypeDecorator[Decimal]):
    """Decimals without loss: SQLite has only floats, so there it holds value * 10**scale."""

    impl = Numeric
    cache_ok = True

    def __init__(self, precision: int, scale: int) -> None:
        super().__init__(precision, scale)
        self.precision = precision
        self.scale = scale

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if dialect.name == "sqlite":
            return dialect.type_descriptor(BigInteger())
        return dialect.type_descriptor(Numeric(self.precision, self.scale))

    def process_bind_param(self, value: Decimal | None, dialect: Dialect) -> Any:
        if value is None or dialect.name != "sqlite":
            return value
        scaled = value.scaleb(self.scale)
        if abs(scaled) > INT64_MAX:
            return float(scaled)
        # A filter's operand may have more digits than the column: then anything between the two
        # neighbours compares as it does, and a half is exact where its last digits are not.
        whole = math.floor(scaled)
        return whole if whole == scaled else whole + 0.5

    def process_result_value(self, value: Any, dialect: Dialect) -> Decimal | None:
        if value is None:
            return None
        if dialect.name == "sqlite":
            return Decimal(value).scaleb(-self.scale)
        return Decimal(value)


def column_type(field: Field) -> TypeEngine[Any]:
    """The column type that holds a field's values."""
    if field.reference_type is not None:
        return id_column_type(field.reference_type)
    match field.type:
        case "string":
            return Text() if field.max is None else String(int(field.max))
        case "text":
            return Text()
        case "id":
            return String(MAX_ID_LENGTH)
        case "number":
            return Double()
        case "integer":
            return BigInteger()
        case "decimal":
            return ExactDecimal(field.precision, field.scale)
        case "boolean":
            return Boolean()
        case "date":
            return Date()
        case "dateTime":
            return UTCDateTime()
        case "time":
            return Time()
        case "array" | "object":
            return JSON(none_as_null=True)


def id_column_type(id_type: str) -> TypeEngine[Any]:
    """The column type of a resource's id, and of the keys that refer to it."""
    if id_type == "integer":
        # Only "INTEGER PRIMARY KEY" is numbered by SQLite itself.
        return BigInteger().with_variant(Integer(), "sqlite")
    return String(MAX_ID_LENGTH)

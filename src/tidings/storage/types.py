"""Column types that read back exactly what was written, on every database.

What a column promises does not rest on how the server or the database was set up: texts are
equal, unique and ordered by code point, whatever the default collation; moments and times keep
their microseconds; nothing is cut or rounded. Years 1 to 9999 are kept by all three databases
(MariaDB promises them from 1000 on only, but keeps the others as well).
"""

from __future__ import annotations

import json
import math
from base64 import b64decode, b64encode
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Final

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    ColumnElement,
    Date,
    DateTime,
    Dialect,
    Double,
    Integer,
    Interval,
    LargeBinary,
    Numeric,
    String,
    Text,
    Time,
    cast,
    type_coerce,
)
from sqlalchemy.dialects import mysql, postgresql
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeDecorator, TypeEngine, UserDefinedType

from tidings.numbers import decode_stored, exact, shifted
from tidings.schema import Field
from tidings.schema.types import INT64_MAX, MAX_ID_LENGTH, cast_inet

MYSQL_KEY_LENGTH: Final = 768
"""How many characters MariaDB and MySQL can hold unique: 3072 bytes."""

_MYSQL_KEY_BYTES: Final = 3072
MICROSECOND: Final = timedelta(microseconds=1)

# A row of MariaDB has 65,535 bytes for all its VARCHARs: the long ones are kept outside of it.
_MYSQL_SHORT: Final = 255


MYSQL: Final = ("mariadb", "mysql")
"""The names of its dialect, and of what is nearly the same."""


def is_mysql(dialect: Dialect) -> bool:
    """Whether it is MariaDB or MySQL."""
    return dialect.name in MYSQL


def _collated(dialect: Dialect) -> dict[str, str]:
    mariadb = getattr(dialect, "is_mariadb", False)
    collation = "utf8mb4_nopad_bin" if mariadb else "utf8mb4_0900_bin"
    return {"charset": "utf8mb4", "collation": collation}


class _PostgresColumn(UserDefinedType[Any]):
    """A type that is one thing in CREATE TABLE and another where a value is cast to it.

    SQLAlchemy casts every parameter to the type of its column. To NUMERIC(10, 2) that would round
    what a filter compares with.
    """

    cache_ok = True

    def __init__(self, ddl: str, operand: TypeEngine[Any], target: TypeEngine[Any] | None) -> None:
        self.ddl = ddl
        self.operand = operand
        self.target = target

    def get_col_spec(self, **_: Any) -> str:
        return self.ddl

    def bind_expression(self, bindvalue: Any) -> ColumnElement[Any]:
        given = type_coerce(bindvalue, self.operand)
        return given if self.target is None else cast(given, self.target)


class ExactText(TypeDecorator[str]):
    """Texts, compared by code point; ``key`` where they must be unique or are referred to."""

    impl = Text
    cache_ok = True

    def __init__(self, length: int | None = None, *, key: bool = False) -> None:
        super().__init__(length)
        self.length = length
        self.key = key

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        length = self.length
        if dialect.name == "postgresql":
            ddl = "TEXT" if length is None else f"VARCHAR({length})"
            return _PostgresColumn(f'{ddl} COLLATE "C"', String(), None)
        if not is_mysql(dialect):
            return dialect.type_descriptor(Text() if length is None else String(length))
        if self.key:
            length = length or MYSQL_KEY_LENGTH
        elif length is None or length > _MYSQL_SHORT:
            return dialect.type_descriptor(mysql.LONGTEXT(**_collated(dialect)))
        return dialect.type_descriptor(mysql.VARCHAR(length, **_collated(dialect)))


class ExactJson(TypeDecorator[Any]):
    """Arrays and objects; on MariaDB and MySQL as text.

    MariaDB's JSON is text as well, with a check that refuses what is nested 32 deep. MySQL's makes
    floats of large integers.
    """

    impl = JSON
    cache_ok = True

    def __init__(self) -> None:
        super().__init__(none_as_null=True)

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if is_mysql(dialect):
            return dialect.type_descriptor(mysql.LONGTEXT(**_collated(dialect)))
        return dialect.type_descriptor(JSON(none_as_null=True))

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:
        return json.dumps(value) if value is not None and is_mysql(dialect) else value

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:
        return decode_stored(value) if value is not None and is_mysql(dialect) else value


class _IsoDate(TypeDecorator[date]):
    """A date on its way to the database, as text."""

    impl = String
    cache_ok = True

    def process_bind_param(self, value: date | None, dialect: Dialect) -> str | None:
        return None if value is None else value.isoformat()


class ExactDate(TypeDecorator[date]):
    """Dates: asyncpg would store the first and the last one as PostgreSQL's infinities."""

    impl = Date
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if dialect.name == "postgresql":
            return _PostgresColumn("DATE", _IsoDate(), Date())
        return dialect.type_descriptor(Date())


class ExactTime(TypeDecorator[time]):
    """Times of day, with microseconds."""

    impl = Time
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return dialect.type_descriptor(mysql.TIME(fsp=6) if is_mysql(dialect) else Time())


class UTCDateTime(TypeDecorator[datetime]):
    """Aware datetimes: stored in UTC, naive where the database knows no zone."""

    impl = DateTime
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if is_mysql(dialect):
            return dialect.type_descriptor(mysql.DATETIME(fsp=6))
        return dialect.type_descriptor(DateTime(timezone=dialect.name == "postgresql"))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None or dialect.name == "postgresql":
            return value
        return value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class ExactDouble(TypeDecorator[float]):
    """Floats: SQLite's RETURNING gives whole ones as integers."""

    impl = Double
    cache_ok = True

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
        if dialect.name == "postgresql":
            ddl = f"NUMERIC({self.precision}, {self.scale})"
            return _PostgresColumn(ddl, Numeric(), None)
        return dialect.type_descriptor(Numeric(self.precision, self.scale))

    def process_bind_param(self, value: Decimal | None, dialect: Dialect) -> Any:
        if value is None or dialect.name != "sqlite":
            return value
        scaled = shifted(value, self.scale)
        if not -INT64_MAX <= scaled <= INT64_MAX:
            return float(scaled)
        # A filter's operand may have more digits than the column: then anything between the two
        # neighbours compares as it does, and a half is exact where its last digits are not.
        whole = math.floor(scaled)
        return whole if whole == scaled else whole + 0.5

    def process_result_value(self, value: Any, dialect: Dialect) -> Decimal | None:
        if value is None:
            return None
        if dialect.name == "sqlite":
            return shifted(exact(value), -self.scale)
        return exact(value)


class ExactBytes(TypeDecorator[str]):
    """Bytes, as base64; ``key`` where they must be unique. Compared for equality only."""

    impl = LargeBinary
    cache_ok = True
    captured_as: Final = "hex"

    def __init__(self, length: int | None = None, *, key: bool = False) -> None:
        super().__init__()
        self.length = length
        self.key = key

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if not is_mysql(dialect):
            return dialect.type_descriptor(LargeBinary())
        if self.key:
            return dialect.type_descriptor(mysql.VARBINARY(self.length or _MYSQL_KEY_BYTES))
        return dialect.type_descriptor(mysql.LONGBLOB())

    def process_bind_param(self, value: Any, dialect: Dialect) -> bytes | None:
        # A policy of SQL alone may compare with the bytes themselves.
        return b64decode(value) if isinstance(value, str) else value

    def process_result_value(self, value: Any, dialect: Dialect) -> str | None:
        if value is None:
            return None
        # SQLite keeps texts in a BLOB as texts.
        return b64encode(value.encode() if isinstance(value, str) else value).decode()

    def read_captured(self, value: Any, dialect: str) -> str:
        """The value that a trigger has written down in hexadecimal digits."""
        return b64encode(bytes.fromhex(value)).decode()


class ExactInet(TypeDecorator[str]):
    """Addresses of hosts and networks: PostgreSQL's INET, else their text. Only equality."""

    impl = postgresql.INET
    cache_ok = True
    is_opaque = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if dialect.name == "postgresql":
            return dialect.type_descriptor(postgresql.INET())
        return dialect.type_descriptor(ExactText(MAX_ID_LENGTH, key=True))

    def process_result_value(self, value: Any, dialect: Dialect) -> str | None:
        return None if value is None else cast_inet(value)

    def read_captured(self, value: Any, dialect: str) -> str:
        """The value that a trigger has written down as PostgreSQL's text."""
        return cast_inet(value)


_EPOCH: Final = datetime(1970, 1, 1)
_MONTHS: Final = 30
"""Days of a month, as PostgreSQL has it when it compares."""
_LONGEST: Final = "999999999 days"


class NativeDuration(TypeDecorator[timedelta]):
    """INTERVAL of PostgreSQL, in which a month has 30 days and a day 24 hours, as it compares them.

    Elsewhere it is as SQLAlchemy's ``Interval`` keeps it: the moment that long after 1970.
    """

    impl = Interval
    cache_ok = True
    captured_as: Final = "duration"

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if dialect.name == "postgresql":
            return dialect.type_descriptor(postgresql.INTERVAL())
        return dialect.type_descriptor(mysql.DATETIME(fsp=6) if is_mysql(dialect) else DateTime())

    def column_expression(self, column: ColumnElement[Any]) -> ColumnElement[Any]:
        return _WithoutMonths(column)

    def process_bind_param(self, value: timedelta | None, dialect: Dialect) -> Any:
        if value is None or dialect.name == "postgresql":
            return value
        return _EPOCH + value

    def process_result_value(self, value: Any, dialect: Dialect) -> timedelta | None:
        if isinstance(value, datetime):
            return value - _EPOCH
        return value if isinstance(value, timedelta) else None

    def read_captured(self, value: Any, dialect: str) -> timedelta:
        """What a trigger has written down: PostgreSQL's in microseconds, else the moment."""
        if dialect == "postgresql":
            return int(value) * MICROSECOND
        return datetime.fromisoformat(value) - _EPOCH


class _WithoutMonths(FunctionElement[Any]):
    """An interval with its months as days, so that drivers need not guess how long they are."""

    inherit_cache = True

    def __init__(self, column: ColumnElement[Any]) -> None:
        super().__init__(column)
        self.type = column.type


@compiles(_WithoutMonths)
def _as_it_is(element: Any, compiler: Any, **options: Any) -> str:
    (column,) = element.clauses
    found: str = compiler.process(column, **options)
    return found


@compiles(_WithoutMonths, "postgresql")
def _in_days(element: Any, compiler: Any, **options: Any) -> str:
    found = _as_it_is(element, compiler, **options)
    months = f"CAST(12 * extract(year FROM {found}) + extract(month FROM {found}) AS integer)"
    # What is longer than Python's longest is left out: one such row must not hide the others.
    return (
        f"CASE WHEN {found} BETWEEN INTERVAL '-{_LONGEST}' AND INTERVAL '{_LONGEST}' THEN "
        f"{found} - make_interval(0, {months}) + make_interval(0, 0, 0, {_MONTHS} * {months}) END"
    )


class ExactDuration(TypeDecorator[timedelta]):
    """Durations: PostgreSQL's INTERVAL, elsewhere a number of microseconds."""

    impl = Interval
    cache_ok = True
    captured_as: Final = "duration"

    def column_expression(self, column: ColumnElement[Any]) -> ColumnElement[Any]:
        return _WithoutMonths(column)

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if dialect.name == "postgresql":
            return dialect.type_descriptor(postgresql.INTERVAL())
        return dialect.type_descriptor(BigInteger())

    def process_bind_param(self, value: timedelta | None, dialect: Dialect) -> Any:
        if value is None or dialect.name == "postgresql":
            return value
        return value // MICROSECOND

    def process_result_value(self, value: Any, dialect: Dialect) -> timedelta | None:
        if value is None or isinstance(value, timedelta):
            return value
        return int(value) * MICROSECOND

    def read_captured(self, value: Any, dialect: str) -> timedelta:
        """The value that a trigger has written down: its microseconds."""
        return int(value) * MICROSECOND


def column_type(field: Field) -> TypeEngine[Any]:
    """The column type that holds a field's values."""
    if field.reference_type is not None:
        return id_column_type(field.reference_type)
    match field.type:
        case "string":
            length = None if field.max is None else int(field.max)
            return ExactText(length, key=field.unique)
        case "text":
            return ExactText(key=field.unique)
        case "id" | "uuid" | "enum":
            return ExactText(MAX_ID_LENGTH, key=True)
        case "number":
            return ExactDouble()
        case "integer":
            return BigInteger()
        case "decimal":
            return ExactDecimal(field.precision, field.scale)
        case "boolean":
            return Boolean()
        case "date":
            return ExactDate()
        case "dateTime":
            return UTCDateTime()
        case "time":
            return ExactTime()
        case "duration":
            return ExactDuration()
        case "bytes":
            return ExactBytes(None if field.max is None else int(field.max), key=field.unique)
        case "inet":
            return ExactInet()
        case "array" | "object":
            return ExactJson()


def id_column_type(id_type: str) -> TypeEngine[Any]:
    """The column type of a resource's id, and of the keys that refer to it."""
    if id_type == "integer":
        # Only "INTEGER PRIMARY KEY" is numbered by SQLite itself.
        return BigInteger().with_variant(Integer(), "sqlite")
    return ExactText(MAX_ID_LENGTH, key=True)

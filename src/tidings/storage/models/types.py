"""Which types of columns are served, and as what fields: one entry per type of SQLAlchemy's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import (
    ARRAY,
    BINARY,
    CHAR,
    JSON,
    VARBINARY,
    BigInteger,
    Boolean,
    Date,
    DateTime,
    Enum,
    Float,
    Integer,
    Interval,
    LargeBinary,
    Numeric,
    SmallInteger,
    String,
    Text,
    Time,
    Uuid,
)
from sqlalchemy.dialects import mysql, postgresql
from sqlalchemy.types import TypeEngine

from tidings.schema.types import INT64_MAX
from tidings.storage.models.native import (
    CaselessText,
    NaiveDateTime,
    NativeEnum,
    NativeNumeric,
    NativeText,
    NativeUuid,
    PostgresArray,
)
from tidings.storage.types import (
    ExactBytes,
    ExactDate,
    ExactDouble,
    ExactInet,
    ExactJson,
    ExactTime,
    NativeDuration,
    UTCDateTime,
)

_DIGITS: Final = 28
"""How many digits a decimal may have: see `tidings.schema.types`."""


@dataclass(frozen=True, slots=True)
class Served:
    """A column's type as tidings has it, and the options of the field that shows it."""

    column: TypeEngine[Any]
    options: dict[str, Any]


def served(declared: TypeEngine[Any]) -> Served | None:
    """How a type is served; None where it is not."""
    for kind, serve in _SERVED:
        if isinstance(declared, kind):
            return serve(declared)
    return None


def _as(make: Callable[[], TypeEngine[Any]], name: str) -> Callable[[Any], Served]:
    return lambda _: Served(make(), {"type": name})


def _enum(declared: Enum) -> Served:
    column = NativeEnum(declared)
    return Served(column, {"type": "enum", "enum": column.texts})


def _uuid(declared: Any) -> Served:
    return Served(NativeUuid(native=getattr(declared, "native_uuid", True)), {"type": "uuid"})


_BYTES: Final = (
    *(LargeBinary, BINARY, VARBINARY),
    *(mysql.TINYBLOB, mysql.MEDIUMBLOB, mysql.LONGBLOB),
)


def _bytes(declared: Any) -> Served:
    length = getattr(declared, "length", None)
    return Served(ExactBytes(length), {"type": "bytes"} | ({"max": length} if length else {}))


def _interval(declared: Interval) -> Served | None:
    # Without PostgreSQL's own type it is a moment there, and of another type than elsewhere.
    return Served(NativeDuration(), {"type": "duration"}) if declared.native else None


def _text(declared: String) -> Served:
    length = declared.length if not isinstance(declared, mysql.TEXT) else None
    is_long = length is None or isinstance(declared, Text)
    options: dict[str, Any] = {"type": "text" if is_long else "string"}
    if length is not None:
        options["max"] = length
    return Served(NativeText(length, padded=isinstance(declared, CHAR)), options)


def _caseless(declared: Any) -> Served:
    return Served(CaselessText(), {"type": "text"})


def _integer(bits: int) -> Callable[[Any], Served]:
    def serve(declared: Any) -> Served:
        is_unsigned = bool(getattr(declared, "unsigned", False))
        most = 2**bits - 1 if is_unsigned else 2 ** (bits - 1) - 1
        least = 0 if is_unsigned else -(2 ** (bits - 1))
        bounds = {"min": least, "max": min(most, INT64_MAX)} if bits < 64 or is_unsigned else {}
        return Served(BigInteger(), {"type": "integer", **bounds})

    return serve


def _numeric(declared: Numeric[Any]) -> Served | None:
    precision, scale = declared.precision, declared.scale
    if precision is None:
        # PostgreSQL's NUMERIC has as many digits as it is given.
        precision, scale = _DIGITS, _DIGITS // 2
    scale = scale or 0
    if precision > _DIGITS:
        precision = _DIGITS
    if not 0 <= scale < precision:
        return None
    options = {"type": "decimal", "precision": precision, "scale": scale}
    return Served(NativeNumeric(precision, scale), options)


def _moment(declared: DateTime) -> Served:
    # MariaDB's TIMESTAMP is read in the session's zone, which is its server's: no moment.
    column = UTCDateTime() if declared.timezone else NaiveDateTime()
    return Served(column, {"type": "dateTime"})


_ITEMS: Final[tuple[tuple[type[TypeEngine[Any]], str], ...]] = (
    (Boolean, "boolean"),
    (Integer, "integer"),
    (String, "string"),
)


def _array(declared: Any) -> Served | None:
    found = declared.item_type
    name = next((name for kind, name in _ITEMS if isinstance(found, kind)), None)
    is_enum = isinstance(found, Enum)
    if name is None or is_enum or declared.dimensions not in (None, 1):
        return None
    return Served(PostgresArray(found), {"type": "array", "items": name})


_SERVED: Final[tuple[tuple[Any, Callable[[Any], Served | None]], ...]] = (
    # The special before the general: an Enum is a String to SQLAlchemy, a Float a Numeric.
    (Boolean, _as(Boolean, "boolean")),
    (mysql.SET, lambda _: None),
    (Enum, _enum),
    (Uuid, _uuid),
    (postgresql.CITEXT, _caseless),
    (String, _text),
    (mysql.TINYINT, _integer(8)),
    (mysql.MEDIUMINT, _integer(24)),
    (SmallInteger, _integer(16)),
    (BigInteger, _integer(64)),
    (Integer, _integer(32)),
    (Float, _as(ExactDouble, "number")),
    (Numeric, _numeric),
    (mysql.TIMESTAMP, lambda _: None),
    (DateTime, _moment),
    (Date, _as(ExactDate, "date")),
    (Time, lambda declared: None if declared.timezone else Served(ExactTime(), {"type": "time"})),
    (Interval, _interval),
    (postgresql.INTERVAL, _as(NativeDuration, "duration")),
    (_BYTES, _bytes),
    (postgresql.INET, _as(ExactInet, "inet")),
    (JSON, _as(ExactJson, "object")),
    (ARRAY, _array),
)

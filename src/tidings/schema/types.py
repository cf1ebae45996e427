"""The field types: how a value that came from outside becomes a Python value.

Each type takes what JSON, a query string or Python code may give and returns one Python
representation, so that filters, storage and documents never see two forms of the same value:

    string, text, id  str            decimal   decimal.Decimal   array   list
    uuid, enum        str            date      datetime.date     object  dict
    number            float          time      datetime.time
    integer           int (64 bit)   dateTime  datetime.datetime, aware, UTC
    boolean           bool           duration  datetime.timedelta
    bytes             str, base64    inet      str, as PostgreSQL writes it
"""

from __future__ import annotations

import binascii
import enum
import ipaddress
import math
import re
from base64 import b64decode, b64encode
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Final, Literal, get_args
from uuid import UUID

from tidings.numbers import JsonNumber, parsed
from tidings.schema.moments import (
    DATE_FORM,
    DATETIME_FORM,
    DURATION_FORM,
    TIME_FORM,
    parse_date,
    parse_datetime,
    parse_duration,
    parse_time,
)

TypeName = Literal[
    "string",
    "text",
    "number",
    "integer",
    "decimal",
    "boolean",
    "id",
    "uuid",
    "enum",
    "date",
    "dateTime",
    "time",
    "duration",
    "bytes",
    "inet",
    "array",
    "object",
]
TYPE_NAMES: Final = frozenset(get_args(TypeName))
TEXT_TYPES: Final = frozenset({"string", "text", "id"})
NUMERIC_TYPES: Final = frozenset({"number", "integer", "decimal"})
ORDERED_TYPES: Final = NUMERIC_TYPES | TEXT_TYPES | {"date", "dateTime", "time", "duration"}
CONTAINER_TYPES: Final = frozenset({"array", "object"})
OPAQUE_TYPES: Final = frozenset({"uuid", "enum", "bytes", "inet"})
"""Texts that are equal or are not: no database has to agree with another on their order."""

MOST_DURATION: Final = timedelta(days=700_000)
"""Some 1,900 years either way: what every database has room for."""

INT64_MIN: Final = -(2**63)
INT64_MAX: Final = 2**63 - 1
MAX_ID_LENGTH: Final = 255
MAX_DEPTH: Final = 32
"""How deep an array or object value may be nested."""

_RESERVED_KEYS: Final = frozenset({"links", "relationships"})
"""What no object inside an attribute may hold (JSON:API 1.1, 7.2.2)."""

_INTEGER = re.compile(r"[+-]?[0-9]{1,19}")
_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]{1,4})?")
_MAX_NUMBER_LENGTH = 64
_MAX_DECIMAL_DIGITS = 28


class ValueProblem(ValueError):
    """A value cannot be taken; says what was expected and what came, and where inside it."""

    def __init__(
        self, message: str, path: tuple[str | int, ...] = (), code: str = "INVALID_VALUE"
    ) -> None:
        super().__init__(message)
        self.message = message
        self.path = path
        self.code = code


def describe(value: object) -> str:
    """Name the JSON type of a value for a message, never the value itself."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a boolean"
    names: tuple[tuple[type | tuple[type, ...], str], ...] = (
        ((int, float, Decimal), "a number"),
        (str, "a string"),
        ((list, tuple), "an array"),
        (dict, "an object"),
    )
    return next((name for kind, name in names if isinstance(value, kind)), type(value).__name__)


def _expected(what: str, value: object) -> ValueProblem:
    return ValueProblem(f"expected {what}, got {describe(value)}")


def check_text(value: str) -> str:
    """Refuse what no database and no UTF-8 frame can carry: NUL and lone surrogates."""
    if "\x00" in value:
        raise ValueProblem("must not contain the NUL character")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueProblem("must be valid Unicode, without lone surrogates") from None
    return value


def _cast_text(value: object) -> str:
    if not isinstance(value, str):
        raise _expected("a string", value)
    return check_text(value)


def text_of_member(member: enum.Enum) -> str:
    """An enumeration's member as documents have it: its value where that is text, else its name."""
    return str(member.value) if isinstance(member.value, str) else member.name


def _cast_enum(value: object) -> str:
    return _cast_text(text_of_member(value) if isinstance(value, enum.Enum) else value)


def _cast_id(value: object) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return str(_in_int64(value))
    if not isinstance(value, str):
        raise _expected("an id (a string or an integer)", value)
    if not 1 <= len(value) <= MAX_ID_LENGTH:
        raise ValueProblem(f"an id has 1 to {MAX_ID_LENGTH} characters")
    if value in (".", ".."):
        raise ValueProblem("an id is neither '.' nor '..', which mean something else in a URL")
    return check_text(value)


def _in_int64(value: int) -> int:
    if not INT64_MIN <= value <= INT64_MAX:
        raise ValueProblem("must fit into 64 bits")
    return value


def cast_integer(value: object) -> int:
    """Take an int, a whole float or a string of digits; anything else is a `ValueProblem`."""
    if isinstance(value, bool):
        raise _expected("an integer", value)
    if isinstance(value, int):
        return _in_int64(value)
    if isinstance(value, JsonNumber):
        number = parsed(value.text)
        if number.is_finite() and number == number.to_integral_value():
            return _in_int64(int(number)) if number.adjusted() < 20 else _in_int64(INT64_MAX + 1)
    elif isinstance(value, float) and value.is_integer():
        return _in_int64(int(value))
    if isinstance(value, str) and _INTEGER.fullmatch(value):
        return _in_int64(int(value))
    if isinstance(value, float | str):
        raise ValueProblem("expected an integer")
    raise _expected("an integer", value)


def _cast_number(value: object) -> float:
    if isinstance(value, bool):
        raise _expected("a number", value)
    if isinstance(value, str):
        if len(value) > _MAX_NUMBER_LENGTH or not _NUMBER.fullmatch(value):
            raise ValueProblem("expected a number")
    elif not isinstance(value, int | float | Decimal):
        raise _expected("a number", value)
    if isinstance(value, Decimal) and not value.is_finite():
        raise ValueProblem("must be a finite number")  # float() cannot take all of these
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise ValueProblem("must be a finite number")
    return number + 0.0  # -0.0 and 0.0 are one value to a database; + 0.0 makes them one here


def _cast_decimal(value: object) -> Decimal:
    if isinstance(value, bool):
        raise _expected("a decimal number", value)
    if isinstance(value, float):
        # The digits that came, or the shortest text that reads back: 0.1 means 0.1.
        value = value.text if isinstance(value, JsonNumber) else repr(value)
    if isinstance(value, str):
        if len(value) > _MAX_NUMBER_LENGTH or not _NUMBER.fullmatch(value):
            raise ValueProblem("expected a decimal number")
    elif not isinstance(value, int | Decimal):
        raise _expected("a decimal number", value)
    number = parsed(value) if isinstance(value, str) else Decimal(value)
    if not number.is_finite():
        raise ValueProblem("must be a finite number")
    # Beyond the precision of Python's decimal context, arithmetic would round in silence.
    if len(number.as_tuple().digits) > _MAX_DECIMAL_DIGITS:
        raise ValueProblem(f"must have at most {_MAX_DECIMAL_DIGITS} digits")
    return number


def _cast_boolean(value: object) -> bool:
    if isinstance(value, bool):
        return value
    # Query strings know only text; 0 and 1 are what SQL databases give for a boolean.
    known: dict[object, bool] = {"true": True, "false": False, "1": True, "0": False}
    if isinstance(value, str) and value in known:
        return known[value]
    if isinstance(value, int) and value in (0, 1):
        return bool(value)
    raise _expected("a boolean", value)


def _cast_date(value: object) -> date:
    if isinstance(value, datetime):
        raise ValueProblem(f"expected {DATE_FORM}, got a date and time")
    if isinstance(value, date):
        return value
    if not isinstance(value, str):
        raise _expected(DATE_FORM, value)
    found = parse_date(value)
    if found is None:
        raise ValueProblem(f"expected {DATE_FORM}")
    return found


def _cast_datetime(value: object) -> datetime:
    if isinstance(value, datetime):
        moment = value if value.tzinfo is not None else value.replace(tzinfo=UTC)
    elif isinstance(value, str):
        found = parse_datetime(value)
        if found is None:
            raise ValueProblem(f"expected {DATETIME_FORM}")
        moment = found
    else:
        raise _expected(DATETIME_FORM, value)
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise ValueProblem("the date is out of range") from None


def _cast_time(value: object) -> time:
    if isinstance(value, str):
        found = parse_time(value)
        if found is None:
            raise ValueProblem(f"expected {TIME_FORM}")
        return found
    if not isinstance(value, time):
        raise _expected(TIME_FORM, value)
    if value.tzinfo is not None:
        raise ValueProblem(f"expected {TIME_FORM}")
    return value


def _cast_duration(value: object) -> timedelta:
    if isinstance(value, str):
        found = parse_duration(value)
        if found is None:
            raise ValueProblem(f"expected {DURATION_FORM}")
    elif isinstance(value, timedelta):
        found = value
    else:
        raise _expected(DURATION_FORM, value)
    if not -MOST_DURATION <= found <= MOST_DURATION:
        raise ValueProblem(f"must be at most {MOST_DURATION.days} days long")
    return found


def _cast_bytes(value: object) -> str:
    """Bytes are known by their base64: one text for each of them, in JSON as in filters."""
    if isinstance(value, bytes | bytearray | memoryview):
        return b64encode(value).decode()
    if not isinstance(value, str):
        raise _expected("bytes in base64", value)
    try:
        # A "+" that was not percent-encoded arrives in a query string as a blank.
        return b64encode(b64decode(value.replace(" ", "+"), validate=True)).decode()
    except (binascii.Error, ValueError):
        raise ValueProblem(
            "expected bytes in base64 (A-Z, a-z, 0-9, +, /, padded with =)"
        ) from None


_MAX_INET_LENGTH = 64


def cast_inet(value: object) -> str:
    """Take an address of a host or a network, as text or object; all spellings come to one."""
    if not isinstance(value, str | ipaddress._IPAddressBase):
        raise _expected("an IP address", value)
    text = str(value)
    try:
        # Of a network that is an object the host part is zero: an interface has all of it.
        found = ipaddress.ip_interface(text if len(text) <= _MAX_INET_LENGTH else "")
    except ValueError:
        raise ValueProblem("expected an IP address, such as 10.0.0.1, 10.0.0.0/8 or ::1") from None
    if "%" in text:
        raise ValueProblem("an address with a zone (after %) belongs to one machine only")
    address = found.ip
    mapped = getattr(address, "ipv4_mapped", None)
    # Versions of Python write these differently.
    plain = str(address) if mapped is None else f"::ffff:{mapped}"
    length = found.network.prefixlen
    return plain if length == found.max_prefixlen else f"{plain}/{length}"


def _clean_json(value: object, depth: int = 0) -> Any:
    """A JSON value as it is kept: of plain types, with every number as it came."""
    if depth > MAX_DEPTH:
        raise ValueProblem(f"nested deeper than {MAX_DEPTH} levels")
    if isinstance(value, dict):
        found = {}
        for key, item in value.items():
            name = _checked_key(key)
            try:
                found[name] = item if type(item) in _AS_THEY_ARE else _clean_json(item, depth + 1)
            except ValueProblem as problem:
                raise _at(key, problem) from None
        return found
    if isinstance(value, list | tuple):
        items = []
        for index, item in enumerate(value):
            try:
                items.append(item if type(item) in _AS_THEY_ARE else _clean_json(item, depth + 1))
            except ValueProblem as problem:
                raise _at(index, problem) from None
        return items
    return _clean_leaf(value)


_AS_THEY_ARE: Final = frozenset({int, bool, type(None)})


def _at(part: str | int, problem: ValueProblem) -> ValueProblem:
    """The problem of a value, as the one of what it is in."""
    return ValueProblem(problem.message, (part, *problem.path), problem.code)


def _checked_key(key: object) -> str:
    if not isinstance(key, str):
        raise ValueProblem("the keys of an object must be strings")
    if key in _RESERVED_KEYS:
        raise ValueProblem(f"must not hold {key!r}, which JSON:API reserves")
    return check_text(key)


def _clean_leaf(value: object) -> Any:
    if isinstance(value, str):
        return check_text(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueProblem("must be a finite number")
        if isinstance(value, JsonNumber) and not value.is_exact:
            raise ValueProblem("has more digits than a JSON number can keep: send it as a text")
        return float(value)
    if value is None or isinstance(value, bool | int):
        return value
    raise ValueProblem(f"{type(value).__name__} is not a JSON value")


def _cast_array(value: object) -> list[Any]:
    if not isinstance(value, list | tuple):
        raise _expected("an array", value)
    found: list[Any] = _clean_json(value)
    return found


def _cast_object(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _expected("an object", value)
    found: dict[str, Any] = _clean_json(value)
    return found


def cast_uuid(value: object) -> str:
    """Take a UUID: an object, or a text in any spelling; they all come to the usual one."""
    if isinstance(value, UUID):
        return str(value)
    try:
        return str(UUID(_cast_id(value)))
    except ValueProblem:
        raise
    except ValueError:
        raise ValueProblem("expected a UUID") from None


_CASTS: Final[dict[str, Callable[[object], Any]]] = {
    "string": _cast_text,
    "text": _cast_text,
    "id": _cast_id,
    "uuid": cast_uuid,
    "enum": _cast_enum,
    "number": _cast_number,
    "integer": cast_integer,
    "decimal": _cast_decimal,
    "boolean": _cast_boolean,
    "date": _cast_date,
    "dateTime": _cast_datetime,
    "time": _cast_time,
    "duration": _cast_duration,
    "bytes": _cast_bytes,
    "inet": cast_inet,
    "array": _cast_array,
    "object": _cast_object,
}


def check_spelling(given: object, key: int | str) -> None:
    """Refuse a text that names a record by another spelling of its id than documents give.

    With ``007`` and ``+7`` beside ``7``, whoever compares ids as texts (a permission check, a
    cache, a rate limit) would take one record for two.
    """
    if isinstance(given, str) and given != str(key):
        raise ValueProblem("an id has one spelling: as documents give it, without signs or zeros")


def cast(type_name: TypeName, value: object) -> Any:
    """Turn a value from outside into the type's Python representation.

    None is not accepted: whether a value may be missing is the field's business.

    Raises:
        ValueProblem: the value cannot be taken; the message never repeats the value.
    """
    return _CASTS[type_name](value)

"""Random values of each type of column: what databases are known to differ at, and what is near.

Everything here is made with a `random.Random` that is given: by a seed in the long run, and by
hypothesis, which shrinks, in the tests.
"""

from __future__ import annotations

import math
from base64 import b64decode, b64encode
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from ipaddress import IPv6Address
from random import Random
from typing import Any
from uuid import UUID

from tidings.schema.moments import duration_text
from tidings.schema.types import INT64_MAX, INT64_MIN

# Letters whose other case is longer, shared, or depends on what follows; the special characters of
# patterns and literals; blanks; what some collations ignore, and what is beyond 16 bits.
_PLAIN = "aAbBkKsSiI0 "
_CASED = "ßẞİıſ\u212aΣσςÀàÅå\u212bÉéǅǆǄﬀﬁΩω\u2126ᲀвВҐᏠꭰ\u0345ιΙ\u1fbeµμΜẛṡṠ\U00010400\U00010428"  # noqa: RUF001
_SPECIAL = "%_\\!'\"^$.*+?()[]{}|#-&~:<>=/@,;`\n\r\t\x01\x1a\x7f\x85"
_ODD = (
    "\u0301\u0307\u200b\u00ad\ufeff\uffff\u2028\U0001f600\U0010ffff"
    "\u0378\ud7ff\ue000\ua7ae\u13a0\u10d0\u1c90"
)
_LETTERS = (_PLAIN, _PLAIN, _CASED, _CASED, _SPECIAL, _SPECIAL, _ODD)


def letter(r: Random) -> str:
    if r.random() < 0.06:
        found = chr(r.choice([r.randint(1, 0xD7FF), r.randint(0xE000, 0x10FFFF)]))
        return found if found != "\x00" else "a"
    return r.choice(r.choice(_LETTERS))


def text(r: Random) -> str:
    size = r.choice([0, 1, 1, 2, 3, 4, 5, 6])
    if r.random() < 0.3:
        return "".join(r.choice(_CASED) for _ in range(size))
    return "".join(letter(r) for _ in range(size)) * (r.randint(2, 40) if r.random() < 0.01 else 1)


# Letters that are one where case does not matter, though no single change of case tells.
_TWINS = [
    *("sSſ", "σΣς", "kK\u212a", "åÅ\u212b", "ßẞ", "iIİı", "ǆǅǄ", "ωΩ\u2126", "вВᲀ", "Ꮰꭰ"),  # noqa: RUF001
    *("ιΙ\u0345\u1fbe", "μµΜ", "ẛṡṠ", "\U00010400\U00010428", "éÉ", "àÀ"),  # noqa: RUF001
]
_TWINS_OF = {found: twins for twins in _TWINS for found in twins}


def _twin(r: Random, found: str) -> str:
    return r.choice(_TWINS_OF.get(found, found))


def near_text(r: Random, value: str) -> str:
    """A text that a careless comparison takes for this one, or that is a part of it."""
    place = r.randint(0, len(value))
    match r.randint(0, 12):
        case 10 | 11 | 12:
            return "".join(_twin(r, found) for found in value)
        case 0:
            return value.swapcase()
        case 1:
            return value.upper()
        case 2:
            return value.lower()
        case 3 | 4:
            return value[place : place + r.randint(1, 3)]
        case 5:
            return value[:place] + letter(r) + value[place:]
        case 6:
            return value + " "
        case 7:
            return value[:place] + r.choice("%_.*") + value[place + 1 :]
        case 8:
            return value.casefold()
        case _:
            return value[place:]


def key(r: Random) -> str:
    known = ["7", "07", "007", "-7", "a", "A", "a ", "é", "e\u0301", "7.0", " 7"]
    found = r.choice(known) if r.random() < 0.5 else text(r)
    return found if found not in ("", ".", "..") else "x"  # which are no ids


_INTEGERS = [
    *(2**53 - 1, 2**53, 2**53 + 1, -(2**53) - 1, 10**15, 10**17, 2**31, 2**32 - 1),
    *(INT64_MAX, INT64_MAX - 1, INT64_MIN, INT64_MIN + 1, -1, 0, 1, 2, 3, 7),
]


def integer(r: Random) -> int:
    return r.choice(
        [r.choice(_INTEGERS), r.randint(-4, 4), r.randint(-4, 4), r.randint(INT64_MIN, INT64_MAX)]
    )


def near_integer(r: Random, value: int) -> int:
    return min(INT64_MAX, max(INT64_MIN, r.choice([value + 1, value - 1, -value, value])))


_FLOATS = [
    *(0.0, -0.0, 0.1, 0.1 + 0.2, 0.3, 0.5, 1.0, 2.0, -7.0, 1e16, 2.0**53, 2.0**53 + 2, 2.0**63),
    *(1e308, -1e308, 1.7976931348623157e308, 5e-324, -5e-324, 2.2250738585072014e-308, 1e-310),
    *(1e60, 1.0000000000000002e60, 1e-60, 9.99e-61, 1e59, -1e-59, 123456.789, 1e22, 1e23),
]


def number(r: Random) -> float:
    match r.randint(0, 4):
        case 0:
            return r.choice(_FLOATS)
        case 1:
            return float(r.randint(-4, 4))
        case 2:
            return r.randint(-400, 400) / 100
        case 3:
            return float(integer(r))
        case _:
            return math.ldexp(r.random() - 0.5, r.randint(-1070, 1020))


def near_number(r: Random, value: float) -> float:
    up, down = math.nextafter(value, math.inf), math.nextafter(value, -math.inf)
    return r.choice([found for found in (up, down, -value, value) if math.isfinite(found)])


def _decimal(precision: int, scale: int) -> Callable[[Random], Decimal]:
    def make(r: Random) -> Decimal:
        digits = r.choice([0, 1, 2, 10**scale, 10**precision - 1, r.randint(0, 10**precision - 1)])
        return Decimal(min(digits, 10**precision - 1)).scaleb(-scale) * r.choice([1, -1])

    return make


def near_decimal(r: Random, value: Decimal) -> Decimal:
    """With digits that the column cannot hold, but a filter may have."""
    step = Decimal(r.choice([1, 5, 9])).scaleb(-r.randint(0, 20))
    return r.choice([value + step, value - step, -value, value.normalize()])


def day(r: Random) -> date:
    known = [date.min, date.max, date(999, 12, 31), date(1000, 1, 1), date(2024, 2, 29)]
    if r.random() < 0.6:
        return r.choice([*known, date(2024, 3, 1), date(1970, 1, 1), date(1582, 10, 10)])
    return date.fromordinal(r.randint(1, date.max.toordinal()))


def near_day(r: Random, value: date) -> date:
    ordinal = value.toordinal() + r.choice([-1, 1, 365])
    return date.fromordinal(min(date.max.toordinal(), max(1, ordinal)))


_FIRST, _LAST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
_MOMENTS = [
    *(_FIRST, _LAST, _FIRST + timedelta(microseconds=1), _LAST - timedelta(microseconds=1)),
    datetime(1000, 1, 1, tzinfo=UTC),
    datetime(2024, 2, 29, 23, 59, 59, 999999, UTC),
    datetime(2024, 3, 1, tzinfo=UTC),
    datetime(2024, 3, 31, 2, 30, 0, 1, UTC),
    datetime(1970, 1, 1, tzinfo=UTC),
]
_ZONES = [timezone(timedelta(hours=14)), timezone(-timedelta(hours=11, minutes=30)), UTC]


def moment(r: Random) -> datetime:
    if r.random() < 0.6:
        found = r.choice(_MOMENTS)
    else:
        found = _FIRST + timedelta(days=r.randint(0, 3652058), seconds=r.randint(0, 86399))
        found += timedelta(microseconds=r.choice([0, 1, 999999, 500000]))
    return _elsewhere(r, found)


def _elsewhere(r: Random, value: datetime) -> datetime:
    try:
        return value.astimezone(r.choice(_ZONES))
    except OverflowError:
        return value


def near_moment(r: Random, value: datetime) -> datetime:
    step = r.choice([timedelta(microseconds=1), timedelta(seconds=1), timedelta(days=1)])
    try:
        return _elsewhere(r, value.astimezone(UTC) + step * r.choice([1, -1, 0]))
    except OverflowError:
        return value


def hour(r: Random) -> time:
    known = [time.min, time.max, time(12), time(12, 0, 0, 1), time(11, 59, 59, 999999)]
    if r.random() < 0.7:
        return r.choice(known)
    return time(r.randint(0, 23), r.randint(0, 59), r.randint(0, 59), r.randint(0, 999999))


def near_hour(r: Random, value: time) -> time:
    return value.replace(microsecond=(value.microsecond + r.choice([1, -1])) % 1_000_000)


_LONG = timedelta(days=700_000)
_DURATIONS = [
    *(timedelta(0), timedelta(microseconds=1), timedelta(days=30), timedelta(days=365), _LONG),
    *(-_LONG, timedelta(hours=24), timedelta(seconds=86399, microseconds=999999)),
]


def duration(r: Random) -> timedelta:
    if r.random() < 0.7:
        return r.choice(_DURATIONS) * r.choice([1, -1])
    return timedelta(days=r.randint(-600_000, 600_000), microseconds=r.randint(0, 10**11))


def near_duration(r: Random, value: timedelta) -> timedelta:
    found = value + r.choice([1, -1, 0]) * r.choice([timedelta(microseconds=1), timedelta(days=1)])
    return min(_LONG, max(-_LONG, found))


def some_bytes(r: Random) -> str:
    known = [b"", b"\x00", b" ", b"a", b"A", b"a ", b"a\x00", b"\xff\xfe", "é".encode(), b"\\x41"]
    found = r.choice(known) if r.random() < 0.7 else r.randbytes(r.randint(0, 9))
    return b64encode(found).decode()


def near_bytes(r: Random, value: str) -> str:
    found = b64decode(value)
    return b64encode(r.choice([found + b" ", found + b"\x00", found.swapcase(), found])).decode()


_ADDRESSES = [
    *("10.0.0.1", "10.0.0.0/8", "10.0.0.1/8", "10.0.0.1/32", "0.0.0.0/0", "255.255.255.255"),
    *("::1", "::", "::/0", "::ffff:10.0.0.1", "::ffff:a00:1/120", "2001:DB8::A", "::10.0.0.1"),
]


def address(r: Random) -> str:
    if r.random() < 0.7:
        return r.choice(_ADDRESSES)
    return f"{IPv6Address(r.getrandbits(128)).exploded}/{r.randint(0, 128)}"


def near_address(r: Random, value: str) -> str:
    return r.choice([value.upper(), value.split("/")[0], value.split("/")[0] + "/16"])


def flag(r: Random) -> bool:
    return r.random() < 0.5


def _same(_: Random, value: Any) -> Any:
    return value


_NUMBERS_IN_ARRAYS = [
    *(0, 1, 2, -1, 7, 2**53 - 1, -(2**53) + 1, 2**53, 2**53 + 1, 2**70, 10**30),
    *(1.0, -0.0, 0.5, 1.5, 1e300, 5e-324, 9007199254740991.0, 1e16, 2.5e-5),
]
_WORDS_IN_ARRAYS = ["1", "true", "false", "null", "", "a", "A", "a ", '"', '"1"', "[1]", "1.0"]


def element(r: Random, depth: int = 2) -> Any:
    """Something that an array has in it."""
    match r.randint(0, 9):
        case 0 | 1:
            return text(r)
        case 2 | 3:
            return r.choice(_WORDS_IN_ARRAYS)
        case 4 | 5:
            return r.choice(r.choice([_NUMBERS_IN_ARRAYS, [0, 1]]))
        case 6:
            return r.random() < 0.5
        case 7:
            return None
        case 8:
            return [element(r, depth - 1) for _ in range(r.randint(0, 2))] if depth else []
        case _:
            return {text(r): element(r, depth - 1) for _ in range(r.randint(0, 2))} if depth else {}


def array(r: Random) -> list[Any]:
    found = [element(r) for _ in range(r.choice([0, 1, 2, 3, 5]))]
    if r.random() < 0.02:
        deep: Any = r.choice([1, "a"])
        for _ in range(30):
            deep = [deep] if r.random() < 0.7 else {"a": deep}
        found.append(deep)
    return found


def near_array(r: Random, value: list[Any]) -> list[Any]:
    return [item for item in value if r.random() < 0.7] + [element(r)]


def anything(r: Random) -> dict[str, Any]:
    return {text(r): element(r) for _ in range(r.randint(0, 3))}


def unique_id(r: Random) -> str:
    return str(UUID(int=r.choice([r.randint(0, 9), 2**128 - 1, r.randint(0, 2**128 - 1)])))


@dataclass(frozen=True)
class Kind:
    """A kind of column: its options, and values for it as they may come from outside."""

    name: str
    options: dict[str, Any]
    make: Callable[[Random], Any]
    near: Callable[[Random, Any], Any] = _same
    written: Callable[[Any], Any] = str
    """How a value may be written as text."""

    @property
    def is_container(self) -> bool:
        return self.name in ("array", "object")

    @property
    def has_text(self) -> bool:
        return self.name in ("string", "text", "id")

    @property
    def operators(self) -> list[str]:
        found = ["=", "!=", "in"]
        if self.name in ("boolean", "bytes", "inet"):
            return found
        found += [">", ">=", "<", "<=", "between"]
        return found + ["like"] * 3 * self.has_text


def _number_of(precision: int, scale: int) -> Kind:
    options = {"type": "decimal", "precision": precision, "scale": scale}
    return Kind("decimal", options, _decimal(precision, scale), near_decimal)


KINDS = [
    Kind("string", {"type": "string"}, text, near_text),
    Kind("string", {"type": "string", "max": 250}, text, near_text),
    Kind("text", {"type": "text"}, text, near_text),
    Kind("text", {"type": "text"}, text, near_text),
    Kind("id", {"type": "id"}, key, near_text),
    Kind("number", {"type": "number"}, number, near_number, repr),
    Kind("number", {"type": "number"}, number, near_number, repr),
    Kind("integer", {"type": "integer"}, integer, near_integer),
    Kind("integer", {"type": "integer"}, integer, near_integer),
    _number_of(18, 4),
    _number_of(18, 0),
    _number_of(12, 6),
    _number_of(18, 17),
    Kind(
        "boolean", {"type": "boolean"}, flag, lambda r, value: not value, lambda v: str(v).lower()
    ),
    Kind("date", {"type": "date"}, day, near_day),
    Kind("dateTime", {"type": "dateTime"}, moment, near_moment, datetime.isoformat),
    Kind("time", {"type": "time"}, hour, near_hour),
    Kind("duration", {"type": "duration"}, duration, near_duration, duration_text),
    Kind("bytes", {"type": "bytes"}, some_bytes, near_bytes),
    Kind("inet", {"type": "inet"}, address, near_address),
    Kind("array", {"type": "array"}, array, near_array, repr),
    Kind("array", {"type": "array"}, array, near_array, repr),
    Kind("array", {"type": "array"}, array, near_array, repr),
    Kind("object", {"type": "object"}, anything, _same, repr),
]
IDS = {
    "integer": Kind("reference", {}, integer, near_integer),
    "string": Kind("reference", {}, key, near_text),
    "uuid": Kind(
        "reference", {}, unique_id, lambda r, value: value.upper(), lambda v: v.replace("-", "")
    ),
}
"""By id type: ids, and keys that refer to them."""

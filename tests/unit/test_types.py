"""Every field type: what it takes, what it makes of it, and what it refuses."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from ipaddress import IPv4Network
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidings.schema import ValueProblem, cast, describe
from tidings.schema.types import INT64_MAX, INT64_MIN, MAX_DEPTH, TYPE_NAMES, cast_uuid

PLUS_ONE = timezone(timedelta(hours=1))

TAKEN = [
    ("string", "", ""),
    ("string", "007", "007"),
    ("text", "a\nb", "a\nb"),
    ("id", "7", "7"),
    ("id", 7, "7"),
    ("id", "007", "007"),
    ("id", "x" * 255, "x" * 255),
    ("number", 1, 1.0),
    ("number", "1.5", 1.5),
    ("number", ".5", 0.5),
    ("number", "5.", 5.0),
    ("number", "+1e3", 1000.0),
    ("number", Decimal("0.1"), 0.1),
    ("number", 2**53 + 1, 2.0**53),
    ("number", "1e-400", 0.0),
    ("integer", 7, 7),
    ("integer", 7.0, 7),
    ("integer", "007", 7),
    ("integer", "-7", -7),
    ("integer", "+7", 7),
    ("integer", INT64_MAX, INT64_MAX),
    ("integer", str(INT64_MIN), INT64_MIN),
    ("decimal", 0.1, Decimal("0.1")),
    ("decimal", "12.3400", Decimal("12.34")),
    ("decimal", 5, Decimal(5)),
    ("decimal", "1e3", Decimal(1000)),
    ("boolean", True, True),
    ("boolean", "true", True),
    ("boolean", "false", False),
    ("boolean", "1", True),
    ("boolean", "0", False),
    ("boolean", 1, True),
    ("boolean", 0, False),
    ("duration", "P1DT2H30M", timedelta(days=1, hours=2, minutes=30)),
    ("duration", "-p2wt0.5s", -timedelta(weeks=2, seconds=0.5)),
    ("duration", timedelta(microseconds=1), timedelta(microseconds=1)),
    ("bytes", b"\xff\xfe", "//4="),
    ("bytes", "YR==", "YQ=="),
    ("bytes", " A==", "+A=="),
    ("inet", "10.0.0.1/32", "10.0.0.1"),
    ("inet", "10.1.2.3/8", "10.1.2.3/8"),
    ("inet", "2001:DB8:0::A", "2001:db8::a"),
    ("inet", "::ffff:a00:1/120", "::ffff:10.0.0.1/120"),
    ("inet", IPv4Network("10.0.0.0/8"), "10.0.0.0/8"),
    ("date", "2024-02-29", date(2024, 2, 29)),
    ("date", date(1, 1, 1), date(1, 1, 1)),
    ("date", "0001-01-01", date(1, 1, 1)),
    ("date", "9999-12-31", date(9999, 12, 31)),
    ("dateTime", "2024-01-02T03:04:05Z", datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC)),
    ("dateTime", "2024-01-02T03:04:05.123456+01:00", datetime(2024, 1, 2, 2, 4, 5, 123456, UTC)),
    ("dateTime", "2024-01-02T03:04:05 01:00", datetime(2024, 1, 2, 2, 4, 5, tzinfo=UTC)),
    ("dateTime", "2024-01-02T03:04:05", datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC)),
    ("dateTime", "2024-01-02", datetime(2024, 1, 2, tzinfo=UTC)),
    ("dateTime", datetime(2024, 1, 2, 1, tzinfo=PLUS_ONE), datetime(2024, 1, 2, tzinfo=UTC)),
    ("dateTime", "0001-01-01T00:00:00.000001", datetime(1, 1, 1, 0, 0, 0, 1, UTC)),
    ("time", "10:30", time(10, 30)),
    ("time", "10:30:00.000001", time(10, 30, 0, 1)),
    ("time", time(1), time(1)),
    ("array", [1, "a", None, [True]], [1, "a", None, [True]]),
    ("array", (1, 2), [1, 2]),
    ("object", {"a": {"b": 1.5}}, {"a": {"b": 1.5}}),
]


@pytest.mark.parametrize(("name", "value", "expected"), TAKEN)
def test_what_is_taken(name: Any, value: Any, expected: Any) -> None:
    result = cast(name, value)
    assert result == expected
    assert type(result) is type(expected)


EXPECTED = {
    "string": "expected a string, got",
    "text": "expected a string, got",
    "id": r"expected an id \(a string or an integer\), got",
    "number": "expected a number",
    "integer": "expected an integer",
    "decimal": "expected a decimal number",
    "boolean": "expected a boolean, got",
    "date": r"expected a date \(YYYY-MM-DD\)",
    "dateTime": r"expected a date and time \(YYYY-MM-DDTHH:MM:SS",
    "time": r"expected a time without a zone \(HH:MM:SS",
    "duration": "expected a duration of ISO 8601",
    "bytes": "expected bytes in base64",
    "inet": "expected an IP address",
    "array": "expected an array, got",
    "object": "expected an object, got",
}
WRONG: dict[str, list[Any]] = {
    "string": [1, None, True, ["a"], {}, b"a"],
    "text": [1.5, None],
    "id": [1.5, True, None, ["a"]],
    "number": [True, "", "1_000", "0x10", "nan", "inf", "1,5", "٣", "1" * 65, None, [1]],
    "integer": [True, 1.5, "1.0", "1e3", "", " 7", "7 ", "1" * 20, "٣", None, math.inf, math.nan],
    "decimal": [True, "", "NaN", "Infinity", "1" * 65, None, [], "sNaN"],
    "boolean": ["yes", "True", "", 2, -1, 1.0, None, []],
    "date": [1, "2024-1", "2024-02-30", "", "2024-02-29T00:00:00", datetime(2024, 1, 1), None],
    "dateTime": [1, "yesterday", "", "2024-13-01T00:00:00", date(2024, 1, 1), None, True],
    "time": [1, "25:00", "", "noon", None, datetime(2024, 1, 1)],
    "duration": [1, "P", "PT", "P1M", "P1Y", "P1.5D", "PT1H2", "P٣D", "", "1 day", None],
    "bytes": [1, "a", "YQ", "Y-_=", "é", None, ["YQ=="]],
    "inet": [1, "10.0.0", "10.0.0.1/33", "", "::g", "1" * 99, None],
    "array": ["a,b", {}, None, {1}],
    "object": ["{}", [], None],
}


@pytest.mark.parametrize(("name", "value"), [(n, v) for n, vs in WRONG.items() for v in vs])
def test_what_is_refused(name: Any, value: Any) -> None:
    with pytest.raises(ValueProblem, match=EXPECTED[name]) as caught:
        cast(name, value)
    assert caught.value.code == "INVALID_VALUE"


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("string", "a\x00b", "must not contain the NUL character"),
        ("id", "\x00", "must not contain the NUL character"),
        ("string", "\ud800", "must be valid Unicode, without lone surrogates"),
        ("id", "", "an id has 1 to 255 characters"),
        ("id", "x" * 256, "an id has 1 to 255 characters"),
        ("id", 2**63, "must fit into 64 bits"),
        ("integer", 2**63, "must fit into 64 bits"),
        ("integer", -(2**63) - 1, "must fit into 64 bits"),
        ("integer", 1e300, "must fit into 64 bits"),
        ("integer", "9" * 19, "must fit into 64 bits"),
        ("number", 10**400, "must be a finite number"),
        ("number", math.inf, "must be a finite number"),
        ("number", math.nan, "must be a finite number"),
        ("number", "1e999", "must be a finite number"),
        ("decimal", math.inf, "expected a decimal number"),
        ("decimal", Decimal("NaN"), "must be a finite number"),
        ("decimal", Decimal("-Infinity"), "must be a finite number"),
        ("decimal", "1." + "1" * 28, "must have at most 28 digits"),
        ("decimal", 10**28 + 1, "must have at most 28 digits"),
        ("duration", "P700001D", "must be at most 700000 days long"),
        ("inet", "fe80::1%eth0", "an address with a zone"),
        ("date", datetime(2024, 1, 1), "got a date and time"),
        ("dateTime", "0001-01-01T00:00:00+14:00", "the date is out of range"),
        ("dateTime", "9999-12-31T23:00:00-02:00", "the date is out of range"),
        ("time", time(1, tzinfo=UTC), "expected a time without a zone"),
        ("time", "10:00Z", "expected a time without a zone"),
    ],
)
def test_what_is_refused_for_a_reason_of_its_own(name: Any, value: Any, message: str) -> None:
    with pytest.raises(ValueProblem, match=message):
        cast(name, value)


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("value", "path", "message"),
    [
        ([1, {"a": ["x", "\x00"]}], (1, "a", 1), "NUL"),
        ([{"a\x00": 1}], (0,), "NUL"),
        ([[math.nan]], (0, 0), "finite"),
        ([{1: 2}], (0,), "the keys of an object must be strings"),
        ([1, object()], (1,), "object is not a JSON value"),
        ([Decimal(1)], (0,), "Decimal is not a JSON value"),
        (["\ud800"], (0,), "lone surrogates"),
    ],
)
def test_the_place_inside_a_container_is_told(value: Any, path: Any, message: str) -> None:
    with pytest.raises(ValueProblem, match=message) as caught:
        cast("array", value)
    assert caught.value.path == path


def test_the_depth_of_containers_is_bounded() -> None:
    assert cast("array", nested(MAX_DEPTH)) == nested(MAX_DEPTH)
    with pytest.raises(ValueProblem, match=f"nested deeper than {MAX_DEPTH} levels"):
        cast("array", nested(MAX_DEPTH + 2))
    with pytest.raises(ValueProblem, match="nested deeper"):
        cast("object", {"a": nested(10_000)})


def test_containers_are_copies() -> None:
    array, record = [1], {"a": 1}
    assert cast("array", array) is not array
    assert cast("object", record) is not record


def test_minus_zero_is_zero() -> None:
    for value in (-0.0, "-0", "-0.0", Decimal("-0")):
        assert math.copysign(1, cast("number", value)) == 1


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (None, "null"),
        (True, "a boolean"),
        (1, "a number"),
        (1.5, "a number"),
        (Decimal(1), "a number"),
        ("x", "a string"),
        ([], "an array"),
        ((), "an array"),
        ({}, "an object"),
        (b"", "bytes"),
    ],
)
def test_values_are_described_by_their_type(value: object, name: str) -> None:
    assert describe(value) == name


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.decimals() | st.dates()
    | st.datetimes(timezones=st.none() | st.timezones()) | st.times() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)  # fmt: skip


@given(st.sampled_from(sorted(TYPE_NAMES)), anything)
def test_any_value_is_taken_or_refused_and_what_is_taken_is_final(name: Any, value: Any) -> None:
    """No other exception; no message repeats the value; and casting twice is casting once."""
    message = ""
    try:
        result = cast(name, value)
    except ValueProblem as problem:
        message = problem.message
    else:
        assert cast(name, result) == result
    assert not isinstance(value, str) or len(value) < 8 or value not in message


@given(st.uuids())
def test_the_spellings_of_a_uuid_are_one(value: UUID) -> None:
    for spelling in (str(value), str(value).upper(), value.hex, value.urn, f"{{{value}}}"):
        assert cast_uuid(spelling) == str(value)


@pytest.mark.parametrize("value", ["", "7", 7, "not-a-uuid", "g" * 32])
def test_what_is_no_uuid_is_refused(value: Any) -> None:
    with pytest.raises(ValueProblem, match=r"expected a UUID|an id has"):
        cast_uuid(value)


@given(st.datetimes(timezones=st.timezones(), allow_imaginary=False))
def test_moments_keep_their_place_in_time(moment: datetime) -> None:
    try:
        result = cast("dateTime", moment.isoformat())
    except ValueProblem:
        assert moment.year in (1, 9999)
    else:
        assert result == moment.astimezone(UTC)  # zones are not compared: some hours come twice
        assert result.tzinfo is UTC

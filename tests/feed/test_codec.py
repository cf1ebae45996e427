"""Notices as bytes: what is read is what was written, value for value and type for type."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tidings.feed import Change, Invalidation, Notice, Recheck, decode_notice, encode_notice

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False).map(lambda value: value + 0.0),  # as columns hold them: no -0.0
    st.text(),
    st.dates(),
    st.times().map(lambda value: value.replace(fold=0)),
    st.datetimes(timezones=st.just(UTC)).map(lambda value: value.replace(fold=0)),
    st.decimals(allow_nan=False, allow_infinity=False),
)
containers = st.lists(json_values, max_size=3) | st.dictionaries(st.text(), json_values, max_size=3)
values = scalars | containers | st.lists(scalars, max_size=3).map(tuple)
images = st.dictionaries(st.text(max_size=5), values, max_size=5)
changes = st.builds(
    Change,
    resource=st.text(),
    id=st.text(),
    action=st.sampled_from(["post", "update", "patch", "delete"]),
    before=st.none() | images,
    after=st.none() | images,
    at=st.datetimes(timezones=st.just(UTC)).map(lambda value: value.replace(fold=0)),
    derived=st.booleans(),
    unknown=st.frozensets(st.text(max_size=5), max_size=2),
    resynced=st.frozensets(st.text(max_size=5), max_size=2),
).filter(lambda change: (change.before, change.after) != (None, None))
invalidations = st.builds(
    Invalidation, st.none() | st.text(), st.none() | st.frozensets(st.text(max_size=5), max_size=3)
)


def typed(value: Any) -> Any:
    """A value with its type, all the way down: 1, 1.0 and True are equal in Python."""
    if isinstance(value, dict):
        return {key: typed(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return type(value), [typed(inner) for inner in value]
    return type(value), repr(value)


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(changes)
def test_a_change_is_read_as_it_was_written(change: Change) -> None:
    found = decode_notice(encode_notice(change))
    assert isinstance(found, Change)
    assert found == change
    assert typed(found.before) == typed(change.before)
    assert typed(found.after) == typed(change.after)


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(invalidations)
def test_an_invalidation_is_read_as_it_was_written(stale: Invalidation) -> None:
    assert decode_notice(encode_notice(stale)) == stale


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(images, st.data())
def test_what_has_not_changed_is_not_written_twice(before: dict[str, Any], data: Any) -> None:
    after = {name: data.draw(st.just(value) | values) for name, value in before.items()}
    change = Change("notes", "1", "patch", before, after)
    found = decode_notice(encode_notice(change))
    assert isinstance(found, Change)
    assert typed(found.after) == typed(after)


def test_large_values_that_stay_cost_nothing() -> None:
    body = "x" * 10_000
    change = Change("notes", "1", "patch", {"body": body, "n": 1}, {"body": body, "n": 2})
    assert len(encode_notice(change)) < 10_200


@pytest.mark.parametrize(
    "entry",
    [
        b"",
        b"\xc1",
        msgspec.msgpack.encode([]),
        msgspec.msgpack.encode([99, "from", "the", "future"]),
        msgspec.msgpack.encode([1, "too", "short"]),
        msgspec.msgpack.encode([2, "notes"]),
        msgspec.msgpack.encode({"not": "a list"}),
        msgspec.msgpack.encode([2, "notes", [msgspec.msgpack.Ext(99, b"?")]]),
    ],
)
def test_what_cannot_be_read_stands_for_everything(
    entry: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    assert decode_notice(entry) == Invalidation(None)
    assert "of the feed" in caplog.text


def test_moments_keep_their_microseconds() -> None:
    at = datetime(2026, 11, 25, 1, 2, 3, 456789, UTC)
    image = {
        "id": 1,
        "at": at,
        "day": date(1, 1, 1),
        "time": time(23, 59, 59, 999999),
        "duration": timedelta(days=-700_000, microseconds=1),
        "price": Decimal("1.10"),
    }
    found = decode_notice(encode_notice(Change("notes", "1", "post", None, image, at)))
    assert isinstance(found, Change)
    assert (found.at, found.after) == (at, image)
    assert found.after is not None
    assert str(found.after["price"]) == "1.10"


SAMPLES = [
    Change("posts", "1", "patch", {"id": 1, "t": "a", "d": Decimal("1.50")}, {"id": 1, "t": "b"}),
    Change("posts", "1", "post", None, {"id": 1, "when": date(2024, 1, 2), "many": (1, "x")}),
    Invalidation("posts", frozenset({"a.b"})),
    Recheck("7", None),
]


@given(st.binary(max_size=200))
def test_whatever_bytes_there_are_stand_for_something(entry: bytes) -> None:
    assert isinstance(decode_notice(entry), Change | Invalidation | Recheck)


@given(st.sampled_from(SAMPLES), st.data())
def test_a_spoiled_entry_is_never_an_error(notice: Notice, data: st.DataObject) -> None:
    entry = bytearray(encode_notice(notice))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(entry) - 1))
        entry[place] = data.draw(st.integers(0, 255))
    assert isinstance(decode_notice(bytes(entry)), Change | Invalidation | Recheck)


@given(st.sampled_from(SAMPLES), st.data())
def test_fields_of_other_kinds_are_never_believed(notice: Notice, data: st.DataObject) -> None:
    fields = msgspec.msgpack.decode(encode_notice(notice))
    values = st.one_of(
        st.none(), st.booleans(), st.integers(-(2**63), 2**64 - 1), st.text(max_size=5),
        st.lists(st.integers(0, 3), max_size=3), st.dictionaries(st.text(max_size=2), st.none()),
    )  # fmt: skip
    place = data.draw(st.integers(1, len(fields)))
    fields[place:place] = [data.draw(values)]
    if data.draw(st.booleans()):
        del fields[place + 1 : place + 2]
    found = decode_notice(msgspec.msgpack.encode(fields))
    if isinstance(found, Change):
        assert isinstance(found.resource, str)
        assert isinstance(found.id, str)
        assert found.action in ("post", "update", "patch", "delete")
        assert isinstance(found.at, datetime)
        for image in (found.before, found.after):
            assert image is None or isinstance(image, dict)
        assert (found.before, found.after) != (None, None)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda fields: fields.__setitem__(4, 2**62),
        lambda fields: fields.__setitem__(8, {"d": msgspec.msgpack.Ext(3, b"1.5.0")}),
        lambda fields: fields.__setitem__(8, {"d": msgspec.msgpack.Ext(3, b"\xff")}),
        lambda fields: fields.__setitem__(8, {"d": msgspec.msgpack.Ext(5, b"[" * 100_000)}),
        lambda fields: fields.insert(3, "one too many"),
    ],
)
def test_what_cannot_be_read_is_told_as_a_change_of_everything(
    spoil: Any, caplog: pytest.LogCaptureFixture
) -> None:
    fields = msgspec.msgpack.decode(encode_notice(SAMPLES[0]))
    spoil(fields)
    assert decode_notice(msgspec.msgpack.encode(fields)) == Invalidation(None)
    assert len(caplog.records) == 1

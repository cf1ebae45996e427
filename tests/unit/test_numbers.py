"""Numbers mean what they say, whatever the application has set for its own arithmetic."""

from __future__ import annotations

import contextlib
import decimal
import gc
from collections.abc import Iterator
from decimal import Context, Decimal
from typing import Any

import msgspec
import pytest

from tidings import Api, RestApiPlugin, SqlAlchemyPlugin
from tidings.feed import Change
from tidings.feed.codec import decode_notice, encode_notice
from tidings.filters import Atom
from tidings.filters.canonical import canonical
from tidings.numbers import JsonNumber, decode_json
from tidings.schema import cast

HOSTILE = [
    Context(prec=1),
    Context(prec=6),
    Context(prec=6, traps=[decimal.Inexact, decimal.Rounded, decimal.FloatOperation]),
    Context(prec=28, Emax=3, Emin=-3, traps=[decimal.Overflow, decimal.Subnormal]),
    Context(prec=28, traps=[]),
    Context(prec=3, rounding=decimal.ROUND_UP, capitals=0, clamp=1),
]


@pytest.fixture(params=range(len(HOSTILE)))
def context(request: pytest.FixtureRequest) -> Iterator[None]:
    with decimal.localcontext(HOSTILE[request.param]):
        yield


@pytest.mark.usefixtures("context")
def test_ids_of_seven_digits_stay_apart() -> None:
    keys = [1234567, 1234568, Decimal("1234567.5"), 1234567.25, 2**63 - 1, 2**63 - 2, -1234567]
    assert len({canonical(Atom("tenant_id", "=", key)) for key in keys}) == len(keys)
    same = [1234567, 1234567.0, Decimal("1234567.000")]
    assert len({canonical(Atom("tenant_id", "=", key)) for key in same}) == 1


@pytest.mark.usefixtures("context")
@pytest.mark.parametrize("value", ["12345.6789", "99999999999999.9999", "-0.0001", "1e3", "0"])
def test_decimals_are_cast_as_they_are(value: str) -> None:
    assert cast("decimal", value).compare_total(Decimal(value)) in (-1, 0, 1)
    assert str(cast("decimal", value)).lower() == str(Decimal(value)).lower()
    assert decode_notice(encode_notice(change(Decimal(value)))) == change(Decimal(value))


def change(value: Any) -> Change:
    from datetime import UTC, datetime

    at = datetime(2026, 1, 15, tzinfo=UTC)
    return Change("posts", "1", "post", None, {"price": value}, at)


@pytest.mark.anyio
@pytest.mark.usefixtures("context")
async def test_decimals_are_stored_as_they_are() -> None:
    api = Api()
    api.use(RestApiPlugin())
    api.use(SqlAlchemyPlugin("sqlite+aiosqlite://", create_tables=True))
    api.add_resource(
        "prices",
        {"price": {"type": "decimal", "search": True}, "tenant_id": {"type": "integer"}},
        search_schema={"over": {"actual_field": "price", "filter_operator": ">"}},
    )
    async with api:
        for text in ("12345.6789", "12345.6788", "-99999999999999.9999"):
            made = await api.resources.prices.post({"price": text})
            assert str(made["price"]) == text
            found = await api.resources.prices.query({"price": text})
            assert [str(one["price"]) for one in found] == [text]
        assert len(await api.resources.prices.query({"over": "12345.6788"})) == 1


def test_json_keeps_digits() -> None:
    found = decode_json('{"a": 12345678901234.5678, "b": 1.5, "c": 7}')
    assert isinstance(found["a"], JsonNumber)
    assert (found["a"].text, found["a"].is_exact) == ("12345678901234.5678", False)
    assert (found["b"], found["c"]) == (1.5, 7)
    assert (type(found["b"]), repr(decode_json("0.10"))) == (float, "0.1")
    plain = {"0.0": True, "1e5": True, "-2.5E-3": True, "1e-400": False, "9e999": False}
    for text, is_plain in plain.items():
        with contextlib.suppress(msgspec.DecodeError):
            assert (type(decode_json(text)) is float) == is_plain, text


def test_the_collector_is_on_after_a_long_text() -> None:
    for text in (f"[{'[],' * 20_000}[]]", f"[{'[],' * 20_000}"):
        with contextlib.suppress(msgspec.DecodeError):
            decode_json(text)
        assert gc.isenabled()

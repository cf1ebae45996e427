"""Numbers without loss: decimals whatever the application has set, and JSON with all its digits.

``decimal.getcontext()`` belongs to the application: with a precision of 6, say, two ids of seven
digits would become one. Arithmetic on values that are stored or compared goes by a context of
our own, in which nothing that tidings accepts is rounded.
"""

from __future__ import annotations

import gc
import json
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import MAX_EMAX, MIN_EMIN, ROUND_HALF_EVEN, Context, Decimal
from typing import Any, Final

import msgspec

_EXACT: Final = Context(
    prec=10_000, rounding=ROUND_HALF_EVEN, Emin=MIN_EMIN, Emax=MAX_EMAX, capitals=1, traps=[]
)


def exact(value: float | Decimal) -> Decimal:
    """A number as a decimal of the same value."""
    return Decimal.from_float(value) if isinstance(value, float) else Decimal(value)


def shifted(value: Decimal, places: int) -> Decimal:
    """The value times ``10 ** places``."""
    return _EXACT.scaleb(value, places)


def rounded(value: Decimal, places: int) -> Decimal:
    """The value with so many digits after the point."""
    return _EXACT.quantize(value, _EXACT.scaleb(Decimal(1), -places))


def trimmed(value: Decimal) -> Decimal:
    """The value without zeros at its end: ``1.50`` and ``1.5`` become the same text."""
    return _EXACT.normalize(value)


def parsed(text: str) -> Decimal:
    """The decimal that a text spells; NaN where it spells none, whatever the settings."""
    return _EXACT.create_decimal(text)


_CERTAIN: Final = 15
"""A number of so few digits is kept by a float, whatever they are (IEEE 754)."""


class JsonNumber(float):
    """A number of a JSON text that is no integer, with all its digits: a float holds some 16."""

    __slots__ = ("text",)
    text: str

    def __new__(cls, text: str) -> JsonNumber:
        number = super().__new__(cls, text)
        number.text = text
        return number

    @property
    def is_exact(self) -> bool:
        """Whether the float, as it prints, is the number that the text spells."""
        return parsed(self.text) == parsed(float.__repr__(self))


def _number(text: str) -> float:
    if len(text) <= _CERTAIN:
        number = float(text)
        # What is too small or too large for a float has become 0 or infinite.
        if 1e-290 < abs(number) < 1e290 or (number == 0 and "e" not in text and "E" not in text):
            return number
    return JsonNumber(text)


_decoder: Final = msgspec.json.Decoder(float_hook=_number)
_LONG: Final = 32_768


def encode_number(value: object) -> float:
    """What ``msgspec`` cannot encode by itself: pass it as ``enc_hook``."""
    if isinstance(value, JsonNumber):
        return float(value)
    raise TypeError(f"{type(value).__name__} is not a JSON value")


def decode_json(text: str | bytes) -> Any:
    """The value of a JSON text from outside.

    Raises:
        msgspec.DecodeError: it is no JSON.
        RecursionError: it is nested too deep.
    """
    if len(text) < _LONG:
        return _decoder.decode(text)
    with uncollected():
        return _decoder.decode(text)


def decode_stored(text: str | bytes) -> Any:
    """The value of a JSON text of the database."""
    if len(text) < _LONG:
        return json.loads(text)
    with uncollected():
        return json.loads(text)


@contextmanager
def uncollected() -> Iterator[None]:
    """Make many small objects at once without the collector looking through all that there are,
    again and again: a megabyte of brackets held the event loop for 200 ms by that alone.

    What is made must be short work, and free of cycles.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()

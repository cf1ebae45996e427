"""Lists of values in statements: cut into chunks, and padded so that few statements serve all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final, TypeVar

from sqlalchemy import BindParameter, ColumnElement, bindparam

_T = TypeVar("_T")
CHUNK: Final = 1_024
"""How many values one statement's IN list takes: as many as a long page has records."""


def chunks(values: Sequence[_T]) -> Iterator[Sequence[_T]]:
    """The values, in parts that one statement takes."""
    for start in range(0, len(values), CHUNK):
        yield values[start : start + CHUNK]


def padded_length(length: int) -> int:
    """Lists are padded to a power of two, so that few distinct statements serve all lengths."""
    return 1 << (length - 1).bit_length() if length else 0


def one_of(column: ColumnElement[Any], size: int, prefix: str = "k") -> ColumnElement[bool]:
    """``column IN (...)`` for so many values, given by `bound`."""
    parameters: list[BindParameter[Any]] = [
        bindparam(f"{prefix}{number}", type_=column.type) for number in range(size)
    ]
    return column.in_(parameters)


def bound(values: Sequence[Any], prefix: str = "k") -> dict[str, Any]:
    """The parameters of `one_of`, the last value repeated where the list is shorter."""
    padding = [values[-1]] * (padded_length(len(values)) - len(values))
    return {f"{prefix}{number}": value for number, value in enumerate([*values, *padding])}

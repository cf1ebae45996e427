"""Pages by place: what comes after a record, or before it, in an order.

A page by number begins anew at each request: where a record leaves meanwhile, another one is
skipped. A place is that of a record by its own values, which stays where it is.
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from tidings.errors import InvalidRequest
from tidings.filters import Atom, Expression, all_of, any_of
from tidings.numbers import decode_json
from tidings.schema import ResourceType, ValueProblem
from tidings.storage import Row, Sort

MAX_PLACE: Final = 1_500
"""A place has at most so many characters: it is part of a URL."""
_PLACE: Final = re.compile(rf"[A-Za-z0-9_-]{{1,{MAX_PLACE}}}")
_encoder = msgspec.json.Encoder(decimal_format="string")


@dataclass(frozen=True, slots=True)
class Keyset:
    """From where a page goes on, and which way; ``values`` None: from the end that it comes to
    first.
    """

    values: tuple[Any, ...] | None = None
    backward: bool = False
    text: str = ""
    """The place as it was given."""

    def condition(self, sort: Sort) -> Expression:
        """What is true of the records beyond it. NULLs are the last of each order."""
        if self.values is None:
            return all_of([])
        steps: list[Expression] = []
        equal: list[Expression] = []
        for (name, descending), value in zip(_whole(sort), self.values, strict=True):
            steps.append(all_of([*equal, self._beyond(name, value, descending=descending)]))
            equal.append(Atom(name, "is null") if value is None else Atom(name, "=", value))
        return any_of(steps)

    def _beyond(self, name: str, value: Any, *, descending: bool) -> Expression:
        if value is None:
            return Atom(name, "is not null") if self.backward else any_of([])
        if self.backward:
            return Atom(name, ">" if descending else "<", value)
        further = Atom(name, "<" if descending else ">", value)
        return further if name == "id" else any_of([further, Atom(name, "is null")])


def place_of(row: Row, sort: Sort) -> str:
    """The place of a record, as a text for URLs.

    Raises:
        InvalidRequest: ``INVALID_SORT``, the values that it is sorted by are too long.
    """
    whole = _whole(sort)
    content = [_spelled(whole), [row[name] for name, _ in whole]]
    text = urlsafe_b64encode(_encoder.encode(content)).decode().rstrip("=")
    if len(text) > MAX_PLACE:
        names = ", ".join(name for name, _ in whole)
        raise InvalidRequest(
            f"sort: the values of {names} are too long for page[after] and page[before]; "
            "use page[number], or sort by something shorter",
            code="INVALID_SORT",
            option="sort",
        )
    return text


def read_place(resource: ResourceType, sort: Sort, text: str) -> tuple[Any, ...]:
    """The values of a place, of the record that it was of.

    Raises:
        ValueProblem: it is no place in this order.
    """
    if not _PLACE.fullmatch(text):
        raise ValueProblem("expected a place that a page's links gave")
    whole = _whole(sort)
    try:
        spelled, values = decode_json(urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    except (ValueError, TypeError, msgspec.DecodeError, RecursionError):
        raise ValueProblem("expected a place that a page's links gave") from None
    if spelled != _spelled(whole):
        raise ValueProblem("it is of a list that is sorted otherwise")
    if not isinstance(values, list) or len(values) != len(whole):
        raise ValueProblem("expected a place that a page's links gave")
    return tuple(
        _cast(resource, name, value) for (name, _), value in zip(whole, values, strict=True)
    )


def _cast(resource: ResourceType, name: str, value: object) -> Any:
    if name == "id":
        return resource.cast_id(value)
    return None if value is None else resource.fields[name].cast(value)


def _whole(sort: Sort) -> Sort:
    """The order with the id, which decides between equals."""
    return sort if any(name == "id" for name, _ in sort) else (*sort, ("id", False))


def _spelled(sort: Sort) -> str:
    return ",".join(f"-{name}" if descending else name for name, descending in sort)

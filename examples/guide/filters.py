"""The guide's custom filters, each written twice: as SQL, and for one record.

Both sides of a filter must agree on every record, or a client is told of records that a fetch
does not show. What differs from the guide's own code, and why:

* All take the value apart in one function, so that a bad one is refused on both sides alike.
* ``search`` looks into each tag on both sides, and ignores case for all of Unicode.
* ``near_location`` lets rounding never leave the domain of the arc sine, and a record without a
  place is near nothing.
* ``available_for_user`` knows the user from the token: a ``user_id`` that the client sends is
  not looked at, since it would open everybody's records to everybody.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

from sqlalchemy import ColumnElement, String, case, exists, func, literal, or_, select
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from tidings import Identity

EARTH_RADIUS: Final = 6371.0
"""In kilometres."""
DEFAULT_RADIUS: Final = 10.0
"""In kilometres."""

Record = Mapping[str, Any]


class Columns(Protocol):
    """The columns of the resource's table, by name."""

    def __getattr__(self, name: str) -> ColumnElement[Any]: ...


# search: a text in the title, the description or a tag


def search(columns: Columns, value: str) -> ColumnElement[bool]:
    """Records that have the text somewhere, whatever its case."""
    return or_(
        _contains(columns.title, value),
        _contains(columns.description, value),
        _any_element(columns.tags, lambda tag: _contains(tag, value)),
    )


def search_record(record: Record, value: str) -> bool:
    """The same for one record."""
    texts = [record["title"], record["description"], *(record["tags"] or ())]
    return any(_small(value) in _small(text) for text in texts if text is not None)


def _small(text: str) -> str:
    """Letter by letter, as databases do it: "İ" has no single lower case, and stays."""
    lowered = ((letter, letter.lower()) for letter in text)
    return "".join(small if len(small) == 1 else letter for letter, small in lowered)


# near_location: not farther than so many kilometres along the earth's surface


def near_location(columns: Columns, value: Mapping[str, Any]) -> ColumnElement[bool]:
    """Records within ``radius`` of ``lat``, ``lng``: the haversine formula.

    SQLite has these functions unless it was built without them, which is rare.
    """
    lat, lng, radius = _circle(value)
    north = func.sin(func.radians(columns.latitude - lat) / 2.0)
    east = func.sin(func.radians(columns.longitude - lng) / 2.0)
    across = math.cos(math.radians(lat)) * func.cos(func.radians(columns.latitude))
    square = north * north + across * east * east
    # Rounding carries the square of some antipodes beyond 1, and asin() has no value there.
    clamped = case((square > 1.0, literal(1.0)), else_=square)
    return 2.0 * EARTH_RADIUS * func.asin(func.sqrt(clamped)) <= radius


def near_location_record(record: Record, value: Mapping[str, Any]) -> bool:
    """The same for one record."""
    lat, lng, radius = _circle(value)
    latitude, longitude = record["latitude"], record["longitude"]
    if latitude is None or longitude is None:
        return False
    north = math.sin(math.radians(latitude - lat) / 2.0)
    east = math.sin(math.radians(longitude - lng) / 2.0)
    across = math.cos(math.radians(lat)) * math.cos(math.radians(latitude))
    square = north * north + across * east * east
    return 2.0 * EARTH_RADIUS * math.asin(math.sqrt(min(square, 1.0))) <= radius


def _circle(value: Mapping[str, Any]) -> tuple[float, float, float]:
    _check_keys(value, {"lat", "lng", "radius"})
    return (
        _number(value, "lat", -90.0, 90.0),
        _number(value, "lng", -180.0, 180.0),
        _number(value, "radius", 0.0, math.inf, DEFAULT_RADIUS),
    )


def _number(
    value: Mapping[str, Any], name: str, low: float, high: float, default: float | None = None
) -> float:
    """A number; over HTTP it comes as text where brackets are used."""
    found = value.get(name, default)
    try:
        number = math.nan if found is None or isinstance(found, bool) else float(found)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not (low <= number <= high and math.isfinite(number)):
        limits = f"from {low:g} to {high:g}" if math.isfinite(high) else f"of {low:g} or more"
        raise ValueError(f"{name} must be a number {limits}")
    return number


# available_for_user: what the caller owns, what is public, and on request what is shared


def available_for_user(
    columns: Columns, value: Mapping[str, Any], identity: Identity
) -> ColumnElement[bool]:
    """Records for the caller; ``include_private`` adds those that others share with them."""
    include_private, user = _include_private(value), identity.user_id
    ways: list[ColumnElement[bool]] = [columns.is_public.is_(True)]
    if user is not None:
        ways.append(columns.owner_id == user)
        if include_private:
            ways.append(_any_element(columns.shared_with, lambda one: one == user))
    return or_(*ways)


def available_for_user_record(record: Record, value: Mapping[str, Any], identity: Identity) -> bool:
    """The same for one record."""
    include_private, user = _include_private(value), identity.user_id
    if record["is_public"]:
        return True
    if user is None:
        return False
    shared = include_private and user in (record["shared_with"] or ())
    return shared or record["owner_id"] == user


def _include_private(value: Mapping[str, Any]) -> bool:
    _check_keys(value, {"user_id", "include_private"})
    given = value.get("include_private", False)
    known = {"true": True, "false": False} if isinstance(given, str) else {True: True, False: False}
    if isinstance(given, list | dict) or given not in known:
        raise ValueError("include_private must be true or false")
    return known[given]


# complex_search: what a filter without a record side is like


def complex_search(columns: Columns, value: str) -> ColumnElement[bool]:
    """Records with the text in the title, blanks apart: good over HTTP, refused on a socket."""
    return _contains(func.replace(columns.title, " ", ""), value)


def _check_keys(value: Mapping[str, Any], known: set[str]) -> None:
    unknown = sorted(set(value) - known)
    if unknown:
        raise ValueError(f"unknown key {unknown[0][:50]!r} (known: {', '.join(sorted(known))})")


def _contains(text: ColumnElement[str], part: str) -> ColumnElement[bool]:
    return _Lower(text).contains(_small(part), autoescape=True)


def _any_element(
    column: ColumnElement[Any], test: Callable[[ColumnElement[str]], ColumnElement[bool]]
) -> ColumnElement[bool]:
    """True where an element of the JSON array passes; never true where there is no array."""
    elements = _Elements(column).table_valued("value")
    return exists(select(literal(1)).select_from(elements).where(test(elements.c.value)))


class _Lower(FunctionElement[str]):
    """Lower case for all of Unicode."""

    type = String()
    name = "lower"
    inherit_cache = True


class _Elements(FunctionElement[str]):
    """The elements of a JSON array of strings, one row each."""

    name = "elements"
    inherit_cache = True


@compiles(_Lower)
def _lower(element: _Lower, compiler: SQLCompiler, **options: Any) -> str:
    return f"lower({compiler.process(element.clauses, **options)})"


@compiles(_Lower, "sqlite")
def _lower_sqlite(element: _Lower, compiler: SQLCompiler, **options: Any) -> str:
    # SQLite's own lower() knows ASCII only; tidings gives its connections Python's.
    return f"tidings_lower({compiler.process(element.clauses, **options)})"


@compiles(_Elements, "sqlite")
def _elements_sqlite(element: _Elements, compiler: SQLCompiler, **options: Any) -> str:
    return f"json_each({compiler.process(element.clauses, **options)})"


@compiles(_Elements, "postgresql")
def _elements_postgresql(element: _Elements, compiler: SQLCompiler, **options: Any) -> str:
    return f"json_array_elements_text({compiler.process(element.clauses, **options)})"

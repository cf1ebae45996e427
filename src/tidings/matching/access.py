"""Access: through which key of the index the entry of a conjunction is found.

The best key leaves the fewest candidates: all equalities together, then a list of values, then an
element of a column with many values, a closed range, a text of three letters or more, an open
range, a shorter text; the rest is looked at for every change.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from math import isfinite
from typing import Any, Final

from tidings.filters import Atom, element_key, fold

MAX_SHAPE: Final = 3
"""How many equalities make one key: more columns would only make more shapes to look up."""
MAX_KEYS: Final = 64
"""Longer lists of values are checked instead of being one entry per value."""
SELECTIVE_TEXT: Final = 3
"""Texts of so many letters narrow down better than an open range."""


@dataclass(frozen=True, slots=True)
class ByValues:
    """Found by the values of some columns; ``keys`` has one key, or one per value of a list."""

    shape: tuple[str, ...]
    keys: tuple[Hashable, ...]
    used: tuple[Atom, ...]


@dataclass(frozen=True, slots=True)
class ByRange:
    """Found by where a column's value lies; None for a side that is open.

    ``used`` are the atoms that hold for every value truly inside.
    """

    column: str
    low: float | None
    high: float | None
    used: tuple[Atom, ...]


@dataclass(frozen=True, slots=True)
class ByText:
    """Found by a part of a column's text, folded."""

    column: str
    part: str
    used: tuple[Atom, ...]


@dataclass(frozen=True, slots=True)
class ByElements:
    """Found by one of the values of a column that has many; a key only narrows down."""

    column: str
    keys: tuple[Hashable, ...]
    used: tuple[Atom, ...]


Access = ByValues | ByElements | ByRange | ByText | None


def choose(atoms: Iterable[Atom]) -> Access:
    """The best access for a conjunction of these atoms; None where none is any use."""
    found = tuple(atoms)
    atoms = tuple(atom for atom in found if not atom.some)
    best: Access = _by_values(atoms) or _by_elements(found)
    if best is not None:
        return best
    ranges = list(_ranges(atoms))
    texts = [atom for atom in atoms if atom.operator == "like" and atom.value]
    closed = [found for found in ranges if found.low is not None and found.high is not None]
    if closed:
        return min(closed, key=lambda found: (found.high or 0.0) - (found.low or 0.0))
    texts.sort(key=lambda atom: -len(atom.value))
    if texts and (len(texts[0].value) >= SELECTIVE_TEXT or not ranges):
        return ByText(texts[0].column, fold(texts[0].value), (texts[0],))
    return ranges[0] if ranges else None


def can_nest(access: Access) -> bool:
    """Whether a bucket of this access may become an index: open ranges have no buckets."""
    if isinstance(access, ByRange):
        return access.low is not None and access.high is not None
    return access is not None


def _by_values(atoms: tuple[Atom, ...]) -> ByValues | None:
    single: dict[str, Atom] = {}
    for atom in atoms:
        if atom.operator in ("=", "is null") and len(single) < MAX_SHAPE:
            single.setdefault(atom.column, atom)
    if single:
        columns = tuple(sorted(single))
        values = tuple(single[column].value for column in columns)
        key = values[0] if len(values) == 1 else values
        return ByValues(columns, (key,), tuple(single.values()))
    lists = [atom for atom in atoms if atom.operator == "in" and len(atom.value) <= MAX_KEYS]
    if not lists:
        return None
    shortest = min(lists, key=lambda atom: len(atom.value))
    return ByValues((shortest.column,), tuple(dict.fromkeys(shortest.value)), (shortest,))


def _by_elements(atoms: tuple[Atom, ...]) -> ByElements | None:
    best: tuple[Any, ...] | None = None
    for atom in atoms:
        if not atom.some or atom.operator not in ("=", "in"):
            continue
        keys = atom.value if atom.operator == "in" else (atom.value,)
        if len(keys) <= MAX_KEYS and (best is None or len(keys) < len(best[1])):
            best = (atom, keys)
    if best is None:
        return None
    atom, keys = best
    return ByElements(atom.column, tuple(dict.fromkeys(map(element_key, keys))), (atom,))


def _ranges(atoms: tuple[Atom, ...]) -> Iterator[ByRange]:
    by_column: dict[str, list[Atom]] = {}
    for atom in atoms:
        if atom.operator in (">", ">=", "<", "<=", "between"):
            by_column.setdefault(atom.column, []).append(atom)
    for column, found in by_column.items():
        bounds = [_bounds(atom) for atom in found]
        lows = [low for low, _ in bounds if low is not None]
        highs = [high for _, high in bounds if high is not None]
        if lows or highs:
            low = max(lows) if lows else None
            high = min(highs) if highs else None
            used = (atom for atom, ends in zip(found, bounds, strict=True) if _is_exact(atom, ends))
            yield ByRange(column, low, high, tuple(used))


def _bounds(atom: Atom) -> tuple[float | None, float | None]:
    if atom.operator == "between":
        return position(atom.value[0]), position(atom.value[1])
    place = position(atom.value)
    return (place, None) if atom.operator.startswith(">") else (None, place)


def _is_exact(atom: Atom, ends: tuple[float | None, float | None]) -> bool:
    """Whether no bound is missing because it has no position."""
    return ends.count(None) == (0 if atom.operator == "between" else 1)


def position(value: Any) -> float | None:
    """A value's place on a line that keeps the order of its type (not strictly); None if it has
    none: for texts, and for numbers that no float can come near.
    """
    if isinstance(value, (float, int, Decimal)):
        try:
            place = float(value)
        except OverflowError:
            return None
        return place if isfinite(place) else None
    if isinstance(value, datetime):
        return value.timestamp()
    if isinstance(value, date):
        return float(value.toordinal())
    if isinstance(value, time):
        return value.hour * 3600.0 + value.minute * 60.0 + value.second + value.microsecond / 1e6
    if isinstance(value, timedelta):
        return value.total_seconds()
    return None

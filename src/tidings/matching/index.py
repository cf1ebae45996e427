"""Index: the entries of one resource, each under the key that leaves the fewest candidates."""

from __future__ import annotations

import logging
from collections.abc import Callable
from operator import itemgetter
from typing import Any, Final

from tidings.filters import Atom
from tidings.matching.access import ByRange, ByText, ByValues, choose, position
from tidings.matching.buckets import AFTER, BEFORE, Bucket, Buckets, Found, Nest
from tidings.matching.conjunctions import Check, Record, holds
from tidings.matching.node import Entry
from tidings.matching.ranges import Ranges
from tidings.matching.texts import Texts

_log = logging.getLogger("tidings.matching")
_NO_RUNS: Final[frozenset[str]] = frozenset()


class Index:
    """Finds the nodes that a record matches.

    With ``nest`` large buckets become indexes themselves, over what their entries' place has not
    used; those nest no further.
    """

    def __init__(self, nest: Nest = None) -> None:
        self._nest = nest
        self._count = 0
        self._shapes: dict[tuple[str, ...], tuple[Callable[[Record], Any], Buckets]] = {}
        self._ranges: dict[str, Ranges] = {}
        self._texts: dict[str, Texts] = {}
        self._rest: dict[Entry, None] = {}

    def __len__(self) -> int:
        return self._count

    def add(self, entry: Entry, atoms: tuple[Atom, ...]) -> None:
        """Add an entry under the best key that its atoms give."""
        self._count += 1
        match choose(atoms):
            case ByValues(shape, keys):
                place = self._shapes.get(shape)
                if place is None:
                    place = self._shapes[shape] = (itemgetter(*shape), Buckets(self._nest))
                for key in keys:
                    place[1].put(key, entry)
            case ByRange() as access:
                if access.column not in self._ranges:
                    self._ranges[access.column] = Ranges(self._nest)
                self._ranges[access.column].add(access, entry)
            case ByText() as access:
                if access.column not in self._texts:
                    self._texts[access.column] = Texts(self._nest)
                self._texts[access.column].add(access, entry)
            case None:
                self._rest[entry] = None

    def discard(self, entry: Entry, atoms: tuple[Atom, ...]) -> None:
        """Remove an entry that was added with these atoms; what becomes empty goes with it."""
        self._count -= 1
        match choose(atoms):
            case ByValues(shape, keys):
                buckets = self._shapes[shape][1]
                for key in keys:
                    buckets.discard(key, entry)
                if not buckets.table:
                    del self._shapes[shape]
            case ByRange() as access:
                self._ranges[access.column].discard(access, entry)
                if not self._ranges[access.column]:
                    del self._ranges[access.column]
            case ByText() as access:
                self._texts[access.column].discard(entry)
                if not self._texts[access.column]:
                    del self._texts[access.column]
            case None:
                del self._rest[entry]

    def collect(self, before: Record | None, after: Record | None, found: Found) -> None:
        """Add the nodes that the images of a record match; either image may be missing."""
        for key_of, buckets in self._shapes.values():
            was = None if before is None else _behind(buckets, key_of, before)
            now = None if after is None else _behind(buckets, key_of, after)
            if was is now:  # most columns stay as they are
                _take(was, before, after, found)
            else:
                _take(was, before, None, found)
                _take(now, None, after, found)
        for column, ranges in self._ranges.items():
            old = None if before is None else position(before[column])
            new = None if after is None else position(after[column])
            if old == new:
                _take_around(ranges, old, before, after, found)
            else:
                _take_around(ranges, old, before, None, found)
                _take_around(ranges, new, None, after, found)
        for column, texts in self._texts.items():
            old_runs = _NO_RUNS if before is None else texts.runs_in(before[column])
            new_runs = _NO_RUNS if after is None else texts.runs_in(after[column])
            for run in old_runs | new_runs:
                old = before if run in old_runs else None
                new = after if run in new_runs else None
                _take(texts.buckets.table[run], old, new, found)
        for entry in self._rest:
            _keep(entry, entry.checks, before, after, found)


def _behind(buckets: Buckets, key_of: Callable[[Record], Any], record: Record) -> Bucket | None:
    try:
        return buckets.table.get(key_of(record))
    except TypeError:  # an array or object is no key; looked for was that it is null
        return None


def _take(
    bucket: Bucket | None, before: Record | None, after: Record | None, found: Found
) -> None:
    if bucket is None:
        return
    if type(bucket) is Entry:
        _keep(bucket, bucket.checks, before, after, found)
    elif type(bucket) is dict:
        for entry in bucket:
            _keep(entry, entry.checks, before, after, found)
    else:
        bucket.collect(before, after, found)  # type: ignore[union-attr]  # narrowed by exact types


def _take_around(
    ranges: Ranges,
    place: float | None,
    before: Record | None,
    after: Record | None,
    found: Found,
) -> None:
    if place is None:
        return
    for entry, checks in ranges.around(place):
        _keep(entry, checks, before, after, found)
    for bucket in ranges.cells(place):
        _take(bucket, before, after, found)


def _keep(
    entry: Entry,
    checks: tuple[Check, ...],
    before: Record | None,
    after: Record | None,
    found: Found,
) -> None:
    """Note the entry's node for the images that pass the checks."""
    images = 0
    if before is not None and (not checks or _passes(entry, checks, before)):
        images = BEFORE
    if after is not None and (not checks or _passes(entry, checks, after)):
        images += AFTER
    if images:
        node = entry.node
        found[node] = found.get(node, 0) | images


def _passes(entry: Entry, checks: tuple[Check, ...], record: Record) -> bool:
    try:
        return holds(checks, record)
    except Exception:  # noqa: BLE001  a custom filter_record may raise anything; others go on
        node = entry.node
        if not node.has_failed:
            node.has_failed = True
            _log.exception("filter_record of %r failed; it counts as no match", node.resource)
        return False

"""Index: the entries of one resource, each under the key that leaves the fewest candidates."""

from __future__ import annotations

import logging
from collections.abc import Callable
from operator import itemgetter
from typing import Any

from tidings.filters import Atom
from tidings.matching.access import ByRange, ByText, ByValues, choose, position
from tidings.matching.buckets import Bucket, Buckets, Nest
from tidings.matching.conjunctions import Record, holds
from tidings.matching.node import Entry, Node
from tidings.matching.ranges import Ranges
from tidings.matching.texts import Texts

_log = logging.getLogger("tidings.matching")


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

    def collect(self, record: Record, found: set[Node]) -> None:
        """Add the nodes that the record matches."""
        for key_of, buckets in self._shapes.values():
            try:
                bucket = buckets.table.get(key_of(record))
            except TypeError:  # an array or object is no key; looked for was that it is null
                continue
            if bucket is not None:
                _take(bucket, record, found)
        for column, ranges in self._ranges.items():
            place = position(record[column])
            if place is not None:
                for bucket in ranges.around(place):
                    _take(bucket, record, found)
        for column, texts in self._texts.items():
            text = record[column]
            if text is not None:
                for bucket in texts.inside(text):
                    _take(bucket, record, found)
        for entry in self._rest:
            if _passes(entry, record):
                found.add(entry.node)


def _take(bucket: Bucket, record: Record, found: set[Node]) -> None:
    if type(bucket) is Entry:
        if not bucket.checks or _passes(bucket, record):
            found.add(bucket.node)
    elif type(bucket) is dict:
        for entry in bucket:
            if not entry.checks or _passes(entry, record):
                found.add(entry.node)
    else:
        bucket.collect(record, found)  # type: ignore[union-attr]  # narrowed by exact types


def _passes(entry: Entry, record: Record) -> bool:
    try:
        return holds(entry.checks, record)
    except Exception:  # noqa: BLE001  a custom filter_record may raise anything; others go on
        node = entry.node
        if not node.has_failed:
            node.has_failed = True
            _log.exception("filter_record of %r failed; it counts as no match", node.resource)
        return False

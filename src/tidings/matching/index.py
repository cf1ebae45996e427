"""Index: the entries of one resource, each under the key that leaves the fewest candidates."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from operator import itemgetter
from typing import Any, Final

from tidings.filters import element_keys
from tidings.matching.access import Access, ByElements, ByRange, ByText, ByValues, position
from tidings.matching.buckets import AFTER, BEFORE, Bucket, Buckets, Found, Nest
from tidings.matching.conjunctions import Check, Record
from tidings.matching.node import Entry
from tidings.matching.ranges import Ranges
from tidings.matching.texts import Texts

_log = logging.getLogger("tidings.matching")
_SHORT: Final = 5_000
"""Texts of so many letters, and arrays of so many elements, are looked at in one step."""
Work = Callable[[Found], Iterator[None]]
"""Finds nodes, in steps that are short each."""

KeyOf = Callable[[Record], Any]
Lookup = Callable[[Any], Bucket | None]


class Index:
    """Finds the nodes that a record matches.

    With ``nest`` large buckets become indexes themselves, over what their entries' place has not
    used; those nest no further.
    """

    def __init__(self, nest: Nest = None) -> None:
        self._nest = nest
        self._count = 0
        self._values: dict[tuple[str, ...], Buckets] = {}
        self._lookups: dict[tuple[str, ...], tuple[KeyOf, Lookup]] = {}
        self._elements: dict[str, Buckets] = {}
        self._ranges: dict[str, Ranges] = {}
        self._texts: dict[str, Texts] = {}
        self._rest: dict[Entry, None] = {}

    def __len__(self) -> int:
        return self._count

    def add(self, entry: Entry, access: Access) -> None:
        """Add an entry."""
        self._count += 1
        match access:
            case ByValues(shape, keys):
                if shape not in self._values:
                    buckets = self._values[shape] = Buckets(self._nest)
                    self._lookups[shape] = itemgetter(*shape), buckets.table.get
                for key in keys:
                    self._values[shape].put(key, entry)
            case ByElements(column, keys):
                if column not in self._elements:
                    self._elements[column] = Buckets(self._nest)
                for key in keys:
                    self._elements[column].put(key, entry)
            case ByRange():
                if access.column not in self._ranges:
                    self._ranges[access.column] = Ranges(self._nest)
                self._ranges[access.column].add(access, entry)
            case ByText():
                if access.column not in self._texts:
                    self._texts[access.column] = Texts(self._nest)
                self._texts[access.column].add(access, entry)
            case None:
                self._rest[entry] = None

    def discard(self, entry: Entry, access: Access) -> None:
        """Remove an entry that was added with this access; what becomes empty goes with it."""
        self._count -= 1
        match access:
            case ByValues(shape, keys):
                for key in keys:
                    self._values[shape].discard(key, entry)
                if not self._values[shape].table:
                    del self._values[shape], self._lookups[shape]
            case ByElements(column, keys):
                for key in keys:
                    self._elements[column].discard(key, entry)
                if not self._elements[column].table:
                    del self._elements[column]
            case ByRange():
                self._ranges[access.column].discard(access, entry)
                if not self._ranges[access.column]:
                    del self._ranges[access.column]
            case ByText():
                self._texts[access.column].discard(entry)
                if not self._texts[access.column]:
                    del self._texts[access.column]
            case None:
                del self._rest[entry]

    def collect(self, before: Record, after: Record, images: int, found: Found) -> None:
        """Add the nodes that these images of a record match."""
        for key_of, get in self._lookups.values():
            try:
                was = get(key_of(before)) if images & BEFORE else None
                now = get(key_of(after)) if images & AFTER else None
            except TypeError:
                was = _behind(get, key_of, before) if images & BEFORE else None
                now = _behind(get, key_of, after) if images & AFTER else None
            if was is now:  # most columns stay as they are
                if was is not None:
                    _take(was, before, after, images, found)
                continue
            if was is not None:
                _take(was, before, after, BEFORE, found)
            if now is not None:
                _take(now, before, after, AFTER, found)
        for column, buckets in self._elements.items():
            values = _images_of(column, before, after, images)
            _now_or_late(_take_elements(buckets, values, before, after), values, found)
        for column, ranges in self._ranges.items():
            old = position(before[column]) if images & BEFORE else None
            new = position(after[column]) if images & AFTER else None
            if old == new:
                _take_around(ranges, old, before, after, images, found)
            else:
                _take_around(ranges, old, before, after, BEFORE, found)
                _take_around(ranges, new, before, after, AFTER, found)
        for column, texts in self._texts.items():
            values = _images_of(column, before, after, images)
            _now_or_late(_take_texts(texts, values, before, after), values, found)
        for entry in self._rest:
            _keep(entry, entry.checks, before, after, images, found)


def _images_of(column: str, before: Record, after: Record, images: int) -> tuple[Any, Any]:
    """A column's values in the images that count."""
    was = before[column] if images & BEFORE else None
    return was, after[column] if images & AFTER else None


def _now_or_late(work: Work, values: tuple[Any, Any], found: Found) -> None:
    """Do what is short at once; the rest is done step by step."""
    if all(value is None or len(value) <= _SHORT for value in values):
        for _ in work(found):
            pass
    else:
        found.late.append(work)


def _take_elements(
    buckets: Buckets, values: tuple[Any, Any], before: Record, after: Record
) -> Work:
    def work(found: Found) -> Iterator[None]:
        old = element_keys(values[0])
        yield
        new = element_keys(values[1])
        yield
        for key in _present(buckets.table, old) | _present(buckets.table, new):
            which = BEFORE * (key in old) + AFTER * (key in new)
            _take(buckets.table[key], before, after, which, found)

    return work


def _present(table: dict[Any, Bucket], keys: frozenset[Any]) -> set[Any]:
    """Those of the keys that a table has."""
    if len(keys) > len(table):
        return {key for key in table if key in keys}
    return {key for key in keys if key in table}


def _take_texts(
    texts: Texts, values: tuple[str | None, str | None], before: Record, after: Record
) -> Work:
    def work(found: Found) -> Iterator[None]:
        old_runs: set[str] = set()
        new_runs: set[str] = set()
        yield from texts.collect_runs(values[0], old_runs)
        yield from texts.collect_runs(values[1], new_runs)
        for run in old_runs | new_runs:
            bucket = texts.buckets.table.get(run)
            if bucket is not None:  # the last of them may have gone meanwhile
                which = BEFORE * (run in old_runs) + AFTER * (run in new_runs)
                _take(bucket, before, after, which, found)

    return work


def _behind(get: Lookup, key_of: KeyOf, record: Record) -> Bucket | None:
    try:
        return get(key_of(record))
    except TypeError:  # an array or object is no key; looked for was that it is null
        return None


def _take(bucket: Bucket, before: Record, after: Record, images: int, found: Found) -> None:
    if type(bucket) is Entry:
        if bucket.checks:
            _keep(bucket, bucket.checks, before, after, images, found)
        else:
            found[bucket.node] = found.get(bucket.node, 0) | images
    elif type(bucket) is dict:
        for entry in bucket:
            _keep(entry, entry.checks, before, after, images, found)
    else:
        bucket.collect(before, after, images, found)  # type: ignore[union-attr]  # by exact types


def _take_around(
    ranges: Ranges, place: float | None, before: Record, after: Record, images: int, found: Found
) -> None:
    if place is None:
        return
    inside: list[Entry] = []
    at_end: list[Entry] = []
    ranges.around(place, inside, at_end)
    for entry in inside:
        if entry.inner:
            _keep(entry, entry.inner, before, after, images, found)
        else:
            found[entry.node] = found.get(entry.node, 0) | images
    for entry in at_end:
        _keep(entry, entry.checks, before, after, images, found)
    for bucket in ranges.cells(place):
        _take(bucket, before, after, images, found)


def _keep(
    entry: Entry,
    checks: tuple[Check, ...],
    before: Record,
    after: Record,
    images: int,
    found: Found,
) -> None:
    """Note the entry's node for those of the images that pass the checks."""
    if not entry.is_heavy or not checks:
        _decide(entry, checks, before, after, images, found)
        return

    def work(found: Found) -> Iterator[None]:
        for image in (BEFORE, AFTER):
            if images & image and entry.node.holders:  # the last one may have gone meanwhile
                _decide(entry, checks, before, after, image, found)
                yield

    found.late.append(work)


def _decide(
    entry: Entry,
    checks: tuple[Check, ...],
    before: Record,
    after: Record,
    images: int,
    found: Found,
) -> None:
    if checks:
        if images & BEFORE and not _passes(entry, checks, before):
            images -= BEFORE
        if images & AFTER and not _passes(entry, checks, after):
            images -= AFTER
    if images:
        found[entry.node] = found.get(entry.node, 0) | images


def _passes(entry: Entry, checks: tuple[Check, ...], record: Record) -> bool:
    try:
        for column, test, operand in checks:
            if column is None:
                if not test(record, operand):
                    return False
            else:
                value = record[column]
                if value is None or not test(value, operand):
                    return False
    except Exception:  # noqa: BLE001  a custom filter_record may raise anything; others go on
        node = entry.node
        if not node.has_failed:
            node.has_failed = True
            _log.exception("filter_record of %r failed; it counts as no match", node.resource)
        return False
    return True

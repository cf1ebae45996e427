"""Buckets: the entries behind each key of one table of the index.

Most keys have one entry, so a bucket is that entry itself; several are a dict; many become an
index of their own over the atoms that their place has not used yet.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from typing import Any, Final, Protocol

from tidings.matching.access import Access, choose
from tidings.matching.conjunctions import Record
from tidings.matching.node import Entry, Node

SPLIT_AT: Final = 24
"""A bucket with more entries becomes an index."""


BEFORE: Final = 1
AFTER: Final = 2


class Found(dict[Node, int]):
    """Nodes, each with the images that it matches: ``BEFORE``, ``AFTER`` or both, added.

    ``late`` is what has still to be done to find more of them, in steps that are short each.
    """

    __slots__ = ("late",)

    def __init__(self) -> None:
        super().__init__()
        self.late: list[Callable[[Found], Iterator[None]]] = []


class Nested(Protocol):
    """An index inside a bucket."""

    def __len__(self) -> int: ...
    def add(self, entry: Entry, access: Access) -> None: ...
    def discard(self, entry: Entry, access: Access) -> None: ...
    def collect(self, before: Record, after: Record, images: int, found: Found) -> None: ...


Nest = Callable[[], Nested] | None
"""Makes the index of a bucket that has become large; None where buckets stay as they are."""
Bucket = Entry | dict[Entry, None] | Nested


class Buckets:
    """A table of buckets."""

    __slots__ = ("_nest", "table")

    def __init__(self, nest: Nest) -> None:
        self.table: dict[Any, Bucket] = {}
        self._nest = nest

    def put(self, key: Hashable, entry: Entry) -> None:
        """Add an entry behind a key."""
        bucket = self.table.get(key)
        if bucket is None:
            self.table[key] = entry
        elif isinstance(bucket, Entry):
            self.table[key] = {bucket: None, entry: None}
        elif isinstance(bucket, dict):
            bucket[entry] = None
            if len(bucket) > SPLIT_AT and self._nest is not None:
                self.table[key] = nested = self._nest()
                for held in bucket:
                    nested.add(held, choose(held.atoms))
        else:
            bucket.add(entry, choose(entry.atoms))

    def discard(self, key: Hashable, entry: Entry) -> None:
        """Remove an entry from behind a key; the last one takes the key along."""
        bucket = self.table[key]
        if isinstance(bucket, Entry):
            del self.table[key]
            return
        if isinstance(bucket, dict):
            del bucket[entry]
        else:
            bucket.discard(entry, choose(entry.atoms))
        if not len(bucket):
            del self.table[key]

    def size(self, key: Hashable) -> int:
        """How many entries are behind a key."""
        bucket = self.table.get(key)
        if bucket is None:
            return 0
        return 1 if isinstance(bucket, Entry) else len(bucket)

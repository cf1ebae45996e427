"""Replay: what a subscription has missed since a cursor, by its net effect on each record."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from tidings.feed import Change, Cursor, Feed, FeedGap, FeedUnavailable, Invalidation, Place, fold
from tidings.filters import Expression, compile_predicate
from tidings.matching import is_stale, is_told, is_unknown, way_through

_log = logging.getLogger("tidings.realtime")
MAX_MISSED: Final = 10_000
"""A client that has missed more changes than so many, of whatever, is told to refetch."""
_TURN: Final = 200


@dataclass(frozen=True, slots=True)
class Told:
    """A change as a subscription is told of it: its place, and the record's way."""

    offset: int
    way: str
    change: Change


class Replayer:
    """Reads the feed backwards, for clients that come back.

    ``position`` gives the place up to which changes have been matched; what is beyond it a
    subscription that begins now is told of anyway.
    """

    def __init__(self, feed: Feed, position: Callable[[], Cursor], most: int = MAX_MISSED) -> None:
        self._feed = feed
        self._position = position
        self._most = most

    async def replay(self, resource: str, expression: Expression, cursor: Cursor | None) -> Replay:
        """What a subscription has missed since; without a cursor that can be read, who knows."""
        replay = Replay(resource, expression, cursor)
        if cursor is None:
            replay.reason = "window"
            return replay
        try:
            places = await self._feed.since(cursor, self._most)
            await replay.take_in(self._matched(places, cursor))
        except FeedGap as gap:
            replay.reason = gap.reason
        except FeedUnavailable as error:
            _log.warning("what a client has missed cannot be read: %s", error)
            replay.reason = "window"
        return replay

    def complete(self, replay: Replay) -> None:
        """Add what has been matched meanwhile. Then the subscription has to begin at once."""
        until, position = replay.until, self._position()
        if replay.reason is not None or until is None:
            return
        try:
            if until.epoch != position.epoch or until.offset < position.offset:
                replay.add(self._matched(self._feed.recent(until), until))
        except FeedGap as gap:
            replay.reason = gap.reason

    def _matched(self, places: Sequence[Place], after: Cursor) -> Sequence[Place]:
        position = self._position()
        if after.epoch != position.epoch:
            raise FeedGap(position, "epoch")
        if not places or places[-1][0] <= position.offset:
            return places
        return [place for place in places if place[0] <= position.offset]


@dataclass(slots=True)
class _Record:
    offset: int
    change: Change
    way: str | None


@dataclass(slots=True)
class Replay:
    """What one subscription has missed: added up, then `told`."""

    resource: str
    expression: Expression
    until: Cursor | None
    """The place up to which it has been added up."""
    reason: str | None = None
    """Why what was missed is not known, so that the client has to refetch."""
    _records: dict[str, _Record] = field(default_factory=dict)

    async def take_in(self, places: Sequence[Place]) -> None:
        """Add changes, giving others a turn now and then."""
        for start in range(0, len(places), _TURN):
            self.add(places[start : start + _TURN])
            await asyncio.sleep(0)

    def add(self, places: Sequence[Place]) -> None:
        """Add the next changes."""
        concerned = set()
        for offset, notice in places:
            if isinstance(notice, Invalidation):
                self._invalidate(notice)
            elif isinstance(notice, Change) and notice.resource == self.resource:
                self._fold(offset, notice)
                concerned.add(notice.id)
        self._decide(concerned)
        if places and self.until is not None:
            self.until = Cursor(self.until.epoch, places[-1][0])

    def told(self) -> list[Told]:
        """What to tell: at most one change per record, in the order of their last ones."""
        found = [
            Told(record.offset, record.way, record.change)
            for record in self._records.values()
            if record.way is not None
        ]
        return sorted(found, key=lambda told: told.offset)

    def _invalidate(self, stale: Invalidation) -> None:
        if is_stale(stale, self.resource, self.expression):
            self.reason = self.reason or "bulk"

    def _fold(self, offset: int, change: Change) -> None:
        known = self._records.get(change.id)
        folded = change if known is None else fold(known.change, change)
        if folded is None:
            del self._records[change.id]
        else:
            self._records[change.id] = _Record(offset, folded, None)

    def _decide(self, ids: set[str]) -> None:
        """Hold the images of records against the filter."""
        matches = compile_predicate(self.expression)
        for record in filter(None, map(self._records.get, ids)):
            change = record.change
            if is_unknown(change, self.expression):
                self.reason = self.reason or "bulk"
                continue
            try:
                way = way_through(change, matches)
            except Exception:  # noqa: BLE001  a custom filter's; who refetches misses nothing
                _log.exception("a change of %r could not be replayed", self.resource)
                self.reason = self.reason or "window"
                continue
            record.way = way if is_told(change, way) else None

"""Replay: what subscriptions have missed since their cursors, folded to one notice per record."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from tidings.feed import (
    Change,
    Cursor,
    Feed,
    FeedGap,
    FeedUnavailable,
    Invalidation,
    Packed,
    Place,
    Recheck,
    unpacked,
)
from tidings.filters import Expression
from tidings.identity import Identity
from tidings.matching import Matcher, Node, Transitions, Way, is_stale, is_told, is_unknown
from tidings.realtime.notifications import Notification, folded, without_values

_log = logging.getLogger("tidings.realtime")
MAX_MISSED: Final = 10_000
"""A client that has missed more changes than so many, of whatever, is told to refetch."""
MAX_READ: Final = 4 * MAX_MISSED
"""So many changes are read for one message, those of each of its cursors counted anew."""
MAX_TOLD: Final = 2_000
"""So many missed notifications are held for one message; whoever has more is told to refetch."""
_AT_ONCE: Final = 16
"""So many messages are replayed side by side; what they read is held meanwhile."""
_TURN: Final = 50
_TURN_SECONDS: Final = 0.005
_LAST_STEP: Final = 200
"""So many changes may be added in one step, the last: nothing comes between it and the answer."""
_LAST_HEAVY: Final = 2
"""The same, where filters look through texts and arrays."""
_ROUNDS: Final = 20
"""So often it is tried to come up with what is matched meanwhile."""
_Key = tuple[str, str]

Afford = Callable[[int], bool]
"""Whether reading so many changes is within what a client may ask for; if so it is paid for."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What somebody wants to be told of, and the last place they know of (None: none).

    ``resources`` are all that this looks at. ``is_guarded``: not everybody may see everything.
    """

    resource: str
    expression: Expression
    cursor: Cursor | None
    identity: Identity
    resources: frozenset[str]
    is_guarded: bool


@dataclass(slots=True)
class Replay:
    """What one subscription has missed, up to ``until``."""

    wanted: Wanted
    until: Cursor | None
    reason: str | None = None
    """Why what was missed is not known, so that the client has to refetch."""
    _records: dict[_Key, Notification] = field(default_factory=dict)

    def told(self) -> list[Notification]:
        """What to tell: at most one notification per record, in the order of the feed."""
        return sorted(self._records.values(), key=lambda told: told.cursor.offset)


class Replayer:
    """Reads the feed backwards, for clients that come back.

    ``position`` gives the place up to which changes have been matched; what is beyond it a
    subscription that begins now is told of anyway.
    """

    def __init__(self, feed: Feed, position: Callable[[], Cursor], most: int = MAX_MISSED) -> None:
        self._feed = feed
        self._position = position
        self._most = most
        self._turns = asyncio.Semaphore(_AT_ONCE)

    async def replay(self, wanted: Sequence[Wanted], afford: Afford | None = None) -> Replays:
        """What subscriptions have missed; those of one cursor are matched together.

        Whoever has missed more than can be read, or than ``afford`` allows, has to refetch.
        """
        replays = Replays([Replay(one, one.cursor) for one in wanted], self._feed, self._position)
        if any(replay.until is not None for replay in replays.each):
            async with self._turns:
                await self._read(replays, afford or _anything)
        for replay in replays.each:
            if replay.until is None:
                replay.reason = replay.reason or "window"
        return replays

    async def _read(self, replays: Replays, afford: Afford) -> None:
        try:
            left, most = MAX_READ, 0
            for group in replays.groups:
                missed = max(0, self._position().offset - group.until.offset)
                if group.until.epoch != self._position().epoch:
                    group.give_up("epoch")
                elif missed > min(left, self._most) or not afford(missed):
                    group.give_up("window")
                else:
                    left, most = left - missed, max(most, missed)
            places = await self._since(replays)
            for group in replays.groups:
                if group.reason is None:
                    await group.take_in(replays.matched(places))
            await replays.follow()
        except FeedUnavailable as error:
            _log.warning("what a client has missed cannot be read: %s", error)
            for group in replays.groups:
                group.give_up("window")

    async def _since(self, replays: Replays) -> Sequence[Place]:
        """All that has been missed since the oldest of the cursors that the feed remembers."""
        groups = [group for group in replays.groups if group.reason is None]
        here = min(self._position().offset, self._feed.position.offset)
        for group in [one for one in groups if one.until.offset > here]:
            # It has been told more by another process than this one has matched, or ever was.
            groups.remove(group)
            try:
                await self._feed.since(group.until, self._most)
            except FeedGap as gap:
                group.give_up(gap.reason)
        while groups:
            try:
                # More may come while it is asked for: that is not why somebody has to refetch.
                return await self._feed.since(groups[-1].until, 2 * self._most)
            except FeedGap as gap:
                groups[-1].give_up(gap.reason)
                for group in groups:
                    if gap.reason == "epoch" or group.until.offset < gap.resume.offset:
                        group.give_up(gap.reason)
                groups = [group for group in groups if group.reason is None]
        return ()


class Replays:
    """The replays of one message: brought up to date together, and completed in one step."""

    def __init__(self, each: Sequence[Replay], feed: Feed, position: Callable[[], Cursor]) -> None:
        self.each = each
        self._feed = feed
        self._position = position
        self._held = 0
        by_cursor: dict[Cursor, list[Replay]] = {}
        for replay in each:
            if replay.until is not None:
                by_cursor.setdefault(replay.until, []).append(replay)
        cursors = sorted(by_cursor, key=lambda cursor: cursor.offset, reverse=True)
        self.groups = [_Group(by_cursor[cursor], cursor, self._hold) for cursor in cursors]
        """Those of one cursor, the newest first."""

    async def follow(self) -> None:
        """Add what has been matched meanwhile, until what is left is little."""
        for _ in range(_ROUNDS):
            behind = [group for group in self.groups if self._behind(group) > group.last_step]
            if not behind:
                break
            for group in behind:
                await group.take_in(self._recent(group))

    def complete(self) -> None:
        """Add what has been matched since; then the subscriptions have to begin at once."""
        for group in self.groups:
            behind = self._behind(group)
            if behind > group.last_step:
                group.give_up("window")
            elif behind:
                group.add(self._recent(group))
                group.decide()
            group.settle()

    def matched(self, places: Sequence[Place]) -> Sequence[Place]:
        """Without those of which the subscriptions will be told when they are matched."""
        offset = self._position().offset
        if not places or places[-1][0] <= offset:
            return places
        return places[: bisect_right(places, offset, key=_offset)]

    def _behind(self, group: _Group) -> int:
        if group.reason is not None:
            return 0
        position = self._position()
        if group.until.epoch != position.epoch:
            group.give_up("epoch")
            return 0
        return max(0, position.offset - group.until.offset)

    def _recent(self, group: _Group) -> Sequence[Place]:
        try:
            return self.matched(self._feed.recent(group.until))
        except FeedGap as gap:
            group.give_up(gap.reason)
            return ()

    def _hold(self, count: int) -> bool:
        """Count what is to be told; False where that is too much."""
        self._held += count
        return self._held <= MAX_TOLD


class _Group:
    """The replays of one cursor: each change is matched once, by one index for all of them.

    Each change, not the record's first and last image: what matched in between a client may have
    fetched meanwhile, and has to be told that it is gone.
    """

    def __init__(
        self, replays: Sequence[Replay], cursor: Cursor, hold: Callable[[int], bool]
    ) -> None:
        self.until = cursor
        self.reason: str | None = None
        self._hold = hold
        self._replays = list(replays)
        self._matcher = Matcher()
        self._of: dict[Node, list[Replay]] = {}
        for replay in replays:
            node = self._matcher.acquire(replay.wanted.resource, replay.wanted.expression)
            self._of.setdefault(node, []).append(replay)
        heavy = any(entry.is_heavy for node in self._of for entry in node.entries)
        self.last_step = _LAST_HEAVY if heavy else _LAST_STEP
        self._names = {replay.wanted.resource for replay in replays}
        self._open: deque[tuple[int, Change]] = deque()

    def give_up(self, reason: str) -> None:
        """All of these have to refetch."""
        self.reason = self.reason or reason
        for replay in self._replays:
            self._give_up(replay, reason)

    def _give_up(self, replay: Replay, reason: str) -> None:
        if replay.reason is None:
            replay.reason = reason
            self._hold(-len(replay._records))
            replay._records.clear()

    async def take_in(self, places: Sequence[Place]) -> None:
        """Add changes, giving others a turn now and then; those known already are left out."""
        start = bisect_right(places, self.until.offset, key=_offset)
        for begin in range(start, len(places), _TURN):
            self.add(places[begin : begin + _TURN])
            await asyncio.sleep(0)
        turn_ends = time.monotonic() + _TURN_SECONDS
        for _ in self._decide():
            if time.monotonic() > turn_ends:
                await asyncio.sleep(0)
                turn_ends = time.monotonic() + _TURN_SECONDS

    def add(self, places: Sequence[Place]) -> None:
        """Add the next changes; `decide` says what they come to."""
        for offset, found in places:
            if isinstance(found, Packed) and found.resource not in self._names:
                continue
            notice = unpacked(found)
            if isinstance(notice, Change):
                if notice.resource in self._names:
                    self._open.append((offset, notice))
            elif isinstance(notice, Invalidation):
                for replay in self._replays:
                    wanted = replay.wanted
                    if is_stale(notice, wanted.resource, wanted.expression):
                        self._give_up(replay, "bulk")
            else:
                self._change_rights(notice)
        if places:
            self.until = Cursor(self.until.epoch, places[-1][0])

    def decide(self) -> None:
        """Match what has been added."""
        for _ in self._decide():
            pass

    def settle(self) -> None:
        """Note how far these have come, and who may not be told all of it."""
        for replay in self._replays:
            replay.until = self.until
            left = (told.change.at for told in replay._records.values() if told.way == "leave")
            if not all(_could_see(replay.wanted, moment.timestamp()) for moment in left):
                self._give_up(replay, "permission")

    def _change_rights(self, changed: Recheck) -> None:
        """What somebody may see has changed: what they could see before is not known."""
        for replay in self._replays:
            wanted = replay.wanted
            if (
                wanted.is_guarded
                and changed.user_id in (None, wanted.identity.user_id)
                and (changed.resource is None or changed.resource in wanted.resources)
            ):
                self._give_up(replay, "permission")

    def _decide(self) -> Iterator[None]:
        """Hold the images of each change against the filters, in steps that are short each."""
        while self._open:
            offset, change = self._open.popleft()
            if all(replay.reason is not None for replay in self._replays):
                continue
            try:
                found = yield from self._matcher.steps(change)
            except Exception:  # noqa: BLE001  who refetches misses nothing
                _log.exception("a change of %r could not be replayed", change.resource)
                self.give_up("window")
            else:
                self._note(offset, change, found)
            yield

    def _note(self, offset: int, change: Change, found: Transitions) -> None:
        for node, replays in self._of.items():
            is_lost = change.unknown and is_unknown(change, node.expression)
            if node.has_failed or (is_lost and node.resource == change.resource):
                for replay in replays:
                    self._give_up(replay, "window" if node.has_failed else "bulk")
        ways: tuple[tuple[Way, list[Node]], ...] = (
            ("enter", found.enter),
            ("update", found.update),
            ("leave", found.leave),
        )
        bare: Change | None = None
        for way, nodes in ways:
            if not nodes or not is_told(change, way):
                continue
            bare = bare or without_values(change)
            told = Notification(bare, way, Cursor(self.until.epoch, offset))
            for node in nodes:
                for replay in self._of[node]:
                    self._tell(replay, told)

    def _tell(self, replay: Replay, told: Notification) -> None:
        if replay.reason is not None:
            return
        key = (told.change.resource, told.change.id)
        known = replay._records.get(key)
        replay._records[key] = told if known is None else folded(known, told)
        if known is None and not self._hold(1):
            most = max(self._replays, key=lambda one: len(one._records))
            self._give_up(most, "overflow")


def _anything(changes: int) -> bool:
    return True


def _offset(place: Place) -> int:
    return place[0]


def _could_see(wanted: Wanted, moment: float) -> bool:
    """Whether somebody could see at that time what they could see now, so that they may be told
    that it is gone: a token that has been issued since may say more of them than the last one did.
    """
    if not wanted.is_guarded or not wanted.identity.is_authenticated:
        return True
    issued_at = wanted.identity.issued_at
    # In whole seconds, as a rule: it may have been issued at the end of that second.
    return issued_at is not None and moment >= math.floor(issued_at) + 1

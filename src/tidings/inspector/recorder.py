"""Recorder: the last changes that delivery dealt with, and who was told of them."""

from __future__ import annotations

import time
from collections import Counter, OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Final, NamedTuple

from tidings.feed import Change, Cursor, Notice, weight
from tidings.realtime import Message, Notification, Resync, Subscription

TOLD: Final = 20
"""For each change, so many of those who were told are listed; the others are only counted."""
LONGEST: Final = 100
"""Ids of users and subscriptions are cut to so many characters."""
_TOLD_BYTES: Final = 600
_RECORDED_BYTES: Final = 1_200


class Told(NamedTuple):
    """One subscription that was told, and what: ``enter``, ``update``, ``leave`` or ``resync``."""

    user: str | None
    socket: str
    subscription: str
    way: str


@dataclass(eq=False, slots=True)
class Recorded:
    """One notice of the feed, and what became of it in this process."""

    cursor: Cursor
    notice: Notice
    seen_at: float
    ways: Counter[str] = field(default_factory=Counter)
    """How many subscriptions were told what."""
    told: list[Told] = field(default_factory=list)
    bytes: int = 0


class Recorder:
    """A `DeliveryObserver` that keeps the newest notices: at most ``most``, and at most
    ``max_bytes`` of them. The newest one is kept in any case.
    """

    def __init__(self, most: int, max_bytes: int) -> None:
        self.bytes = 0
        """About how much memory the kept notices take."""
        self._most = most
        self._max_bytes = max_bytes
        self._kept: OrderedDict[Cursor, Recorded] = OrderedDict()
        self._newest: Recorded | None = None

    def begin(self, cursor: Cursor, notice: Notice) -> None:
        """Keep a notice that is delivered next."""
        recorded = Recorded(cursor, notice, time.time(), bytes=_RECORDED_BYTES + weight(notice))
        self._kept[cursor] = self._newest = recorded
        self.bytes += recorded.bytes
        while len(self._kept) > 1 and (
            len(self._kept) > self._most or self.bytes > self._max_bytes
        ):
            self.bytes -= self._kept.popitem(last=False)[1].bytes

    def told(self, subscription: Subscription, message: Message) -> None:
        """Note that a subscription was told."""
        if isinstance(message, Notification):
            way = message.way
        elif isinstance(message, Resync):
            way = "resync"
        else:
            return
        recorded = self._newest
        if recorded is None or recorded.cursor is not message.cursor:
            recorded = self._kept.get(message.cursor)  # it waited for a permission check
            if recorded is None:
                return
        recorded.ways[way] += 1
        if len(recorded.told) < TOLD:
            subscriber = subscription.subscriber
            user = subscriber.identity.user_id
            cut = None if user is None else user[:LONGEST]
            recorded.told.append(Told(cut, subscriber.id, subscription.id[:LONGEST], way))
            recorded.bytes += _TOLD_BYTES
            self.bytes += _TOLD_BYTES

    def latest(self, most: int) -> Sequence[Recorded]:
        """The newest notices, the newest first."""
        return list(islice(reversed(self._kept.values()), most))

    def at(self, cursor: Cursor) -> Recorded | None:
        """The notice at this place, while it is kept."""
        return self._kept.get(cursor)

    def __len__(self) -> int:
        return len(self._kept)


def changed_at(notice: Notice) -> float | None:
    """When a change was written, in seconds since the epoch; other notices do not say."""
    return notice.at.timestamp() if isinstance(notice, Change) else None

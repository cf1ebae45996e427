"""Backlog: what a client that reads too slowly is still to be told, as little as that can be."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from tidings.feed import Cursor
from tidings.realtime.notifications import CaughtUp, Notification, Resync, folded
from tidings.realtime.subscriptions import Message, Subscription


@dataclass(slots=True)
class SlowCounters:
    """What slow clients have come to, in one process, since it started."""

    behind: int = 0
    """How often a client fell behind."""
    held: int = 0
    """Notifications that had to wait in a backlog."""
    folded: int = 0
    """Those of them that became one with an earlier one."""
    overflows: int = 0
    """How often a backlog was given up."""
    resyncs: int = 0
    """Subscriptions that were told to refetch because of it."""
    dropped: int = 0
    """Connections that were ended: too much was unsent that must not be left out."""


@dataclass(slots=True)
class Backlog:
    """The notifications of one connection that have not been encoded yet, at most ``most``.

    For each subscription and record there is one, the net effect, at the place of the last. Where
    that is too much, all are dropped, and each of their subscriptions is told to refetch, once. A
    subscription that is to be told so is told nothing else before it.

    What is next is a whole generation: the notifications held at one moment, then the resyncs, with
    the cursor of that moment, and then word of those that have caught up. What comes later makes
    up the next one, so that a record that changes all the time is told of, too, and cursors only
    grow.
    """

    most: int
    position: Callable[[], Cursor]
    counters: SlowCounters = field(default_factory=SlowCounters)
    _held: dict[tuple[Subscription, str], Notification] = field(default_factory=dict)
    _stale: dict[Subscription, str] = field(default_factory=dict)
    _caught_up: dict[Subscription, CaughtUp] = field(default_factory=dict)
    _generation: list[tuple[Subscription, Message]] = field(default_factory=list)

    def __len__(self) -> int:
        notices = len(self._stale) + len(self._caught_up)
        return len(self._held) + notices + len(self._generation)

    def add(self, subscription: Subscription, message: Message) -> None:
        """Hold something for a subscription."""
        if isinstance(message, Notification):
            if subscription not in self._stale:
                self._hold(subscription, message)
        elif isinstance(message, Resync):
            self._stale[subscription] = message.reason
            for key in [key for key in self._held if key[0] is subscription]:
                del self._held[key]
        elif isinstance(message, CaughtUp):
            self._caught_up[subscription] = message

    def take(self, now: float) -> tuple[Subscription, Message] | None:
        """What is to be told next, ``now`` (seconds since the epoch); None: nothing is left.

        What is for a subscription that has ended, or for an identity that no longer holds, is
        dropped.
        """
        while len(self):
            if not self._generation:
                self._begin_generation()
            subscription, message = self._generation.pop()
            if isinstance(message, CaughtUp) and subscription in self._stale:
                self._caught_up.setdefault(subscription, message)  # not before the resync
            elif (
                subscription.is_active
                and subscription not in self._stale
                and subscription.subscriber.ends_at > now
            ):
                if isinstance(message, Resync) and message.reason == "overflow":
                    self.counters.resyncs += 1
                return subscription, message
        return None

    def _hold(self, subscription: Subscription, message: Notification) -> None:
        self.counters.held += 1
        key = (subscription, message.change.id)
        before = self._held.pop(key, None)
        if before is not None:
            self.counters.folded += 1
            self._held[key] = folded(before, message)
        elif len(self._held) + len(self._generation) < self.most:
            self._held[key] = replace(message, packet=None)
        else:
            self._overflow(subscription)

    def _overflow(self, last: Subscription) -> None:
        self.counters.overflows += 1
        waiting = [*(key[0] for key in self._held), *(one for one, _ in self._generation), last]
        self._caught_up.update(
            (one, message) for one, message in self._generation if isinstance(message, CaughtUp)
        )
        self._held.clear()
        self._generation.clear()
        stale = {**self._stale, **dict.fromkeys(waiting, "overflow")}
        self._stale = {one: reason for one, reason in stale.items() if one.is_active}

    def _begin_generation(self) -> None:
        self._generation += [(key[0], message) for key, message in self._held.items()]
        cursor = self.position()
        self._generation += [(one, Resync(reason, cursor)) for one, reason in self._stale.items()]
        self._generation += self._caught_up.items()
        self._generation.reverse()
        self._held.clear()
        self._stale.clear()
        self._caught_up.clear()

"""Notification and Resync: what a subscription is told, and how two notifications are one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from types import MappingProxyType
from typing import Any, Final

from tidings.feed import Change, Cursor, fold
from tidings.realtime.messages import Event, encode_json, json_text
from tidings.realtime.subscriptions import Subscription

_NO_VALUES: Final[Mapping[str, Any]] = MappingProxyType({})


@dataclass(slots=True)  # not frozen: that makes it thrice as dear, and many are made
class Notification:
    """A change, as it passes the filter of a subscription: ``enter``, ``update`` or ``leave``.

    ``packet`` is the same for all subscriptions of one id, and encoded when it is first needed
    where it is None. ``change`` is `without_values`: a notification may wait for long. One that
    `came_and_went` has both entered and left what the client was told of.
    """

    change: Change
    way: str
    cursor: Cursor
    packet: Event | None = None
    came_and_went: bool = False

    def event(self, subscription: Subscription) -> Event:
        """The notification, encoded for a subscription."""
        if self.packet is not None:
            return self.packet
        return encoder(self.change, str(self.cursor))(self.way, subscription.id)


@dataclass(frozen=True, slots=True)
class Resync:
    """A subscription's view may be stale: its client is to refetch."""

    reason: str
    cursor: Cursor

    def event(self, subscription: Subscription) -> Event:
        """The event, encoded for a subscription."""
        return resync_event(subscription, self.reason, self.cursor)


@dataclass(frozen=True, slots=True)
class CaughtUp:
    """A subscription has been told of all that it had missed: its cursor moves on.

    It is another ``subscription.created``, since that is what clients store.
    """

    data: Mapping[str, Any]

    def event(self, subscription: Subscription) -> Event:
        """The event, encoded for a subscription."""
        return Event.of("subscription.created", self.data)


def without_values(change: Change) -> Change:
    """A change, of which nothing but what notifications tell is kept."""
    return replace(
        change,
        before=None if change.before is None else _NO_VALUES,
        after=None if change.after is None else _NO_VALUES,
        unknown=frozenset(),
        resynced=frozenset(),
    )


def folded(first: Notification, second: Notification) -> Notification:
    """What two notifications of one record come to, for one subscription.

    The record was in the client's view unless the first lets it enter, and is in it unless the
    second has it leave. Type and action are those of the net change; all else is the second's.
    What came and went is told as a leave: the client may have fetched it in between.
    """
    was_in, is_in = first.way != "enter" and not first.came_and_went, second.way != "leave"
    if not was_in and (first.came_and_went or not is_in):
        return replace(second, packet=None, came_and_went=not is_in)
    way = "leave" if not is_in else "update" if was_in else "enter"
    return Notification(fold(first.change, second.change), way, second.cursor)


def resync_event(subscription: Subscription, reason: str, cursor: Cursor) -> Event:
    """Tell a subscription's client that its view may be stale."""
    payload = {
        "subscriptionId": subscription.id,
        "resource": subscription.resource,
        "reason": reason,
        "cursor": str(cursor),
    }
    return Event.of("subscription.resync", payload)


def encoder(change: Change, cursor: str) -> Callable[[str, str], Event]:
    """Encodes what all receivers share once; only the way and the id differ between packets."""
    kind = "created" if change.before is None else "deleted" if change.after is None else "updated"
    head = (
        f'{{"type":"resource.{kind}",'
        f'"resource":{json_text(change.resource)},"id":{json_text(change.id)},'
        f'"action":"{change.action}","subscriptionId":'
    ).encode()
    tail = (
        f',"meta":{{"timestamp":"{timestamp(change.at)}","cursor":"{cursor}","change":"'
    ).encode()
    ends = {way: tail + way.encode() + b'"}}' for way in ("enter", "update", "leave")}

    def encode(way: str, subscription_id: str) -> Event:
        return Event("subscription.update", head + encode_json(subscription_id) + ends[way])

    return encode


def timestamp(moment: datetime) -> str:
    """ISO 8601 in UTC, with milliseconds and Z."""
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z"

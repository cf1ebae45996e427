"""Subscription and Subscriber: what is watched, and by which socket."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Protocol

from tidings.errors import ConfigurationError, InvalidRequest, NotFound, PermissionDenied
from tidings.identity import Identity
from tidings.matching import Node
from tidings.realtime.limits import Allowance
from tidings.realtime.messages import Event


class Connection(Protocol):
    """The wire to one client."""

    def send(self, event: Event) -> None:
        """Send an event; never waits."""
        ...

    def notify(self, subscription: Subscription, message: Message) -> None:
        """Tell a subscription something, in the order of these calls; never waits.

        A client that reads too slowly is told less: the net effect, or that it is to refetch.
        """
        ...

    def finish(self, last: Sequence[Event], *, for_good: bool = False) -> None:
        """Send these events and end the connection; nothing that comes later is sent.

        A client comes back by itself, unless it is ended ``for_good``.
        """
        ...

    def forget(self) -> None:
        """Send nothing any more."""
        ...


class Message(Protocol):
    """What a subscription is told."""

    def event(self, subscription: Subscription) -> Event:
        """The message, encoded for a subscription."""
        ...


@dataclass(eq=False, slots=True)
class Subscriber:
    """One authenticated socket and its subscriptions."""

    id: str
    identity: Identity
    connection: Connection
    is_open: bool = True
    subscriptions: dict[str, Subscription] = field(default_factory=dict)
    ends_at: float = math.inf
    """From this moment (seconds since the epoch) on its identity no longer holds."""
    checks: int = 0
    """How often its subscriptions have been, or are being, checked anew."""
    _checking: asyncio.Lock | None = None
    allowance: Allowance | None = None
    """What it may still ask; None: anything."""

    @property
    def checking(self) -> asyncio.Lock:
        """Held while its subscriptions are being checked anew."""
        if self._checking is None:
            self._checking = asyncio.Lock()
        return self._checking

    def named(self, payload: object) -> Subscription:
        """The subscription that a message names.

        Raises:
            RequestError: ``MISSING_SUBSCRIPTION_ID`` or ``SUBSCRIPTION_NOT_FOUND``.
        """
        name = payload.get("subscriptionId") if isinstance(payload, dict) else None
        if not isinstance(name, str) or not name:
            raise InvalidRequest("'subscriptionId' is required", code="MISSING_SUBSCRIPTION_ID")
        found = self.subscriptions.get(name)
        if found is None:
            raise NotFound(
                f"There is no subscription {name[:200]!r}", code="SUBSCRIPTION_NOT_FOUND"
            )
        return found


@dataclass(eq=False, slots=True)
class Subscription:
    """One active subscription. ``filters`` are the client's own, normalised."""

    id: str
    subscriber: Subscriber
    resource: str
    filters: Mapping[str, Any]
    include: tuple[str, ...]
    fields: Mapping[str, list[str]]
    node: Node
    since: int = 0
    """The offset of the last change before it."""
    size: int = 0
    """What its filters come to, in bytes."""
    told_from: int = field(init=False)
    """It has been told of everything beyond this offset: earlier than ``since`` by a replay."""
    asked: tuple[str, ...] = ()
    """The resources that it looks at, of which somebody may be denied to query them."""
    resources: frozenset[str] = frozenset()
    """Those that it looks at in any way: its own, and those that filters and policies look into."""
    is_permitted: bool = True
    """Whether its identity was allowed to query the resource when that was last asked."""
    is_active: bool = True

    def __post_init__(self) -> None:
        self.told_from = self.since

    def begin_at(self, offset: int) -> None:
        """Be told of what comes from here on; of what was before, the client knows otherwise."""
        self.since = self.told_from = offset

    def data(self, cursor: str) -> dict[str, Any]:
        """What the ack and ``subscription.created`` carry (see WIRE.md)."""
        return {
            "subscriptionId": self.id,
            "resource": self.resource,
            "filters": dict(self.filters),
            "include": list(self.include),
            "fields": dict(self.fields),
            "status": "active",
            "cursor": cursor,
        }


@dataclass(slots=True)
class SubscriptionDraft:
    """A subscription that is being made, as ``subscription_filters`` hooks see it.

    ``requested_filters`` is what the client asked, read only. What a hook puts into ``filters``
    (columns and values, $or, $and, $not) or adds with `require` is a server clause: it holds
    beside the client's filters, and the client can neither see, meet nor remove it.
    """

    resource: str
    requested_filters: Mapping[str, Any]
    include: tuple[str, ...] = ()
    fields: Mapping[str, list[str]] = field(default_factory=dict)
    filters: dict[str, Any] = field(default_factory=dict)
    clauses: list[Mapping[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.requested_filters = MappingProxyType(dict(self.requested_filters))

    def require(self, clause: Mapping[str, Any]) -> None:
        """Add a server clause; any number of them hold together."""
        if not isinstance(clause, Mapping):
            raise ConfigurationError(f"require() takes a dict, not {type(clause).__name__}")
        self.clauses.append(clause)

    def enforce(self, column: str, value: Any) -> None:
        """Require ``column = value``, and refuse a client that asks for another value.

        Raises:
            PermissionDenied: the client asked for another value, or ``value`` is None.
        """
        asked = self.requested_filters.get(column, value)
        if value is None or str(asked) != str(value):
            raise PermissionDenied(f"You may not subscribe to another {column}")
        self.require({column: value})


@dataclass(frozen=True, slots=True)
class SubscriptionContext:
    """The context of ``subscription_filters`` hooks: the draft, and who is asking."""

    subscription: SubscriptionDraft
    auth: Identity

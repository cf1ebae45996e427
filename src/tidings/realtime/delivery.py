"""Delivery: from the feed through matching to the sockets, and never in the writers' way."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Iterable
from typing import Final, Protocol

from tidings.feed import Change, Cursor, Feed, FeedGap, Invalidation, Notice
from tidings.filters import columns_used
from tidings.identity import Identity
from tidings.matching import Matcher, Node, Transitions
from tidings.realtime.notifications import Notification, Resync, encoder, without_values
from tidings.realtime.service import SubscriptionService
from tidings.realtime.statistics import DeliveryCounters, DeliveryTracer
from tidings.realtime.subscriptions import Message, Subscription

_log = logging.getLogger("tidings.realtime")
_BATCH: Final = 100
_TURN: Final = 250
"""After so many frames other work gets a turn."""
_TURN_SECONDS: Final = 0.005
_TURNS: Final = 4
"""So many turns of the event loop it takes until what was queued for a client is on its way."""
_PAUSE: Final = 0.1


class Permissions(Protocol):
    """Who may query what now."""

    def are_asked(self, resource: str) -> bool:
        """Whether anybody may be denied to query the resource."""
        ...

    async def denied(self, resource: str, identities: set[Identity]) -> frozenset[Identity]:
        """Those who may not query it."""
        ...


class Dispatcher:
    """Follows the feed and sends a notification for every subscription that a change concerns."""

    def __init__(
        self,
        feed: Feed,
        matcher: Matcher,
        permissions: Permissions,
        tracer: DeliveryTracer | None = None,
    ) -> None:
        self._feed = feed
        self._matcher = matcher
        self._permissions = permissions
        self._tracer = tracer
        self.counters = DeliveryCounters()
        self.position = feed.position
        """The last change that has been matched: a subscription made now sees all later ones."""
        self.delivered = feed.position
        """The last change whose notifications have all been handed over."""
        self._task: asyncio.Task[None] | None = None
        self._sent = 0
        self._turn_ends = 0.0

    def start(self, service: SubscriptionService) -> None:
        """Begin to follow the feed, from where it is."""
        if self._task is None:
            self.position = self.delivered = self._feed.position
            self._task = asyncio.create_task(self._run(service), name="tidings-dispatcher")

    async def stop(self) -> None:
        """Stop following the feed."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def caught_up(self) -> None:
        """Wait until what the feed holds now has been handed over."""
        until = self._feed.position
        while self.delivered.epoch == until.epoch and self.delivered.offset < until.offset:  # noqa: ASYNC110  it is waited for once, at the end
            await asyncio.sleep(0.005)

    async def _run(self, service: SubscriptionService) -> None:
        while True:
            try:
                for offset, change in await self._feed.read(self.position, _BATCH):
                    self.position = Cursor(self.position.epoch, offset)
                    if self._tracer is None:
                        await self._deliver_or_resync(service, change)
                    else:
                        with self._tracer.delivery(change):
                            await self._deliver_or_resync(service, change)
                    self.delivered = self.position
                    self.counters.delivered(change)
            except FeedGap as gap:
                self.position = self.delivered = gap.resume
                await self._start_anew(service, gap)
            except Exception:  # noqa: BLE001  notifications must go on
                _log.exception("the feed could not be read")
                await asyncio.sleep(_PAUSE)

    async def _start_anew(self, service: SubscriptionService, gap: FeedGap) -> None:
        watching = service.active()
        for subscription in watching:
            subscription.since = gap.resume.offset
        await self._resync(watching, gap.reason)

    async def _deliver_or_resync(self, service: SubscriptionService, change: Notice) -> None:
        try:
            if isinstance(change, Invalidation):
                await self._invalidate(service, change)
            elif isinstance(change, Change):
                await self._deliver(service, change)
        except Exception:  # noqa: BLE001  one bad change must not end all notifications
            _log.exception("a change could not be delivered; its subscriptions are to refetch")
            watching = service.active()
            touched = [one for one in watching if change.resource in (None, one.resource)]
            await self._resync(touched, "window")

    async def _deliver(self, service: SubscriptionService, change: Change) -> None:
        transitions = _told(change, self._match(change))
        # Who is concerned is settled before anything is sent, since sending gives others a turn.
        packets = [
            (way, subscription_id, members)
            for way, nodes in zip(transitions._fields, transitions, strict=True)
            for node in nodes
            for subscription_id, members in service.rooms(node)
        ]
        denied = await self._denied(change.resource, [members for _, _, members in packets])
        cursor, bare = self.position, without_values(change)
        encode = encoder(change, str(cursor))
        for way, subscription_id, members in packets:
            if denied is not None:
                members = await self._permitted(members, denied)
            packet = encode(way, subscription_id)
            message = Notification(bare, way, cursor, packet)
            await self._send(message, members, cursor.offset)
        if change.unknown:
            await self._invalidate(service, Invalidation(change.resource, change.unknown))
        await self._give_way()

    def _match(self, change: Change) -> Transitions:
        begin = time.perf_counter()
        if self._tracer is None:
            found = self._matcher.match(change)
        else:
            with self._tracer.matching():
                found = self._matcher.match(change)
        self.counters.matching.observe(time.perf_counter() - begin)
        return found

    async def _denied(
        self, resource: str, rooms: list[list[Subscription]]
    ) -> frozenset[Identity] | None:
        """Who of them may not query the resource now; None where nobody has to be asked.

        Each identity is asked once, however many sockets and subscriptions it has.
        """
        if not rooms or not self._permissions.are_asked(resource):
            return None
        who = {member.subscriber.identity for members in rooms for member in members}
        return await self._permissions.denied(resource, who)

    async def _permitted(
        self, members: list[Subscription], denied: frozenset[Identity]
    ) -> list[Subscription]:
        """Those who may be told; who may no longer, or may again, is told that and to refetch."""
        permitted = []
        for subscription in members:
            is_permitted = subscription.subscriber.identity not in denied
            if is_permitted:
                permitted.append(subscription)
            if is_permitted != subscription.is_permitted:
                subscription.is_permitted = is_permitted
                await self._resync([subscription], "permission")
        return permitted

    async def _invalidate(self, service: SubscriptionService, stale: Invalidation) -> None:
        """Have those refetch who watch what it is about."""
        for node in service.nodes():
            if _concerns(stale, node):
                for _, members in list(service.rooms(node)):
                    await self._resync(members, "bulk")
            await self._give_way()

    async def _give_way(self) -> None:
        """Other work gets a turn every few milliseconds, however much there is to match."""
        if time.monotonic() > self._turn_ends:
            await _others_turn()
            self._turn_ends = time.monotonic() + _TURN_SECONDS

    async def _send(
        self,
        message: Message,
        members: list[Subscription],
        offset: float = math.inf,
        resync_reason: str | None = None,
    ) -> None:
        """Hand it over; to those that have not been told of this place by another process."""
        now, told = time.time(), 0
        for subscription in members:
            # Members may have left while other work had its turn; and a timer may be late, but
            # what was committed after a token has expired is not for its socket.
            if (
                subscription.is_active
                and subscription.since < offset
                and subscription.subscriber.ends_at > now
            ):
                _hand_over(subscription, message)
                told += 1
            self._sent += 1
            if self._sent % _TURN == 0:
                await _others_turn()
                now = time.time()
        self.counters.told(told, resync_reason)

    async def _resync(self, subscriptions: Iterable[Subscription], reason: str) -> None:
        for subscription in subscriptions:
            message = Resync(reason, self.position)
            await self._send(message, [subscription], math.inf, reason)


async def _others_turn() -> None:
    """Let other work go on, so that clients that do read do not fall behind."""
    for _ in range(_TURNS):
        await asyncio.sleep(0)


def _told(change: Change, found: Transitions) -> Transitions:
    """Without those who are told otherwise, or need not be told."""
    if change.derived:  # the record itself has not changed
        found = found._replace(update=[])
    if not change.unknown:
        return found
    known = ([node for node in nodes if not _uses(node, change.unknown)] for nodes in found)
    return Transitions(*known)


def _concerns(stale: Invalidation, node: Node) -> bool:
    if stale.resource not in (None, node.resource):
        return False
    return stale.paths is None or _uses(node, stale.paths)


def _uses(node: Node, paths: frozenset[str]) -> bool:
    return not paths.isdisjoint(columns_used(node.expression))


def _hand_over(subscription: Subscription, message: Message) -> None:
    subscriber = subscription.subscriber
    try:
        subscriber.connection.notify(subscription, message)
    except Exception:  # noqa: BLE001  one broken connection must not cost others theirs
        _log.exception("%s could not be notified", subscriber.id)
    else:
        _log.debug("%s notified of %s", subscriber.id, subscription.id)

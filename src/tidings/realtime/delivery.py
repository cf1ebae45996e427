"""Delivery: from the feed through matching to the sockets, and never in the writers' way."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import partial
from typing import Final, Protocol, cast

from tidings.feed import (
    Change,
    Cursor,
    Feed,
    FeedGap,
    Invalidation,
    Notice,
    Packed,
    Place,
    Recheck,
    unpacked,
)
from tidings.identity import Identity
from tidings.matching import Matcher, Transitions, is_stale, is_unknown
from tidings.realtime.notifications import Notification, Resync, encoder, without_values
from tidings.realtime.service import SubscriptionService
from tidings.realtime.statistics import DeliveryCounters, DeliveryObserver, DeliveryTracer
from tidings.realtime.subscriptions import Message, Subscriber, Subscription
from tidings.realtime.waiting import Entry, Question, WaitingLines

_log = logging.getLogger("tidings.realtime")
_BATCH: Final = 100
_TURN: Final = 250
"""After so many frames other work gets a turn."""
_TURN_SECONDS: Final = 0.005
_TURNS: Final = 2
"""So many turns of the event loop it takes until what was queued for a client is on its way."""
_PAUSE: Final = 0.1
_TOGETHER_SECONDS: Final = 0.02
"""So long what is sent may wait for what comes right behind it."""


_GRACE: Final = 0.05
"""So many seconds delivery waits for answers that most checks give at once."""


class Permissions(Protocol):
    """Who may query what now."""

    def ask(self, resource: str, identity: Identity) -> Question:
        """Whether the identity may query the resource; the answer may come later."""
        ...


Answers = dict[tuple[str, Identity], Question]
"""What was asked of whom, by resource and identity."""

Rechecks = Callable[[Recheck], object]
"""Begins to check anew what somebody may watch; from then on nothing is told by old rights."""


class Dispatcher:
    """Follows the feed and sends a notification for every subscription that a change concerns."""

    def __init__(
        self,
        feed: Feed,
        matcher: Matcher,
        permissions: Permissions,
        tracer: DeliveryTracer | None = None,
        together: Callable[[], AbstractContextManager[None]] = nullcontext,
        observer: DeliveryObserver | None = None,
    ) -> None:
        """What is sent within ``together`` may leave at its end, in one piece."""
        self._feed = feed
        self._together = together
        self._matcher = matcher
        self._permissions = permissions
        self._tracer = tracer
        self._observer = observer
        self.counters = DeliveryCounters()
        self.position = feed.position
        """The last change that has been matched: a subscription made now sees all later ones."""
        self.delivered = feed.position
        """The last change whose notifications have all been handed over."""
        self.lines = WaitingLines(self._tell, self._overflown)
        self._recheck: Rechecks = lambda _: None
        self._late: Counter[str] = Counter()
        """By resource, how many of its checks are taking their time."""
        self._task: asyncio.Task[None] | None = None
        self._sent = 0
        self._turn_ends = 0.0

    def start(self, service: SubscriptionService, recheck: Rechecks) -> None:
        """Begin to follow the feed, from where it is."""
        self._recheck = recheck
        if self._task is None:
            self.position = self.delivered = self._feed.position
            self._task = asyncio.create_task(self._run(service), name="tidings-dispatcher")

    async def stop(self) -> None:
        """Stop following the feed."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        self.lines.clear()
        self._late.clear()

    async def caught_up(self) -> None:
        """Wait until what the feed holds now has been handed over, and what waits for answers."""
        until = self._feed.position

        def is_behind() -> bool:
            delivered = self.delivered
            return delivered.epoch == until.epoch and delivered.offset < until.offset

        while is_behind() or len(self.lines):  # noqa: ASYNC110  it is waited for once, at the end
            await asyncio.sleep(0.005)

    async def _run(self, service: SubscriptionService) -> None:
        while True:
            try:
                notices = deque(await self._feed.read(self.position, _BATCH))
                while notices:
                    with self._together() if len(notices) > 1 else nullcontext():
                        await self._deliver_some(service, notices)
            except FeedGap as gap:
                self.position = self.delivered = gap.resume
                await self._start_anew(service, gap)
            except Exception:  # noqa: BLE001  notifications must go on
                _log.exception("the feed could not be read")
                await asyncio.sleep(_PAUSE)

    async def _deliver_some(self, service: SubscriptionService, notices: deque[Place]) -> None:
        """Deliver as many as fit into a moment: what a socket is told of them is one write."""
        ends = time.monotonic() + _TOGETHER_SECONDS
        while notices and time.monotonic() < ends:
            offset, found = notices.popleft()
            self.position = Cursor(self.position.epoch, offset)
            if isinstance(found, Packed) and self._passes_over(found):
                self.delivered = self.position
                self.counters.delivered(found)
                continue
            change = unpacked(found)
            if self._observer is not None:
                self._observer.begin(self.position, change)
            with nullcontext() if self._tracer is None else self._tracer.delivery(change):
                await self._deliver_or_resync(service, change)
            self.delivered = self.position
            self.counters.delivered(change)

    def _passes_over(self, packed: Packed) -> bool:
        """Whether a change that was not decoded concerns nobody: not those either who have
        subscribed since it was read.
        """
        looks = self._observer is not None or self._tracer is not None
        return not looks and not self._matcher.watches(packed.resource)

    async def _start_anew(self, service: SubscriptionService, gap: FeedGap) -> None:
        # What was missed may have been word of rights that have changed.
        self._recheck(Recheck(None, None))
        watching = service.active()
        for subscription in watching:
            subscription.begin_at(gap.resume.offset)
        await self._resync(watching, gap.reason)

    async def _deliver_or_resync(self, service: SubscriptionService, change: Notice) -> None:
        try:
            if isinstance(change, Invalidation):
                await self._invalidate(service, change)
            elif isinstance(change, Change):
                await self._deliver(service, change)
            else:
                self._recheck(change)
        except Exception:  # noqa: BLE001  one bad change must not end all notifications
            _log.exception("a change could not be delivered; its subscriptions are to refetch")
            if isinstance(change, Recheck):
                self._recheck(Recheck(None, None))
            watching = service.active()
            touched = [one for one in watching if change.resource in (None, one.resource)]
            await self._resync(touched, "window")

    async def _deliver(self, service: SubscriptionService, change: Change) -> None:
        transitions = _told(change, await self._match(change))
        # Who is concerned is settled before anything is sent, since sending gives others a turn.
        packets = [
            (way, subscription_id, members)
            for way, nodes in zip(transitions._fields, transitions, strict=True)
            for node in nodes
            for subscription_id, members in service.rooms(node)
        ]
        answers = await self._ask(members for _, _, members in packets)
        cursor, bare = self.position, without_values(change)
        encode = encoder(change, str(cursor))
        messages = (
            (Notification(bare, way, cursor, encode(way, subscription_id)), members)
            for way, subscription_id, members in packets
        )
        self.counters.told(await self._send(messages, cursor.offset, answers=answers))
        unknown = change.unknown - change.resynced
        if unknown:
            await self._invalidate(service, Invalidation(change.resource, unknown))
        await self._give_way()

    async def _match(self, change: Change) -> Transitions:
        """The filters that a change concerns; others get a turn while that takes long."""
        with nullcontext() if self._tracer is None else self._tracer.matching():
            steps, spent = self._matcher.steps(change), 0.0
            while True:
                begin = time.perf_counter()
                try:
                    next(steps)
                except StopIteration as end:
                    self.counters.matching.observe(spent + time.perf_counter() - begin)
                    return cast("Transitions", end.value)
                spent += time.perf_counter() - begin
                await self._give_way()

    async def _ask(self, rooms: Iterable[list[Subscription]]) -> Answers:
        """Ask whether those who are guarded may still query what they look at.

        Each identity is asked once, however many sockets and subscriptions it has. Most checks
        answer at once; where one does not, what it decides about waits and all else goes on.
        """
        answers: Answers = {}
        for members in rooms:
            for member in members:
                for name in member.asked:
                    key = (name, member.subscriber.identity)
                    if key not in answers:
                        answers[key] = self._permissions.ask(*key)
        late = [(key, found) for key, found in answers.items() if found.allowed is None]
        if any(not self._late[name] for (name, _), _ in late):
            await _answered([found for (name, _), found in late if not self._late[name]])
        for (name, _), found in late:
            if found.allowed is None:
                self._late[name] += 1
                found.then(partial(self._answered_late, name))
        return answers

    def _answered_late(self, name: str) -> None:
        self._late[name] -= 1

    async def _invalidate(self, service: SubscriptionService, stale: Invalidation) -> None:
        """Have those refetch who watch what it is about."""
        for node in service.nodes():
            if is_stale(stale, node.resource, node.expression):
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
        messages: Iterable[tuple[Message, list[Subscription]]],
        offset: float = math.inf,
        answers: Answers | None = None,
    ) -> int:
        """Have each message told to those that have not been told of this place by another process.

        Gives how many were told at once; what waits for answers is counted when it is told.
        """
        now, told, traces = time.time(), 0, _log.isEnabledFor(logging.DEBUG)
        for message, members in messages:
            for subscription in members:
                subscriber = subscription.subscriber
                if answers or len(self.lines):  # something is being asked
                    self.lines.give(self._entry(subscription, message, offset, answers))
                # Members may have left while other work had its turn; and a timer may be late, but
                # what was committed after a token has expired is not for its socket.
                elif (
                    subscription.is_active
                    and subscription.since < offset
                    and subscriber.ends_at > now
                ):
                    try:
                        subscriber.connection.notify(subscription, message)
                    except Exception:  # noqa: BLE001  a broken one must not cost others theirs
                        _log.exception("%s could not be notified", subscriber.id)
                    else:
                        told += 1
                        if self._observer is not None:
                            self._observer.told(subscription, message)
                        if traces:
                            _log.debug("%s notified of %s", subscriber.id, subscription.id)
                self._sent += 1
                if self._sent >= _TURN:
                    self._sent = 0
                    await _others_turn()
                    now = time.time()
        return told

    def _entry(
        self, subscription: Subscription, message: Message, offset: float, answers: Answers | None
    ) -> Entry:
        """A message, behind what was asked about its subscription."""
        questions: tuple[Question, ...] = ()
        if answers and subscription.asked:
            identity = subscription.subscriber.identity
            # Whoever has another identity by now was not asked, and is checked anew.
            keys = [(name, identity) for name in subscription.asked]
            questions = tuple(answers[key] for key in keys if key in answers)
        return Entry(subscription, message, offset, questions)

    def _tell(self, entry: Entry) -> None:
        """Hand over what may be told; who may no longer, or may again, is told to refetch."""
        subscription, message = entry.subscription, entry.message
        assert subscription is not None
        assert message is not None
        if not subscription.is_active or subscription.since >= entry.offset:
            return
        if subscription.subscriber.ends_at <= time.time():
            return
        if entry.questions:
            is_permitted = all(question.allowed for question in entry.questions)
            if is_permitted != subscription.is_permitted:
                subscription.is_permitted = is_permitted
                self._hand_over(subscription, Resync("permission", self.position))
            if not is_permitted:
                return
        self._hand_over(subscription, message)

    def _hand_over(self, subscription: Subscription, message: Message) -> None:
        subscriber = subscription.subscriber
        try:
            subscriber.connection.notify(subscription, message)
        except Exception:  # noqa: BLE001  one broken connection must not cost others theirs
            _log.exception("%s could not be notified", subscriber.id)
        else:
            self.counters.told(1, message.reason if isinstance(message, Resync) else None)
            if self._observer is not None:
                self._observer.told(subscription, message)
            _log.debug("%s notified of %s", subscriber.id, subscription.id)

    def _overflown(self, subscriber: Subscriber) -> None:
        for subscription in list(subscriber.subscriptions.values()):
            self._hand_over(subscription, Resync("overflow", self.position))

    async def _resync(self, subscriptions: Iterable[Subscription], reason: str) -> None:
        message = Resync(reason, self.position)
        self.counters.told(await self._send([(message, list(subscriptions))]), reason)


async def _others_turn() -> None:
    """Let other work go on, so that clients that do read do not fall behind."""
    for _ in range(_TURNS):
        await asyncio.sleep(0)


async def _answered(questions: list[Question]) -> None:
    """Wait a moment for answers."""
    done = asyncio.Event()

    def look() -> None:
        if all(question.allowed is not None for question in questions):
            done.set()

    for question in questions:
        question.then(look)
    with suppress(TimeoutError):
        async with asyncio.timeout(_GRACE):
            await done.wait()


def _told(change: Change, found: Transitions) -> Transitions:
    """Without those who are told otherwise, or need not be told."""
    if change.derived:  # the record itself has not changed
        found = found._replace(update=[])
    if not change.unknown:
        return found
    return Transitions(
        *([node for node in nodes if not is_unknown(change, node.expression)] for nodes in found)
    )

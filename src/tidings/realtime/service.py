"""SubscriptionService: subscribe, unsubscribe and restore, whatever the transport."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import logging
import secrets
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from tidings.errors import Conflict, InvalidRequest, RequestError
from tidings.feed import Cursor
from tidings.identity import Identity
from tidings.matching import Matcher, Node
from tidings.realtime.admission import Admission, Admitted
from tidings.realtime.errors import error_payload
from tidings.realtime.freezer import Freezer
from tidings.realtime.notifications import Notification
from tidings.realtime.replay import Replay, Replayer, Replays, Wanted
from tidings.realtime.requests import SubscribeRequest, parse_id, readable
from tidings.realtime.subscriptions import Subscriber, Subscription

Identify = Callable[[Identity], Awaitable[Identity]]
"""Gives an identity as the application knows it now."""

_log = logging.getLogger("tidings.realtime")
Data = dict[str, Any]
_RESTORE_FACTOR: Final = 10
"""A restore may name so many times more subscriptions than a socket may have."""


@dataclass(frozen=True, slots=True)
class Subscribed:
    """A subscription that now is active: what to tell the client, and what it has missed.

    With ``resync_reason`` that is not known. ``through`` is what to tell when all of that has
    come: ``data`` with the cursor that counts then. ``is_new`` is False where it had been active
    all along, so that it has missed nothing.
    """

    subscription: Subscription
    data: Data
    missed: list[Notification]
    resync_reason: str | None = None
    through: Data | None = None
    is_new: bool = True


@dataclass(frozen=True, slots=True)
class Rechecked:
    """What has become of a socket's subscriptions: those that now watch something else, and those
    that have ended, each with its error.
    """

    moved: list[Subscription]
    ended: list[tuple[Subscription, Data]]


class SubscriptionService:
    """The subscriptions of one process.

    ``position`` gives the cursor up to which changes have been matched; a subscription sees every
    change beyond it.
    """

    def __init__(
        self,
        admission: Admission,
        matcher: Matcher,
        position: Callable[[], Cursor],
        replayer: Replayer,
        *,
        identify: Identify | None = None,
        limit: int = 100,
    ) -> None:
        self._admission = admission
        self._replayer = replayer
        self._matcher = matcher
        self._position = position
        self._identify = identify
        self._limit = limit
        self._members: dict[Node, dict[str, dict[Subscription, None]]] = {}
        self._freezer = Freezer()
        # A keyed digest: an id must not be a way to test guesses about hidden clauses.
        self._id_key = secrets.token_bytes(16)

    def rooms(self, node: Node) -> Iterator[tuple[str, list[Subscription]]]:
        """The node's subscriptions, grouped by id: those of one id get the same packet."""
        for subscription_id, members in self._members.get(node, {}).items():
            yield subscription_id, list(members)

    def nodes(self) -> list[Node]:
        """All filters that are watched."""
        return list(self._members)

    def active(self) -> list[Subscription]:
        """All subscriptions."""
        rooms = (room for rooms in self._members.values() for room in rooms.values())
        return [subscription for room in rooms for subscription in room]

    async def subscribe(self, subscriber: Subscriber, payload: object) -> Subscribed:
        """Make a subscription.

        Raises:
            RequestError: with the code that WIRE.md has for it; then nothing has changed.
        """
        checks = -1
        while checks != subscriber.checks:  # what was allowed a moment ago may not be any more
            checks = subscriber.checks
            admitted = await self._admission.admit(subscriber.identity, payload)
            wants = [admitted] if admitted.request.has_cursor else []
            replays = await self._replay(subscriber, wants)
        # From here on nothing waits, so that limit, id and activation are one step.
        replays.complete()
        replay = replays.each[0] if replays.each else None
        return self._begin(admitted, subscriber, replay)

    async def unsubscribe(self, subscriber: Subscriber, payload: object) -> None:
        """End a subscription.

        Raises:
            RequestError: ``MISSING_SUBSCRIPTION_ID`` or ``SUBSCRIPTION_NOT_FOUND``.
        """
        payload = readable(payload, "MISSING_SUBSCRIPTION_ID")
        subscription = subscriber.named(payload)
        self._deactivate(subscription)
        _log.debug("%s unsubscribed %s", subscriber.id, subscription.id)

    async def restore(
        self, subscriber: Subscriber, payload: object
    ) -> tuple[list[Subscribed], list[Data]]:
        """Make subscriptions again from what ``subscription.created`` gave.

        Every entry goes the whole way of a subscribe; one that fails does not touch the others.

        Raises:
            InvalidRequest: ``INVALID_DATA``, the payload holds no array, or far too long a one.
        """
        payload = readable(payload, "INVALID_DATA")
        entries = payload.get("subscriptions") if isinstance(payload, dict) else None
        if not isinstance(entries, list):
            raise InvalidRequest("'subscriptions' must be an array", code="INVALID_DATA")
        most = _RESTORE_FACTOR * self._limit
        if len(entries) > most:
            raise InvalidRequest(f"'subscriptions' has more than {most}", code="INVALID_DATA")
        restored: list[Subscribed] = []
        checks = -1
        while checks != subscriber.checks:
            checks = subscriber.checks
            admitted, failed = await self._admit_all(subscriber, entries)
            replays = await self._replay(subscriber, admitted)
        # From here on nothing waits: no notification comes between two of them, or before the ack.
        replays.complete()
        for one, replay in zip(admitted, replays.each, strict=True):
            try:
                restored.append(self._begin(one, subscriber, replay))
            except RequestError as error:
                failed.append(_failure({"subscriptionId": one.request.id}, error))
        return restored, failed

    async def _admit_all(
        self, subscriber: Subscriber, entries: list[object]
    ) -> tuple[list[Admitted], list[Data]]:
        """Those that may be, as far as there is room for them, and the others' errors."""
        admitted: list[Admitted] = []
        failed: list[Data] = []
        free = self._limit - len(subscriber.subscriptions)
        for entry in entries:
            is_active = isinstance(entry, dict) and _is_active(subscriber, entry)
            try:
                if free <= 0 and not is_active:
                    raise self._limit_exceeded()
                one = await self._admission.admit(subscriber.identity, entry)
                parse_id(one.request.id)
                admitted.append(one)
                free -= not is_active
            except Exception as error:  # noqa: BLE001  one bad entry must not touch the others
                failed.append(_failure(entry, error))
            await asyncio.sleep(0)
        return admitted, failed

    async def recheck(
        self,
        subscriber: Subscriber,
        *,
        identity: Identity | None = None,
        resource: str | None = None,
    ) -> Rechecked:
        """Ask permissions and hooks again for a socket's subscriptions (on one resource, or all).

        Subscriptions stay as they are until everything has been asked; what follows is one step,
        so that every change is matched once, before it or after it. In that step the socket takes
        on ``identity``, where it is given, as the application knows it now.

        Raises:
            AuthenticationError: the application does not accept the identity any more.
            IdentityUnavailable: it does not say.
        """
        subscriber.checks += 1
        async with subscriber.checking:
            if self._identify is not None:
                identity = await self._identify(identity or subscriber.identity)
                if identity != subscriber.identity:
                    resource = None
            checked = [
                (subscription, await self._admit_again(subscription, identity))
                for subscription in list(subscriber.subscriptions.values())
                if resource in (None, *subscription.resources)
            ]
            result = Rechecked([], [])
            if not subscriber.is_open:
                return result
            if identity is not None:
                subscriber.identity = identity
            for subscription, outcome in checked:
                if not subscription.is_active:
                    continue
                if not isinstance(outcome, Admitted):
                    self._deactivate(subscription)
                    result.ended.append((subscription, outcome))
                elif self._move(subscription, outcome):
                    result.moved.append(subscription)
            return result

    async def _admit_again(
        self, subscription: Subscription, identity: Identity | None
    ) -> Admitted | Data:
        """What a subscription would be now, or the error for which it cannot be any more."""
        asked = {
            "resource": subscription.resource,
            "filters": dict(subscription.filters),
            "include": list(subscription.include),
            "fields": dict(subscription.fields),
        }
        try:
            return await self._admission.admit(identity or subscription.subscriber.identity, asked)
        except Exception as error:  # noqa: BLE001  whatever it is, it is no permission
            payload = error_payload(error)
            details = {**payload.get("details", {}), "subscriptionId": subscription.id}
            return {**payload, "details": details}

    def _move(self, subscription: Subscription, admitted: Admitted) -> bool:
        """Have a subscription watch what it now may; False where that is what it watched."""
        old, expression = subscription.node, admitted.expression
        # What it was refused at delivery meanwhile it has missed.
        was_refused = not subscription.is_permitted
        subscription.is_permitted = True
        subscription.asked = admitted.asked
        subscription.resources = admitted.resources
        if self._matcher.find(subscription.resource, expression) is old:
            return was_refused
        self._leave_room(subscription)
        subscription.node = self._matcher.acquire(subscription.resource, expression)
        subscription.begin_at(self._position().offset)
        self._enter_room(subscription)
        self._matcher.release(old)
        return True

    def forget(self, subscriber: Subscriber) -> None:
        """Free everything of a socket that is gone."""
        subscriber.is_open = False
        for subscription in list(subscriber.subscriptions.values()):
            self._deactivate(subscription)

    async def _replay(self, subscriber: Subscriber, admitted: list[Admitted]) -> Replays:
        wanted = [
            Wanted(
                one.request.resource.name,
                one.expression,
                one.request.cursor if self._has_missed(subscriber, one.request) else None,
                subscriber.identity,
                one.resources,
                one.is_guarded,
            )
            for one in admitted
        ]
        allowance = subscriber.allowance
        afford = None if allowance is None else allowance.afford_replay
        return await self._replayer.replay(wanted, afford)

    def _has_missed(self, subscriber: Subscriber, request: SubscribeRequest) -> bool:
        """Whether there can be anything since a request's cursor that has not been told."""
        active = subscriber.subscriptions.get(request.id or "")
        cursor = request.cursor
        if active is None or cursor is None:
            return active is None or request.has_cursor
        return cursor.epoch != self._position().epoch or cursor.offset < active.told_from

    def _begin(
        self, admitted: Admitted, subscriber: Subscriber, replay: Replay | None
    ) -> Subscribed:
        """Make a subscription, or go on with the one that there is."""
        request = admitted.request
        has_missed = replay is not None and self._has_missed(subscriber, request)
        subscription = subscriber.subscriptions.get(request.id or "")
        is_new = subscription is None
        if subscription is None:
            subscription = self._activate(admitted, subscriber)
            _log.debug("%s subscribed %s %s", subscriber.id, subscription.id, subscription.filters)
        else:
            self._check_same(subscription, admitted)
        if replay is not None and has_missed:
            return self._told(subscription, request, replay, is_new=is_new)
        data = subscription.data(str(self._position()))
        return Subscribed(subscription, data, [], is_new=is_new)

    def _check_same(self, active: Subscription, admitted: Admitted) -> None:
        """Whoever asks again (its answer may have been lost) asks for the same.

        Raises:
            Conflict: ``SUBSCRIPTION_EXISTS``, it is another one.
        """
        request = admitted.request
        same = (active.resource, active.include, dict(active.fields), dict(active.filters)) == (
            request.resource.name,
            request.include,
            request.fields,
            admitted.filters,
        )
        if not same or active.node is not self._matcher.find(active.resource, admitted.expression):
            raise _exists(active.id)

    def _told(
        self, subscription: Subscription, request: SubscribeRequest, replay: Replay, *, is_new: bool
    ) -> Subscribed:
        """A subscription with what it has missed before this moment."""
        position, asked = self._position(), request.cursor
        missed = [] if replay.reason is not None else replay.told()
        data = subscription.data(str(position))
        if replay.reason is None and replay.until is not None and asked is not None:
            subscription.told_from = min(subscription.told_from, asked.offset)
            if replay.until.offset > position.offset:
                # It has been told more by another process than this one has matched.
                subscription.since = max(subscription.since, replay.until.offset)
                data["cursor"] = str(replay.until)
        if asked is None or not (missed or replay.reason):
            return Subscribed(subscription, data, missed, replay.reason, is_new=is_new)
        # Should the connection break before it has come, it must be asked for again.
        first = {**data, "cursor": str(asked)}
        return Subscribed(subscription, first, missed, replay.reason, data, is_new=is_new)

    def _activate(self, admitted: Admitted, subscriber: Subscriber) -> Subscription:
        request = admitted.request
        if not subscriber.is_open:  # it went while permissions and hooks were asked
            raise InvalidRequest("The socket is closed", code="INVALID_SUBSCRIPTION")
        if len(subscriber.subscriptions) >= self._limit:
            raise self._limit_exceeded()
        if request.id is not None and request.id in subscriber.subscriptions:
            raise _exists(request.id)
        size = _size(admitted)
        if subscriber.allowance is not None:
            subscriber.allowance.hold(size)
        node = self._matcher.acquire(request.resource.name, admitted.expression)
        subscription_id = request.id or self._new_id(admitted, subscriber, node)
        subscription = Subscription(
            subscription_id,
            subscriber,
            request.resource.name,
            admitted.filters,
            request.include,
            request.fields,
            node,
            self._position().offset,
            asked=admitted.asked,
            resources=admitted.resources,
            size=size,
        )
        subscriber.subscriptions[subscription_id] = subscription
        self._enter_room(subscription)
        self._freezer.added()
        return subscription

    def _deactivate(self, subscription: Subscription) -> None:
        subscription.is_active = False
        del subscription.subscriber.subscriptions[subscription.id]
        self._leave_room(subscription)
        self._matcher.release(subscription.node)
        self._freezer.removed()
        if subscription.subscriber.allowance is not None:
            subscription.subscriber.allowance.release(subscription.size)

    def _enter_room(self, subscription: Subscription) -> None:
        rooms = self._members.setdefault(subscription.node, {})
        rooms.setdefault(subscription.id, {})[subscription] = None

    def _leave_room(self, subscription: Subscription) -> None:
        rooms = self._members[subscription.node]
        del rooms[subscription.id][subscription]
        if not rooms[subscription.id]:
            del rooms[subscription.id]
        if not rooms:
            del self._members[subscription.node]

    def _new_id(self, admitted: Admitted, subscriber: Subscriber, node: Node) -> str:
        """Equal subscriptions get equal ids, and with them the same packets."""
        request = admitted.request
        content = [node.resource, node.key, admitted.filters, request.include, request.fields]
        encoded = msgspec.json.encode(content, order="deterministic")
        # Short, for the sake of the packets: where two differ on one socket, a number tells them
        # apart, and nowhere else do they meet.
        digest = hashlib.blake2b(encoded, digest_size=5, key=self._id_key).digest()
        base = f"{node.resource}-{base64.b32encode(digest).decode().lower()[:5]}"
        number, candidate = 1, base
        while candidate in subscriber.subscriptions:
            number += 1
            candidate = f"{base}-{number}"
        return candidate

    def _limit_exceeded(self) -> RequestError:
        return Conflict(
            f"A socket may have at most {self._limit} subscriptions",
            code="SUBSCRIPTION_LIMIT_EXCEEDED",
            details={"limit": self._limit},
        )


def _size(admitted: Admitted) -> int:
    """What a subscription's filters come to, in bytes of JSON."""
    request = admitted.request
    return len(msgspec.json.encode([admitted.filters, request.include, request.fields]))


def _is_active(subscriber: Subscriber, entry: Data) -> bool:
    name = entry.get("subscriptionId")
    return isinstance(name, str) and name in subscriber.subscriptions


def _exists(subscription_id: str) -> Conflict:
    return Conflict(
        f"There is a subscription {subscription_id!r} already", code="SUBSCRIPTION_EXISTS"
    )


def _failure(entry: object, error: Exception) -> Data:
    given = entry.get("subscriptionId") if isinstance(entry, dict) else None
    return {"subscriptionId": given, "error": error_payload(error)}

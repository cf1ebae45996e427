"""SubscriptionService: subscribe, unsubscribe and restore, whatever the transport."""

from __future__ import annotations

import base64
import hashlib
import logging
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

from tidings.errors import (
    ConfigurationError,
    Conflict,
    FilterError,
    InvalidRequest,
    NotFound,
    PermissionDenied,
    RequestError,
)
from tidings.feed import Cursor
from tidings.filters import (
    Expression,
    all_of,
    build_clause,
    build_filters,
    opaque_without_record_test,
)
from tidings.hooks import HookRegistry
from tidings.matching import Matcher, Node
from tidings.realtime.errors import error_payload
from tidings.realtime.requests import SubscribeRequest, parse_id, parse_subscribe, readable
from tidings.realtime.subscriptions import (
    Subscriber,
    Subscription,
    SubscriptionContext,
    SubscriptionDraft,
)
from tidings.resources import OperationContext, check_permission
from tidings.schema import ResourceRegistry, ResourceType

_log = logging.getLogger("tidings.realtime")
Data = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Subscribed:
    """A subscription that now is active: what to tell the client, and whether it missed changes.

    ``is_new`` is False where a restored one had been active all along.
    """

    subscription: Subscription
    data: Data
    resync_reason: str | None
    is_new: bool = True


class SubscriptionService:
    """The subscriptions of one process.

    ``position`` gives the cursor up to which changes have been matched; a subscription sees every
    change beyond it.
    """

    def __init__(
        self,
        registry: ResourceRegistry,
        hooks: HookRegistry,
        matcher: Matcher,
        position: Callable[[], Cursor],
        *,
        limit: int = 100,
    ) -> None:
        self._registry = registry
        self._hooks = hooks
        self._matcher = matcher
        self._position = position
        self._limit = limit
        self._members: dict[Node, dict[str, dict[Subscription, None]]] = {}
        # A keyed digest: an id must not be a way to test guesses about hidden clauses.
        self._id_key = secrets.token_bytes(16)

    def rooms(self, node: Node) -> Iterator[tuple[str, list[Subscription]]]:
        """The node's subscriptions, grouped by id: those of one id get the same packet."""
        for subscription_id, members in self._members.get(node, {}).items():
            yield subscription_id, list(members)

    def active(self) -> list[Subscription]:
        """All subscriptions."""
        rooms = (room for rooms in self._members.values() for room in rooms.values())
        return [subscription for room in rooms for subscription in room]

    async def subscribe(self, subscriber: Subscriber, payload: object) -> Subscribed:
        """Make a subscription.

        Raises:
            RequestError: with the code that WIRE.md has for it; then nothing has changed.
        """
        request = parse_subscribe(self._registry, payload)
        filters, expression = await self._admit(request, subscriber)
        # From here on nothing waits, so that limit, id and activation are one step.
        subscription = self._activate(request, subscriber, filters, expression)
        cursor = self._position()
        _log.debug("%s subscribed %s %s", subscriber.id, subscription.id, filters)
        return Subscribed(subscription, subscription.data(str(cursor)), _missed(request, cursor))

    async def unsubscribe(self, subscriber: Subscriber, payload: object) -> None:
        """End a subscription.

        Raises:
            RequestError: ``MISSING_SUBSCRIPTION_ID`` or ``SUBSCRIPTION_NOT_FOUND``.
        """
        payload = readable(payload)
        found = payload.get("subscriptionId") if isinstance(payload, dict) else None
        if not isinstance(found, str) or not found:
            raise InvalidRequest("'subscriptionId' is required", code="MISSING_SUBSCRIPTION_ID")
        subscription = subscriber.subscriptions.get(found)
        if subscription is None:
            raise NotFound(
                f"There is no subscription {found[:200]!r}", code="SUBSCRIPTION_NOT_FOUND"
            )
        self._deactivate(subscription)
        _log.debug("%s unsubscribed %s", subscriber.id, found)

    async def restore(
        self, subscriber: Subscriber, payload: object
    ) -> tuple[list[Subscribed], list[Data]]:
        """Make subscriptions again from what ``subscription.created`` gave.

        Every entry goes the whole way of a subscribe; one that fails does not touch the others.

        Raises:
            InvalidRequest: ``INVALID_DATA``, the payload holds no array.
        """
        payload = readable(payload)
        entries = payload.get("subscriptions") if isinstance(payload, dict) else None
        if not isinstance(entries, list):
            raise InvalidRequest("'subscriptions' must be an array", code="INVALID_DATA")
        restored: list[Subscribed] = []
        failed: list[Data] = []
        for number, entry in enumerate(entries):
            given_id = entry.get("subscriptionId") if isinstance(entry, dict) else None
            try:
                if number >= 2 * self._limit:
                    raise self._limit_exceeded()
                restored.append(await self._restore_one(subscriber, entry))
            except Exception as error:  # noqa: BLE001  one bad entry must not touch the others
                failed.append({"subscriptionId": given_id, "error": error_payload(error)})
        return restored, failed

    def forget(self, subscriber: Subscriber) -> None:
        """Free everything of a socket that is gone."""
        subscriber.is_open = False
        for subscription in list(subscriber.subscriptions.values()):
            self._deactivate(subscription)

    async def _restore_one(self, subscriber: Subscriber, entry: object) -> Subscribed:
        request = parse_subscribe(self._registry, entry)
        active = subscriber.subscriptions.get(parse_id(request.id))
        if active is None:
            return await self.subscribe(subscriber, entry)
        filters, expression = await self._admit(request, subscriber)
        same = (active.resource, active.include, dict(active.fields), dict(active.filters)) == (
            request.resource.name,
            request.include,
            request.fields,
            filters,
        )
        if not same or active.node is not self._matcher.find(active.resource, expression):
            raise _exists(active.id)
        cursor = self._position()
        reason = _missed(request, cursor)
        return Subscribed(active, active.data(str(cursor)), reason, is_new=False)

    async def _admit(
        self, request: SubscribeRequest, subscriber: Subscriber
    ) -> tuple[Data, Expression]:
        """Permission, the client's filters, the hooks' clauses: who may watch what."""
        resource, identity = request.resource, subscriber.identity
        await check_permission(resource, OperationContext("query", resource.name, identity))
        client = build_filters(resource, request.filters, identity)
        draft = SubscriptionDraft(resource.name, client.normalised, request.include, request.fields)
        clauses = await self._clauses(resource, SubscriptionContext(draft, identity))
        unsupported = opaque_without_record_test(client.expression)
        if unsupported is not None:
            raise FilterError(
                f"Filter '{unsupported}' requires 'filterRecord' (filter_record) "
                "for WebSocket support",
                code="UNSUPPORTED_FILTER",
                resource=resource.name,
            )
        return client.normalised, all_of([*clauses, client.expression])

    async def _clauses(
        self, resource: ResourceType, context: SubscriptionContext
    ) -> list[Expression]:
        """Run the hooks; whatever goes wrong in them refuses the subscription."""
        draft = context.subscription
        refusal = PermissionDenied(
            f"You may not subscribe to '{resource.name}'", resource=resource.name
        )
        try:
            await self._hooks.run("subscription_filters", context)
            return [build_clause(resource, clause) for clause in (draft.filters, *draft.clauses)]
        except PermissionDenied as error:
            error.resource = error.resource or resource.name
            raise
        except PermissionError as error:  # Python's own, for hooks that import nothing
            if error.args and isinstance(error.args[0], str):
                refusal = PermissionDenied(error.args[0], resource=resource.name)
            raise refusal from error
        except ConfigurationError as error:
            _log.warning("subscription refused: %s", error)
            raise refusal from error
        except Exception as error:
            _log.exception("a subscription_filters hook failed, which refuses the subscription")
            raise refusal from error

    def _activate(
        self,
        request: SubscribeRequest,
        subscriber: Subscriber,
        filters: Data,
        expression: Expression,
    ) -> Subscription:
        if not subscriber.is_open:  # it went while permissions and hooks were asked
            raise InvalidRequest("The socket is closed", code="INVALID_SUBSCRIPTION")
        if len(subscriber.subscriptions) >= self._limit:
            raise self._limit_exceeded()
        if request.id is not None and request.id in subscriber.subscriptions:
            raise _exists(request.id)
        node = self._matcher.acquire(request.resource.name, expression)
        subscription_id = request.id or self._new_id(request, subscriber, filters, node)
        subscription = Subscription(
            subscription_id,
            subscriber,
            request.resource.name,
            filters,
            request.include,
            request.fields,
            node,
        )
        subscriber.subscriptions[subscription_id] = subscription
        rooms = self._members.setdefault(node, {})
        rooms.setdefault(subscription_id, {})[subscription] = None
        return subscription

    def _deactivate(self, subscription: Subscription) -> None:
        subscription.is_active = False
        del subscription.subscriber.subscriptions[subscription.id]
        rooms = self._members[subscription.node]
        del rooms[subscription.id][subscription]
        if not rooms[subscription.id]:
            del rooms[subscription.id]
        if not rooms:
            del self._members[subscription.node]
        self._matcher.release(subscription.node)

    def _new_id(
        self, request: SubscribeRequest, subscriber: Subscriber, filters: Data, node: Node
    ) -> str:
        """Equal subscriptions get equal ids, and with them the same packets."""
        content = [node.resource, node.key, filters, request.include, request.fields]
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


def _exists(subscription_id: str) -> Conflict:
    return Conflict(
        f"There is a subscription {subscription_id!r} already", code="SUBSCRIPTION_EXISTS"
    )


def _missed(request: SubscribeRequest, now: Cursor) -> str | None:
    """Why the client must refetch, if it may have missed something since its cursor."""
    if not request.has_cursor or request.cursor == now:
        return None
    if request.cursor is None or request.cursor.epoch != now.epoch:
        return "epoch"
    return "window"

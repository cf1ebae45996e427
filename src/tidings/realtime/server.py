"""The Socket.IO face of subscriptions."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

from msgspec import Raw
from starlette.types import Receive, Scope, Send

from tidings.errors import (
    AuthenticationError,
    InvalidRequest,
    PermissionDenied,
)
from tidings.feed import Cursor, Feed, Recheck
from tidings.identity import Identity
from tidings.matching import Matcher
from tidings.realtime.admission import Admission
from tidings.realtime.backlog import SlowCounters
from tidings.realtime.connection import Pace, SocketConnection
from tidings.realtime.delivery import Dispatcher
from tidings.realtime.draining import Drain, Draining, is_new, offer, refuse
from tidings.realtime.errors import error_payload, refusal_payload
from tidings.realtime.events import Events
from tidings.realtime.explaining import Explainer, parse_explain
from tidings.realtime.limits import Allowance, Allowances, Connections, SocketLimits
from tidings.realtime.messages import Event, encode_json
from tidings.realtime.notifications import CaughtUp, Resync, timestamp
from tidings.realtime.replay import Replayer
from tidings.realtime.requests import readable
from tidings.realtime.service import Identify, Subscribed, SubscriptionService
from tidings.realtime.sessions import IsRevoked, Sessions, moment
from tidings.realtime.statistics import DeliveryObserver, DeliveryTracer, SocketStatistics
from tidings.realtime.subscriptions import Connection, Message, Subscriber, Subscription
from tidings.resources import Answer, Operations, QueryPermissions
from tidings.socketio import (
    NO_ANSWER,
    ComeAgain,
    ConnectionRefused,
    Options,
    Origins,
    Server,
    Socket,
)
from tidings.socketio import Answer as Acknowledgement

_log = logging.getLogger("tidings.realtime")
AuthenticateToken = Callable[[object], Awaitable[Identity]]
"""What ``auth.token`` of the handshake was (None where there was none), to an identity."""

Then = Callable[[], None]
"""What is to be done after an ack, with nothing in between."""
_AT_ONCE: Final = 16
"""So many sockets are checked anew side by side."""
_EVENTS: Final = ("subscribe", "unsubscribe", "restore-subscriptions", "explain", "authenticate")


@dataclass(frozen=True, slots=True)
class _Admitted:
    """Who may connect, and how often rights had changed when that was asked."""

    identity: Identity
    rights: int


class SocketServer:
    """Serves subscriptions over Socket.IO; an ASGI app for everything at and below ``path``.

    ``cors`` takes ``origin`` (``"*"``, one origin or a list) and ``methods``. ``expiry_warning``
    and ``connect_deadline`` are in seconds, as is ``leeway``, for which a token is accepted beyond
    its ``exp``, and ``drain_seconds`` (see `drain`). ``settle`` waits until what has been committed
    has been read from the feed.
    """

    def __init__(
        self,
        operations: Operations,
        feed: Feed,
        authenticate: AuthenticateToken,
        *,
        path: str = "/socket.io",
        cors: Mapping[str, Any] | None = None,
        limit: int = 100,
        expiry_warning: float = 60.0,
        connect_deadline: float = 10.0,
        leeway: float = 0.0,
        permission_seconds: float = 5.0,
        limits: SocketLimits | None = None,
        is_revoked: IsRevoked = lambda identity: False,
        identify: Identify | None = None,
        tracer: DeliveryTracer | None = None,
        observer: DeliveryObserver | None = None,
        drain_seconds: float = 5.0,
        settle: Drain | None = None,
    ) -> None:
        self.path = "/" + path.strip("/")
        self._authenticate = authenticate
        self._matcher = Matcher()
        self._permissions = QueryPermissions(operations.registry, permission_seconds)
        self._limits = limits or SocketLimits()
        self._origins = Origins(cors)
        self.io = Server(
            _options(self._limits, connect_deadline), cors=self._origins, unhandled=_unhandled
        )
        self._dispatcher = Dispatcher(
            feed,
            self._matcher,
            self._permissions,
            tracer,
            self.io.engine.turns.together,
            observer,
        )

        def position() -> Cursor:
            return self._dispatcher.position

        self._service = SubscriptionService(
            Admission(operations.visibility, operations.hooks),
            self._matcher,
            position,
            Replayer(feed, position),
            identify=identify,
            limit=limit,
        )
        self._explainer = Explainer(operations, feed)
        self._sessions = Sessions(self._end, is_revoked, warning=expiry_warning, leeway=leeway)
        self._connections = Connections(self._limits)
        self._slow = SlowCounters()
        self._pace = Pace(self._limits, position, self._slow)
        self._recheck_turns = asyncio.Semaphore(_AT_ONCE)
        self._rechecks: set[asyncio.Task[None]] = set()
        self._allowances = Allowances(self._limits)
        self._admitted: dict[Socket, _Admitted] = {}
        self._changes_of_rights = 0
        self._subscribers: dict[str, Subscriber] = {}
        self._settle = settle
        self._draining = Draining(self, self.settled, drain_seconds)
        self.io.on("connect", self._connect)
        self.io.on("accepted", self._accepted)
        self.io.on("disconnect", self._disconnect)
        for event in _EVENTS:
            self.io.on(event, partial(self._asked, event), takes_unreadable=True)
        self.events = Events(self.io, self._sessions)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        offer(scope, self.drain)
        if self._draining.has_begun and is_new(scope):
            await refuse(scope, receive, send)
            return
        await self.io(scope, receive, send)

    def is_watching(self, resource: str) -> bool:
        """Tell whether some subscription here has a filter of this resource."""
        return self._matcher.watches(resource)

    def serves(self, path: str) -> bool:
        """Tell whether a URL path is this server's."""
        return path == self.path or path.startswith(self.path + "/")

    @property
    def slow(self) -> SlowCounters:
        """What slow clients have come to."""
        self._slow.dropped = self.io.engine.slow
        return self._slow

    @property
    def subscribers(self) -> Sequence[Subscriber]:
        """All sockets that are connected, in the order in which they came."""
        return list(self._subscribers.values())

    def subscribers_of(self, user_id: str) -> Sequence[Subscriber]:
        """The sockets of one user."""
        return self._sessions.of_user(user_id)

    @property
    def subscriptions(self) -> SubscriptionService:
        """The subscriptions of all sockets, by filter."""
        return self._service

    def statistics(self) -> SocketStatistics:
        """What the sockets are at this moment, and what has been delivered so far."""
        counters = self._dispatcher.counters
        return SocketStatistics(
            connections=len(self._subscribers),
            subscriptions=sum(len(one.subscriptions) for one in self._subscribers.values()),
            filters=len(self._matcher),
            queue_bytes=self.io.engine.unsent,
            position=self._dispatcher.delivered,
            notifications=counters.notifications,
            resyncs={**counters.resyncs, "overflow": self.slow.resyncs},
            matching=counters.matching,
            delay=counters.delay,
            newest_at=counters.newest_at,
        )

    async def open(self) -> None:
        """Begin to deliver."""
        self._draining.reset()
        self._recheck_turns = asyncio.Semaphore(_AT_ONCE)
        self._dispatcher.start(self._service, self.begin_recheck)
        if self._origins.allows_any and not _log.isEnabledFor(logging.DEBUG):
            _log.warning(
                "sockets are open to pages of any origin: name yours with "
                "SocketIOPlugin(cors={'origin': ['https://example.org']})"
            )

    async def close(self) -> None:
        """Stop delivering and disconnect everybody."""
        self._draining.reset()
        await self._dispatcher.stop()
        for task in self._rechecks:
            task.cancel()
        await asyncio.gather(*self._rechecks, return_exceptions=True)
        await self._permissions.close()
        # Timers belong to an event loop, and the next `open` may be in another.
        self._sessions.close()
        await self.io.close()

    async def drain(self) -> None:
        """Take no new connections, tell the others what has been committed, and end them, spread
        over ``drain_seconds``, so that their clients come back by themselves: to another process.
        """
        await self._draining.run()

    @property
    def is_draining(self) -> bool:
        """Whether no new connections are taken, since the process is about to stop."""
        return self._draining.has_begun

    async def settled(self) -> None:
        """Wait until what has been committed is in the queues of the sockets."""
        if self._settle is not None:
            await self._settle()
        await self._dispatcher.caught_up()

    def connections(self) -> Sequence[str]:
        """The ids of the sessions that there are."""
        return list(self.io.engine.sessions)

    def is_answering(self, session_id: str) -> bool:
        """Whether a client has asked something and has not been answered."""
        client = self.io.client(session_id)
        return client is not None and client.is_answering

    def release(self, session_id: str) -> None:
        """End a connection when what it is to be told has been sent; its client comes back."""
        client = self.io.client(session_id)
        if client is None:
            return
        socket = client.socket()
        subscriber = None if socket is None else self._subscribers.get(socket.id)
        if subscriber is None:
            client.end()
        else:
            subscriber.connection.finish([])
            self._forget(subscriber)

    async def _asked(self, event: str, socket: Socket, *arguments: Any) -> Any:
        """Answer one of the events of the wire; only the first argument is looked at."""
        answer, then = await self.handle(socket.id, event, arguments[0] if arguments else None)
        if answer is None:
            return NO_ANSWER
        return Acknowledgement((Raw(encode_json(answer)),), then)

    async def handle(self, sid: str, event: str, payload: object) -> tuple[Any, Then]:
        """Handle one of the wire's events; gives the ack's answer and frames to follow it."""
        subscriber = self._subscribers.get(sid)
        if subscriber is None or subscriber.ends_at <= time.time():
            return None, _nothing
        answer, after = await self._handle(subscriber, event, payload)
        # Its token may have ended while it waited: then the answer is not for it any more.
        return (None, _nothing) if subscriber.ends_at <= time.time() else (answer, after)

    async def _handle(
        self, subscriber: Subscriber, event: str, payload: object
    ) -> tuple[Any, Then]:
        try:
            if subscriber.allowance is not None:
                subscriber.allowance.spend(event, payload, len(subscriber.subscriptions))
            if event == "subscribe":
                return await self._subscribe(subscriber, payload)
            if event == "restore-subscriptions":
                return await self._restore(subscriber, payload)
            if event == "explain":
                return await self._explain(subscriber, payload)
            if event == "authenticate":
                return await self._renew(subscriber, payload), _nothing
            await self._service.unsubscribe(subscriber, payload)
        except Exception as error:  # noqa: BLE001  becomes the answer; the unforeseen is logged
            answer = error_payload(error)
            _log.debug("%s %s refused: %s", subscriber.id, event, answer["code"])
            if event == "subscribe":
                subscriber.connection.send(Event.of("subscription.error", answer))
            return {"error": answer}, _nothing
        return {"success": True}, _nothing

    async def _subscribe(self, subscriber: Subscriber, payload: object) -> tuple[Any, Then]:
        done = await self._service.subscribe(subscriber, payload)
        subscriber.connection.send(Event.of("subscription.created", done.data))
        return {"success": True, "data": done.data}, self._missed([done])

    async def _restore(self, subscriber: Subscriber, payload: object) -> tuple[Any, Then]:
        restored, failed = await self._service.restore(subscriber, payload)
        for done in restored:
            if done.is_new:
                subscriber.connection.send(Event.of("subscription.created", done.data))
        ids = [done.subscription.id for done in restored]
        answer = {"success": True, "restored": ids, "failed": failed}
        return answer, self._missed(restored)

    async def _explain(self, subscriber: Subscriber, payload: object) -> tuple[Any, Then]:
        subscription, record_id = parse_explain(payload, subscriber)
        data = await self._explainer.changes(subscription, record_id)
        return {"success": True, "data": data}, _nothing

    async def _renew(self, subscriber: Subscriber, payload: object) -> dict[str, Any]:
        """Have a socket go on with another token of its user."""
        payload = readable(payload, "INVALID_DATA")
        token = payload.get("token") if isinstance(payload, dict) else None
        try:
            if token is None:
                raise AuthenticationError("Authentication required")
            identity = await self._authenticate(token)
        except AuthenticationError as error:
            _log.debug("%s keeps its identity: %s", subscriber.id, error.code)
            return {"error": refusal_payload(error)}
        if identity.user_id != subscriber.identity.user_id:
            raise PermissionDenied("The token is another user's: connect anew with it")
        with self._sessions.renewal(subscriber) as renewed:
            done = await self._service.recheck(subscriber, identity=identity)
            if not subscriber.is_open:
                raise InvalidRequest("The socket is closed", code="INVALID_SUBSCRIPTION")
            # While an expired token waited for the new one, nothing was sent.
            missed = list(subscriber.subscriptions.values()) if renewed() else done.moved
            self._tell(subscriber, missed, done.ended)
        return {"success": True, "data": {"expiresAt": moment(identity.expires_at)}}

    def forget_rights(self) -> None:
        """Ask permissions anew from now on."""
        self._permissions.forget()

    def begin_recheck(self, changed: Recheck) -> list[asyncio.Task[None]]:
        """Have permissions and hooks asked again, for the sockets of a user or of everybody.

        Until a socket has been checked, what comes for it waits: nothing is told by old rights.
        """
        self.forget_rights()
        self._changes_of_rights += 1
        everybody = changed.user_id is None
        sockets = self._sessions.all() if everybody else self._sessions.of_user(changed.user_id)
        return [self._start_recheck(one, changed.resource) for one in sockets]

    def _start_recheck(self, subscriber: Subscriber, resource: str | None) -> asyncio.Task[None]:
        checked = Answer()
        self._dispatcher.lines.bar(subscriber, checked)
        task = asyncio.create_task(
            self._recheck(subscriber, resource, checked), name="tidings-recheck"
        )
        self._rechecks.add(task)
        task.add_done_callback(self._rechecks.discard)
        return task

    async def _recheck(self, subscriber: Subscriber, resource: str | None, checked: Answer) -> None:
        try:
            async with self._recheck_turns:
                done = await self._service.recheck(subscriber, resource=resource)
            self._tell(subscriber, done.moved, done.ended)
        except AuthenticationError as error:
            self._end(subscriber, "auth.revoked", error.message)
        except Exception:  # noqa: BLE001  who cannot be checked is told nothing by old rights
            _log.exception("%s could not be checked anew, and is disconnected", subscriber.id)
            subscriber.connection.finish([])  # it comes back, and is checked then
            self._forget(subscriber)
        finally:
            checked.give(True)

    def _tell(
        self,
        subscriber: Subscriber,
        stale: list[Subscription],
        ended: list[tuple[Subscription, dict[str, Any]]],
    ) -> None:
        for subscription in stale:
            resync = Resync("permission", self._dispatcher.position)
            subscriber.connection.notify(subscription, resync)
        self._dispatcher.counters.told(len(stale), "permission")
        for subscription, error in ended:
            _log.debug("%s: %s has ended: %s", subscriber.id, subscription.id, error["code"])
            subscriber.connection.send(Event.of("subscription.error", error))

    def revoked(self, user_ids: set[str], token_ids: set[str]) -> None:
        """End the sockets whose tokens have just been revoked."""
        self._sessions.revoked(user_ids, token_ids)

    def _end(self, subscriber: Subscriber, event: str, message: str) -> None:
        """Tell a client why, and disconnect it."""
        _log.debug("%s: %s", subscriber.id, event)
        subscriber.connection.finish([Event.of(event, {"message": message})], for_good=True)
        self._forget(subscriber)

    def _missed(self, made: list[Subscribed]) -> Then:
        """What comes after the ack: the missed notifications, in order, or that there are some."""
        position = self._dispatcher.position
        missed = [(told, done.subscription) for done in made for told in done.missed]
        missed.sort(key=lambda one: one[0].cursor.offset)
        self._count(made, len(missed))

        def tell() -> None:
            for done in made:
                if done.resync_reason is not None:
                    _notify(done.subscription, Resync(done.resync_reason, position))
            for told, subscription in missed:
                _notify(subscription, told)
            for done in made:
                if done.through is not None:
                    _notify(done.subscription, CaughtUp(done.through))

        return tell

    def _count(self, made: list[Subscribed], missed: int) -> None:
        counters = self._dispatcher.counters
        counters.told(missed)
        for done in made:
            if done.resync_reason is not None:
                counters.told(1, done.resync_reason)

    async def _connect(self, socket: Socket, auth: Any) -> None:
        token = auth.get("token") if isinstance(auth, dict) else None
        rights = self._changes_of_rights
        try:
            identity = await self._authenticate(token)
        except AuthenticationError as error:
            _log.debug("%s refused: %s", socket.id, error.code)
            raise ConnectionRefused(error.message, {"code": error.code}) from None
        except Exception as error:  # noqa: BLE001  logged; the client comes again
            payload = error_payload(error)
            raise ComeAgain(f"{payload['code']}: {payload['message']}") from None
        if not socket.session.is_open:
            raise ComeAgain("the client has left")
        if not self._connections.enter(socket, identity.user_id, socket.address):
            raise ComeAgain(f"too many connections of {identity.user_id!r} or its address")
        self._admitted[socket] = _Admitted(identity, rights)

    def _accepted(self, socket: Socket) -> None:
        admitted = self._admitted.pop(socket)
        identity = admitted.identity
        connection = SocketConnection(socket, self._pace)
        allowance = self._allowances.open(identity.user_id, socket.address)
        subscriber = self.join(socket.id, identity, connection, allowance=allowance)
        if admitted.rights != self._changes_of_rights:  # while it was asked who this is
            self._start_recheck(subscriber, None)
        _log.debug("%s connected as %s", socket.id, identity.user_id)

    def join(
        self,
        key: str,
        identity: Identity,
        connection: Connection,
        *,
        allowance: Allowance | None = None,
    ) -> Subscriber:
        """Take somebody in, whatever the wire, and greet them. What they ask is given to `handle`
        by this key.
        """
        subscriber = Subscriber(key, identity, connection, allowance=allowance)
        self._subscribers[key] = subscriber
        greeting = {
            "socketId": key,
            "serverTime": timestamp(datetime.now(UTC)),
            "cursor": str(self._dispatcher.position),
        }
        connection.send(Event.of("connected", greeting))
        self._sessions.add(subscriber)
        return subscriber

    def _disconnect(self, socket: Socket, reason: str) -> None:
        self._connections.leave(socket)
        subscriber = self._subscribers.get(socket.id)
        if subscriber is not None:
            self._forget(subscriber)
            _log.debug("%s disconnected: %s", socket.id, reason)

    def _forget(self, subscriber: Subscriber) -> None:
        self._subscribers.pop(subscriber.id, None)
        self._sessions.discard(subscriber)
        self._service.forget(subscriber)
        subscriber.connection.forget()


def _options(limits: SocketLimits, connect_deadline: float) -> Options:
    return Options(
        connect_deadline=connect_deadline,
        max_payload=limits.frame_size,
        max_message=limits.message_size,
        attachments=0,
        malformed=limits.malformed_frames,
        answer_bytes=2 * limits.queue_bytes,
        buffer_bytes=limits.queue_bytes,
        unconnected=limits.unconnected,
        unconnected_per_address=limits.unconnected_per_address,
        polling=limits.polling,
        polling_per_address=limits.polling_per_address,
    )


def _nothing() -> None:
    """What follows most acks."""


def _notify(subscription: Subscription, message: Message) -> None:
    subscription.subscriber.connection.notify(subscription, message)


def _unhandled(event: str) -> dict[str, Any]:
    error = InvalidRequest(
        f"There is no event {event[:40]!r} that takes these arguments", code="UNKNOWN_EVENT"
    )
    return {"error": error_payload(error)}

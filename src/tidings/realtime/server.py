"""The Socket.IO face: python-socketio for the wire protocol, everything else our own."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, NoReturn

import socketio
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
from tidings.realtime.connection import Pace, WireConnection
from tidings.realtime.cors import Origins
from tidings.realtime.delivery import Dispatcher
from tidings.realtime.draining import Drain, Draining, is_new, offer, refuse
from tidings.realtime.errors import error_payload, refusal_payload
from tidings.realtime.explaining import Explainer, parse_explain
from tidings.realtime.guard import EngineGuard
from tidings.realtime.limits import Allowances, Connections, SocketLimits, address_of
from tidings.realtime.lobby import Lobby, guest_of
from tidings.realtime.notifications import CaughtUp, Resync, timestamp
from tidings.realtime.packets import event_frame, packets_of, text_frame
from tidings.realtime.replay import Replayer
from tidings.realtime.requests import readable
from tidings.realtime.service import Identify, Subscribed, SubscriptionService
from tidings.realtime.sessions import IsRevoked, Sessions, moment
from tidings.realtime.statistics import DeliveryTracer, SocketStatistics
from tidings.realtime.subscriptions import Message, Subscriber, Subscription
from tidings.realtime.upgrades import Upgrades
from tidings.realtime.wire import WireManager, WireServer
from tidings.resources import Answer, Operations, QueryPermissions

_log = logging.getLogger("tidings.realtime")
AuthenticateToken = Callable[[object], Awaitable[Identity]]
"""What ``auth.token`` of the handshake was (None where there was none), to an identity."""

Then = Callable[[], None]
"""What is to be done after an ack, with nothing in between."""
_AT_ONCE: Final = 16
"""So many sockets are checked anew side by side."""
_DISCONNECT: Final = text_frame("1")


_FIRST_BYTES: Final = 65_536
"""A client that has not shown a token yet has no more to say than that."""


@dataclass(frozen=True, slots=True)
class _Admitted:
    """Who may connect, from where, and how often rights had changed when that was asked."""

    identity: Identity
    address: str | None
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
        drain_seconds: float = 5.0,
        settle: Drain | None = None,
    ) -> None:
        self.path = "/" + path.strip("/")
        self._authenticate = authenticate
        self._matcher = Matcher()
        self._permissions = QueryPermissions(operations.registry, permission_seconds)
        self._dispatcher = Dispatcher(feed, self._matcher, self._permissions, tracer)

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
        self._limits = limits or SocketLimits()
        self._connections = Connections(self._limits)
        self._lobby = Lobby(self._limits)
        self.slow = SlowCounters()
        self._pace = Pace(self._limits, lambda: self._dispatcher.position, self.slow)
        self._recheck_turns = asyncio.Semaphore(_AT_ONCE)
        self._rechecks: set[asyncio.Task[None]] = set()
        self._allowances = Allowances(self._limits)
        self._admitted: dict[str, _Admitted] = {}
        self._changes_of_rights = 0
        self._subscribers: dict[str, Subscriber] = {}
        self._settle = settle
        self._draining = Draining(self, self._flush, drain_seconds)
        self._origins = Origins(cors)
        # The libraries report every bad frame with a traceback; what matters is reported here.
        quiet = logging.getLogger("tidings.realtime.wire")
        quiet.setLevel(logging.CRITICAL + 1)
        self.io: WireServer = WireServer(
            self.handle,
            self._left,
            connect_deadline=connect_deadline,
            malformed_packets=self._limits.malformed_frames,
            queue_bytes=self._limits.queue_bytes,
            async_mode="asgi",
            client_manager=WireManager(self._accepted),
            serializer=packets_of(self._limits.message_size),
            cors_allowed_origins=[],  # the guard sees to it
            max_http_buffer_size=self._limits.frame_size,
            logger=quiet,
            engineio_logger=quiet,
        )
        self.io.on("connect", self._connect)
        self.io.on("disconnect", self._disconnect)
        self._upgrades = Upgrades(self.io.eio.sockets, connect_deadline, self._upgraded)
        engine = socketio.ASGIApp(self.io, socketio_path=None)
        self._app = EngineGuard(
            engine, self._limits, self._origins, self._lobby, self._upgrades, self._most_bytes
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        offer(scope, self.drain)
        if self._draining.has_begun and is_new(scope):
            await refuse(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def serves(self, path: str) -> bool:
        """Tell whether a URL path is this server's."""
        return path == self.path or path.startswith(self.path + "/")

    def statistics(self) -> SocketStatistics:
        """What the sockets are at this moment, and what has been delivered so far."""
        counters = self._dispatcher.counters
        return SocketStatistics(
            connections=len(self._subscribers),
            subscriptions=sum(len(one.subscriptions) for one in self._subscribers.values()),
            filters=len(self._matcher),
            queue_bytes=self.io.unsent,
            position=self._dispatcher.delivered,
            notifications=counters.notifications,
            resyncs={**counters.resyncs, "overflow": self.slow.resyncs},
            matching=counters.matching,
            delay=counters.delay,
            newest_at=counters.newest_at,
        )

    async def open(self) -> None:
        """Begin to deliver."""
        # The library starts looking for clients that have gone once, and not again after a close.
        self.io.eio.start_service_task = True
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
        for engine_socket in list(self.io.eio.sockets.values()):
            await engine_socket.close(wait=False)
        # Timers belong to an event loop, and the next `open` may be in another.
        self._sessions.close()
        self.io.expect_nobody()
        await self.io.shutdown()

    async def drain(self) -> None:
        """Take no new connections, tell the others what has been committed, and end them, spread
        over ``drain_seconds``, so that their clients come back by themselves: to another process.
        """
        await self._draining.run()

    @property
    def is_draining(self) -> bool:
        """Whether no new connections are taken, since the process is about to stop."""
        return self._draining.has_begun

    async def _flush(self) -> None:
        """Wait until what has been committed is in the queues of the sockets."""
        if self._settle is not None:
            await self._settle()
        await self._dispatcher.caught_up()

    def connections(self) -> Sequence[str]:
        """The ids of the Engine.IO sockets that there are."""
        return [found for found, one in self.io.eio.sockets.items() if not one.closed]

    def is_answering(self, engine_id: str) -> bool:
        """Whether a client has asked something and has not been answered."""
        return self.io.is_answering(engine_id)

    def release(self, engine_id: str) -> None:
        """End a connection when what is queued for it has been sent. There is no DISCONNECT among
        it, from which clients do not come back.
        """
        subscriber = self._subscribers.get(self.io.manager.sid_from_eio_sid(engine_id, "/") or "")
        if subscriber is None:
            self.io.finish(engine_id)
        else:
            subscriber.connection.finish([])
            self._forget(subscriber)

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
                subscriber.connection.send(event_frame("subscription.error", answer))
            return {"error": answer}, _nothing
        return {"success": True}, _nothing

    async def _subscribe(self, subscriber: Subscriber, payload: object) -> tuple[Any, Then]:
        done = await self._service.subscribe(subscriber, payload)
        subscriber.connection.send(event_frame("subscription.created", done.data))
        return {"success": True, "data": done.data}, self._missed([done])

    async def _restore(self, subscriber: Subscriber, payload: object) -> tuple[Any, Then]:
        restored, failed = await self._service.restore(subscriber, payload)
        for done in restored:
            if done.is_new:
                subscriber.connection.send(event_frame("subscription.created", done.data))
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
            subscriber.connection.send(event_frame("subscription.error", error))

    def revoked(self, user_ids: set[str], token_ids: set[str]) -> None:
        """End the sockets whose tokens have just been revoked."""
        self._sessions.revoked(user_ids, token_ids)

    def _end(self, subscriber: Subscriber, event: str, message: str) -> None:
        """Tell a client why, and disconnect it."""
        _log.debug("%s: %s", subscriber.id, event)
        subscriber.connection.finish([event_frame(event, {"message": message}), _DISCONNECT])
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

    async def _connect(self, sid: str, environ: Any, auth: Any) -> None:
        token = auth.get("token") if isinstance(auth, dict) else None
        rights = self._changes_of_rights
        try:
            identity = await self._authenticate(token)
        except AuthenticationError as error:
            _log.debug("%s refused: %s", sid, error.code)
            raise socketio.exceptions.ConnectionRefusedError(
                error.message, {"code": error.code}
            ) from None
        except Exception as error:  # noqa: BLE001  logged; the client comes again
            payload = error_payload(error)
            self._put_off(sid, f"{payload['code']}: {payload['message']}")
        address = address_of(environ["asgi.scope"])
        if not self._connections.enter(environ, identity.user_id, address):
            self._put_off(sid, f"too many connections of {identity.user_id!r} or its address")
        self._admitted[sid] = _Admitted(identity, address, rights)

    def _put_off(self, sid: str, reason: str) -> NoReturn:
        """Refuse a client in a way after which it tries again by itself."""
        _log.debug("%s is to come again: %s", sid, reason)
        self.io.put_off(sid)
        raise socketio.exceptions.ConnectionRefusedError

    def _upgraded(self, engine_id: str) -> None:
        guest = guest_of(self.io.environ.get(engine_id))
        if guest is not None:
            guest.has_upgraded()

    def _most_bytes(self, engine_id: str) -> int | None:
        """How much a session may send in one body; None where there is no such session."""
        if engine_id not in self.io.eio.sockets:
            return None
        most = self._limits.frame_size
        is_known = self.io.manager.sid_from_eio_sid(engine_id, "/") in self._subscribers
        return most if is_known else min(_FIRST_BYTES, most)

    def _left(self, environ: Any) -> None:
        self._connections.leave(environ)
        guest = guest_of(environ)
        if guest is not None:
            guest.leave()

    def _accepted(self, sid: str, engine_id: str) -> None:
        guest = guest_of(self.io.environ.get(engine_id))
        if guest is not None:
            guest.has_connected()
        admitted = self._admitted.pop(sid, None)
        engine_socket = self.io.eio.sockets.get(engine_id)
        if admitted is None or engine_socket is None or engine_socket.closed:
            return
        identity = admitted.identity
        connection = WireConnection(
            engine_socket.queue,
            self._pace,
            lambda: self._drop(engine_id),
            lambda: self.io.finish(engine_id),
        )
        allowance = self._allowances.open(identity.user_id, admitted.address)
        subscriber = Subscriber(sid, identity, connection, allowance=allowance)
        self._subscribers[sid] = subscriber
        now = timestamp(datetime.now(UTC))
        greeting = {
            "socketId": sid,
            "serverTime": now,
            "cursor": str(self._dispatcher.position),
        }
        connection.send(event_frame("connected", greeting))
        self._sessions.add(subscriber)
        if admitted.rights != self._changes_of_rights:  # while it was asked who this is
            self._start_recheck(subscriber, None)
        _log.debug("%s connected as %s", sid, identity.user_id)

    def _disconnect(self, sid: str, reason: str = "") -> None:
        self._admitted.pop(sid, None)
        subscriber = self._subscribers.get(sid)
        if subscriber is not None:
            self._forget(subscriber)
            _log.debug("%s disconnected: %s", sid, reason)
        # It may keep the connection, though; what it does with it is the same as at its start.
        self.io.expect_connect(self.io.manager.eio_sid_from_sid(sid, "/"))

    def _forget(self, subscriber: Subscriber) -> None:
        self._subscribers.pop(subscriber.id, None)
        self._sessions.discard(subscriber)
        self._service.forget(subscriber)
        subscriber.connection.forget()

    def _drop(self, engine_id: str) -> None:
        _log.warning("%s disconnected: it reads too slowly", engine_id)
        self.io.start_background_task(self.io.end, engine_id)


def _nothing() -> None:
    """What follows most acks."""


def _notify(subscription: Subscription, message: Message) -> None:
    subscription.subscriber.connection.notify(subscription, message)

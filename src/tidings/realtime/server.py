"""The Socket.IO face: python-socketio for the wire protocol, everything else our own."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

import socketio
from starlette.types import Receive, Scope, Send

from tidings.errors import AuthenticationError, ConfigurationError
from tidings.feed import Feed
from tidings.identity import Identity
from tidings.matching import Matcher
from tidings.realtime.delivery import Dispatcher, resync_frame, timestamp
from tidings.realtime.errors import error_payload
from tidings.realtime.explaining import Explainer, parse_explain
from tidings.realtime.guard import EngineGuard
from tidings.realtime.packets import Packet, event_frame
from tidings.realtime.service import Subscribed, SubscriptionService
from tidings.realtime.subscriptions import Frame, Subscriber
from tidings.realtime.wire import WireConnection, WireManager, WireServer
from tidings.resources import Operations

_log = logging.getLogger("tidings.realtime")
AuthenticateToken = Callable[[object], Awaitable[Identity]]
"""What ``auth.token`` of the handshake was (None where there was none), to an identity."""

DEFAULT_CORS: Final[Mapping[str, Any]] = {"origin": "*", "methods": ["GET", "POST"]}


class SocketServer:
    """Serves subscriptions over Socket.IO; an ASGI app for everything at and below ``path``.

    ``cors`` takes ``origin`` (``"*"``, one origin or a list) and ``methods``.
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
    ) -> None:
        self.path = "/" + path.strip("/")
        self._authenticate = authenticate
        self._matcher = Matcher()
        self._dispatcher = Dispatcher(feed, self._matcher)
        self._service = SubscriptionService(
            operations.registry,
            operations.hooks,
            self._matcher,
            lambda: self._dispatcher.position,
            limit=limit,
        )
        self._explainer = Explainer(operations, feed)
        self._admitted: dict[str, Identity] = {}
        self._subscribers: dict[str, Subscriber] = {}
        # The libraries report every bad frame with a traceback; what matters is reported here.
        quiet = logging.getLogger("tidings.realtime.wire")
        quiet.setLevel(logging.CRITICAL + 1)
        self.io: WireServer = WireServer(
            self.handle,
            async_mode="asgi",
            client_manager=WireManager(self._accepted),
            serializer=Packet,
            cors_allowed_origins=_origins(cors or DEFAULT_CORS),
            max_http_buffer_size=4_000_000,
            logger=quiet,
            engineio_logger=quiet,
        )
        self.io.on("connect", self._connect)
        self.io.on("disconnect", self._disconnect)
        self._app = EngineGuard(socketio.ASGIApp(self.io, socketio_path=None))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._app(scope, receive, send)
        finally:
            if scope["type"] == "websocket":
                self.io.forget_failed_upgrade(scope.get("query_string", b""))

    def serves(self, path: str) -> bool:
        """Tell whether a URL path is this server's."""
        return path == self.path or path.startswith(self.path + "/")

    async def open(self) -> None:
        """Begin to deliver."""
        # The library starts looking for clients that have gone once, and not again after a close.
        self.io.eio.start_service_task = True
        self._dispatcher.start(self._service)

    async def close(self) -> None:
        """Stop delivering and disconnect everybody."""
        await self._dispatcher.stop()
        for engine_socket in list(self.io.eio.sockets.values()):
            await engine_socket.close(wait=False)
        await self.io.shutdown()

    async def handle(self, sid: str, event: str, payload: object) -> tuple[Any, list[Frame]]:
        """Handle one of the wire's events; gives the ack's answer and frames to follow it."""
        subscriber = self._subscribers.get(sid)
        if subscriber is None:
            return None, []
        try:
            if event == "subscribe":
                return await self._subscribe(subscriber, payload)
            if event == "restore-subscriptions":
                return await self._restore(subscriber, payload)
            if event == "explain":
                return await self._explain(subscriber, payload)
            await self._service.unsubscribe(subscriber, payload)
        except Exception as error:  # noqa: BLE001  becomes the answer; the unforeseen is logged
            answer = error_payload(error)
            _log.debug("%s %s refused: %s", sid, event, answer["code"])
            if event == "subscribe":
                subscriber.connection.send(event_frame("subscription.error", answer))
            return {"error": answer}, []
        return {"success": True}, []

    async def _subscribe(self, subscriber: Subscriber, payload: object) -> tuple[Any, list[Frame]]:
        done = await self._service.subscribe(subscriber, payload)
        subscriber.connection.send(event_frame("subscription.created", done.data))
        return {"success": True, "data": done.data}, self._resyncs([done])

    async def _restore(self, subscriber: Subscriber, payload: object) -> tuple[Any, list[Frame]]:
        restored, failed = await self._service.restore(subscriber, payload)
        for done in restored:
            if done.is_new:
                subscriber.connection.send(event_frame("subscription.created", done.data))
        ids = [done.subscription.id for done in restored]
        answer = {"success": True, "restored": ids, "failed": failed}
        return answer, self._resyncs(restored)

    async def _explain(self, subscriber: Subscriber, payload: object) -> tuple[Any, list[Frame]]:
        subscription, record_id = parse_explain(payload, subscriber.subscriptions)
        data = await self._explainer.changes(subscription, record_id)
        return {"success": True, "data": data}, []

    def _resyncs(self, made: list[Subscribed]) -> list[Frame]:
        cursor = self._dispatcher.position
        return [
            resync_frame(done.subscription, done.resync_reason, cursor)
            for done in made
            if done.resync_reason is not None and done.subscription.is_active
        ]

    async def _connect(self, sid: str, _environ: Any, auth: Any) -> None:
        token = auth.get("token") if isinstance(auth, dict) else None
        try:
            self._admitted[sid] = await self._authenticate(token)
        except AuthenticationError as error:
            _log.debug("%s refused: %s", sid, error.code)
            raise socketio.exceptions.ConnectionRefusedError(error.message) from None
        except Exception as error:  # noqa: BLE001  logged; the client learns its number
            payload = error_payload(error)
            raise socketio.exceptions.ConnectionRefusedError(payload["message"]) from None

    def _accepted(self, sid: str, engine_id: str) -> None:
        identity = self._admitted.pop(sid, None)
        engine_socket = self.io.eio.sockets.get(engine_id)
        if identity is None or engine_socket is None or engine_socket.closed:
            return
        connection = WireConnection(engine_socket, lambda: self._drop(engine_id))
        self._subscribers[sid] = Subscriber(sid, identity, connection)
        now = timestamp(datetime.now(UTC))
        greeting = {
            "socketId": sid,
            "serverTime": now,
            "cursor": str(self._dispatcher.position),
        }
        connection.send(event_frame("connected", greeting))
        _log.debug("%s connected as %s", sid, identity.user_id)

    def _disconnect(self, sid: str, reason: str = "") -> None:
        self._admitted.pop(sid, None)
        subscriber = self._subscribers.pop(sid, None)
        if subscriber is not None:
            self._service.forget(subscriber)
            _log.debug("%s disconnected: %s", sid, reason)

    def _drop(self, engine_id: str) -> None:
        _log.warning("%s disconnected: it reads too slowly", engine_id)
        self.io.start_background_task(self.io.end, engine_id)


def _origins(cors: Mapping[str, Any]) -> str | list[str] | None:
    unknown = set(cors) - {"origin", "methods"}
    if unknown:
        raise ConfigurationError(
            f"cors: unknown option {sorted(unknown)[0]!r}; use origin, methods"
        )
    origin = cors.get("origin", "*")
    if isinstance(origin, str):
        return origin if origin == "*" else [origin]
    if isinstance(origin, list | tuple) and all(isinstance(item, str) for item in origin):
        # To Engine.IO an empty list means "do not check"; None, that only its own origin may.
        return list(origin) or None
    raise ConfigurationError("cors: origin is '*', one origin or a list of origins")

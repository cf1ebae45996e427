"""The Socket.IO face: python-socketio for the wire protocol, everything else our own."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

import socketio
from engineio.payload import Payload
from starlette.types import Receive, Scope, Send

from tidings.errors import AuthenticationError, ConfigurationError
from tidings.feed import Feed
from tidings.hooks import HookRegistry
from tidings.identity import Identity
from tidings.matching import Matcher
from tidings.realtime.delivery import Dispatcher, resync_frame, timestamp
from tidings.realtime.errors import error_payload
from tidings.realtime.guard import EngineGuard
from tidings.realtime.packets import MalformedPacket, Packet, event_frame
from tidings.realtime.requests import Unreadable
from tidings.realtime.service import Subscribed, SubscriptionService
from tidings.realtime.subscriptions import Frame, Subscriber
from tidings.schema import ResourceRegistry

_log = logging.getLogger("tidings.realtime")
AuthenticateToken = Callable[[object], Awaitable[Identity]]
"""What ``auth.token`` of the handshake was (None where there was none), to an identity."""

DEFAULT_CORS: Final[Mapping[str, Any]] = {"origin": "*", "methods": ["GET", "POST"]}
EVENTS: Final = frozenset({"subscribe", "unsubscribe", "restore-subscriptions"})
MAX_MALFORMED: Final = 20
MAX_QUEUE: Final = 10_000
"""A client with so many unsent packets is disconnected; it will come back and restore."""

# A client that emits much before its first poll sends all of it in one payload; the library
# refuses more than 16 packets, silently.
Payload.max_decode_packets = 512


class _Connection:
    """The wire to one client: the queue of its Engine.IO socket."""

    def __init__(self, engine_socket: Any, overflow: Callable[[], None]) -> None:
        self._queue = engine_socket.queue
        self._overflow = overflow

    def send(self, frame: Frame) -> None:
        if self._queue.qsize() >= MAX_QUEUE:
            self._overflow()
        else:
            self._queue.put_nowait(frame)


class _Manager(socketio.AsyncManager):  # type: ignore[misc]  # python-socketio is untyped
    """Tells when a client has been accepted, which the ``connect`` handler comes too early for."""

    def __init__(self, accepted: Callable[[str, str], None]) -> None:
        super().__init__()
        self._accepted = accepted

    async def connect(self, sid: str, namespace: str) -> Any:
        result = await super().connect(sid, namespace)
        self._accepted(sid, self.eio_sid_from_sid(sid, namespace))
        return result


class _Server(socketio.AsyncServer):  # type: ignore[misc]  # python-socketio is untyped
    """Events go to one handler, in order, and an answer is sent before what follows from it."""

    def __init__(self, face: SocketServer, **options: Any) -> None:
        super().__init__(**options)
        self._face = face
        self._malformed: dict[str, int] = {}

    async def _handle_eio_message(self, eio_sid: str, data: Any) -> None:
        try:
            await super()._handle_eio_message(eio_sid, data)
        except MalformedPacket:
            if eio_sid not in self.environ:
                return  # it has been disconnected already
            self._malformed[eio_sid] = self._malformed.get(eio_sid, 0) + 1
            if self._malformed[eio_sid] > MAX_MALFORMED:
                _log.debug("%s disconnected: too many malformed packets", eio_sid)
                await self.end(eio_sid)

    async def end(self, eio_sid: str) -> None:
        """Disconnect a client; the library's own way waits until it has read everything, and
        leaves it to the client to close the connection.
        """
        engine_socket = self.eio.sockets.get(eio_sid)
        if engine_socket is not None:
            await engine_socket.close(wait=False, reason=self.reason.SERVER_DISCONNECT)
            engine_socket.queue.put_nowait(None)

    async def _handle_eio_disconnect(self, eio_sid: str, reason: str) -> None:
        self._malformed.pop(eio_sid, None)
        await super()._handle_eio_disconnect(eio_sid, reason)
        engine_socket = self.eio.sockets.get(eio_sid)
        if engine_socket is not None and reason != self.reason.SERVER_DISCONNECT:
            # The library lets the poll of a client that has gone wait until it times out.
            engine_socket.queue.put_nowait(None)

    async def _handle_event(self, eio_sid: str, namespace: Any, id: Any, data: Any) -> None:  # noqa: A002
        name, *arguments = data
        if namespace not in (None, "/") or name not in EVENTS:
            # An application may have events of its own; what could not be read is not for it, and
            # the library would let a client call the handlers of connect and disconnect.
            is_readable = not any(isinstance(argument, Unreadable) for argument in arguments)
            if is_readable and name not in self.reserved_events:
                await super()._handle_event(eio_sid, namespace, id, data)
            return
        sid = self.manager.sid_from_eio_sid(eio_sid, "/")
        if not self.manager.is_connected(sid, "/"):
            return
        answer, after = await self._face.handle(sid, name, arguments[0] if arguments else None)
        if id is not None and answer is not None:
            packet = self.packet_class(packet_type=3, namespace=namespace, id=id, data=[answer])
            await self._send_packet(eio_sid, packet)
        for frame in after:
            await self._send_eio_packet(eio_sid, frame)


class SocketServer:
    """Serves subscriptions over Socket.IO; an ASGI app for everything at and below ``path``.

    ``cors`` takes ``origin`` (``"*"``, one origin or a list) and ``methods``.
    """

    def __init__(
        self,
        registry: ResourceRegistry,
        hooks: HookRegistry,
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
            registry, hooks, self._matcher, lambda: self._dispatcher.position, limit=limit
        )
        self._admitted: dict[str, Identity] = {}
        self._subscribers: dict[str, Subscriber] = {}
        # The libraries report every bad frame with a traceback; what matters is reported here.
        quiet = logging.getLogger("tidings.realtime.wire")
        quiet.setLevel(logging.CRITICAL + 1)
        self.io: socketio.AsyncServer = _Server(
            self,
            async_mode="asgi",
            client_manager=_Manager(self._accepted),
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
        await self._app(scope, receive, send)

    def serves(self, path: str) -> bool:
        """Tell whether a URL path is this server's."""
        return path == self.path or path.startswith(self.path + "/")

    async def open(self) -> None:
        """Begin to deliver."""
        self._dispatcher.start(self._service)

    async def close(self) -> None:
        """Stop delivering and disconnect everybody."""
        await self._dispatcher.stop()
        for engine_socket in list(self.io.eio.sockets.values()):
            await engine_socket.close(wait=False)
        await self.io.shutdown()

    async def handle(self, sid: str, event: str, payload: object) -> tuple[Any, list[Frame]]:
        """Handle one of `EVENTS`; gives the ack's answer, and frames to be sent after it."""
        subscriber = self._subscribers.get(sid)
        if subscriber is None:
            return None, []
        try:
            if event == "subscribe":
                return await self._subscribe(subscriber, payload)
            if event == "restore-subscriptions":
                return await self._restore(subscriber, payload)
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
        connection = _Connection(engine_socket, lambda: self._drop(engine_id))
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

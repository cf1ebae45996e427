"""The wire: python-socketio, with its known traps closed, behind a few small seams."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Any, Final
from urllib.parse import parse_qs

import socketio
from engineio.exceptions import EngineIOError
from engineio.payload import Payload

from tidings.realtime.packets import MalformedPacket
from tidings.realtime.requests import Unreadable
from tidings.realtime.subscriptions import Frame

_log = logging.getLogger("tidings.realtime")

Handle = Callable[[str, str, object], Awaitable[tuple[Any, list[Frame]]]]
"""Socket id, event and payload, to the ack's answer and frames to be sent after it."""

EVENTS: Final = frozenset({"subscribe", "unsubscribe", "restore-subscriptions", "explain"})
MAX_MALFORMED: Final = 20
MAX_WAITING: Final = 256
MAX_QUEUE: Final = 10_000
"""A client with so many unsent packets is disconnected; it will come back and restore."""

# A client that emits much before its first poll sends all of it in one payload; the library
# refuses more than 16 packets, silently.
Payload.max_decode_packets = 512


class WireConnection:
    """The wire to one client: the queue of its Engine.IO socket."""

    def __init__(self, engine_socket: Any, overflow: Callable[[], None]) -> None:
        self._queue = engine_socket.queue
        self._overflow = overflow
        self._has_overflowed = False

    def send(self, frame: Frame) -> None:
        """Queue a frame; a client that reads nothing is disconnected, and gets no more."""
        if self._has_overflowed:
            return
        if self._queue.qsize() < MAX_QUEUE:
            self._queue.put_nowait(frame)
            return
        self._has_overflowed = True
        self._overflow()


class WireManager(socketio.AsyncManager):  # type: ignore[misc]  # python-socketio is untyped
    """Tells when a client has been accepted, which the ``connect`` handler comes too early for."""

    def __init__(self, accepted: Callable[[str, str], None]) -> None:
        super().__init__()
        self._accepted = accepted

    async def connect(self, sid: str, namespace: str) -> Any:
        result = await super().connect(sid, namespace)
        self._accepted(sid, self.eio_sid_from_sid(sid, namespace))
        return result


class WireServer(socketio.AsyncServer):  # type: ignore[misc]  # python-socketio is untyped
    """The wire protocol. ``handle`` gets the events of a client in order, beside its receive loop:
    a slow one must not keep the client's pongs waiting, which would look like its death.
    """

    def __init__(self, handle: Handle, **options: Any) -> None:
        super().__init__(**options)
        self._handle = handle
        self._malformed: dict[str, int] = {}
        self._inboxes: dict[str, _Inbox] = {}

    def forget_failed_upgrade(self, query: bytes) -> None:
        """Let a client go on polling whose upgrade to WebSocket came to nothing.

        The library leaves it marked as upgrading, and so without packets, for ever.
        """
        for engine_id in parse_qs(query.decode("latin-1")).get("sid", []):
            engine_socket = self.eio.sockets.get(engine_id)
            if engine_socket is not None and not engine_socket.upgraded:
                engine_socket.upgrading = False

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
        inbox = self._inboxes.pop(eio_sid, None)
        if inbox is not None:
            inbox.close()
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
        payload = arguments[0] if arguments else None
        inbox = self._inboxes.setdefault(eio_sid, _Inbox())
        await inbox.put(partial(self._answer, eio_sid, sid, id, name, payload))

    async def _answer(
        self, eio_sid: str, sid: str, ack: int | None, name: str, payload: object
    ) -> None:
        answer, after = await self._handle(sid, name, payload)
        if ack is not None and answer is not None:
            await self._send_packet(
                eio_sid, self.packet_class(packet_type=3, id=ack, data=[answer])
            )
        for frame in after:
            await self._send_eio_packet(eio_sid, frame)


class _Inbox:
    """What one client has asked and has not been answered yet."""

    def __init__(self) -> None:
        self._waiting: deque[Callable[[], Awaitable[None]]] = deque()
        self._task: asyncio.Task[None] | None = None

    async def put(self, work: Callable[[], Awaitable[None]]) -> None:
        """Add work; where much is waiting, the client's receive loop waits, too."""
        if len(self._waiting) >= MAX_WAITING and self._task is not None:
            await asyncio.wait([self._task])
        self._waiting.append(work)
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="tidings-inbox")

    def close(self) -> None:
        """Drop what is waiting, and give up what is being done."""
        self._waiting.clear()
        if self._task is not None:
            self._task.cancel()

    async def _run(self) -> None:
        try:
            while self._waiting:
                with suppress(EngineIOError):  # the client has gone
                    await self._waiting.popleft()()
        finally:
            self._task = None

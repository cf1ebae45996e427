"""The wire: python-socketio, with its known traps closed, behind a few small seams."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Any, Final

import socketio
from engineio.exceptions import EngineIOError
from engineio.payload import Payload

from tidings.realtime.deadlines import Deadlines
from tidings.realtime.engine import EngineServer
from tidings.realtime.lobby import guest_of
from tidings.realtime.packets import MalformedPacket
from tidings.realtime.requests import Unreadable

_log = logging.getLogger("tidings.realtime")

Handle = Callable[[str, str, object], Awaitable[tuple[Any, Callable[[], None]]]]
"""Socket id, event and payload, to the ack's answer and what is to be done after it."""

EVENTS: Final = frozenset(
    {"subscribe", "unsubscribe", "restore-subscriptions", "explain", "authenticate"}
)
MAX_WAITING: Final = 256
"""So many messages of a client wait for their answers, or fewer that are long."""
MAX_WAITING_SIZE: Final = 1_000_000
"""That is, so many characters."""
LAST_SECONDS: Final = 0.5
"""So long the last frames may take on their way to a client before the connection is closed."""

# A client that emits much before its first poll sends all of it in one payload; the library
# refuses more than 16 packets, silently.
Payload.max_decode_packets = 512


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
    a slow one must not keep the client's pongs waiting, which would look like its death. A client
    that for ``connect_deadline`` seconds is in no namespace is disconnected.
    """

    def __init__(
        self,
        handle: Handle,
        gone: Callable[[Any], None],
        *,
        connect_deadline: float = 10.0,
        malformed_packets: int = 20,
        queue_bytes: int = 65_536,
        **options: Any,
    ) -> None:
        """``gone`` gets the environ of each connection that has ended, however it has.

        A client to which twice ``queue_bytes`` are unsent must read before it is answered again.
        """
        super().__init__(**options)
        self._handle = handle
        self._gone = gone
        self._most_malformed = malformed_packets
        self._most_unsent = 2 * queue_bytes
        self._message_size = 0
        self._malformed: dict[str, int] = {}
        self._put_off: set[str] = set()
        self._inboxes: dict[str, _Inbox] = {}
        self._connect_seconds = connect_deadline
        self._connect_deadlines: Deadlines[str] = Deadlines(self._end_unless_connected)

    @property
    def unsent(self) -> int:
        """The bytes that have not been sent yet, to all clients."""
        return sum(one.queue.unsent for one in self.eio.sockets.values())

    def _engineio_server_class(self) -> type[EngineServer]:
        return EngineServer

    async def _handle_eio_message(self, eio_sid: str, data: Any) -> None:
        self._message_size = len(data)  # for `_handle_event`, before which nothing waits
        try:
            await super()._handle_eio_message(eio_sid, data)
        except MalformedPacket:
            if eio_sid not in self.environ:
                return  # it has been disconnected already
            self._malformed[eio_sid] = self._malformed.get(eio_sid, 0) + 1
            if self._malformed[eio_sid] > self._most_malformed:
                _log.debug("%s disconnected: too many malformed packets", eio_sid)
                await self.end(eio_sid)

    def put_off(self, sid: str) -> None:
        """Have a client that cannot be let in now come again: its connection is closed.

        After a CONNECT_ERROR it would never try again by itself.
        """
        self._put_off.add(self.manager.eio_sid_from_sid(sid, "/"))

    async def _handle_connect(self, eio_sid: str, namespace: Any, data: Any) -> None:
        if namespace not in (None, "/") and namespace not in self.handlers:
            _log.debug("%s refused: there is no namespace %.100r", eio_sid, namespace)
            error = {"message": "Invalid namespace"}
            await self._send_packet(
                eio_sid, self.packet_class(packet_type=4, data=error, namespace=namespace)
            )
            return
        await super()._handle_connect(eio_sid, namespace, data)
        if eio_sid in self._put_off:
            self._put_off.discard(eio_sid)
            await self.end(eio_sid)

    async def _send_packet(self, eio_sid: str, pkt: Any) -> None:
        if pkt.packet_type == 4 and eio_sid in self._put_off:
            return
        await super()._send_packet(eio_sid, pkt)

    async def end(self, eio_sid: str) -> None:
        """Disconnect a client; the library's own way waits until it has read everything, and
        leaves it to the client to close the connection.
        """
        engine_socket = self.eio.sockets.get(eio_sid)
        if engine_socket is not None:
            await engine_socket.close(wait=False, reason=self.reason.SERVER_DISCONNECT)
            engine_socket.queue.put_nowait(None)

    def is_answering(self, eio_sid: str) -> bool:
        """Whether a client has asked something and has not been answered."""
        return eio_sid in self._inboxes and self._inboxes[eio_sid].is_busy

    def finish(self, eio_sid: str) -> None:
        """Disconnect a client when it has got what is queued for it, or has had the time to."""
        self._close_inbox(eio_sid)
        self.start_background_task(self._end_soon, eio_sid)

    async def _end_soon(self, eio_sid: str) -> None:
        engine_socket = self.eio.sockets.get(eio_sid)
        if engine_socket is None:
            return
        # A client between two polls would find its connection gone, and not why.
        queue, until = engine_socket.queue, time.monotonic() + LAST_SECONDS
        while not queue.empty() and not engine_socket.closed and time.monotonic() < until:  # noqa: ASYNC110  the queue has no event for that
            await asyncio.sleep(0.01)
        if not engine_socket.closed:
            queue.discard()
        await self.end(eio_sid)

    def expect_connect(self, eio_sid: str) -> None:
        """Disconnect a client, unless it is in a namespace when the time has passed."""
        if eio_sid in self.environ:
            guest = guest_of(self.environ[eio_sid])
            if guest is not None:
                guest.has_disconnected()
            self._connect_deadlines.set(eio_sid, time.time() + self._connect_seconds)

    def expect_nobody(self) -> None:
        """Wait for no client any more."""
        self._connect_deadlines.clear()

    def _end_unless_connected(self, eio_sid: str) -> None:
        for namespace in self.manager.get_namespaces():
            sid = self.manager.sid_from_eio_sid(eio_sid, namespace)
            if sid is not None and self.manager.is_connected(sid, namespace):
                return
        _log.debug("%s disconnected: it has not connected in time", eio_sid)
        self.start_background_task(self.end, eio_sid)

    async def _handle_eio_connect(self, eio_sid: str, environ: Any) -> None:
        await super()._handle_eio_connect(eio_sid, environ)
        guest = guest_of(environ)
        if guest is not None:
            guest.has_session = True
        self.expect_connect(eio_sid)

    def _close_inbox(self, eio_sid: str) -> None:
        inbox = self._inboxes.pop(eio_sid, None)
        if inbox is not None:
            inbox.close()

    async def _handle_eio_disconnect(self, eio_sid: str, reason: str) -> None:
        self._malformed.pop(eio_sid, None)
        self._put_off.discard(eio_sid)
        self._close_inbox(eio_sid)
        self._gone(self.environ.get(eio_sid))
        await super()._handle_eio_disconnect(eio_sid, reason)
        self._connect_deadlines.discard(eio_sid)
        engine_socket = self.eio.sockets.get(eio_sid)
        self.eio.forget(eio_sid)
        if engine_socket is not None and reason != self.reason.SERVER_DISCONNECT:
            # The library lets the poll of a client that has gone wait until it times out.
            engine_socket.queue.put_nowait(None)

    async def _handle_event(self, eio_sid: str, namespace: Any, id: Any, data: Any) -> None:  # noqa: A002
        name, *arguments = data
        size = self._message_size
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
        inbox, engine_socket = self._inboxes.get(eio_sid), self.eio.sockets.get(eio_sid)
        if engine_socket is None:
            return
        if inbox is None:
            queue = engine_socket.queue
            inbox = self._inboxes[eio_sid] = _Inbox(partial(queue.below, self._most_unsent))
        await inbox.put(partial(self._answer, eio_sid, sid, id, name, payload), size)

    async def _answer(
        self, eio_sid: str, sid: str, ack: int | None, name: str, payload: object
    ) -> None:
        answer, then = await self._handle(sid, name, payload)
        if ack is not None and answer is not None:
            await self._send_packet(
                eio_sid, self.packet_class(packet_type=3, id=ack, data=[answer])
            )
        then()


class _Inbox:
    """What one client has asked and has not been answered yet.

    ``may_answer`` is waited for before each answer: until the client has read enough of those
    before it.
    """

    def __init__(self, may_answer: Callable[[], Awaitable[None]]) -> None:
        self._may_answer = may_answer
        self._waiting: deque[tuple[int, Callable[[], Awaitable[None]]]] = deque()
        self._size = 0
        self._task: asyncio.Task[None] | None = None

    async def put(self, work: Callable[[], Awaitable[None]], size: int) -> None:
        """Add work, on so many characters; where much waits, the receive loop waits, too."""
        while self._is_full() and self._task is not None:
            await asyncio.wait([self._task])
        self._waiting.append((size, work))
        self._size += size
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="tidings-inbox")

    @property
    def is_busy(self) -> bool:
        """Whether anything has not been answered."""
        return self._task is not None

    def close(self) -> None:
        """Drop what is waiting, and give up what is being done."""
        self._waiting.clear()
        self._size = 0
        if self._task is not None:
            self._task.cancel()

    def _is_full(self) -> bool:
        return len(self._waiting) >= MAX_WAITING or self._size > MAX_WAITING_SIZE

    async def _run(self) -> None:
        try:
            while self._waiting:
                await self._may_answer()
                size, work = self._waiting.popleft()
                self._size -= size
                with suppress(EngineIOError):  # the client has gone
                    await work()
        finally:
            self._task = None

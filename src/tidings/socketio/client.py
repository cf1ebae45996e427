"""Client: one session as Socket.IO sees it: the sockets that it has, and what it has asked."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from tidings.socketio.attachments import Attachments
from tidings.socketio.inbox import Inbox
from tidings.socketio.packets import (
    ACK,
    CONNECT,
    CONNECT_ERROR,
    DISCONNECT,
    EVENT,
    MAIN,
    MalformedPacket,
    Packet,
    decode,
    encode,
)
from tidings.socketio.session import Session
from tidings.socketio.sockets import NO_ANSWER, Answer, ComeAgain, ConnectionRefused, Socket

if TYPE_CHECKING:
    from tidings.socketio.server import Server

_log = logging.getLogger("tidings.socketio")


class Client:
    """What of a session the server keeps. ``on_drained`` is called when the client has read
    something, as long as it is set and the session ``wants_room``.
    """

    __slots__ = ("_attachments", "_inbox", "_main", "_others", "_server", "on_drained", "session")

    def __init__(self, server: Server, session: Session) -> None:
        self._server = server
        self.session = session
        self.on_drained: Callable[[], None] | None = None
        # Nearly all clients have one socket, and a dict costs more than that.
        self._main: Socket | None = None
        self._others: dict[str, Socket] | None = None
        self._inbox: Inbox | None = None
        self._attachments: Attachments | None = None

    @property
    def is_answering(self) -> bool:
        """Whether it has asked something and has not been answered."""
        return self._inbox is not None and self._inbox.is_busy

    def socket(self, namespace: str = MAIN) -> Socket | None:
        """Its socket in a namespace."""
        if namespace == MAIN:
            return self._main
        return None if self._others is None else self._others.get(namespace)

    def _sockets(self) -> list[Socket]:
        main = [] if self._main is None else [self._main]
        return [*main, *(self._others or {}).values()]

    # What comes

    def received(self, data: str | bytes) -> None:
        """Take a message."""
        if isinstance(data, bytes):
            if self._attachments is None:
                self._server.hint_at_parser()
                self.session.has_erred(
                    "a binary message belongs to no packet: use the default parser"
                )
            else:
                self._attachments.add(data)
            return
        if self._attachments is not None:
            self._attachments.give_up("a packet came before its attachments")
        try:
            packet = decode(data, 1, most=self._server.options.max_message)
        except MalformedPacket as error:
            self.session.has_erred(str(error))
            return
        if packet.attachments:
            is_wanted = self.socket(packet.namespace) is not None
            self._attachments = Attachments(self.session, packet, self._attached)
            self._attachments.begin(is_wanted=is_wanted)
        else:
            self._take(packet, len(data))

    def _attached(self, packet: Packet | None, size: int) -> None:
        """Go on with a packet that has its attachments, or is answered without; None: all came."""
        if packet is None:
            self._attachments = None
        else:
            self._take(packet, size)

    def _take(self, packet: Packet, size: int) -> None:
        """Do what a packet wants, after what came before it."""
        socket, is_busy = self.socket(packet.namespace), self.is_answering
        if packet.kind == ACK and socket is not None and packet.id is not None:
            socket.answered(packet.id, packet.data)
        elif packet.kind == DISCONNECT and socket is not None:
            # What it has asked before is begun, if that is possible now, and not waited for.
            reason = "client namespace disconnect"
            asyncio.get_running_loop().call_soon(self.left, socket, reason)
        elif packet.kind == CONNECT_ERROR:
            self.session.has_erred("a CONNECT_ERROR is the server's")
        elif packet.kind != CONNECT and socket is None and not is_busy:
            self.session.has_erred("a packet is for a namespace that is not connected")
        elif (
            is_busy
            or self.session.unsent >= self._server.options.answer_bytes
            or self._takes_time(packet)
        ):
            self._later(partial(self._handle, packet), size)
        else:
            awaitable = self._handle(packet)
            if awaitable is not None:  # of a plain function that calls a coroutine function
                begun = asyncio.ensure_future(awaitable)
                self._later(lambda: begun, size)

    def _later(self, work: Callable[[], Awaitable[None] | None], size: int) -> None:
        if self._inbox is None:
            self._inbox = Inbox(self.session, self._idle)
        self._inbox.put(work, size)

    def _idle(self) -> None:
        """Everything has been answered: most clients ask little, and an inbox is large."""
        self._inbox = None

    def _takes_time(self, packet: Packet) -> bool:
        """Whether it is a coroutine function that handles a packet."""
        namespace = self._server.namespaces.get(packet.namespace)
        if namespace is None:
            return False
        if packet.kind == CONNECT:
            return inspect.iscoroutinefunction(namespace.connect)
        handler = namespace.events.get(packet.data[0]) if packet.kind == EVENT else None
        return handler is not None and handler.is_async

    def _handle(self, packet: Packet) -> Awaitable[None] | None:
        if packet.kind == CONNECT:
            return self._connect(packet)
        socket = self.socket(packet.namespace)
        if socket is None:
            return None  # it has left meanwhile
        if packet.kind == DISCONNECT:
            self.left(socket, "client namespace disconnect")
        elif packet.kind == EVENT:
            return self._event(socket, packet)
        return None

    # Connecting

    def _connect(self, packet: Packet) -> Awaitable[None] | None:
        namespace = self._server.namespaces.get(packet.namespace)
        if namespace is None:
            _log.debug(
                "%s refused: there is no namespace %.100r", self.session.id, packet.namespace
            )
            self._refuse_socket(packet.namespace, ConnectionRefused("Invalid namespace"))
            return None
        if self.socket(packet.namespace) is not None:
            self._refuse_socket(packet.namespace, ConnectionRefused("Already connected"))
            return None
        socket = Socket(self.session.engine.new_id(), namespace, self.session)
        try:
            result = namespace.connect(socket, packet.data) if namespace.connect else None
        except Exception as error:  # noqa: BLE001  told apart there
            self._not_accepted(socket, error)
            return None
        if inspect.isawaitable(result):
            return self._accept_later(socket, result)
        self._accept(socket)
        return None

    async def _accept_later(self, socket: Socket, result: Awaitable[Any]) -> None:
        try:
            await result
        except Exception as error:  # noqa: BLE001  told apart there
            self._not_accepted(socket, error)
        else:
            self._accept(socket)

    def _not_accepted(self, socket: Socket, error: Exception) -> None:
        if isinstance(error, ConnectionRefused):
            self._refuse_socket(socket.namespace.name, error)
            return
        if not isinstance(error, ComeAgain):
            _log.error("a connect handler failed", exc_info=error)
        self.session.close("server namespace disconnect")

    def _refuse_socket(self, namespace: str, refused: ConnectionRefused) -> None:
        data = {"message": refused.message}
        if refused.data is not None:
            data["data"] = refused.data
        self._send(CONNECT_ERROR, data, namespace=namespace)

    def _accept(self, socket: Socket) -> None:
        if not self.session.is_open:
            return
        name = socket.namespace.name
        if name == MAIN:
            self._main = socket
        else:
            self._others = {**(self._others or {}), name: socket}
        socket.is_open = True
        socket.namespace.sockets[socket.id] = socket
        self._send(CONNECT, {"sid": socket.id}, namespace=name)
        self.session.has_connected()
        if socket.namespace.accepted is not None:
            socket.namespace.accepted(socket)

    # Events

    def _event(self, socket: Socket, packet: Packet) -> Awaitable[None] | None:
        name, *arguments = packet.data
        handler = socket.namespace.events.get(name)
        if handler is None or not handler.takes(packet):
            _log.debug("%s: nothing handles %.100r", socket.id, name)
            if packet.id is not None and self._server.unhandled is not None:
                self._answer(socket, packet, self._server.unhandled(str(name)))
            return None
        try:
            result = handler.handle(socket, *arguments)
        except Exception:  # noqa: BLE001  the application's code
            _log.exception("the handler of %r failed", name)
            return None
        if inspect.isawaitable(result):
            return self._answer_later(socket, packet, result)
        self._answer(socket, packet, result)
        return None

    async def _answer_later(self, socket: Socket, packet: Packet, result: Awaitable[Any]) -> None:
        try:
            answer = await result
        except Exception:  # noqa: BLE001  the application's code
            _log.exception("the handler of %r failed", packet.data[0])
        else:
            self._answer(socket, packet, answer)

    def _answer(self, socket: Socket, packet: Packet, answer: Any) -> None:
        then = answer.then if isinstance(answer, Answer) else None
        if packet.id is not None and answer is not NO_ANSWER and socket.is_open:
            self._send(ACK, _arguments(answer), namespace=packet.namespace, id=packet.id)
        if then is not None:
            then()

    def _send(self, kind: int, data: Any, *, namespace: str, id: int | None = None) -> None:  # noqa: A002
        for frame in encode(kind, data, namespace=namespace, id=id):
            self.session.send(frame)

    # Room, and the end

    def drained(self) -> None:
        """The client has read something."""
        self.session.wants_room = self.on_drained is not None
        if self._inbox is not None:
            self._inbox.drained()
        if self.on_drained is not None:
            self.on_drained()

    def end(self) -> None:
        """End the connection when what is unsent has been sent, or has had the time to."""
        self.session.close("server namespace disconnect", waits=True)

    def left(self, socket: Socket, reason: str) -> None:
        """A socket is in its namespace no more, though the client may still be there."""
        if not socket.is_open:
            return
        self._end(socket, reason)
        if not self._sockets():
            self.session.has_disconnected()

    def closed(self, reason: str) -> None:
        """The client has gone."""
        if self._attachments is not None:
            self._attachments.end()
        if self._inbox is not None:
            self._inbox.close()
        self.on_drained = None
        for socket in self._sockets():
            self._end(socket, reason)

    def _end(self, socket: Socket, reason: str) -> None:
        namespace = socket.namespace
        if self._main is socket:
            self._main = None
        elif self._others is not None:
            self._others.pop(namespace.name, None)
        namespace.sockets.pop(socket.id, None)
        socket.ended()
        if namespace.disconnect is not None:
            self._server.ended(namespace.disconnect, socket, reason)


def _arguments(answer: Any) -> list[Any]:
    if isinstance(answer, Answer):
        answer = answer.arguments
    if answer is None:
        return []
    return list(answer) if isinstance(answer, tuple) else [answer]

"""Sockets and namespaces: who is connected, and what is done for them."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from tidings.socketio.frames import Frame
from tidings.socketio.packets import DISCONNECT, EVENT, MAIN, Packet, encode
from tidings.socketio.session import Session

_log = logging.getLogger("tidings.socketio")
NO_ANSWER: Final = object()
"""What a handler gives that does not want its event answered, though the client asks for it."""

Connect = Callable[["Socket", Any], Awaitable[None] | None]
"""Gets a socket and what its client has sent as ``auth``; raises to refuse it."""
Disconnect = Callable[["Socket", str], object]
Handle = Callable[..., Any]


class ConnectionRefused(Exception):
    """Raised by a connect handler: the client gets the message, with ``data``, and will not try
    again by itself.
    """

    def __init__(self, message: str, data: Any = None) -> None:
        super().__init__(message)
        self.message = message
        self.data = data


class ComeAgain(Exception):
    """Raised by a connect handler: the connection is closed, after which clients do try again."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a handler gives: the arguments of the ack, and what is done right after it, with
    nothing in between.
    """

    arguments: tuple[Any, ...]
    then: Callable[[], None] = lambda: None


class Socket:
    """One client in one namespace. ``data`` is the application's."""

    __slots__ = ("_acks", "data", "id", "is_open", "namespace", "rooms", "session")

    def __init__(self, socket_id: str, namespace: Namespace, session: Session) -> None:
        self.id = socket_id
        self.namespace = namespace
        self.session = session
        self.is_open = False
        self.rooms: set[str] | None = None
        self.data: Any = None
        self._acks: dict[int, asyncio.Future[list[Any]]] | None = None

    @property
    def scope(self) -> Mapping[str, Any] | None:
        """The ASGI scope of the client's first request, until it is in a namespace."""
        return self.session.scope

    @property
    def address(self) -> str | None:
        """Where the client connects from; of an IPv6 address it is the network."""
        return self.session.guest.address

    def emit(self, event: str, *arguments: Any) -> None:
        """Send an event."""
        self.namespace.send(
            encode(EVENT, [event, *arguments], namespace=self.namespace.name), [self]
        )

    async def call(self, event: str, *arguments: Any, timeout: float = 60.0) -> list[Any]:  # noqa: ASYNC109
        """Send an event and wait for its ack; gives the ack's arguments.

        Raises:
            TimeoutError: there was none in so many seconds.
            ConnectionError: the client has gone.
        """
        if not self.is_open:
            raise ConnectionError("the client has gone")
        if self._acks is None:
            self._acks = {}
        number = max(self._acks, default=0) + 1
        answer: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
        self._acks[number] = answer
        name = self.namespace.name
        self.namespace.send(encode(EVENT, [event, *arguments], namespace=name, id=number), [self])
        try:
            async with asyncio.timeout(timeout):
                return await answer
        finally:
            self._acks.pop(number, None)

    def answered(self, number: int, arguments: list[Any]) -> None:
        """The client has acknowledged an event."""
        answer = None if self._acks is None else self._acks.get(number)
        if answer is not None and not answer.done():
            answer.set_result(arguments)

    def enter(self, room: str) -> None:
        """Be in a room: see `Namespace.emit`."""
        if self.is_open:
            self.rooms = self.rooms or set()
            self.rooms.add(room)
            self.namespace.rooms.setdefault(room, {})[self] = None

    def leave(self, room: str) -> None:
        """Be in a room no more."""
        if self.rooms is not None and room in self.rooms:
            self.rooms.discard(room)
            members = self.namespace.rooms[room]
            del members[self]
            if not members:
                del self.namespace.rooms[room]

    def disconnect(self) -> None:
        """Have the client leave the namespace; it does not come back by itself."""
        if self.is_open:
            self.namespace.send(encode(DISCONNECT, namespace=self.namespace.name), [self])
            self.session.state.left(self, "server namespace disconnect")

    def ended(self) -> None:
        """Nobody is to be told anything by it any more."""
        self.is_open = False
        for room in list(self.rooms or ()):
            self.leave(room)
        for answer in list((self._acks or {}).values()):
            if not answer.done():
                answer.set_exception(ConnectionError("the client has gone"))


class Namespace:
    """The handlers and the sockets of a namespace.

    ``accepted`` is called with a socket right after its client has been told that it is connected,
    with nothing in between.
    """

    def __init__(self, name: str = MAIN) -> None:
        self.name = name
        self.connect: Connect | None = None
        self.accepted: Callable[[Socket], None] | None = None
        self.disconnect: Disconnect | None = None
        self.events: dict[str, EventHandler] = {}
        self.sockets: dict[str, Socket] = {}
        self.rooms: dict[str, dict[Socket, None]] = {}

    def emit(self, event: str, *arguments: Any, to: Socket | str | None = None) -> None:
        """Send an event to a socket, to one of this id, to a room, or to all."""
        frames = encode(EVENT, [event, *arguments], namespace=self.name)
        self.send(frames, self._receivers(to))

    def send(self, frames: list[Frame], sockets: Iterable[Socket]) -> None:
        """Send what has been encoded once."""
        for socket in sockets:
            if socket.is_open:
                for frame in frames:
                    socket.session.send(frame)

    def _receivers(self, to: Socket | str | None) -> list[Socket]:
        if isinstance(to, Socket):
            return [to]
        if to is None:
            return list(self.sockets.values())
        socket = self.sockets.get(to)
        return [socket] if socket is not None else list(self.rooms.get(to, ()))


class EventHandler:
    """A function that handles an event; ``takes_unreadable`` if it wants to hear of arguments that
    could not be read.
    """

    __slots__ = ("_least", "_most", "handle", "takes_unreadable")

    def __init__(self, handle: Handle, *, takes_unreadable: bool) -> None:
        self.handle = handle
        self.takes_unreadable = takes_unreadable
        self._least, self._most = _arguments(handle)

    def takes(self, packet: Packet) -> bool:
        """Whether it can be called with the arguments that a client has sent."""
        if not packet.is_readable and not self.takes_unreadable:
            return False
        return self._least <= len(packet.data) <= self._most


def _arguments(handle: Handle) -> tuple[int, float]:
    """With how many a function can be called: the socket, and what the client sends."""
    kinds = inspect.Parameter
    places = [
        one
        for one in inspect.signature(handle).parameters.values()
        if one.kind in (kinds.POSITIONAL_ONLY, kinds.POSITIONAL_OR_KEYWORD, kinds.VAR_POSITIONAL)
    ]
    fixed = [one for one in places if one.kind is not kinds.VAR_POSITIONAL]
    least = sum(one.default is kinds.empty for one in fixed)
    return least, len(fixed) if len(fixed) == len(places) else float("inf")

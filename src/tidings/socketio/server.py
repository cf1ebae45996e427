"""Server: Socket.IO over the engine: namespaces, events, acks and rooms."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, TypeVar, overload

from tidings.errors import ConfigurationError
from tidings.socketio.client import Client
from tidings.socketio.engine import Engine
from tidings.socketio.http import Receive, Scope, Send
from tidings.socketio.options import Options
from tidings.socketio.origins import Origins
from tidings.socketio.packets import MAIN
from tidings.socketio.session import Session
from tidings.socketio.sockets import Disconnect, EventHandler, Handle, Namespace, Socket

_log = logging.getLogger("tidings.socketio")
_Function = TypeVar("_Function", bound=Handle)
_KINDS = tuple("0123456")
_LIFE = ("connect", "accepted", "disconnect")


class Server:
    """A Socket.IO server, protocol revision 5, and the ASGI app that it is.

        server = Server()

        @server.on("hello")
        async def hello(socket: Socket, name: str) -> str:
            server.emit("news", f"{name} is here")
            return f"Hello {name}"

    ``cors`` is what `Origins` takes. Events of one client are handled one after the other, and
    acknowledged in their order; what a handler returns is the ack's argument (a tuple: its
    arguments). A handler of a client that has gone is cancelled. ``unhandled`` is called with the
    name of an event that has no handler for its arguments, and gives the ack's argument; without
    it such an event stays unanswered.
    """

    def __init__(
        self,
        options: Options | None = None,
        *,
        cors: Mapping[str, Any] | Origins | None = None,
        unhandled: Callable[[str], Any] | None = None,
    ) -> None:
        self.options = options or Options()
        self.unhandled = unhandled
        origins = cors if isinstance(cors, Origins) else Origins(cors)
        self.engine = Engine(self, self.options, origins)
        self.namespaces: dict[str, Namespace] = {MAIN: Namespace()}
        self._tasks: set[asyncio.Task[None]] = set()
        self._has_hinted = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.engine(scope, receive, send)

    # For applications

    @overload
    def on(
        self,
        event: str,
        handler: None = None,
        *,
        namespace: str = MAIN,
        takes_unreadable: bool = False,
    ) -> Callable[[_Function], _Function]: ...
    @overload
    def on(
        self, event: str, handler: Handle, *, namespace: str = MAIN, takes_unreadable: bool = False
    ) -> None: ...
    def on(
        self,
        event: str,
        handler: Handle | None = None,
        *,
        namespace: str = MAIN,
        takes_unreadable: bool = False,
    ) -> Any:
        """Handle an event: with ``handler(socket, *arguments)``, or as a decorator.

        ``connect`` gets the socket and the client's ``auth``, and may raise `ConnectionRefused` or
        `ComeAgain`; ``disconnect`` gets the socket and the reason. A namespace is there once
        something is handled in it.

        Raises:
            ConfigurationError: the event has a handler, or the namespace is no path.
        """
        if handler is None:
            return partial(self._decorate, event, namespace, takes_unreadable)
        if not namespace.startswith("/") or set("?,") & set(namespace):
            raise ConfigurationError(f"namespace {namespace!r}: begin it with '/', without ',?'")
        found = self.namespaces.setdefault(namespace, Namespace(namespace))
        if event in found.events or (event in _LIFE and getattr(found, event) is not None):
            raise ConfigurationError(f"the event {event!r} has a handler in {namespace!r} already")
        if event in _LIFE:
            setattr(found, event, handler)
        else:
            found.events[event] = EventHandler(handler, takes_unreadable=takes_unreadable)
        return None

    def _decorate(
        self,
        event: str,
        namespace: str,
        takes_unreadable: bool,
        handler: _Function,
    ) -> _Function:
        self.on(event, handler, namespace=namespace, takes_unreadable=takes_unreadable)
        return handler

    def emit(
        self, event: str, *arguments: Any, to: Socket | str | None = None, namespace: str = MAIN
    ) -> None:
        """Send an event to one socket (or its id), to a room, or to all of a namespace.

        Arguments are JSON, or bytes. It is encoded once, and nobody is waited for.
        """
        found = self.namespaces.get(namespace)
        if found is not None:
            found.emit(event, *arguments, to=to)

    def client(self, session_id: str) -> Client | None:
        """The client of a session."""
        session = self.engine.sessions.get(session_id)
        return None if session is None else session.state

    async def close(self) -> None:
        """Disconnect everybody. The server may be used again."""
        self.engine.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # What the engine tells

    def opened(self, session: Session) -> None:
        """A client has come."""
        session.state = Client(self, session)

    def is_message(self, text: str) -> bool:
        """Whether it can be a packet, at first sight."""
        return text[1:2] in _KINDS if text[0] == "4" else self.options.attachments > 0

    def received(self, session: Session, data: str | bytes) -> None:
        """A message has come."""
        client: Client = session.state
        client.received(data)

    def drained(self, session: Session) -> None:
        """A client has read something."""
        client: Client = session.state
        client.drained()

    def closed(self, session: Session, reason: str) -> None:
        """A client has gone."""
        client: Client = session.state
        client.closed(reason)

    def hint_at_parser(self) -> None:
        """Say once that clients with another parser cannot be served."""
        if not self._has_hinted:
            self._has_hinted = True
            _log.info(
                "a client has sent a binary message that belongs to no packet, as clients with the "
                "msgpack parser do: only Socket.IO's default parser is spoken here"
            )

    def ended(self, handler: Disconnect, socket: Socket, reason: str) -> None:
        """Have a disconnect handler called, for which nobody waits."""
        try:
            result = handler(socket, reason)
        except Exception:  # noqa: BLE001  the application's code
            _log.exception("a disconnect handler failed")
            return
        if inspect.isawaitable(result):
            task = asyncio.ensure_future(_logged(result))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)


async def _logged(awaitable: Awaitable[Any]) -> None:
    try:
        await awaitable
    except Exception:  # noqa: BLE001  the application's code
        _log.exception("a disconnect handler failed")

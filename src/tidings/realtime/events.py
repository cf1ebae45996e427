"""Events: what an application says to its clients, and hears from them, beside subscriptions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tidings.realtime.sessions import Sessions
from tidings.socketio import Server, Socket


class Events:
    """The application's own events, on the sockets that subscriptions are on.

        @api.io.on("typing")
        def typing(socket, document):
            socket.enter(document)
            api.io.emit("typing", socket.id, to=document)

    A socket of the main namespace has shown its token before anything of it is handled.
    """

    def __init__(self, server: Server, sessions: Sessions) -> None:
        self._server = server
        self._sessions = sessions

    def on(
        self, event: str, handler: Callable[..., Any] | None = None, *, namespace: str = "/"
    ) -> Any:
        """Handle an event: with ``handler(socket, *arguments)``, or as a decorator. What it returns
        is the acknowledgement's argument; it may be a coroutine function.

        Raises:
            ConfigurationError: the event is handled already, or is one of tidings' own.
        """
        if handler is None:
            return self._server.on(event, namespace=namespace)
        return self._server.on(event, handler, namespace=namespace)

    def emit(
        self,
        event: str,
        *arguments: Any,
        to: Socket | str | None = None,
        user: str | None = None,
        namespace: str = "/",
    ) -> None:
        """Send an event to a socket, to one of this id, to the sockets in a room, or to all that
        are connected; with ``user`` to all sockets of that user. Nobody is waited for.
        """
        if user is None:
            self._server.emit(event, *arguments, to=to, namespace=namespace)
            return
        for subscriber in self._sessions.of_user(user):
            self._server.emit(event, *arguments, to=subscriber.id)

"""UvicornProtocol: has uvicorn hand the transport of a Socket.IO WebSocket over.

    uvicorn app:app --ws tidings.socketio.uvicorn:UvicornProtocol

The handshake is an ASGI request, so that middleware sees it. What comes after it is not: see
`FastLink`. Every other WebSocket is left to the class that uvicorn would have used.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, cast

from uvicorn.protocols.websockets.auto import AutoWebSocketsProtocol

from tidings.socketio.handshake import Handshake

if TYPE_CHECKING:
    from uvicorn import Config
    from uvicorn.server import ServerState

_MARKS: Final = (b"EIO=", b"transport=websocket")
"""What is in the query of every WebSocket of Socket.IO, and of hardly another."""


class UvicornProtocol(asyncio.Protocol):
    """uvicorn's ``ws`` class (see the module). Where the application does not take the transport
    over, the class that uvicorn would have used goes on with it.
    """

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self.config = config
        self.state = server_state
        self.app_state = app_state
        self.connections = cast("set[Any]", server_state.connections)
        self.transport: asyncio.Transport | None = None
        self._usual: asyncio.Protocol | None = None
        self._handshake: Handshake | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self.transport = cast("asyncio.Transport", transport)  # uvloop's are none of its subclasses
        self.connections.add(self)

    def data_received(self, data: bytes) -> None:
        """The request comes first, and whole."""
        if self._usual is not None:
            self._usual.data_received(data)
        elif self._handshake is None:
            line = data[: data.find(b"\r\n")]
            if all(mark in line for mark in _MARKS):
                self._handshake = Handshake(self, data)
                self._handshake.begin()
            else:
                self.go_on_as_usual(self.config, data)
        # Between the request and its answer a client has nothing to say, and is not heard.

    def go_on_as_usual(self, config: Config, request: bytes) -> None:
        """Leave the connection to uvicorn's own class."""
        transport = self.transport
        assert transport is not None
        self.connections.discard(self)
        make: Any = AutoWebSocketsProtocol
        self._usual = make(config, self.state, self.app_state)
        self._usual.connection_made(transport)
        self._usual.data_received(request)
        # Only now: uvicorn sets us as the protocol when it has handed the request over.
        asyncio.get_running_loop().call_soon(self._step_aside)

    def _step_aside(self) -> None:
        if self.transport is not None and self._usual is not None:
            self.transport.set_protocol(self._usual)

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has gone."""
        self.connections.discard(self)
        self.transport = None
        if self._usual is not None:
            self._usual.connection_lost(exc)
        elif self._handshake is not None:
            self._handshake.lost()

    def let_go(self) -> None:
        """The transport is somebody else's now."""
        self.connections.discard(self)
        self.transport = None

    def pause_writing(self) -> None:
        """The client does not read."""
        if self._usual is not None:
            self._usual.pause_writing()

    def resume_writing(self) -> None:
        """It does again."""
        if self._usual is not None:
            self._usual.resume_writing()

    def shutdown(self) -> None:
        """The server stops."""
        if self.transport is not None:
            self.transport.close()

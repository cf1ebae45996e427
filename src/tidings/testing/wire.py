"""Wire: one Socket.IO connection to an ASGI app, without a network."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from itertools import count
from typing import Any

from starlette.types import ASGIApp, Message

from tidings import Api, TidingsError

Hear = Callable[[str, Any], None]
"""Gets each event of the server: its name and what came with it."""


class Disconnected(TidingsError):
    """The socket was refused, or the server has ended it.

    ``code`` is that of the refusal (``TOKEN_EXPIRED``), or None where the server gave none.
    """

    def __init__(self, message: str, code: str | None = None) -> None:
        super().__init__(message)
        self.code = code


class Wire:
    """Speaks Engine.IO 4 and Socket.IO 5 with the app, as a WebSocket would carry them.

    ``hear`` is called for each event, within the turn in which the server sends it.
    """

    def __init__(self, api: Api, app: ASGIApp, state: Mapping[str, Any], hear: Hear) -> None:
        self._api = api
        self._app = app
        self._state = state
        self._hear = hear
        self._to_app: asyncio.Queue[Message] = asyncio.Queue()
        self._session_id: str | None = None
        self._numbers = count()
        self._acks: dict[int, asyncio.Future[Any]] = {}
        self._accepted: asyncio.Future[None] | None = None
        self._serving: asyncio.Task[None] | None = None
        self.end: Disconnected | None = None
        """Why it is over, once the server has ended it."""

    async def connect(self, token: str | None) -> None:
        """Connect, with a token in the handshake's ``auth`` or without one.

        Raises:
            Disconnected: the server does not accept it; the code says why.
        """
        loop = asyncio.get_running_loop()
        self._accepted = loop.create_future()
        self._to_app.put_nowait({"type": "websocket.connect"})
        self._serving = asyncio.create_task(self._serve(), name="tidings-test-socket")
        auth = {} if token is None else {"token": token}
        self._write(f"40{json.dumps(auth)}")
        await self._accepted

    async def call(self, event: str, payload: object) -> dict[str, Any]:
        """Send an event, and give what the server acknowledges it with.

        Raises:
            Disconnected: the server ended the socket instead.
        """
        if self.end is not None:
            raise self.end
        number = next(self._numbers)
        answer = self._acks[number] = asyncio.get_running_loop().create_future()
        self._write(f"42{number}{json.dumps([event, payload])}")
        found: dict[str, Any] = await answer
        return found

    @property
    def unsent(self) -> int:
        """How many bytes the server still holds for this socket."""
        if self._session_id is None:
            return 0
        session = self._api.socket_server.io.engine.sessions.get(self._session_id)
        return 0 if session is None else session.unsent

    async def close(self) -> None:
        """Leave, as a page does that is closed."""
        if self._serving is not None:
            self._to_app.put_nowait({"type": "websocket.disconnect", "code": 1001})
            await asyncio.gather(self._serving, return_exceptions=True)

    async def _serve(self) -> None:
        path = self._api.socket_server.path + "/"
        scope = {
            "type": "websocket",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "scheme": "ws",
            "path": path,
            "raw_path": path.encode(),
            "root_path": "",
            "query_string": b"EIO=4&transport=websocket",
            "headers": [(b"host", b"testserver")],
            "client": ("testclient", 50000),
            "server": ("testserver", 80),
            "subprotocols": [],
            "state": dict(self._state),
        }
        try:
            await self._app(scope, self._to_app.get, self._take)
        except Exception as error:  # noqa: BLE001  told to whoever waits for this socket
            self._ended(f"the app failed while it served the socket: {error!r}")
        self._ended("the server has closed the connection")

    async def _take(self, message: Message) -> None:
        if message["type"] == "websocket.close":
            reason = message.get("reason") or f"code {message.get('code', 1000)}"
            self._ended(f"the server has closed the connection: {reason}")
        elif message["type"] == "websocket.send" and message.get("text") is not None:
            self._read(message["text"])

    def _read(self, packet: str) -> None:
        kind, rest = packet[:1], packet[1:]
        if kind == "0":
            self._session_id = json.loads(rest)["sid"]
        elif kind == "2":
            self._write("3")
        elif kind == "4":
            self._read_message(rest[:1], rest[1:])

    def _read_message(self, kind: str, rest: str) -> None:
        if kind == "0" and self._accepted is not None and not self._accepted.done():
            self._accepted.set_result(None)
        elif kind == "1":
            self._ended("the server has disconnected the socket")
        elif kind == "2":
            name, *arguments = json.loads(rest)
            if name in ("auth.expired", "auth.revoked"):
                code = "TOKEN_EXPIRED" if name == "auth.expired" else "TOKEN_REVOKED"
                self.end = Disconnected(arguments[0]["message"], code)
            self._hear(name, arguments[0] if arguments else None)
        elif kind == "3":
            digits = rest[: rest.index("[")]
            answer = self._acks.pop(int(digits))
            if not answer.done():
                answer.set_result(json.loads(rest[len(digits) :])[0])
        elif kind == "4":
            refusal = json.loads(rest)
            data = refusal.get("data")
            self._ended(refusal["message"], data.get("code") if isinstance(data, dict) else None)

    def _ended(self, message: str, code: str | None = None) -> None:
        self.end = self.end or Disconnected(message, code)
        waiting = [*self._acks.values(), *([self._accepted] if self._accepted else [])]
        self._acks.clear()
        for future in waiting:
            if not future.done():
                future.set_exception(self.end)

    def _write(self, text: str) -> None:
        self._to_app.put_nowait({"type": "websocket.receive", "text": text})

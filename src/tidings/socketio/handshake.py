"""Handshake: the request for a WebSocket under uvicorn, as an ASGI app sees it."""

from __future__ import annotations

import asyncio
import binascii
import logging
from base64 import b64decode, b64encode
from copy import copy
from hashlib import sha1
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, unquote

from uvicorn.protocols.utils import get_client_addr, get_local_addr, get_remote_addr, is_ssl

from tidings.socketio.http import Header, Message, Receive, Scope, Send
from tidings.socketio.takeover import TAKEOVER, FastLink

if TYPE_CHECKING:
    from tidings.socketio.uvicorn import UvicornProtocol

_log = logging.getLogger("uvicorn.error")
_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class Handshake:
    """One request, as an ASGI app sees it."""

    def __init__(self, protocol: UvicornProtocol, request: bytes) -> None:
        self._protocol = protocol
        self._request = request
        self._config = protocol.config
        self._state = protocol.state
        self._link: FastLink | None = None
        self._scope: Scope = {}
        self._accept = b""
        self._gone = asyncio.get_running_loop().create_future()
        self._has_been_read = False
        self._is_answered = False
        self._refusal: tuple[int, list[Header]] | None = None
        self._body = b""
        self._usual: tuple[Receive, Send] | None = None

    def begin(self) -> None:
        """Check the request and have the app answer it."""
        head, _, _ = self._request.partition(b"\r\n\r\n")
        line, *lines = head.split(b"\r\n")
        target = line.split(b" ")[1]
        headers = [(name.lower(), value.strip()) for name, _, value in map(_split, lines)]
        found = dict(headers)
        problem = _problem(found)
        if problem is not None:
            more = [(b"sec-websocket-version", b"13")] if problem[0] == 426 else []
            self._answer(problem[0], more, problem[1].encode())
            return
        key = found[b"sec-websocket-key"]
        self._accept = b64encode(sha1(key + _GUID, usedforsecurity=False).digest())
        self._scope = self._make_scope(target, headers)
        task = asyncio.get_running_loop().create_task(self._run())
        self._state.tasks.add(task)
        task.add_done_callback(self._state.tasks.discard)

    def _make_scope(self, target: bytes, headers: list[Header]) -> Scope:
        transport = self._transport
        assert transport is not None
        raw_path, _, query = target.partition(b"?")
        root = self._config.root_path
        names = b",".join(value for name, value in headers if name == b"sec-websocket-protocol")
        return {
            "type": "websocket",
            "asgi": {"version": self._config.asgi_version, "spec_version": "2.4"},
            "http_version": "1.1",
            "scheme": "wss" if is_ssl(transport) else "ws",
            "server": get_local_addr(transport),
            "client": get_remote_addr(transport),
            "root_path": root,
            "path": root + unquote(raw_path.decode("latin-1")),
            "raw_path": root.encode("ascii") + raw_path,
            "query_string": query,
            "headers": headers,
            "subprotocols": [one.strip() for one in names.decode("latin-1").split(",") if one],
            "state": self._protocol.app_state.copy(),
            "extensions": {"websocket.http.response": {}, TAKEOVER: self._take_over},
        }

    @property
    def _transport(self) -> asyncio.Transport | None:
        return self._protocol.transport

    def _take_over(self, link: FastLink) -> None:
        """Have this link be the connection, once the app has accepted it."""
        self._link = link

    async def _run(self) -> None:
        try:
            await self._config.loaded_app(self._scope, self._receive, self._send)
        except Exception:  # noqa: BLE001  as uvicorn does
            _log.exception("Exception in ASGI application\n")
        else:
            if not self._is_answered and not self._gone.done():
                _log.error("ASGI callable returned without completing handshake.")
        if not self._is_answered:
            self._answer(500, [], b"Internal Server Error")

    async def _receive(self) -> Message:
        if self._usual is not None:
            return await self._usual[0]()
        if not self._has_been_read:
            self._has_been_read = True
            return {"type": "websocket.connect"}
        await self._gone
        return {"type": "websocket.disconnect", "code": 1006}

    async def _send(self, message: Message) -> None:
        kind = message["type"]
        if self._usual is not None:
            await self._usual[1](message)
        elif self._gone.done():
            raise OSError("the client has gone")
        elif kind == "websocket.accept":
            if self._link is None:
                await self._go_on_as_usual()
                await self._send(message)
            else:
                self._hand_over(self._link, list(message.get("headers", ())))
        elif kind == "websocket.close":
            self._answer(403, [], b"")
        elif kind == "websocket.http.response.start":
            self._refusal = (message["status"], list(message.get("headers", ())))
        elif kind == "websocket.http.response.body" and self._refusal is not None:
            self._body += message.get("body", b"")
            if not message.get("more_body", False):
                self._answer(*self._refusal, self._body)
        else:
            raise RuntimeError(f"an answer to the handshake was expected, not {kind!r}")

    async def _go_on_as_usual(self) -> None:
        """Have the app that runs already be the one that uvicorn's own class asks."""
        asked: asyncio.Future[tuple[Receive, Send]] = asyncio.get_running_loop().create_future()
        ended = asyncio.Event()

        async def stand_in(_scope: Scope, receive: Receive, send: Send) -> None:
            asked.set_result((receive, send))
            await ended.wait()

        config = copy(self._config)
        config.loaded_app = stand_in
        self._protocol.go_on_as_usual(config, self._request)
        receive, send = await asked
        await receive()  # the app has read that the client is there
        self._usual = (receive, send)
        self._is_answered = True
        task = asyncio.current_task()
        if task is not None:
            task.add_done_callback(lambda _: ended.set())

    def _hand_over(self, link: FastLink, headers: list[Header]) -> None:
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        upgrade = [
            (b"upgrade", b"websocket"),
            (b"connection", b"Upgrade"),
            (b"sec-websocket-accept", self._accept),
        ]
        self._is_answered = True
        self._say("[accepted]")
        head = _head(101, [*upgrade, *self._state.default_headers, *headers])
        self._protocol.let_go()
        link.take(transport, self._protocol.connections, head)

    def _answer(self, status: int, headers: list[Header], body: bytes) -> None:
        """Answer with anything else than a WebSocket."""
        transport = self._transport
        self._is_answered = True
        if transport is None or transport.is_closing():
            return
        self._say(str(status))
        names = {name.lower() for name, _ in headers}
        usual = [
            (b"content-length", str(len(body)).encode()),
            (b"content-type", b"text/plain; charset=utf-8"),
            (b"connection", b"close"),
        ]
        more = [one for one in usual if one[0] not in names]
        transport.write(_head(status, [*self._state.default_headers, *headers, *more]) + body)
        transport.close()

    def _say(self, what: str) -> None:
        if self._scope and _log.isEnabledFor(logging.INFO):
            scope: Any = self._scope
            target = f"{quote(scope['path'])}?{scope['query_string'].decode('latin-1')}"
            _log.info('%s - "WebSocket %s" %s', get_client_addr(scope), target, what)

    def lost(self) -> None:
        """The client has gone."""
        if not self._gone.done():
            self._gone.set_result(None)


def _split(line: bytes) -> tuple[bytes, bytes, bytes]:
    return line.partition(b":")


def _problem(headers: dict[bytes, bytes]) -> tuple[int, str] | None:
    """What is wrong with a handshake: a status and a text."""
    if headers.get(b"sec-websocket-version") != b"13":
        return 426, "WebSocket protocol 13 is spoken here\n"
    try:
        key = b64decode(headers.get(b"sec-websocket-key", b""), validate=True)
    except binascii.Error:
        key = b""
    if len(key) != 16:
        return 400, "The header Sec-WebSocket-Key is no key\n"
    return None


def _head(status: int, headers: list[Header]) -> bytes:
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = ""
    lines = [f"HTTP/1.1 {status} {phrase}".encode()]
    lines += [name + b": " + value for name, value in headers]
    if any(b"\n" in line or b"\r" in line for line in lines):
        raise ValueError("a header holds a line break")
    return b"\r\n".join(lines) + b"\r\n\r\n"

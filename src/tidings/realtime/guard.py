"""A guard before Engine.IO: frames and bodies that are not its protocol never reach it.

python-engineio lets a malformed frame end the connection's handler with a traceback, its
clean-up undone; so malformed input is dropped here, and a connection that sends too much of it
is ended in order.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final
from urllib.parse import parse_qs

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tidings.realtime.cors import Origins
from tidings.realtime.limits import SocketLimits, address_of
from tidings.realtime.lobby import Lobby, Refused, receive_guest
from tidings.realtime.upgrades import Upgrades

# OPEN 0, CLOSE 1, PING 2, PONG 3, UPGRADE 5, NOOP 6; MESSAGE 4 carries a Socket.IO text packet.
_ENGINE_FRAME = re.compile(r"[1356]|[23](?:probe)?|4[0-4].*", re.DOTALL)
_SEPARATOR: Final = "\x1e"
MAX_READING: Final = 64_000_000
"""The bodies that are being read at one time may come to so many bytes."""
READ_SECONDS: Final = 30.0
"""So long a body may take."""
_log = logging.getLogger("tidings.realtime")


def is_well_formed(frame: Any) -> bool:
    """Tell whether a frame is an Engine.IO packet with, if any, a Socket.IO text packet in it."""
    return isinstance(frame, str) and _ENGINE_FRAME.fullmatch(frame) is not None


class EngineGuard:
    """Wraps the Engine.IO ASGI app; ``upgrades`` are those of its sessions.

    A page must be of an origin that may connect. A request that asks for a new session passes the
    lobby then.
    """

    def __init__(
        self,
        app: ASGIApp,
        limits: SocketLimits,
        origins: Origins,
        lobby: Lobby,
        upgrades: Upgrades,
        most_bytes: Callable[[str], int | None],
    ) -> None:
        self._app = app
        self._limits = limits
        self._origins = origins
        self._lobby = lobby
        self._upgrades = upgrades
        self._most_bytes = most_bytes
        self._reading: set[str] = set()
        self._read_bytes = 0
        self._has_hinted = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            send = _with_headers(send, self._origins.headers(scope))
        if not self._origins.allows(scope) and scope.get("method") != "OPTIONS":
            await _refuse(scope, receive, send, "Pages of this origin may not connect", 400)
            return
        query = _query(scope)
        session = query.get("sid")
        problem = self._problem(scope, query)
        if problem is not None:
            await _refuse(scope, receive, send, problem, 400)
            return
        if session is not None:
            await self._serve(scope, receive, send, session)
            return
        polls = scope["type"] == "http"
        if polls and scope["method"] != "GET":
            if scope["method"] == "POST":
                await _refuse(scope, receive, send, "A POST needs the 'sid' of a session", 400)
            else:
                await self._serve(scope, receive, send, None)
            return
        try:
            guest = self._lobby.enter(address_of(scope), polls=polls)
        except Refused as refused:
            await _refuse(scope, receive, send, refused.message, refused.status)
            return
        receive_guest(scope, guest)
        try:
            await self._serve(scope, receive, send, None)
        finally:
            if not guest.has_session:
                guest.leave()

    async def _serve(self, scope: Scope, receive: Receive, send: Send, session: str | None) -> None:
        if scope["type"] == "websocket":
            await self._websocket(scope, receive, send, session)
        elif scope["method"] == "POST" and session is not None:
            await self._post(scope, receive, send, session)
        else:
            await self._get(scope, receive, send)

    async def _websocket(
        self, scope: Scope, receive: Receive, send: Send, session: str | None
    ) -> None:
        if session is None:
            await self._app(scope, self._well_formed(receive), send)
        elif self._upgrades.begin(session):
            try:
                receive = self._upgrades.watched(session, receive)
                await self._app(scope, self._well_formed(receive), send)
            finally:
                self._upgrades.end(session)
        else:
            await _refuse(scope, receive, send, "An upgrade of this session is under way", 409)

    async def _get(self, scope: Scope, receive: Receive, send: Send) -> None:
        """A poll waits for packets; one whose client has gone is ended at once, and in order."""
        waiting = [await receive()]
        if waiting[0]["type"] == "http.disconnect":
            return  # the library fails where there is nobody to be answered

        async def replay() -> Message:
            return waiting.pop() if waiting else await receive()

        serving = asyncio.ensure_future(self._app(scope, replay, send))
        watching = asyncio.create_task(_gone(receive))
        # A server that ends cancels its requests; Engine.IO answers that with an error, as it
        # does when it is told so here, and the cancellation has done what it was for.
        with suppress(asyncio.CancelledError):
            await asyncio.wait({serving, watching}, return_when=asyncio.FIRST_COMPLETED)
        watching.cancel()
        serving.cancel()
        await asyncio.gather(serving, watching, return_exceptions=True)
        if not serving.cancelled():
            serving.result()

    def _problem(self, scope: Scope, query: Mapping[str, str]) -> str | None:
        """What is wrong with a request, whoever it comes from."""
        if scope["type"] == "http" and query.get("transport") == "websocket":
            if not self._has_hinted:
                self._has_hinted = True
                _log.warning(
                    "a WebSocket came as a plain request: a proxy has to pass the headers "
                    "'Upgrade' and 'Connection: upgrade' on (see docs/processes.md)"
                )
            return "This is no WebSocket: the headers Upgrade and Connection are missing"
        if "sid" not in query and scope.get("method") in (None, "GET") and query.get("EIO") != "4":
            return (
                "Engine.IO protocol 4 is spoken here: use a client of Socket.IO 3 or later, "
                f"not one of protocol {query.get('EIO', '?')[:10]}"
            )
        return None

    async def _post(self, scope: Scope, receive: Receive, send: Send, session: str) -> None:
        most = self._most_bytes(session)
        if most is None:
            await _refuse(scope, receive, send, "There is no such session", 400)
        elif session in self._reading:
            await _refuse(scope, receive, send, "Another POST of this session is under way", 400)
        else:
            try:
                body = await self._read(receive, session, most)
            except Refused as refused:
                await _refuse(scope, receive, send, refused.message, refused.status)
                return
            await self._take(scope, receive, send, body)

    async def _read(self, receive: Receive, session: str, most: int) -> bytes:
        """A body of so many bytes at most; it has to come within `READ_SECONDS`."""
        body = bytearray()
        self._reading.add(session)
        try:
            async with asyncio.timeout(READ_SECONDS):
                while True:
                    message = await receive()
                    if message["type"] != "http.request":
                        return b""
                    chunk = message.get("body", b"")
                    body += chunk
                    self._read_bytes += len(chunk)
                    if len(body) > most:
                        raise Refused("The payload is too large", 413)
                    if self._read_bytes > MAX_READING:
                        raise Refused("Too much is being read at the moment", 503)
                    if not message.get("more_body", False):
                        return bytes(body)
        except TimeoutError:
            raise Refused("The payload has not come in time", 408) from None
        finally:
            self._reading.discard(session)
            self._read_bytes -= len(body)

    async def _take(self, scope: Scope, receive: Receive, send: Send, body: bytes) -> None:
        if not _is_payload(body):
            await _refuse(scope, receive, send, "The payload is malformed", 400)
            return
        waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

        async def replay() -> Message:
            return waiting.pop() if waiting else await receive()

        await self._app(_with_length(scope, body), replay, send)

    def _well_formed(self, receive: Receive) -> Receive:
        """Let malformed frames not through, and end the connection at one too many."""
        malformed, limits = 0, self._limits

        async def receive_well_formed() -> Message:
            nonlocal malformed
            while True:
                message = await receive()
                if message["type"] != "websocket.receive":
                    return message
                frame = message.get("text")
                if frame is not None and len(frame) > limits.frame_size:
                    malformed = limits.malformed_frames
                elif is_well_formed(frame):
                    return message
                malformed += 1
                if malformed > limits.malformed_frames:
                    return {"type": "websocket.disconnect", "code": 1008}

        return receive_well_formed


def _query(scope: Scope) -> dict[str, str]:
    """The parameters of a request, read as Engine.IO reads them."""
    text = scope.get("query_string", b"").decode("latin-1")
    return {name: values[0] for name, values in parse_qs(text).items()}


async def _refuse(scope: Scope, receive: Receive, send: Send, message: str, status: int) -> None:
    _log.debug("refused: %s", message)
    if scope["type"] == "websocket":
        # Servers make a 403 of it. To answer with another status is an extension of ASGI, for
        # which uvicorn writes a line into the log each time.
        await receive()
        await send({"type": "websocket.close", "code": 1013, "reason": message})
        return
    headers = {"Retry-After": "5"} if status in (429, 503) else {}
    await JSONResponse({"message": message}, status, headers)(scope, receive, send)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _with_headers(send: Send, more: list[tuple[bytes, bytes]]) -> Send:
    """Header names as ASGI wants them (middleware that replaces a header would double it else),
    and more of them.
    """

    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = [(name.lower(), value) for name, value in message.get("headers", ())]
            message = {**message, "headers": [*headers, *more]}
        await send(message)

    return send_with_headers


def _is_payload(body: bytes) -> bool:
    try:
        text = body.decode()
    except UnicodeDecodeError:
        return False
    return all(is_well_formed(frame) for frame in text.split(_SEPARATOR))


def _with_length(scope: Scope, body: bytes) -> Scope:
    """A chunked body has no length, and Engine.IO reads no further than the header says."""
    headers = [(name, value) for name, value in scope["headers"] if name != b"content-length"]
    return {**scope, "headers": [*headers, (b"content-length", str(len(body)).encode())]}

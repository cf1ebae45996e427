"""A guard before Engine.IO: frames and bodies that are not its protocol never reach it.

python-engineio lets a malformed frame end the connection's handler with a traceback, its
clean-up undone; so malformed input is dropped here, and a connection that sends too much of it
is ended in order.
"""

from __future__ import annotations

import asyncio
import re
from contextlib import suppress
from typing import Any, Final
from urllib.parse import parse_qs

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tidings.realtime.cors import Origins
from tidings.realtime.limits import SocketLimits, address_of
from tidings.realtime.lobby import Lobby, LobbyFull, receive_guest
from tidings.realtime.upgrades import Upgrades

# OPEN 0, CLOSE 1, PING 2, PONG 3, UPGRADE 5, NOOP 6; MESSAGE 4 carries a Socket.IO text packet.
_ENGINE_FRAME = re.compile(r"[1356]|[23](?:probe)?|4[0-4].*", re.DOTALL)
_SEPARATOR: Final = "\x1e"


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
    ) -> None:
        self._app = app
        self._limits = limits
        self._origins = origins
        self._lobby = lobby
        self._upgrades = upgrades

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            send = _with_headers(send, self._origins.headers(scope))
        if not self._origins.allows(scope) and scope.get("method") != "OPTIONS":
            await _refuse(scope, receive, send, "Pages of this origin may not connect", 400)
            return
        session = _session_of(scope)
        if session is not None:
            await self._serve(scope, receive, send, session)
            return
        polls = scope["type"] == "http"
        if polls and scope["method"] != "GET":
            await self._serve(scope, receive, send, None)
            return
        try:
            guest = self._lobby.enter(address_of(scope), polls=polls)
        except LobbyFull as full:
            await _refuse(scope, receive, send, full.message, full.status)
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
        elif scope["method"] == "POST":
            await self._post(scope, receive, send)
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

    async def _post(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = await _read(receive, self._limits.frame_size)
        problem = "too large" if body is None else None if _is_payload(body) else "malformed"
        if problem is not None:
            status = 413 if body is None else 400
            await JSONResponse({"message": f"The payload is {problem}"}, status)(
                scope, receive, send
            )
            return
        waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

        async def replay() -> Message:
            return waiting.pop() if waiting else await receive()

        await self._app(_with_length(scope, body or b""), replay, send)

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


def _session_of(scope: Scope) -> str | None:
    """The session that a request belongs to, read as Engine.IO reads it."""
    found = parse_qs(scope.get("query_string", b"").decode("latin-1")).get("sid")
    return found[0] if found else None


async def _refuse(scope: Scope, receive: Receive, send: Send, message: str, status: int) -> None:
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


async def _read(receive: Receive, most: int) -> bytes | None:
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return b""
        chunks.append(message.get("body", b""))
        size += len(chunks[-1])
        if size > most:
            return None
        if not message.get("more_body", False):
            return b"".join(chunks)


def _is_payload(body: bytes | None) -> bool:
    try:
        text = (body or b"").decode()
    except UnicodeDecodeError:
        return False
    return all(is_well_formed(frame) for frame in text.split(_SEPARATOR))


def _with_length(scope: Scope, body: bytes) -> Scope:
    """A chunked body has no length, and Engine.IO reads no further than the header says."""
    headers = [(name, value) for name, value in scope["headers"] if name != b"content-length"]
    return {**scope, "headers": [*headers, (b"content-length", str(len(body)).encode())]}

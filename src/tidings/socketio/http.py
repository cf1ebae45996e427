"""What of HTTP the engine needs: to read a query, and to answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

import msgspec

from tidings.socketio.lobby import Refused

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Header = tuple[bytes, bytes]

_TEXT: Final = (b"content-type", b"text/plain; charset=UTF-8")
_JSON: Final = (b"content-type", b"application/json")
_NO_STORE: Final = (b"cache-control", b"no-store")
_COME_AGAIN: Final = (429, 503)
_TRY_AGAIN: Final = 1013


def parse_query(scope: Scope) -> dict[str, str]:
    """The parameters of a request, the first of each name; the protocol's need no escapes."""
    found: dict[str, str] = {}
    for part in scope.get("query_string", b"").decode("latin-1").split("&"):
        name, _, value = part.partition("=")
        found.setdefault(name, value)
    return found


class Responder:
    """Answers one HTTP request; ``headers`` are those for other origins."""

    def __init__(self, send: Send, headers: list[Header]) -> None:
        self._send = send
        self._headers = headers

    async def packets(self, body: bytes) -> None:
        """Answer with packets."""
        await self._answer(200, body, [_TEXT, _NO_STORE])

    async def nothing(self) -> None:
        """Answer a preflight request, whose headers say everything."""
        await self._answer(204, b"", [])

    async def refuse(self, refused: Refused) -> None:
        """Answer with what is wrong."""
        more = [_JSON]
        if refused.status in _COME_AGAIN:
            more.append((b"retry-after", b"5"))
        await self._answer(refused.status, msgspec.json.encode({"message": refused.message}), more)

    async def _answer(self, status: int, body: bytes, more: list[Header]) -> None:
        length = (b"content-length", str(len(body)).encode())
        headers = [*more, length, *self._headers] if status != 204 else self._headers
        await self._send({"type": "http.response.start", "status": status, "headers": headers})
        await self._send({"type": "http.response.body", "body": body})


async def refuse_websocket(receive: Receive, send: Send, refused: Refused) -> None:
    """Refuse a WebSocket, which servers make a 403 of.

    To answer with another status is an extension of ASGI, for which uvicorn writes a line into the
    log each time.
    """
    await receive()
    await send({"type": "websocket.close", "code": _TRY_AGAIN, "reason": refused.message})

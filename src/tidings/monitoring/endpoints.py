"""Endpoint: a plain answer to GET and HEAD at one path."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

Respond = Callable[[Request], Awaitable[Response]]
_METHODS = ("GET", "HEAD")


class Endpoint:
    """An ASGI app whose answers nobody may keep."""

    def __init__(self, respond: Respond) -> None:
        self._respond = respond

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] not in _METHODS:
            response = Response(status_code=405, headers={"allow": ", ".join(_METHODS)})
        else:
            response = await self._respond(Request(scope))
            response.headers["cache-control"] = "no-store"
        if scope["method"] == "HEAD":
            response.body = b""
        await response(scope, receive, send)

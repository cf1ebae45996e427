"""Gate: nobody is served by an api that is not open, since it would tell nobody of anything."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from typing import Final, Protocol

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from tidings.errors import TidingsError

_log = logging.getLogger("tidings")
_RETRY_SECONDS: Final = 5.0


class Openable(Protocol):
    """What of an Api the gate needs."""

    @property
    def state(self) -> str: ...
    @property
    def has_been_closed(self) -> bool: ...
    async def open(self) -> None: ...


class Gate:
    """Opens an api at the first request, where its lifespan has not: it is mounted, or the server
    runs no lifespans. One that has been closed, or cannot be opened, is answered with 503.
    """

    def __init__(self, api: Openable) -> None:
        self._api = api
        self._opening: asyncio.Task[None] | None = None
        self._quiet_until = 0.0

    def guard(self, app: ASGIApp) -> ASGIApp:
        """The app, behind the gate."""

        async def behind(scope: Scope, receive: Receive, send: Send) -> None:
            # While it closes, or drains, what is under way goes on.
            if self._api.state in ("open", "closing") or await self._open():
                await app(scope, receive, send)
            else:
                await refuse(
                    scope,
                    receive,
                    send,
                    status=503,
                    title="Service Unavailable",
                    code="NOT_OPEN",
                    detail="The api is not open",
                    headers={"retry-after": "5"},
                )

        return behind

    async def _open(self) -> bool:
        if self._api.has_been_closed or time.monotonic() < self._quiet_until:
            return False
        if self._opening is None or self._opening.done():
            self._opening = asyncio.create_task(self._first_open(), name="tidings-open")
        # One request that goes away must not take the api from the others.
        await asyncio.shield(self._opening)
        return self._api.state == "open"

    async def _first_open(self) -> None:
        if self._api.state != "closed":
            return
        try:
            await self._api.open()
        except Exception as error:  # noqa: BLE001  told once in a while; requests are refused
            self._quiet_until = time.monotonic() + _RETRY_SECONDS
            shown = None if isinstance(error, TidingsError) else error
            _log.error("the api cannot be opened: %s", error, exc_info=shown)
        else:
            _log.warning(
                "the api was opened by its first request: nobody has run its lifespan, which "
                "would open and close it. A mounted app's never runs: use api.install(app), or "
                "'async with api:' in the lifespan of the app it is mounted in"
            )


async def refuse(
    scope: Scope,
    receive: Receive,
    send: Send,
    *,
    status: int,
    title: str,
    code: str,
    detail: str,
    headers: Mapping[str, str] | None = None,
) -> None:
    """Answer with an error document what reaches no app; a WebSocket is closed."""
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.close", "code": 1013 if status == 503 else 1000})
        return
    error = {"status": str(status), "code": code, "title": title, "detail": detail}
    response = JSONResponse(
        {"errors": [error]}, status, headers, media_type="application/vnd.api+json"
    )
    await response(scope, receive, send)

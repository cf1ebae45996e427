"""Serving an Api: as an ASGI app of its own, or from within a Starlette or FastAPI app."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Protocol

from starlette.applications import Starlette
from starlette.datastructures import URLPath
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Match, Mount, NoMatchFound
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tidings.api.gate import refuse
from tidings.errors import ConfigurationError, RequestError, TidingsError
from tidings.jsonapi import error_response
from tidings.realtime import SocketServer

_log = logging.getLogger("tidings")


class Servable(Protocol):
    """What of an Api the serving needs."""

    @property
    def prefix(self) -> str: ...
    @property
    def has_sockets(self) -> bool: ...
    @property
    def socket_server(self) -> SocketServer: ...
    @property
    def socket_app(self) -> ASGIApp: ...
    @property
    def rest_app(self) -> ASGIApp: ...
    def endpoint_at(self, path: str) -> ASGIApp | None: ...
    async def open(self) -> None: ...
    async def close(self) -> None: ...


class ApiApp:
    """An ASGI app: sockets, resources below the prefix, and the lifespan.

    With ``beside``, everything that is not the sockets' goes to that app, lifespan included.
    """

    def __init__(self, api: Servable, *, beside: ASGIApp | None = None) -> None:
        self.api = api
        self._beside = beside

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(scope, receive, send)
            return
        try:
            await self._serve(scope, receive, send)
        except RuntimeError as error:
            # uvloop says so of a client that has gone, before uvicorn can know.
            if "the handler is closed" not in str(error):
                raise
            _log.debug("a client left before it was answered")

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        api = self.api
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        endpoint = api.endpoint_at(path) if scope["type"] == "http" else None
        if api.has_sockets and api.socket_server.serves(path):
            await api.socket_app(scope, receive, send)
        elif endpoint is not None:
            await endpoint(scope, receive, send)
        elif self._beside is not None:
            await self._beside(scope, receive, send)
        elif scope["type"] == "http" and (path + "/").startswith(api.prefix + "/"):
            root = scope.get("root_path", "") + api.prefix
            await api.rest_app({**scope, "root_path": root}, receive, send)
        else:
            await refuse(
                scope,
                receive,
                send,
                status=404,
                title="Not Found",
                code="NOT_FOUND",
                detail="There is nothing at this URL",
            )

    async def _lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._beside is not None:
            await self._beside_lifespan(scope, receive, send)
            return
        await receive()
        if not await self._opened(send):
            return
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self.api.close()
        await send({"type": "lifespan.shutdown.complete"})

    async def _opened(self, send: Send) -> bool:
        try:
            await self.api.open()
        except Exception as error:  # noqa: BLE001  the server is told, and ends
            if not isinstance(error, TidingsError):
                _log.exception("the api could not be opened")
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            return False
        return True

    async def _beside_lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The other app's lifespan, if it has one, inside the api's."""
        assert self._beside is not None
        waiting = [await receive()]
        if not await self._opened(send):
            return
        has_lifespan = False

        async def replay() -> Message:
            return waiting.pop() if waiting else await receive()

        async def notice(message: Message) -> None:
            nonlocal has_lifespan
            has_lifespan = True
            await send(message)

        try:
            try:
                await self._beside(scope, replay, notice)
            except Exception:
                if has_lifespan:
                    raise
            if not has_lifespan:
                # Apps without a lifespan refuse the scope or ignore it; ours goes on alone.
                await send({"type": "lifespan.startup.complete"})
                await receive()
                await send({"type": "lifespan.shutdown.complete"})
        finally:
            await self.api.close()


class _SocketRoute(BaseRoute):
    """Sends HTTP and WebSocket requests for the sockets' path to the socket server."""

    def __init__(self, api: Servable) -> None:
        self._api = api

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        if scope["type"] in ("http", "websocket") and self._api.has_sockets:
            path = scope["path"].removeprefix(scope.get("root_path", ""))
            if self._api.socket_server.serves(path):
                return Match.FULL, {}
        return Match.NONE, {}

    def url_path_for(self, name: str, /, **path_params: Any) -> URLPath:
        raise NoMatchFound(name, path_params)

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._api.socket_app(scope, receive, send)


def install_into(app: Any, api: Servable, prefix: str) -> None:
    """Add the resources (below ``prefix``), the sockets and the lifespan to a Starlette app.

    Raises:
        ConfigurationError: the app is no Starlette or FastAPI app, or the prefix is no path.
    """
    if not isinstance(app, Starlette):
        raise ConfigurationError(
            f"install() takes a Starlette or FastAPI app, not {type(app).__name__}; "
            "any other ASGI app can mount api.asgi()"
        )
    if not prefix.startswith("/") or prefix.endswith("/"):
        raise ConfigurationError(f"prefix {prefix!r}: start it with '/', end it without")
    app.router.routes.append(Mount(prefix, app=_Late(api)))
    # What tidings refuses in the app's own routes is answered as in the resources' own.
    app.add_exception_handler(RequestError, _answer)
    attach_sockets(app, api)


def attach_sockets(app: Starlette, api: Servable) -> None:
    """Add the sockets and the lifespan to a Starlette app."""
    # First, since an application's own catch-all route would take the path otherwise.
    app.router.routes.insert(0, _SocketRoute(api))
    app.router.routes.insert(1, _EndpointRoute(api))
    inner = app.router.lifespan_context

    @asynccontextmanager
    async def lifespan(host: Any) -> AsyncIterator[Any]:
        await api.open()
        try:
            async with inner(host) as state:
                yield state
        finally:
            await api.close()

    app.router.lifespan_context = lifespan


async def _answer(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestError)
    return error_response(error)


class _EndpointRoute(BaseRoute):
    """Sends HTTP requests for the paths of plugins to them, whenever they are installed."""

    def __init__(self, api: Servable) -> None:
        self._api = api

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        if scope["type"] == "http":
            path = scope["path"].removeprefix(scope.get("root_path", ""))
            found = self._api.endpoint_at(path)
            if found is not None:
                return Match.FULL, {"endpoint": found}
        return Match.NONE, {}

    def url_path_for(self, name: str, /, **path_params: Any) -> URLPath:
        raise NoMatchFound(name, path_params)

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        await scope["endpoint"](scope, receive, send)


class _Late:
    """Assembles the api at the first request: resources may be declared after `install`."""

    def __init__(self, api: Servable) -> None:
        self._api = api

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._api.rest_app(scope, receive, send)

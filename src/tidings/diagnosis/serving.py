"""Serving: a client's way to the resources and to the sockets."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass
from typing import Final

from websockets.exceptions import InvalidStatus

from tidings.api import Api
from tidings.diagnosis.client import Client, Refused, fetch, opened
from tidings.diagnosis.finding import Finding, Findings, failed, milliseconds, ok, reason, warning
from tidings.errors import MissingDependencyError
from tidings.feed import Cursor, MemoryFeed

_TIMES: Final = 8
"""So often is asked whether the same process answers."""
_MOST_RESOURCES: Final = 20


@dataclass(frozen=True, slots=True)
class Visit:
    """How the client comes: what it shows, from where, and how patient it is."""

    token: str | None
    origin: str | None
    seconds: float
    is_made: bool = False


async def check_serving(api: Api, url: str, visit: Visit, *, is_local: bool) -> Findings:
    """Read a resource over HTTP, and subscribe to one over a WebSocket."""
    async for finding in _check_http(api, url, visit, is_local=is_local):
        yield finding
    if not api.has_sockets:
        return
    try:
        async with asyncio.timeout(4 * visit.seconds):
            async for finding in _check_sockets(api, url, visit, is_local=is_local):
                yield finding
    except Exception as error:  # noqa: BLE001  whatever it is, it is what is to be told
        advice = "see that it runs there, and that the proxy passes WebSocket upgrades on"
        yield failed("websocket", f"{url}: {reason(error, 4 * visit.seconds)}", advice)


async def _check_http(api: Api, url: str, visit: Visit, *, is_local: bool) -> Findings:
    names = list(api.resources)
    try:
        api.rest_app  # noqa: B018  it tells whether resources are served
    except MissingDependencyError:
        return
    if not names:
        yield warning("http", "no resources are declared")
        return
    place = f"{url}{api.prefix}/{names[0]}?page[size]=1"
    begin = time.perf_counter()
    try:
        status, _ = await asyncio.to_thread(fetch, place, visit.token, visit.seconds)
    except Exception as error:  # noqa: BLE001  as above
        yield failed("http", f"{url}: {reason(error, visit.seconds)}", "see that it runs there")
        return
    said = f"GET {api.prefix}/{names[0]} answers {status}"
    if status >= 500:
        yield failed("http", said, "its log tells why")
    elif status == 404:
        yield warning("http", said, "see whether it is served below another prefix")
    else:
        yield ok("http", f"{said} in {milliseconds(time.perf_counter() - begin)}")
    if status == 200 and not is_local and isinstance(api.internals.feed, MemoryFeed):
        # One after the other: of connections that come together one process takes all.
        epochs = set()
        for _ in range(_TIMES):
            _, body = await asyncio.to_thread(fetch, place, visit.token, visit.seconds)
            epochs.add(_epoch(body))
        if len(epochs) > 1:
            message = f"at least {len(epochs)} processes answer, each with a feed of its own"
            yield failed("workers", message, "run one, or use a shared feed")


def _epoch(body: bytes) -> str | None:
    try:
        cursor = Cursor.parse(json.loads(body)["meta"]["cursor"])
    except (ValueError, KeyError, TypeError):
        return None
    return None if cursor is None else cursor.epoch


async def _check_sockets(api: Api, url: str, visit: Visit, *, is_local: bool) -> Findings:
    path = api.socket_server.path
    origin = visit.origin or _first_origin(api)
    try:
        async with opened(url, path, origin, local=is_local) as client:
            if client.is_deflated:
                message = "each message is compressed, which costs more than it saves"
                advice = "start uvicorn with --ws-per-message-deflate false"
                yield warning("deflate", message, advice)
            yield await _enter(api, client, visit)
    except InvalidStatus as error:
        yield await _refused(url, path, origin, error.response.status_code, local=is_local)


def _first_origin(api: Api) -> str | None:
    options = api.internals.socket_options
    named = None if options is None or options.cors is None else options.cors.get("origin")
    first = named[0] if isinstance(named, list | tuple) and named else named
    return first if isinstance(first, str) and first != "*" else None


async def _refused(url: str, path: str, origin: str | None, status: int, *, local: bool) -> Finding:
    """What it is that the handshake was refused for: the origin, if without it is not."""
    said = f"the handshake at {path} is answered with {status}"
    if origin is not None:
        try:
            async with opened(url, path, None, local=local):
                message = f"pages of the origin {origin} are refused"
                return failed("origin", message, "add it: SocketIOPlugin(cors={'origin': [...]})")
        except InvalidStatus:
            pass
    return failed("websocket", said, "see the path, and that the proxy passes upgrades on")


async def _enter(api: Api, client: Client, visit: Visit) -> Finding:
    begin = time.perf_counter()
    try:
        await client.enter(visit.token)
    except Refused as refused:
        if visit.token is None:
            return ok("websocket", f"it answers ({refused}); give a --token to go on")
        if visit.is_made:
            message = f"the token made with the secret is refused: {refused}"
            return warning("websocket", message, "give one of your own with --token")
        return failed("websocket", f"the token is refused: {refused}")
    refusals = []
    for name in list(api.resources)[:_MOST_RESOURCES]:
        answer = await client.call("subscribe", {"resource": name})
        if "error" not in answer:
            took = milliseconds(time.perf_counter() - begin)
            return ok("websocket", f"connected and subscribed to {name} in {took}")
        refusals.append(f"{name}: {answer['error'].get('code')}")
    return warning("websocket", f"connected, but may subscribe to nothing: {', '.join(refusals)}")

"""python-socketio by itself: every socket in one room, and one emit to it per POST /emit."""

from __future__ import annotations

from typing import Any

import socketio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

ROOM = "posts"
NOTIFICATION = {
    "type": "resource.created",
    "resource": "posts",
    "id": "123",
    "action": "post",
    "subscriptionId": "posts-4f1c9a7e2b",
    "meta": {
        "timestamp": "2026-01-15T10:00:00.123Z",
        "cursor": "k3f9.1042",
        "change": "enter",
    },
}

sio = socketio.AsyncServer(async_mode="asgi", cors_allowed_origins="*")


@sio.event  # type: ignore[untyped-decorator]  # python-socketio is untyped
async def connect(sid: str, _environ: Any) -> None:
    await sio.enter_room(sid, ROOM)


async def emit(request: Request) -> Response:
    for _ in range(10 if request.url.path == "/burst" else 1):
        await sio.emit("subscription.update", NOTIFICATION, room=ROOM)
    return Response(status_code=204)


routes = [Route(path, emit, methods=["POST"]) for path in ("/emit", "/burst")]
app = socketio.ASGIApp(sio, Starlette(routes=routes))

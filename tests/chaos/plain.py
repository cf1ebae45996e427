"""Plain Socket.IO, as its users set it up: a room, and ``emit`` to it."""

from __future__ import annotations

import os

import socketio
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse


def make_app() -> socketio.ASGIApp:
    io = socketio.AsyncServer(async_mode="asgi", cors_allowed_origins="*")

    @io.event
    async def join(sid: str) -> str:
        await io.enter_room(sid, "room")
        return "joined"

    async def emit(request: Request) -> JSONResponse:
        await io.emit("message", await request.json(), room="room")
        return JSONResponse({})

    app = Starlette()
    app.add_route("/emit", emit, methods=["POST"])
    return socketio.ASGIApp(io, app)


if __name__ == "__main__":
    uvicorn.run(make_app(), port=int(os.environ["PORT"]), log_level="warning")

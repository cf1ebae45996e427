"""The takeover: what middleware sees, what is left to uvicorn, and how connections end."""

from __future__ import annotations

import asyncio
import logging
import os
import socket as sockets
from collections.abc import Callable
from typing import Any

import pytest
import uvloop
from starlette.applications import Starlette
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.routing import Mount, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect
from tests.http.raw import connected, head
from tests.socketio.kit import FAST, Closed, Wire, echo_server, eventually, leftovers, served
from tests.support.server import serve
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from tidings.socketio import Frame, Options, Server
from tidings.socketio.takeover import TAKEOVER, FastLink

TARGET = "/socket.io/?EIO=4&transport=websocket"
UPGRADE = (
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)


async def test_middleware_sees_the_handshake_and_nothing_else() -> None:
    server, seen = echo_server(), []

    async def middleware(scope: Any, receive: Any, send: Any) -> None:
        async def send_more(message: Any) -> None:
            seen.append(message["type"])
            if message["type"] == "websocket.accept":
                message = {**message, "headers": [(b"x-from", b"middleware")]}
            await asyncio.sleep(0.01)
            await send(message)

        async def receive_and_see() -> Any:
            message = await receive()
            seen.append(message["type"])
            return message

        await server({**scope, "extensions": dict(scope["extensions"])}, receive_and_see, send_more)
        seen.append("end")

    async with served(middleware, **FAST) as url:
        async with await Wire.connected(url) as wire:
            assert wire.wire.response is not None
            assert wire.wire.response.headers["x-from"] == "middleware"
            assert wire.wire.response.headers["sec-websocket-accept"]
            await wire.assert_lives()
            assert seen == ["websocket.connect", "websocket.accept", "end"]
        await eventually(lambda: leftovers(server) == 0)


async def test_middleware_may_refuse() -> None:
    server = echo_server()
    app = TrustedHostMiddleware(server, allowed_hosts=["example.org"])

    async def closing(scope: Any, receive: Any, send: Any) -> None:
        async def send_close(message: Any) -> None:
            await send({"type": "websocket.close", "code": 4000})

        await server(scope, receive, send_close)

    for refusing in (app, closing):
        async with served(refusing, **FAST) as url:
            with pytest.raises(InvalidStatus):
                await Wire.open(url)
        assert leftovers(server) == 0


async def test_a_scope_that_a_mount_has_changed_is_served() -> None:
    server = echo_server()
    app = Starlette(routes=[Mount("/below", app=server)])
    async with (
        served(app, **FAST) as url,
        await Wire.open(url, path="/below/socket.io/") as wire,
    ):
        (session,) = server.engine.sessions.values()
        assert isinstance(session.link, FastLink)
        assert session.scope is not None
        assert session.scope["path"] == "/below/socket.io/"
        assert session.scope["root_path"] == "/below"
        await wire.send("40")
        await wire.receive()
        assert session.scope is None, "a scope is large, and is kept until the client is known"


async def echo(websocket: WebSocket) -> None:
    await websocket.accept(subprotocol="b" if "b" in websocket.scope["subprotocols"] else None)
    try:
        while True:
            await websocket.send_text(f"echo {await websocket.receive_text()}")
    except WebSocketDisconnect:
        pass


@pytest.mark.parametrize("path", ["/plain", "/plain?EIO=4&transport=websocket"])
async def test_other_websockets_are_uvicorns_own(path: str) -> None:
    """Also those that look like Socket.IO's, and are answered by another app."""
    app = Starlette(routes=[WebSocketRoute("/plain", echo)])
    async with serve(app, **FAST) as url:
        address = f"{url.replace('http', 'ws')}{path}"
        async with connect(address, subprotocols=["a", "b"]) as wire:  # type: ignore[list-item]
            assert wire.subprotocol == "b"
            assert wire.protocol.extensions, "per-message deflate"
            for text in ("a", "b" * 100_000):
                await wire.send(text)
                assert await wire.recv() == f"echo {text}"
        with pytest.raises(InvalidStatus) as refused:
            await connect(f"{url.replace('http', 'ws')}/none?EIO=4&transport=websocket")
        assert refused.value.response.status_code == 403


@pytest.mark.parametrize(
    ("left_out", "instead", "status"),
    [
        ("Sec-WebSocket-Version", "", 426),
        ("Sec-WebSocket-Version", "Sec-WebSocket-Version: 8", 426),
        ("Sec-WebSocket-Key", "", 400),
        ("Sec-WebSocket-Key", "Sec-WebSocket-Key: short", 400),
        ("Sec-WebSocket-Key", "Sec-WebSocket-Key: ????", 400),
    ],
)
async def test_a_handshake_that_is_none(left_out: str, instead: str, status: int) -> None:
    async with served(echo_server(), **FAST) as url, connected(url) as connection:
        lines = [line for line in UPGRADE if not line.startswith(left_out)]
        answer = await connection.request("GET", TARGET, None, *lines, *filter(None, [instead]))
        assert answer is not None
        assert answer.status == status
        assert answer.headers["connection"] == "close"
        if status == 426:
            assert answer.headers["sec-websocket-version"] == "13"


async def test_extensions_are_not_agreed_to() -> None:
    async with served(echo_server(), **FAST) as url:
        address = f"{url.replace('http', 'ws')}{TARGET}"
        async with connect(address) as wire:
            assert wire.protocol.extensions == []
            assert str(await wire.recv()).startswith("0{")


async def test_bytes_that_come_with_the_handshake_do_no_harm() -> None:
    server = echo_server()
    async with served(server, **FAST) as url:
        for noise in (
            b"\x81\x05hello",
            b"\xff" * 100,
            b"GET / HTTP/1.1\r\n\r\n",
            b"\x83\x80\0\0\0\0",
        ):
            async with connected(url) as connection:
                await connection.send(head("GET", TARGET, None, *UPGRADE))
                answer = await connection.answer(has_body=False)
                assert answer is not None
                assert answer.status == 101
                await connection.send(noise)
            async with connected(url) as connection:
                await connection.send(head("GET", TARGET, None, *UPGRADE) + noise)
        await eventually(lambda: leftovers(server) == 0)


async def test_an_app_that_fails_is_answered_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def broken(scope: Any, receive: Any, send: Any) -> None:
        raise ValueError("broken")

    async def silent(scope: Any, receive: Any, send: Any) -> None:
        pass

    async def denying(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.http.response.start", "status": 503, "headers": []})
        await send({"type": "websocket.http.response.body", "body": b"not ", "more_body": True})
        await send({"type": "websocket.http.response.body", "body": b"now"})

    for app, status in ((broken, 500), (silent, 500), (denying, 503)):
        async with served(app, log_config=None, **FAST) as url:
            with pytest.raises(InvalidStatus) as refused:
                await Wire.open(url)
            assert refused.value.response.status_code == status
            if app is denying:
                assert refused.value.response.body == b"not now"
    assert "ValueError: broken" in caplog.text
    assert caplog.text.count("without completing handshake") == 1


async def test_a_client_that_leaves_during_the_handshake_leaves_nothing() -> None:
    server = echo_server()
    reached, may_go_on = asyncio.Event(), asyncio.Event()

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        reached.set()
        await may_go_on.wait()
        await server(scope, receive, send)

    async with served(slow, **FAST) as url:
        async with connected(url) as connection:
            await connection.send(head("GET", TARGET, None, *UPGRADE))
            await reached.wait()
        await asyncio.sleep(0.05)
        may_go_on.set()
        await asyncio.sleep(0.05)
        assert leftovers(server) == 0


async def test_the_access_log_has_a_line(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="uvicorn.error"):
        async with (
            served(echo_server(), log_level="info", log_config=None, **FAST) as url,
            await Wire.open(url),
        ):
            pass
    assert f'"WebSocket {TARGET}" [accepted]' in caplog.text


@pytest.mark.parametrize("reads", [True, False])
async def test_a_server_that_stops_ends_connections_and_does_not_wait_for_ever(
    reads: bool,
) -> None:
    server = echo_server(Options(unsent_bytes=10**8))
    with sockets.socket() as raw:
        raw.setsockopt(sockets.SOL_SOCKET, sockets.SO_RCVBUF, 4096)
        raw.setblocking(False)
        async with asyncio.timeout(8), serve(server, lifespan="off", **FAST) as url:
            host, port = url.removeprefix("http://").split(":")
            await asyncio.get_running_loop().sock_connect(raw, (host, int(port)))
            wire = await Wire.connected(url, sock=raw)
            if not reads:
                wire.wire.transport.pause_reading()
                server.emit("much", "x" * 20_000_000)
        if reads:
            assert await wire.receive() == "1"
            assert await wire.ended() == 1012
        wire.wire.transport.abort()
        assert leftovers(server) == 0


async def test_without_the_class_there_is_no_extension() -> None:
    seen: list[Any] = []
    server = echo_server()

    async def look(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope.get("extensions", {}))
        await server(scope, receive, send)

    for config, has_it in (({"ws": "auto"}, False), (FAST, True)):
        async with served(look, **config) as url:
            async with await Wire.connected(url) as wire:
                await wire.assert_lives()
            assert (TAKEOVER in seen[-1]) is has_it
            await eventually(lambda: leftovers(server) == 0)


async def test_bytes_go_straight_to_the_system_while_nothing_waits_before_them() -> None:
    """A descriptor is a number that another connection may have soon: it must be right."""
    server = echo_server(Options(buffer_bytes=8_000))
    async with served(server, **FAST) as url:
        wire = await Wire.connected(url)
        (session,) = server.engine.sessions.values()
        descriptor = session.descriptor
        assert descriptor is not None
        assert os.readlink(f"/proc/self/fd/{descriptor}").startswith("socket:")
        wire.wire.transport.pause_reading()
        filler, number = Frame(b'42["filler","' + b"x" * 50_000 + b'"]'), 0
        while session.descriptor is not None:
            session.tell(filler)
            number += 1
            await asyncio.sleep(0)
        assert session.is_behind
        session.tell(Frame(b'42["last"]'))
        wire.wire.transport.resume_reading()
        for _ in range(number):
            assert (await wire.receive()).startswith('42["filler"')
        assert await wire.receive() == '42["last"]'
        await eventually(lambda: session.descriptor == descriptor)
        wire.wire.transport.abort()
        await eventually(lambda: not session.is_open)
        assert session.descriptor is None
        session.tell(filler)


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
async def test_a_descriptor_is_the_connections_own_until_it_is_lost(
    run: Callable[[Any], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else bytes could go to a connection that has the number next."""
    lost: list[bool] = []

    class Numbered(FastLink):
        __slots__ = ("number",)

        def take(self, transport: Any, *more: Any) -> None:
            self.number = transport.get_extra_info("socket").fileno()
            super().take(transport, *more)

        def connection_lost(self, exc: Exception | None) -> None:
            with sockets.socket(fileno=os.dup(self.number)) as line:
                lost.append(line.family == sockets.AF_INET and line.getsockname()[0] != "0.0.0.0")
            super().connection_lost(exc)

    async def scene() -> None:
        server = echo_server()
        async with served(server, **FAST) as url:
            for ending in ("abort", "close", "server"):
                wire = await Wire.connected(url)
                (session,) = server.engine.sessions.values()
                if ending == "abort":
                    wire.wire.transport.abort()
                elif ending == "close":
                    await wire.close()
                else:
                    session.close("server namespace disconnect")
                    await wire.ended()
                await eventually(lambda: not server.engine.sessions)
            await eventually(lambda: len(lost) == 3)

    monkeypatch.setattr("tidings.socketio.engine.FastLink", Numbered)
    await asyncio.to_thread(run, scene())
    assert lost == [True] * 3


async def test_a_connection_that_is_lost_is_known_at_once() -> None:
    server: Server = echo_server()
    gone: list[str] = []
    server.on("disconnect", lambda socket, reason: gone.append(reason))
    async with served(server, **FAST) as url:
        wire = await Wire.connected(url)
        (session,) = server.engine.sessions.values()
        wire.wire.transport.abort()
        server.emit("x", "y" * 10_000)
        await eventually(lambda: gone == ["transport close"])
        assert not session.is_open
        with pytest.raises(Closed):
            await wire.receive()

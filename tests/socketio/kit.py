"""A Socket.IO server of the package alone, served both ways, and clients by hand."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from typing import Any, Self

import httpx
from tests.support.server import serve
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tidings.socketio import Options, Server
from tidings.socketio.uvicorn import UvicornProtocol

TIMEOUT = 10.0
FAST = {"ws": UvicornProtocol}
PORTABLE = {"ws": "websockets-sansio"}
WAYS = {
    "fast": FAST,
    "fast, h11, asyncio": {**FAST, "http": "h11", "loop": "asyncio"},
    "sans-IO": PORTABLE,
    "wsproto": {"ws": "wsproto"},
}
SEPARATOR = "\x1e"


@contextlib.asynccontextmanager
async def served(app: Any, **config: Any) -> AsyncIterator[str]:
    """Serve an app, and end its sockets first: this server has no lifespan."""
    options = {"lifespan": "off", "access_log": False, **config}
    async with serve(app, **options) as url:
        try:
            yield url
        finally:
            if isinstance(app, Server):
                await app.close()


def echo_server(options: Options | None = None, **more: Any) -> Server:
    """What the published tests want of a server: events come back, and so does ``auth``."""
    server = Server(options, **more)
    for namespace in ("/", "/custom"):

        def connect_(socket: Any, auth: Any) -> None:
            socket.data = auth

        def accepted(socket: Any) -> None:
            socket.emit("auth", socket.data or {})

        def message(socket: Any, *arguments: Any) -> None:
            socket.emit("message-back", *arguments)

        def with_ack(socket: Any, *arguments: Any) -> Any:
            return arguments

        server.on("connect", connect_, namespace=namespace)
        server.on("accepted", accepted, namespace=namespace)
        server.on("message", message, namespace=namespace)
        server.on("message-with-ack", with_ack, namespace=namespace)
    return server


async def eventually(holds: Callable[[], bool]) -> None:
    """Wait for something that has no signal of its own."""
    async with asyncio.timeout(TIMEOUT):
        while not holds():
            await asyncio.sleep(0.005)


def leftovers(server: Server) -> int:
    """All that clients leave in a server's books."""
    engine, found = server.engine, server.namespaces.values()
    return (
        len(engine.sessions)
        + len(engine.leaving)
        + len(engine.lobby)
        + len(engine.wheel)
        + sum(len(one.sockets) + len(one.rooms) for one in found)
    )


class Closed(Exception):
    """The server has ended the connection; ``code`` is of its close frame, if any."""

    def __init__(self, code: int | None) -> None:
        super().__init__(code)
        self.code = code


class Wire:
    """A WebSocket that speaks as much of the protocol as it is told to."""

    def __init__(self, wire: ClientConnection) -> None:
        self.wire = wire
        self.answers_pings = True
        self.handshake: dict[str, Any] = {}

    @classmethod
    async def open(
        cls,
        url: str,
        query: str = "EIO=4&transport=websocket",
        *,
        path: str = "/socket.io/",
        **options: Any,
    ) -> Self:
        """Connect; with an Engine.IO session of its own unless the query names one."""
        address = f"{url.replace('http', 'ws')}{path}?{query}"
        socket = cls(await connect(address, compression=None, max_size=None, **options))
        if "sid=" not in query:
            opened = await socket.receive()
            assert opened[0] == "0"
            socket.handshake = json.loads(opened[1:])
        return socket

    @classmethod
    async def connected(cls, url: str, **options: Any) -> Self:
        """Connect to the main namespace of an `echo_server`."""
        socket = await cls.open(url, **options)
        await socket.send("40")
        assert (await socket.receive()).startswith('40{"sid":"')
        assert await socket.receive() == '42["auth",{}]'
        return socket

    async def send(self, *messages: str | bytes) -> None:
        for message in messages:
            try:
                await self.wire.send(message)
            except ConnectionClosed as closed:
                raise Closed(closed.rcvd.code if closed.rcvd else None) from None

    async def receive(self) -> Any:
        """The next message that is no ping."""
        while (message := await self.receive_any()) == "2" and self.answers_pings:
            await self.send("3")
        return message

    async def receive_any(self) -> Any:
        async with asyncio.timeout(TIMEOUT):
            try:
                return await self.wire.recv()
            except ConnectionClosed as closed:
                raise Closed(closed.rcvd.code if closed.rcvd else None) from None

    async def ended(self) -> int | None:
        """Wait until the server has closed the connection; gives the code."""
        try:
            while True:
                await self.receive()
        except Closed as closed:
            return closed.code

    async def assert_lives(self) -> None:
        """An event is acknowledged."""
        await self.send('42999["message-with-ack","alive"]')
        while await self.receive() != '43999["alive"]':
            pass

    async def close(self) -> None:
        await self.wire.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


class Poller:
    """A client that polls."""

    def __init__(self, http: httpx.AsyncClient, path: str, handshake: dict[str, Any]) -> None:
        self.http = http
        self.handshake = handshake
        self.url = f"{path}?EIO=4&transport=polling&sid={handshake['sid']}"

    @property
    def sid(self) -> str:
        return self.handshake["sid"]

    @classmethod
    async def open(cls, http: httpx.AsyncClient, path: str = "/socket.io/") -> Self:
        response = await http.get(f"{path}?EIO=4&transport=polling")
        assert response.status_code == 200, response.text
        assert response.text[0] == "0"
        return cls(http, path, json.loads(response.text[1:]))

    @classmethod
    async def connected(cls, http: httpx.AsyncClient) -> Self:
        """Connect to the main namespace of an `echo_server`."""
        poller = await cls.open(http)
        assert (await poller.post("40")).text == "ok"
        found = await poller.until('42["auth"')
        assert found[0].startswith('40{"sid":"')
        return poller

    async def post(self, *packets: str) -> httpx.Response:
        return await self.http.post(self.url, content=SEPARATOR.join(packets).encode())

    async def get(self) -> httpx.Response:
        return await self.http.get(self.url)

    async def packets(self) -> list[str]:
        response = await self.get()
        assert response.status_code == 200, response.text
        return response.text.split(SEPARATOR)

    async def until(self, start: str) -> list[str]:
        """Poll until a packet begins with this; gives all but the pings."""
        found: list[str] = []
        async with asyncio.timeout(TIMEOUT):
            while not any(packet.startswith(start) for packet in found):
                packets = await self.packets()
                if "2" in packets:
                    await self.post("3")
                found += [packet for packet in packets if packet != "2"]
        return found

    async def assert_lives(self) -> None:
        await self.post('42999["message-with-ack","alive"]')
        assert '43999["alive"]' in await self.until("43999")


@contextlib.asynccontextmanager
async def polling(url: str) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=url, timeout=TIMEOUT) as http:
        yield http

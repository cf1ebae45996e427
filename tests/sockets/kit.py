"""Sockets by hand: Engine.IO and Socket.IO frames over WebSocket and polling."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from typing import Any, Self

import httpx
from tests.http.kit import WITHOUT_LOG, make_api, token
from tests.support.server import serve
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tidings import Api, SocketIOPlugin

TIMEOUT = 10.0
WAY: dict[str, Any] = {}
"""How uvicorn is told to serve WebSockets: the tests of this folder try both ways."""


def live_api(**options: Any) -> Api:
    """Posts with filters of several kinds; the hooks of a test come on top."""
    api = make_api(jwt_auth=True)
    api.use(SocketIOPlugin(**{"cors": {"origin": "https://example.org"}} | options))
    api.add_resource(
        "posts",
        schema={
            "title": "string",
            "status": "string",
            "views": {"type": "integer", "default": 0},
            "note": {"type": "string", "hidden": True},
            "author_id": {"type": "id", "belongs_to": "users"},
        },
        search_schema={
            "title": {"filter_operator": "like"},
            "status": {},
            "statuses": {"filter_operator": "in", "actual_field": "status"},
            "views": {"filter_operator": ">"},
            "views_between": {"filter_operator": "between", "actual_field": "views"},
            "anything": {
                "type": "object",
                "filter_operator": lambda columns, value: columns.views >= 0,
                "filter_record": lambda record, value: record["views"] >= 0,
            },
        },
    )
    api.add_resource("users", schema={"name": "string"})
    api.add_resource("secrets", schema={"name": "string"}, check_permissions=lambda context: False)
    return api


@contextlib.asynccontextmanager
async def served(api: Api, **config: Any) -> AsyncIterator[str]:
    async with serve(api.asgi(), **{**WITHOUT_LOG, **WAY, **config}) as url:
        yield url


async def eventually(holds: Callable[[], bool]) -> None:
    """Wait for something that has no signal of its own."""
    async with asyncio.timeout(TIMEOUT):
        while not holds():
            await asyncio.sleep(0.005)


def leftovers(api: Api) -> tuple[int, int, int, int, int, int]:
    """All that sockets leave in the server's books."""
    sockets = api.socket_server
    service = sockets._service
    engine, found = sockets.io.engine, sockets.io.namespaces.values()
    return (
        len(sockets._subscribers),
        len(sockets._admitted),
        len(service._members),
        len(sockets._matcher),
        len(engine.sessions) + len(engine.leaving) + len(engine.lobby) + len(engine.wheel),
        sum(len(one.sockets) + len(one.rooms) for one in found) + len(sockets._connections),
    )


NOTHING = (0, 0, 0, 0, 0, 0)


class Closed(Exception):
    """The server has ended the connection."""


class Socket:
    """A WebSocket that speaks Engine.IO, as far as it is told to."""

    def __init__(self, wire: ClientConnection) -> None:
        self.wire = wire
        self.events: list[tuple[str, Any]] = []
        self.frames: list[str] = []
        self._ack = 0

    @classmethod
    async def open(cls, url: str, query: str = "", **options: Any) -> Self:
        """Only the Engine.IO handshake."""
        address = f"{url.replace('http', 'ws')}/socket.io/?EIO=4&transport=websocket{query}"
        wire = await connect(address, compression=None, max_size=None, **options)
        socket = cls(wire)
        if "sid=" not in query:
            assert (await socket.receive()).startswith("0{")
        return socket

    @classmethod
    async def connected(cls, url: str, **claims: Any) -> Self:
        socket = await cls.open(url)
        await socket.connect({"token": token(**claims)})
        return socket

    async def connect(self, auth: Any) -> None:
        await self.send(f"40{json.dumps(auth)}")
        assert (await self.receive()).startswith("40{")
        while not self.events:
            self.take(await self.receive())
        assert self.events[0][0] == "connected"

    async def send(self, frame: str | bytes) -> None:
        try:
            await self.wire.send(frame)
        except ConnectionClosed:
            raise Closed from None

    async def receive(self) -> str:
        """The next frame that is no ping."""
        async with asyncio.timeout(TIMEOUT):
            while True:
                try:
                    frame = await self.wire.recv()
                except ConnectionClosed:
                    raise Closed from None
                assert isinstance(frame, str)
                if frame != "2":
                    self.frames.append(frame)
                    return frame
                await self.send("3")

    def take(self, frame: str) -> None:
        if frame.startswith("42"):
            name, payload = json.loads(frame[2:])
            self.events.append((name, payload))

    async def call(self, event: str, *arguments: Any) -> Any:
        """Emit and wait for the answer; what comes before it is kept in `events`."""
        self._ack += 1
        await self.send(f"42{self._ack}{json.dumps([event, *arguments])}")
        return await self.answer(self._ack)

    async def answer(self, number: int) -> Any:
        while True:
            frame = await self.receive()
            self.take(frame)
            if frame.startswith(f"43{number}["):
                (answer,) = json.loads(frame[2 + len(str(number)) :])
                return answer

    async def event(self, name: str) -> Any:
        """The next event of a name, from those kept or still to come."""
        while True:
            for index, (found, payload) in enumerate(self.events):
                if found == name:
                    del self.events[index]
                    return payload
            self.take(await self.receive())

    async def assert_healthy(self) -> None:
        """A subscribe works, and the subscription can be ended."""
        answer = await self.call("subscribe", {"resource": "posts", "subscriptionId": "health"})
        assert answer["success"] is True, answer
        answer = await self.call("unsubscribe", {"subscriptionId": "health"})
        assert answer == {"success": True}

    async def close(self) -> None:
        await self.wire.close()

    async def ended(self) -> None:
        """Wait until the server has closed the connection."""
        with contextlib.suppress(Closed):
            while True:
                self.take(await self.receive())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


class Polling:
    """A client that polls."""

    def __init__(self, http: httpx.AsyncClient, sid: str) -> None:
        self.http = http
        self.sid = sid

    @classmethod
    async def open(cls, http: httpx.AsyncClient, **headers: str) -> Self:
        response = await http.get("/socket.io/?EIO=4&transport=polling", headers=headers)
        assert response.status_code == 200, response.text
        return cls(http, json.loads(response.text[1:])["sid"])

    @classmethod
    async def connected(cls, http: httpx.AsyncClient, **claims: Any) -> Self:
        polling = await cls.open(http)
        await polling.post("40" + json.dumps({"token": token(**claims)}))
        found: list[str] = []
        while not any(packet.startswith('42["connected"') for packet in found):
            found += await polling.get()
        return polling

    @property
    def url(self) -> str:
        return f"/socket.io/?EIO=4&transport=polling&sid={self.sid}"

    async def post(self, *packets: str) -> httpx.Response:
        return await self.http.post(self.url, content="\x1e".join(packets).encode())

    async def get(self) -> list[str]:
        response = await self.http.get(self.url)
        assert response.status_code == 200, response.text
        return response.text.split("\x1e")

    async def until(self, start: str) -> list[str]:
        """Poll until a packet begins with this; gives all packets."""
        found: list[str] = []
        async with asyncio.timeout(TIMEOUT):
            while not any(packet.startswith(start) for packet in found):
                found += await self.get()
        return found

    async def assert_healthy(self) -> None:
        request = {"resource": "posts", "subscriptionId": "health"}
        await self.post("42901" + json.dumps(["subscribe", request]))
        found = await self.until("43901[")
        assert any(packet.startswith('43901[{"success":true') for packet in found)
        await self.post('42902["unsubscribe",{"subscriptionId":"health"}]')
        assert '43902[{"success":true}]' in await self.until("43902[")


@contextlib.asynccontextmanager
async def polling(url: str) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=url, timeout=TIMEOUT) as http:
        yield http

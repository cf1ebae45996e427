"""The same server under every way out, with clients that nobody has changed."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
import socketio
from hypercorn.asyncio import serve as hypercorn_serve
from hypercorn.config import Config
from tests.socketio.kit import (
    TIMEOUT,
    WAYS,
    Poller,
    Wire,
    echo_server,
    eventually,
    leftovers,
    polling,
    served,
)
from tests.support.node import NodeClient
from tests.support.server import free_port

from tidings.socketio import Options, Server
from tidings.socketio.portable import PortableLink
from tidings.socketio.takeover import FastLink


@contextlib.asynccontextmanager
async def under_hypercorn(app: Any) -> AsyncIterator[str]:
    config = Config()
    config.bind = [f"127.0.0.1:{free_port()}"]
    config.graceful_timeout = 1
    stop = asyncio.Event()
    task = asyncio.create_task(hypercorn_serve(app, config, shutdown_trigger=stop.wait))
    async with polling(f"http://{config.bind[0]}") as http:
        for _ in range(500):
            with contextlib.suppress(Exception):
                await http.get("/")
                break
            await asyncio.sleep(0.01)
    try:
        yield f"http://{config.bind[0]}"
    finally:
        await app.close()
        stop.set()
        await task


@pytest.fixture(params=[*WAYS, "hypercorn"])
def where(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def server() -> Server:
    server = echo_server(Options(ping_interval=1.0, ping_timeout=2.0))
    server.on("join", lambda socket, room: socket.enter(room))
    server.on("tell", lambda socket, room, text: server.emit("told", text, to=room))
    return server


@pytest.fixture
async def url(server: Server, where: str) -> AsyncIterator[str]:
    async with (
        under_hypercorn(server)
        if where == "hypercorn"
        else served(server, **WAYS[where]) as address
    ):
        yield address
        await eventually(lambda: leftovers(server) == 0)


async def test_every_way_serves_websockets_polling_and_upgrades(
    url: str, server: Server, where: str
) -> None:
    async with await Wire.connected(url) as wire:
        await wire.assert_lives()
        (session,) = server.engine.sessions.values()
        assert type(session.link) is (FastLink if where.startswith("fast") else PortableLink)
        for size in (1, 125, 126, 65_536, 500_000):
            await wire.send('42["message","' + "x" * size + '"]')
            assert await wire.receive() == '42["message-back","' + "x" * size + '"]'
        await wire.send('451-["message",{"_placeholder":true,"num":0}]', bytes(70_000))
        assert await wire.receive() == '451-["message-back",{"_placeholder":true,"num":0}]'
        assert await wire.receive() == bytes(70_000)
    async with polling(url) as http:
        poller = await Poller.connected(http)
        await poller.assert_lives()
        query = f"EIO=4&transport=websocket&sid={poller.sid}"
        async with await Wire.open(url, query) as wire:
            await wire.send("2probe")
            assert await wire.receive() == "3probe"
            await wire.send("5")
            await wire.assert_lives()
            assert (await poller.get()).status_code == 400


async def test_every_way_ends_a_connection_in_order(url: str, server: Server) -> None:
    wire = await Wire.connected(url)
    (session,) = server.engine.sessions.values()
    server.emit("last", "x" * 100_000)
    session.close("server namespace disconnect")
    assert (await wire.receive()).startswith('42["last"')
    assert await wire.receive() == "1"
    assert await wire.ended() == 1000
    for broken in ("x", b"y"):
        wire = await Wire.connected(url)
        await wire.send(broken)
        assert await wire.ended() == 1008


async def test_a_burst_comes_whole_and_in_order(url: str, server: Server) -> None:
    async with await Wire.connected(url) as wire, await Wire.connected(url) as other:
        for number in range(2_000):
            server.emit("n", number)
            if number % 500 == 0:
                await asyncio.sleep(0)
        for one in (wire, other):
            assert [await one.receive() for _ in range(2_000)] == [
                f'42["n",{number}]' for number in range(2_000)
            ]


async def test_many_questions_at_once_are_all_answered_in_order(url: str) -> None:
    async with await Wire.connected(url) as wire:
        await wire.send(*(f'42{number}["message-with-ack",1]' for number in range(2_000)))
        for number in range(2_000):
            assert await wire.receive() == f"43{number}[1]"


async def test_the_javascript_client(url: str) -> None:
    for transports in ("websocket", "polling", "polling,websocket"):
        async with NodeClient(url, transports=transports) as node:
            connected = await node.connect("good")
            (greeting,) = await node.wait("auth")
            assert greeting.args == [{"token": "good"}]
            assert connected["transport"] in transports
            assert await node.emit("message-with-ack", 1, {"a": ["é"]}) == [1, {"a": ["é"]}]
            await node.emit("join", "room", ack=False)
            await node.emit("tell", "room", "hello", ack=False)
            (told,) = await node.wait("told")
            assert told.args == ["hello"]


async def test_the_python_client(url: str) -> None:
    for transports in (["websocket"], ["polling"], ["polling", "websocket"]):
        client = socketio.AsyncSimpleClient()
        await client.connect(url, auth={"token": "good"}, transports=transports)
        assert await client.receive(timeout=TIMEOUT) == ["auth", {"token": "good"}]
        assert await client.call("message-with-ack", {"a": b"\1\2"}) == {"a": b"\1\2"}
        await client.emit("message", b"\0" * 1_000)
        assert await client.receive(timeout=TIMEOUT) == ["message-back", b"\0" * 1_000]
        await client.disconnect()

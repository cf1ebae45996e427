"""Engine.IO 4: every "must" of the published document, and every case of its test suite.

The document: https://github.com/socketio/engine.io-protocol. Its suite wants a server that sends
each message back, pings after 300 ms and waits for 200.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from tests.socketio.kit import Closed, Poller, Wire, eventually, polling, served
from websockets.exceptions import InvalidStatus

from tidings.socketio import Frame, Options, Origins, Session
from tidings.socketio.engine import Engine

PATH = "/engine.io/"
POLL = f"{PATH}?EIO=4&transport=polling"
INTERVAL, TIMEOUT = 0.3, 0.2


class Echo:
    """Sends each message back."""

    def __init__(self) -> None:
        self.ended: list[str] = []

    def is_message(self, text: str) -> bool:
        return True

    def opened(self, session: Session) -> None:
        session.has_connected()

    def received(self, session: Session, data: str | bytes) -> None:
        is_binary = isinstance(data, bytes)
        session.send(Frame(data if is_binary else data.encode(), is_binary=is_binary))

    def drained(self, session: Session) -> None:
        pass

    def closed(self, session: Session, reason: str) -> None:
        self.ended.append(reason)


@pytest.fixture
def echo() -> Echo:
    return Echo()


@pytest.fixture
def engine(echo: Echo) -> Engine:
    return Engine(echo, Options(ping_interval=INTERVAL, ping_timeout=TIMEOUT), Origins())


@pytest.fixture
async def url(engine: Engine, way: dict[str, Any]) -> AsyncIterator[str]:
    async with served(engine, **way) as address:
        yield address
        engine.close()


@pytest.fixture
async def http(url: str) -> AsyncIterator[httpx.AsyncClient]:
    async with polling(url) as client:
        yield client


def assert_handshake(value: dict[str, Any], upgrades: list[str]) -> None:
    assert set(value) == {"sid", "upgrades", "pingInterval", "pingTimeout", "maxPayload"}
    assert isinstance(value["sid"], str)
    assert len(value["sid"]) == 20
    assert value["upgrades"] == upgrades
    assert (value["pingInterval"], value["pingTimeout"]) == (300, 200)
    assert value["maxPayload"] == 1_000_000


# Handshake


async def test_polling_opens_a_session(http: httpx.AsyncClient) -> None:
    response = await http.get(POLL)
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/plain; charset=UTF-8"
    assert response.headers["cache-control"] == "no-store"
    assert response.text[0] == "0"
    assert_handshake(json.loads(response.text[1:]), ["websocket"])


async def test_a_websocket_opens_a_session(url: str) -> None:
    async with await Wire.open(url, path=PATH) as wire:
        assert_handshake(wire.handshake, [])


@pytest.mark.parametrize(
    ("method", "query", "words"),
    [
        ("GET", "transport=polling", "Socket.IO 3 or later"),
        ("GET", "EIO=abc&transport=polling", "protocol abc"),
        ("GET", "EIO=3&transport=polling", "not one of protocol 3"),
        ("GET", "EIO=4", "transport"),
        ("GET", "EIO=4&transport=abc", "transport"),
        ("GET", "EIO=4&transport=websocket", "headers Upgrade and Connection"),
        ("GET", "EIO=4&transport=polling&j=0", "JSONP"),
        ("POST", "EIO=4&transport=polling", "'sid'"),
        ("PUT", "EIO=4&transport=polling", "GET and POST"),
        ("HEAD", "EIO=4&transport=polling", ""),
        ("GET", "EIO=4&transport=polling&sid=unknown", "no such session"),
        ("POST", "EIO=4&transport=polling&sid=unknown", "no such session"),
        ("GET", "EIO=4&transport=polling&sid=", "no such session"),
        ("GET", "", "protocol"),
    ],
)
async def test_a_request_that_is_not_of_the_protocol_is_a_400_that_says_why(
    http: httpx.AsyncClient, engine: Engine, method: str, query: str, words: str
) -> None:
    response = await http.request(method, f"{PATH}?{query}")
    assert response.status_code == 400
    assert words in response.text
    assert engine.sessions == {}


@pytest.mark.parametrize(
    "query", ["transport=websocket", "EIO=abc&transport=websocket", "EIO=4", "EIO=4&transport=abc"]
)
async def test_a_websocket_that_is_not_of_the_protocol_is_refused(url: str, query: str) -> None:
    with pytest.raises(InvalidStatus):
        await Wire.open(url, query, path=PATH)


# Messages


@pytest.mark.parametrize("body", ["4hello", "4test1\x1e4test2\x1e4test3", "4hello\x1ebAQIDBA=="])
async def test_a_payload_is_sent_and_received(http: httpx.AsyncClient, body: str) -> None:
    poller = await Poller.open(http, PATH)
    posted = await poller.post(body)
    assert (posted.status_code, posted.text) == (200, "ok")
    assert (await poller.get()).text == body


async def test_invalid_packets_close_the_session(http: httpx.AsyncClient, echo: Echo) -> None:
    for body in ("abc", "0", "7", "4a\x1ex", "\x1e", "bAQID=", "b!", ""):
        poller = await Poller.open(http, PATH)
        assert (await poller.post(body)).status_code == 400
        assert (await poller.get()).status_code == 400
    assert set(echo.ended) == {"parse error"}


async def test_a_second_get_at_a_time_closes_the_session(http: httpx.AsyncClient) -> None:
    poller = await Poller.open(http, PATH)
    first = asyncio.create_task(poller.get())
    await asyncio.sleep(0.05)
    second = await poller.get()
    assert second.status_code == 400
    assert ((await first).status_code, (await first).text) == (200, "1")
    assert (await poller.get()).status_code == 400


async def test_a_second_post_at_a_time_closes_the_session(
    http: httpx.AsyncClient, engine: Engine
) -> None:
    poller = await Poller.open(http, PATH)
    going_on = asyncio.Event()

    async def slowly() -> AsyncIterator[bytes]:
        yield b"4a"
        await going_on.wait()
        yield b"b"

    first = asyncio.create_task(http.post(poller.url, content=slowly()))
    link: Any = engine.sessions[poller.sid].link
    await eventually(lambda: link.is_posting)
    assert (await poller.post("4c")).status_code == 400
    going_on.set()
    await first
    assert (await poller.get()).status_code == 400


async def test_websocket_messages_come_back(url: str) -> None:
    async with await Wire.open(url, path=PATH) as wire:
        for message in ("4hello", b"\1\2\3\4", "4é🦆", "4" + "x" * 100_000, b""):
            await wire.send(message)
            assert await wire.receive() == message


@pytest.mark.parametrize("message", ["abc", "", "0", "2", "2probe", "3probe", "5", "7"])
async def test_an_invalid_packet_closes_the_websocket(url: str, echo: Echo, message: str) -> None:
    wire = await Wire.open(url, path=PATH)
    await wire.send(message)
    await wire.ended()
    assert echo.ended == ["parse error"]


async def test_a_noop_says_nothing(url: str) -> None:
    async with await Wire.open(url, path=PATH) as wire:
        await wire.send("6", "4a")
        assert await wire.receive() == "4a"


# Heartbeat


async def test_polling_is_pinged_and_pongs(http: httpx.AsyncClient) -> None:
    poller = await Poller.open(http, PATH)
    for _ in range(3):
        assert (await poller.get()).text == "2"
        assert (await poller.post("3")).status_code == 200


async def test_without_a_pong_polling_ends(http: httpx.AsyncClient, echo: Echo) -> None:
    poller = await Poller.open(http, PATH)
    await asyncio.sleep(INTERVAL + TIMEOUT)
    assert (await poller.get()).status_code == 400
    assert echo.ended == ["ping timeout"]


async def test_a_websocket_is_pinged_and_pongs(url: str) -> None:
    begin = time.monotonic()
    async with await Wire.open(url, path=PATH) as wire:
        for number in range(1, 4):
            assert await wire.receive_any() == "2"
            assert time.monotonic() - begin >= number * INTERVAL - 0.05
            await wire.send("3")
        await wire.send("4still here")
        assert await wire.receive() == "4still here"


async def test_without_a_pong_a_websocket_ends(url: str, echo: Echo) -> None:
    begin = time.monotonic()
    wire = await Wire.open(url, path=PATH)
    wire.answers_pings = False
    assert await wire.receive() == "2"
    await wire.send("4a message is no pong")
    await wire.ended()
    assert time.monotonic() - begin >= INTERVAL + TIMEOUT - 0.05
    assert echo.ended == ["ping timeout"]


# Close


async def test_a_close_packet_ends_a_session_that_polls(http: httpx.AsyncClient) -> None:
    poller = await Poller.open(http, PATH)
    poll = asyncio.create_task(poller.get())
    await asyncio.sleep(0.05)
    assert (await poller.post("1")).status_code == 200
    assert ((await poll).status_code, (await poll).text) == (200, "6")
    assert (await poller.get()).status_code == 400


async def test_a_close_packet_ends_a_websocket(url: str, echo: Echo) -> None:
    wire = await Wire.open(url, path=PATH)
    await wire.send("1")
    assert await wire.ended() == 1000
    assert echo.ended == ["transport close"]


async def test_a_websocket_that_breaks_off_ends_its_session(url: str, engine: Engine) -> None:
    for way_out in ("close", "abort"):
        wire = await Wire.open(url, path=PATH)
        if way_out == "close":
            await wire.close()
        else:
            wire.wire.transport.abort()
        await eventually(lambda: not engine.sessions)


async def test_a_server_that_closes_says_so(url: str, engine: Engine, echo: Echo) -> None:
    async with polling(url) as http:
        poller = await Poller.open(http, PATH)
        poll = asyncio.create_task(poller.get())
        wire = await Wire.open(url, path=PATH)
        await asyncio.sleep(0.05)
        engine.close()
        assert await wire.receive() == "1"
        assert await wire.ended() == 1000
        assert (await poll).text == "1"
        assert len(engine.wheel) <= 1
        assert echo.ended == ["server shutting down"] * 2


# Upgrade


def upgrading(poller: Poller) -> str:
    return f"EIO=4&transport=websocket&sid={poller.sid}"


async def test_an_upgrade(url: str, http: httpx.AsyncClient) -> None:
    poller = await Poller.open(http, PATH)
    async with await Wire.open(url, upgrading(poller), path=PATH) as wire:
        await wire.send("2probe")
        assert await wire.receive() == "3probe"
        assert (await poller.get()).text == "6"
        await wire.send("5", "4hello")
        assert await wire.receive() == "4hello"


async def test_a_get_that_waits_is_answered_when_the_probe_comes(
    url: str, http: httpx.AsyncClient
) -> None:
    poller = await Poller.open(http, PATH)
    poll = asyncio.create_task(poller.get())
    await asyncio.sleep(0.05)
    async with await Wire.open(url, upgrading(poller), path=PATH) as wire:
        begin = time.monotonic()
        await wire.send("2probe")
        assert (await poll).text == "6"
        assert time.monotonic() - begin < 0.2
        assert await wire.receive() == "3probe"


async def test_each_get_until_the_upgrade_is_answered(url: str, http: httpx.AsyncClient) -> None:
    """The answer to a GET may overtake that to the probe: then the client polls again."""
    poller = await Poller.open(http, PATH)
    poll = asyncio.create_task(poller.get())
    await asyncio.sleep(0.05)
    async with await Wire.open(url, upgrading(poller), path=PATH) as wire:
        await wire.send("2probe")
        assert (await poll).text == "6"
        for _ in range(2):
            async with asyncio.timeout(INTERVAL / 2):  # a ping would answer it, too
                assert (await poller.get()).text == "6"
        assert await wire.receive() == "3probe"
        await wire.send("5", "4hello")
        assert await wire.receive() == "4hello"


async def test_what_is_sent_during_an_upgrade_comes_once_and_in_order(
    url: str, http: httpx.AsyncClient, engine: Engine
) -> None:
    poller = await Poller.open(http, PATH)
    session = engine.sessions[poller.sid]
    session.send(Frame(b"4one"))
    async with await Wire.open(url, upgrading(poller), path=PATH) as wire:
        await wire.send("2probe")
        assert await wire.receive() == "3probe"
        session.send(Frame(b"4two"))
        assert await poller.packets() == ["4one", "4two"]
        session.send(Frame(b"4three"))
        await wire.send("5")
        session.send(Frame(b"4four"))
        assert [await wire.receive() for _ in range(2)] == ["4three", "4four"]


async def test_requests_of_an_upgraded_session_are_refused(
    url: str, http: httpx.AsyncClient, engine: Engine
) -> None:
    poller = await Poller.open(http, PATH)
    async with await Wire.open(url, upgrading(poller), path=PATH) as wire:
        await wire.send("2probe", "5")
        await eventually(lambda: engine.sessions[poller.sid].link.is_websocket)
        assert (await poller.get()).status_code == 400
        assert (await poller.post("4x")).status_code == 400
        await wire.send("4hello")
        assert await wire.receive() == "3probe"
        assert await wire.receive() == "4hello"


async def test_another_websocket_of_a_session_is_closed(
    url: str, http: httpx.AsyncClient, engine: Engine
) -> None:
    poller = await Poller.open(http, PATH)
    async with await Wire.open(url, upgrading(poller), path=PATH) as wire:
        for sent in ("2probe", "5"):
            other = await Wire.open(url, upgrading(poller), path=PATH)
            await other.ended()
            await wire.send(sent)
        await eventually(lambda: engine.sessions[poller.sid].link.is_websocket)
        other = await Wire.open(url, upgrading(poller), path=PATH)
        await other.ended()
        await wire.send("4hello")
        assert await wire.receive() == "3probe"
        assert await wire.receive() == "4hello"


async def test_a_websocket_for_a_session_that_opened_with_one_is_closed(url: str) -> None:
    async with await Wire.open(url, path=PATH) as wire:
        sid = wire.handshake["sid"]
        other = await Wire.open(url, f"EIO=4&transport=websocket&sid={sid}", path=PATH)
        await other.ended()
        with pytest.raises(InvalidStatus):
            await Wire.open(url, "EIO=4&transport=websocket&sid=unknown", path=PATH)
        await wire.send("4a")
        assert await wire.receive() == "4a"


@pytest.mark.parametrize(
    "messages",
    [
        ["5"],
        ["3probe"],
        ["2"],
        ["4x"],
        ["2probe", "2probe"],
        ["2probe", "4x"],
        ["2probe", "1"],
        ["1"],
        [b"binary"],
        ["2probe", b"5"],
        ["2probe", "x" * 2_000_000],
        [],
    ],
)
async def test_an_upgrade_that_is_none_leaves_the_session_polling(
    url: str, http: httpx.AsyncClient, messages: list[str | bytes], engine: Engine
) -> None:
    engine.options.ping_interval = 60
    poller = await Poller.open(http, PATH)
    wire = await Wire.open(url, upgrading(poller), path=PATH)
    await wire.send(*messages)
    if messages:
        await wire.ended()
    else:
        await wire.close()
    await eventually(lambda: engine.sessions[poller.sid].probe is None)
    assert (await poller.post("4hello")).status_code == 200
    assert "4hello" in await poller.until("4hello")


async def test_an_upgrade_has_a_deadline(url: str, http: httpx.AsyncClient, engine: Engine) -> None:
    engine.options.connect_deadline = 0.1
    poller = await Poller.open(http, PATH)
    wire = await Wire.open(url, upgrading(poller), path=PATH)
    await wire.send("2probe")
    assert await wire.receive() == "3probe"
    with pytest.raises(Closed):
        await wire.receive()
    assert (await poller.post("4hello")).status_code == 200
    assert "4hello" in await poller.until("4hello")

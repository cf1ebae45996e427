"""What a client can do to the server: send too much, read too little, come too often."""

from __future__ import annotations

import asyncio
import json
import socket as sockets
import time
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from tests.http.raw import connected, head
from tests.socketio.kit import Poller, Wire, echo_server, eventually, leftovers, polling, served
from websockets.exceptions import InvalidStatus

from tidings.errors import ConfigurationError
from tidings.socketio import Lobby, LobbyFull, Options, Server, Socket, address_of
from tidings.socketio.inbox import MOST_WAITING

# Malformed


@pytest.fixture
def options() -> Options:
    return Options(malformed=5)


@pytest.mark.parametrize("sent", ["x", "4x", "42{}", b"binary", "41/other", '42/other,["x"]'])
async def test_some_malformed_packets_are_borne_and_then_no_more(
    url: str, sent: str | bytes
) -> None:
    wire = await Wire.connected(url)
    await wire.send(*[sent] * 5)
    await wire.assert_lives()
    await wire.send(sent)
    await wire.ended()


async def test_malformed_bodies_count_as_well(http: httpx.AsyncClient) -> None:
    poller = await Poller.connected(http)
    for body in ("x", "4x", "42[]\x1ex", "", "b4A"):
        assert (await poller.post(body)).status_code == 400
    await poller.assert_lives()
    assert (await poller.post("x")).status_code == 400
    assert (await poller.get()).status_code == 400


async def test_nothing_of_a_malformed_body_is_taken(http: httpx.AsyncClient) -> None:
    poller = await Poller.connected(http)
    assert (await poller.post('42["message",1]', "x")).status_code == 400
    await poller.post('42["message",2]')
    assert await poller.until('42["message-back"') == ['42["message-back",2]']
    await poller.post("1")


# Sizes


async def test_before_a_client_is_known_it_may_say_little(
    url: str, http: httpx.AsyncClient, options: Options
) -> None:
    options.first_payload = 1_000
    async with await Wire.open(url) as wire:
        await wire.send("40" + json.dumps("x" * 2_000), "40" + json.dumps("x" * 900))
        assert (await wire.receive()).startswith("40{")
        await wire.receive()
        await wire.send("42" + json.dumps(["message", "x" * 200_000]))
        assert len(await wire.receive()) > 200_000
    poller = await Poller.open(http)
    assert (await poller.post("40" + json.dumps("x" * 2_000))).status_code == 413
    await poller.post("40")
    await poller.until("42")
    assert (await poller.post('42["nothing","' + "x" * 2_000 + '"]')).status_code == 200
    await poller.post("1")


async def test_a_message_that_is_too_large_ends_its_connection_alone(
    url: str, http: httpx.AsyncClient, options: Options
) -> None:
    options.max_payload = 100_000
    async with await Wire.connected(url) as other:
        for large in ("42" + json.dumps(["message", "x" * 150_000]), b"x" * 150_000):
            wire = await Wire.connected(url)
            await wire.send(large)
            assert await wire.ended() == 1009
        await other.assert_lives()
    poller = await Poller.connected(http)
    assert (await poller.post("4" * 150_000)).status_code == 413
    await poller.assert_lives()
    await poller.post("1")


async def test_all_bodies_together_are_bounded_and_have_a_deadline(
    url: str, http: httpx.AsyncClient, server: Server, options: Options
) -> None:
    server.engine.reading._most = 100_000
    pollers = [await Poller.connected(http) for _ in range(3)]
    answers = [asyncio.create_task(stalled_post(url, one, b"4" * 45_000)) for one in pollers]
    done, waiting = await asyncio.wait(answers, return_when=asyncio.FIRST_COMPLETED)
    assert [one.result() for one in done] == [503]
    for one in waiting:
        one.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    await eventually(lambda: server.engine.reading._bytes == 0)
    options.read_deadline = 0.05
    assert await stalled_post(url, pollers[0], b"4") == 408
    for poller in pollers:
        await poller.post("1")


@pytest.mark.parametrize("way", ["fast"], indirect=True)
async def test_messages_that_are_coming_count_together_with_bodies(
    url: str, server: Server
) -> None:
    server.engine.reading._most = 300_000
    wires = [await Wire.connected(url) for _ in range(4)]
    begun = b"\x81\xff" + (900_000).to_bytes(8, "big") + b"mask"
    for wire in wires[:2]:
        wire.wire.transport.write(begun + b"x" * 140_000)
    await eventually(lambda: server.engine.reading._bytes > 280_000)
    # What is small enough to be anybody's does not count.
    wires[2].wire.transport.write(begun + b"x" * 60_000)
    await wires[3].assert_lives()
    assert server.engine.reading._bytes < 300_000
    wires[3].wire.transport.write(begun + b"x" * 140_000)
    assert await wires[3].ended() == 1013
    wires[0].wire.transport.write(b"x" * 760_000)
    await wires[0].ended()  # it was no JSON
    for wire in wires[1:3]:
        wire.wire.transport.abort()
    await eventually(lambda: server.engine.reading._bytes == 0)


async def stalled_post(url: str, poller: Poller, body: bytes) -> int:
    """The status that a POST gets whose body never ends."""
    async with connected(url) as connection:
        start = head("POST", poller.url, None, "Content-Length: 90000")
        await connection.send(start + body)
        answer = await connection.answer()
        assert answer is not None
        return answer.status


async def test_a_session_is_looked_up_before_its_body_is_read(url: str) -> None:
    async with connected(url) as connection:
        target = "/socket.io/?EIO=4&transport=polling&sid=unknown"
        await connection.send(head("POST", target, None, "Content-Length: 1000000"))
        answer = await connection.answer()
        assert answer is not None
        assert answer.status == 400


async def test_too_many_packets_in_one_body(http: httpx.AsyncClient) -> None:
    poller = await Poller.connected(http)
    assert (await poller.post(*["3"] * 512)).status_code == 200
    assert (await poller.post(*["3"] * 513)).status_code == 400
    await poller.post("1")


# Clients that do not read


async def stalled(url: str) -> Wire:
    """A client with small buffers that does not read."""
    raw = sockets.socket()
    raw.setsockopt(sockets.SOL_SOCKET, sockets.SO_RCVBUF, 4096)
    raw.setblocking(False)
    address = urlsplit(url)
    await asyncio.get_running_loop().sock_connect(raw, (address.hostname, address.port))
    wire = await Wire.connected(url, sock=raw)
    wire.wire.transport.pause_reading()
    return wire


async def fill(server: Server) -> None:
    """Send to the only client until its buffers are full."""
    (session,) = server.engine.sessions.values()
    while session.unsent < 10_000:
        server.emit("filler", "x" * 10_000)
        await asyncio.sleep(0.001)


async def test_a_client_that_reads_again_gets_everything_in_order(url: str, server: Server) -> None:
    wire = await stalled(url)
    await fill(server)
    for number in range(100):
        server.emit("n", number)
    wire.wire.transport.resume_reading()
    heard = []
    while len(heard) < 100:
        name, argument = json.loads((await wire.receive())[2:])
        heard += [argument] if name == "n" else []
    assert heard == list(range(100))
    (session,) = server.engine.sessions.values()
    await eventually(lambda: session.unsent == 0)
    await wire.close()


async def test_a_client_that_never_reads_is_disconnected(
    url: str, server: Server, options: Options, caplog: pytest.LogCaptureFixture
) -> None:
    options.unsent_bytes = 300_000
    async with await Wire.connected(url) as other:
        wire = await stalled(url)
        (mine, theirs) = server.namespaces["/"].sockets.values()
        gone: list[str] = []
        server.on("disconnect", lambda socket, reason: gone.append(socket.id))
        while not gone:
            server.emit("filler", "x" * 10_000, to=theirs)
            await asyncio.sleep(0.001)
        assert gone == [theirs.id]
        assert server.engine.slow == 1
        await other.assert_lives()
        wire.wire.transport.abort()
    assert mine.session.engine.unsent == 0
    assert "it reads too slowly" in caplog.text
    caplog.clear()


async def test_a_client_that_asks_and_does_not_read_has_to_wait(
    url: str, server: Server, options: Options
) -> None:
    options.answer_bytes = 50_000
    asked: list[int] = []

    def large(socket: Socket, number: int) -> str:
        asked.append(number)
        return "x" * 10_000

    server.on("large", large)
    async with await Wire.connected(url) as other:
        wire = await stalled(url)
        sending = asyncio.create_task(
            wire.send(*(f'42{number}["large",{number}]' for number in range(2_000)))
        )
        session = list(server.engine.sessions.values())[1]
        await eventually(lambda: session.unsent >= options.answer_bytes)
        for _ in range(50):
            await other.assert_lives()
        assert session.unsent < options.answer_bytes + 20_000
        await eventually(lambda: session.is_held)
        assert len(session.state._inbox._waiting) <= MOST_WAITING
        assert len(asked) < 2_000
        wire.wire.transport.resume_reading()
        numbers = []
        while len(numbers) < 2_000:
            frame = await wire.receive()
            if frame.startswith("43"):
                numbers.append(int(frame[2 : frame.index("[")]))
        assert numbers == asked == list(range(2_000))
        await sending
        await wire.close()


async def test_a_slow_handler_keeps_pongs_from_waiting(
    url: str, server: Server, options: Options
) -> None:
    options.ping_interval, options.ping_timeout = 0.1, 0.3
    may_go_on = asyncio.Event()

    async def wait(socket: Socket) -> str:
        await may_go_on.wait()
        return "done"

    server.on("wait", wait)
    async with await Wire.connected(url) as wire:
        await wire.send('421["wait"]', '422["message-with-ack"]')
        asyncio.get_running_loop().call_later(0.8, may_go_on.set)
        assert [await wire.receive() for _ in range(2)] == ['431["done"]', "432[]"]


async def test_many_tiny_frames_at_once_leave_others_their_turn(url: str) -> None:
    async with await Wire.connected(url) as flood, await Wire.connected(url) as other:
        await other.assert_lives()
        pings = b"\x81\x81\0\0\0\x003" * 40_000
        slowest = 0.0
        flood.wire.transport.write(pings)
        for _ in range(50):
            begin = time.perf_counter()
            await other.assert_lives()
            slowest = max(slowest, time.perf_counter() - begin)
        await flood.assert_lives()
    assert slowest < 20.0  # all that takes seconds on a busy machine; nobody waits for all of it


# The lobby


async def test_sessions_that_have_not_connected_are_bounded(
    url: str, http: httpx.AsyncClient, options: Options, server: Server
) -> None:
    options.unconnected = 3
    poller, wire = await Poller.open(http), await Wire.open(url)
    other = await Wire.open(url)
    refused = await http.get("/socket.io/?EIO=4&transport=polling")
    assert refused.status_code == 503
    assert refused.headers["retry-after"] == "5"
    with pytest.raises(InvalidStatus):
        await Wire.open(url)
    await wire.send("40")
    await wire.receive()
    again = await Poller.open(http)
    await again.post("1")
    await poller.post("1")
    assert server.engine.lobby.count("unconnected") == 1
    options.unconnected, options.unconnected_per_address = 0, 1
    assert (await http.get("/socket.io/?EIO=4&transport=polling")).status_code == 429
    await wire.close()
    await other.close()


async def test_an_upgrade_makes_room_for_another_that_polls(
    url: str, http: httpx.AsyncClient, options: Options, server: Server
) -> None:
    options.polling = 1
    poller = await Poller.open(http)
    assert (await http.get("/socket.io/?EIO=4&transport=polling")).status_code == 503
    async with await Wire.open(url, f"EIO=4&transport=websocket&sid={poller.sid}") as wire:
        await wire.send("2probe", "5", "40")
        await eventually(lambda: server.engine.lobby.count("polling") == 0)
        other = await Poller.open(http)
        await other.post("1")


def test_zero_is_any_number_and_an_ipv6_network_is_one_address() -> None:
    options = Options(unconnected=0, unconnected_per_address=0, polling=0, polling_per_address=2)
    lobby = Lobby(options)
    for _ in range(2):
        lobby.enter("a", polls=True)
    with pytest.raises(LobbyFull):
        lobby.enter("a", polls=True)
    for _ in range(10_000):
        lobby.enter("a", polls=False)
    assert address_of({"client": ("2001:db8:1:2:3:4:5:6", 1)}) == "2001:db8:1:2::/64"
    assert address_of({"client": ("::ffff:192.0.2.1", 1)}) == "192.0.2.1"
    assert address_of({}) is None


# Origins


async def test_origins_are_held_to_on_both_transports(way: dict[str, Any]) -> None:
    server = echo_server(cors={"origin": ["https://a.example"]})
    async with served(server, **way) as url, polling(url) as http:
        path = "/socket.io/?EIO=4&transport=polling"
        for origin in ("https://b.example", "http://a.example", "null"):
            response = await http.get(path, headers={"origin": origin})
            assert response.status_code == 400
            assert "access-control-allow-origin" not in response.headers
            with pytest.raises(InvalidStatus):
                await Wire.open(url, origin=origin)
        response = await http.get(path, headers={"origin": "https://a.example"})
        assert response.headers["access-control-allow-origin"] == "https://a.example"
        asked = await http.options(path, headers={"origin": "https://a.example"})
        assert asked.headers["access-control-allow-methods"] == "GET, POST"
        async with await Wire.open(url, origin="https://a.example"):
            pass


# Handlers


def test_a_handler_that_cannot_be() -> None:
    server = Server()
    server.on("x", lambda socket: None)
    server.on("connect", lambda socket, auth: None)
    for event, namespace in (("x", "/"), ("connect", "/"), ("y", "chat"), ("y", "/a,b")):
        with pytest.raises(ConfigurationError):
            server.on(event, lambda socket: None, namespace=namespace)


async def test_handlers_that_fail_are_logged_and_harm_nobody(
    way: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    server = echo_server()

    async def later(socket: Socket, *_: Any) -> None:
        await asyncio.sleep(0)
        raise ValueError("later")

    def at_once(socket: Socket, *_: Any) -> None:
        raise ValueError("at once")

    for name, handler in (("later", later), ("now", at_once)):
        server.on("event", handler, namespace=f"/{name}")
        server.on("disconnect", handler, namespace=f"/{name}")
        server.on("connect", handler, namespace=f"/no/{name}")
    async with served(server, **way) as url:
        for name in ("later", "now"):
            async with await Wire.connected(url) as wire:
                await wire.send(f"40/{name}", f'42/{name},1["event"]', f"41/{name}")
                assert (await wire.receive()).startswith(f"40/{name},")
                await wire.assert_lives()
            wire = await Wire.open(url)
            await wire.send(f"40/no/{name}")
            assert await wire.receive() == "1"
            await wire.ended()
        await eventually(lambda: leftovers(server) == 0)
    assert caplog.text.count("the handler of 'event' failed") == 2
    assert caplog.text.count("a disconnect handler failed") == 2
    assert caplog.text.count("a connect handler failed") == 2


async def test_a_server_that_was_closed_serves_again(way: dict[str, Any]) -> None:
    server = echo_server()
    async with served(server, **way) as url, polling(url) as http:
        for _ in range(2):
            wire, poller = await Wire.connected(url), await Poller.connected(http)
            poll = asyncio.create_task(poller.get())
            await asyncio.sleep(0.05)
            await server.close()
            assert await wire.receive() == "1"
            await wire.ended()
            assert (await poll).text == "1"
            assert not server.engine.sessions

"""Socket.IO 5: every "must" of the published document, and every case of its test suite.

The document: https://github.com/socketio/socket.io-protocol. The cases of the suite that are about
Engine.IO alone are in ``test_engine_protocol.py``.
"""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

import httpx
import pytest
from tests.socketio.kit import Poller, Wire, eventually

from tidings.socketio import (
    NO_ANSWER,
    Answer,
    ComeAgain,
    ConnectionRefused,
    Options,
    Server,
    Socket,
    Unreadable,
)

# Connecting


@pytest.mark.parametrize(
    ("sent", "namespace", "auth"),
    [
        ("40", "/", "{}"),
        ('40{"token":"123"}', "/", '{"token":"123"}'),
        ("40/custom,", "/custom", "{}"),
        ('40/custom,{"token":"abc"}', "/custom", '{"token":"abc"}'),
        ("40/custom", "/custom", "{}"),
        ('40/custom?token=x,{"token":"abc"}', "/custom", '{"token":"abc"}'),
    ],
)
async def test_a_client_connects_to_a_namespace(
    url: str, server: Server, sent: str, namespace: str, auth: str
) -> None:
    prefix = "" if namespace == "/" else f"{namespace},"
    async with await Wire.open(url) as wire:
        await wire.send(sent)
        answer = await wire.receive()
        assert answer.startswith(f"40{prefix}")
        handshake = json.loads(answer.removeprefix(f"40{prefix}"))
        assert set(handshake) == {"sid"}
        assert handshake["sid"] != wire.handshake["sid"]
        assert server.namespaces[namespace].sockets.keys() == {handshake["sid"]}
        assert await wire.receive() == f'42{prefix}["auth",{auth}]'


@pytest.mark.parametrize("namespace", ["/random", "/custom/deeper", "//", "/" + "x" * 10_000])
async def test_an_unknown_namespace_is_refused(url: str, namespace: str) -> None:
    async with await Wire.open(url) as wire:
        await wire.send(f"40{namespace},")
        assert await wire.receive() == f'44{namespace},{{"message":"Invalid namespace"}}'
        await wire.send("40")
        assert (await wire.receive()).startswith("40{")


async def test_an_invalid_handshake_closes_the_connection(url: str) -> None:
    for sent in ("4abc", "4", '42["message"]', "41", "43[]", '44{"message":"x"}', "40{"):
        wire = await Wire.open(url)
        await wire.send(sent)
        await wire.ended()


async def test_without_a_handshake_the_connection_is_closed(
    url: str, options: Options, http: httpx.AsyncClient
) -> None:
    options.connect_deadline = 0.2
    wire = await Wire.open(url)
    poller = await Poller.open(http)
    assert await wire.receive() == "1"
    await wire.ended()
    answer = await poller.get()
    if answer.status_code == 200:  # it was waiting when its own moment came
        assert answer.text == "1"
        answer = await poller.get()
    assert answer.status_code == 400


async def test_a_client_may_be_in_several_namespaces(url: str) -> None:
    async with await Wire.connected(url) as wire:
        await wire.send("40/custom")
        assert (await wire.receive()).startswith('40/custom,{"sid":')
        assert await wire.receive() == '42/custom,["auth",{}]'
        await wire.send('42/custom,7["message-with-ack",1]', '42["message",2]')
        assert await wire.receive() == "43/custom,7[1]"
        assert await wire.receive() == '42["message-back",2]'


async def test_a_second_connect_is_refused_and_changes_nothing(url: str, server: Server) -> None:
    async with await Wire.connected(url) as wire:
        sockets = dict(server.namespaces["/"].sockets)
        await wire.send('40{"token":"other"}')
        assert await wire.receive() == '44{"message":"Already connected"}'
        assert server.namespaces["/"].sockets == sockets
        await wire.assert_lives()


# Leaving


async def test_a_client_leaves_the_main_namespace(url: str, server: Server) -> None:
    reasons: list[str] = []
    server.on("disconnect", lambda socket, reason: reasons.append(reason))
    async with await Wire.connected(url) as wire:
        await wire.send("41")
        await eventually(lambda: not server.namespaces["/"].sockets)
        await wire.send("40")
        assert (await wire.receive()).startswith("40{")
        await wire.receive()
        await wire.assert_lives()
    await eventually(lambda: len(reasons) == 2)
    assert reasons == ["client namespace disconnect", "transport close"]


async def test_a_client_leaves_one_namespace_and_stays_in_another(url: str) -> None:
    async with await Wire.connected(url) as wire:
        await wire.send("40/custom")
        await wire.receive()
        await wire.receive()
        await wire.send("41/custom", '42["message","message to main namespace"]')
        assert await wire.receive() == '42["message-back","message to main namespace"]'


async def test_a_client_that_left_all_namespaces_must_come_back(
    url: str, server: Server, options: Options
) -> None:
    async with await Wire.connected(url) as wire:
        options.connect_deadline = 0.1
        assert server.engine.lobby.count("unconnected") == 0
        await wire.send("41")
        await eventually(lambda: server.engine.lobby.count("unconnected") == 1)
        await wire.ended()


async def test_the_server_disconnects_a_client(url: str, server: Server) -> None:
    async with await Wire.connected(url) as wire:
        (socket,) = server.namespaces["/"].sockets.values()
        socket.disconnect()
        socket.emit("too late")
        socket.disconnect()
        assert await wire.receive() == "41"
        await wire.send("40")
        assert (await wire.receive()).startswith("40{")


# Events and acks


@pytest.mark.parametrize(
    "arguments",
    ['1,"2",{"3":[true]}', "", "null", '"é🦆\\u0000"', "[[]]", "1.5", "12345678901234567890"],
)
async def test_events_come_back_and_acks_have_their_id(url: str, arguments: str) -> None:
    rest = f",{arguments}" if arguments else ""
    async with await Wire.connected(url) as wire:
        await wire.send(f'42["message"{rest}]', f'42456["message-with-ack"{rest}]')
        assert json.loads((await wire.receive())[2:]) == json.loads(f'["message-back"{rest}]')
        acked = await wire.receive()
        assert acked.startswith("43456[")
        assert json.loads(acked[5:]) == json.loads(f"[{arguments}]")


async def test_binary_attachments_come_back(url: str, http: httpx.AsyncClient) -> None:
    places = '{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}'
    async with await Wire.connected(url) as wire:
        await wire.send(f'452-["message",{places}]', b"\1\2\3", b"\4\5\6")
        back = [await wire.receive() for _ in range(3)]
        assert back == [f'452-["message-back",{places}]', b"\1\2\3", b"\4\5\6"]
        await wire.send(f'452-789["message-with-ack",{places}]', b"\1\2\3", b"\4\5\6")
        back = [await wire.receive() for _ in range(3)]
        assert back == [f"462-789[{places}]", b"\1\2\3", b"\4\5\6"]
        await wire.send('450-["message",1]')
        assert await wire.receive() == '42["message-back",1]'
    poller = await Poller.connected(http)
    await poller.post(f'452-["message",{places}]', "bAQID", "bBAUG")
    assert (await poller.until("bBAUG")) == [f'452-["message-back",{places}]', "bAQID", "bBAUG"]
    await poller.post("1")


@pytest.mark.parametrize("sent", ["4abc", "42{}", "42[]", "42", '42abc["message-with-ack",1]'])
async def test_an_invalid_format_closes_the_connection(url: str, sent: str) -> None:
    wire = await Wire.connected(url)
    await wire.send(sent)
    await wire.ended()


async def test_handlers_of_every_kind_answer(url: str, server: Server) -> None:
    told: list[str] = []

    @server.on("nothing")
    def nothing(socket: Socket) -> None:
        pass

    @server.on("slow")
    async def slow(socket: Socket, number: int) -> int:
        await asyncio.sleep(0.01)
        return number + 1

    @server.on("then")
    async def then(socket: Socket) -> Answer:
        return Answer((1, 2), lambda: socket.emit("after", "the ack"))

    @server.on("never")
    def never(socket: Socket) -> object:
        return NO_ANSWER

    server.on("lambda", lambda socket, number: slow(socket, number))
    server.on("note", lambda socket, text: told.append(text))
    async with await Wire.connected(url) as wire:
        await wire.send('421["nothing"]', '422["slow",1]', '423["then"]', '424["never"]')
        await wire.send('42["slow",5]', '42["note","x"]', '425["lambda",5]', '426["nothing"]')
        answers = [await wire.receive() for _ in range(6)]
        assert answers[:4] == ["431[]", "432[2]", "433[1,2]", '42["after","the ack"]']
        assert answers[4:] == ["435[6]", "436[]"]
        await wire.send('427["lambda",5]', '428["nothing"]')
        assert [await wire.receive() for _ in range(2)] == ["437[6]", "438[]"]
        assert told == ["x"]


async def test_answers_keep_the_order_of_their_questions(url: str, server: Server) -> None:
    async def wait(socket: Socket, seconds: float) -> float:
        await asyncio.sleep(seconds)
        return seconds

    server.on("wait", wait)
    async with await Wire.connected(url) as wire:
        for number, seconds in enumerate((0.05, 0.0, 0.02, 0.01)):
            await wire.send(f'42{number}["wait",{seconds}]')
        await wire.send('424["message-with-ack",1]', "40/random", '42["message",9]')
        heard = [await wire.receive() for _ in range(7)]
        assert [one[:3] for one in heard] == ["430", "431", "432", "433", "434", "44/", "42["]


async def test_an_event_that_nobody_handles_is_ignored(url: str) -> None:
    async with await Wire.connected(url) as wire:
        for name in ("nothing", "connect", "disconnect", "accepted", "__proto__", "*", ""):
            await wire.send(f'42["{name}"]', f'4299["{name}",{{}}]')
        await wire.send('4298["message-with-ack",1]')
        assert await wire.receive() == "4398[1]"


async def test_arguments_that_a_handler_does_not_take_are_not_its_problem(
    url: str, server: Server
) -> None:
    got: list[Any] = []
    server.on("one", lambda socket, argument: got.append(argument))
    server.on("two", lambda socket, first, second=None: got.append((first, second)))
    async with await Wire.connected(url) as wire:
        await wire.send('42["one"]', '42["one",1,2]', '42["two"]', '42["one",1]', '42["two",1]')
        await wire.send('42["one",NaN]', '42["two",1,2]')
        await wire.assert_lives()
    assert got == [1, (1, None), (1, 2)]


async def test_a_handler_may_want_to_know_what_could_not_be_read(
    url: str, server: Server, options: Options
) -> None:
    options.max_message = 100

    def why(socket: Socket, argument: Any) -> Any:
        return argument.reason if isinstance(argument, Unreadable) else "read"

    server.on("why", why, takes_unreadable=True)
    async with await Wire.connected(url) as wire:
        await wire.send('421["why",1]', '422["why",{]', f'423["why","{"x" * 200}"]')
        answers = [await wire.receive() for _ in range(3)]
        assert answers == ['431["read"]', '432["json"]', '433["size"]']


async def test_the_server_may_ask_too(url: str, server: Server) -> None:
    async with await Wire.connected(url) as wire:
        (socket,) = server.namespaces["/"].sockets.values()
        asking = [asyncio.create_task(socket.call("ask", number)) for number in range(2)]
        assert [await wire.receive() for _ in range(2)] == ['421["ask",0]', '422["ask",1]']
        await wire.send('432["second",2]', '431["first"]', '431["again"]', '439["nobody asked"]')
        assert await asyncio.gather(*asking) == [["first"], ["second", 2]]
        with pytest.raises(TimeoutError):
            await socket.call("ask", timeout=0.01)
        await wire.receive()
        leaving = asyncio.create_task(socket.call("ask"))
        await wire.receive()
        await wire.send("41")
        with pytest.raises(ConnectionError):
            await leaving
        with pytest.raises(ConnectionError):
            await socket.call("ask")


async def test_a_handler_may_ask_its_own_client(url: str, server: Server) -> None:
    async def greet(socket: Socket) -> str:
        (name,) = await socket.call("who")
        return f"Hello {name}"

    server.on("greet", greet)
    async with await Wire.connected(url) as wire:
        await wire.send('425["greet"]')
        assert await wire.receive() == '421["who"]'
        await wire.send('431["you"]')
        assert await wire.receive() == '435["Hello you"]'


# Rooms


async def test_an_event_goes_to_a_socket_a_room_or_all(url: str, server: Server) -> None:
    async with (
        await Wire.connected(url) as one,
        await Wire.connected(url) as two,
        await Wire.open(url) as elsewhere,
    ):
        await elsewhere.send("40/custom")
        await elsewhere.receive()
        await elsewhere.receive()
        first, second = server.namespaces["/"].sockets.values()
        first.enter("room")
        first.enter("room")
        second.enter("other")
        server.emit("room", 1, to="room")
        server.emit("id", 2, to=second.id)
        server.emit("socket", 3, to=first)
        server.emit("nobody", to="no such room")
        server.emit("no such namespace", namespace="/none")
        second.leave("other")
        second.leave("other")
        server.emit("left", to="other")
        server.emit("all", b"\1", 4)
        server.emit("there", namespace="/custom")
        assert [await one.receive() for _ in range(2)] == ['42["room",1]', '42["socket",3]']
        all_of_it = ['451-["all",{"_placeholder":true,"num":0},4]', b"\1"]
        assert [await one.receive() for _ in range(2)] == all_of_it
        assert [await two.receive() for _ in range(3)] == ['42["id",2]', *all_of_it]
        assert await elsewhere.receive() == '42/custom,["there"]'
        assert set(server.namespaces["/"].rooms) == {"room"}
        await one.send("41")
        await eventually(lambda: not server.namespaces["/"].rooms)
        first.enter("room")
        assert not server.namespaces["/"].rooms


# Refusing


async def test_a_connect_handler_refuses_for_good_or_for_now(
    url: str, server: Server, options: Options
) -> None:
    asked: list[Any] = []

    @server.on("connect", namespace="/guarded")
    async def guard(socket: Socket, auth: Any) -> None:
        assert socket.scope is not None
        asked.append((auth, socket.scope["path"], socket.address))
        await asyncio.sleep(0)
        if auth == "later":
            raise ComeAgain
        if auth != "ok":
            raise ConnectionRefused("Not authorized", {"code": "NO"})

    @server.on("connect", namespace="/simple")
    def refuse(socket: Socket, auth: Any) -> None:
        raise ConnectionRefused("never")

    async with await Wire.open(url) as wire:
        await wire.send('40/guarded,"no"', "40/simple")
        refused = '44/guarded,{"message":"Not authorized","data":{"code":"NO"}}'
        assert await wire.receive() == refused
        assert await wire.receive() == '44/simple,{"message":"never"}'
        await wire.send('40/guarded,"ok"')
        assert (await wire.receive()).startswith("40/guarded,{")
    assert asked[0] == ("no", "/socket.io/", "127.0.0.1")
    wire = await Wire.open(url)
    await wire.send('40/guarded,"later"')
    assert await wire.receive() == "1"
    await wire.ended()


async def test_nothing_is_sent_before_a_client_is_accepted(url: str, server: Server) -> None:
    may_come = asyncio.Event()

    async def wait(socket: Socket, auth: Any) -> None:
        socket.emit("too early")
        server.emit("too early", namespace="/slow")
        await may_come.wait()

    server.on("connect", wait, namespace="/slow")
    server.on("ask", lambda socket: 1, namespace="/slow")
    async with await Wire.open(url) as wire:
        await wire.send("40/slow", '42/slow,1["ask"]')
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await wire.receive()
        may_come.set()
        # What it asked meanwhile is answered then.
        assert (await wire.receive()).startswith("40/slow,{")
        assert await wire.receive() == "43/slow,1[1]"


async def test_a_client_that_leaves_while_it_is_asked_who_it_is(url: str, server: Server) -> None:
    gone: list[str] = []
    asked = asyncio.Event()

    async def wait(socket: Socket, auth: Any) -> None:
        asked.set()
        await asyncio.Event().wait()

    server.on("connect", wait, namespace="/slow")
    server.on("disconnect", lambda socket, reason: gone.append(reason), namespace="/slow")
    async with await Wire.open(url) as wire:
        await wire.send("40/slow")
        await asked.wait()
    await eventually(lambda: not server.engine.sessions)
    assert gone == []


async def test_what_a_client_says_last_is_heard(
    url: str, server: Server, http: httpx.AsyncClient
) -> None:
    heard: list[str] = []

    @server.on("bye")
    async def bye(socket: Socket, how: str) -> None:
        heard.append(how)

    server.on("disconnect", lambda socket, reason: heard.append(reason))
    for ending in ("41", "1"):
        wire = await Wire.connected(url)
        await wire.send(f'42["bye","{ending}"]', ending)
        await eventually(lambda: len(heard) == 2)
        await wire.close()
        poller = await Poller.connected(http)
        await poller.post(f'42["bye","{ending}"]', ending)
        await eventually(lambda: len(heard) == 4)
        await poller.post("1")
        reason = "client namespace disconnect" if ending == "41" else "transport close"
        assert heard == [ending, reason] * 2
        heard.clear()
    wire = await Wire.connected(url)
    await wire.send('42["bye","close"]')
    await wire.close()
    await eventually(lambda: heard == ["close", "transport close"])


async def test_a_handler_of_a_client_that_has_gone_is_cancelled(url: str, server: Server) -> None:
    asked, ended = asyncio.Event(), asyncio.Event()

    async def work(socket: Socket) -> None:
        asked.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    server.on("work", work)
    async with await Wire.connected(url) as wire:
        await wire.send('42["work"]', '42["work"]')
        await asked.wait()
    async with asyncio.timeout(10):
        await ended.wait()


async def test_a_disconnect_handler_may_take_its_time(url: str, server: Server) -> None:
    told: list[str] = []

    @server.on("disconnect")
    async def left(socket: Socket, reason: str) -> None:
        await asyncio.sleep(0.02)
        assert not socket.is_open
        told.append(reason)

    async with await Wire.connected(url):
        pass
    await eventually(lambda: told == ["transport close"])


# Binary packets that never become whole


@pytest.fixture
def answering(server: Server, options: Options) -> Server:
    options.malformed = 20
    options.attachments = 2

    def why(socket: Socket, *arguments: Any) -> Any:
        return [one.reason if isinstance(one, Unreadable) else "read" for one in arguments]

    server.on("why", why, takes_unreadable=True)
    return server


PLACE = '{"_placeholder":true,"num":0}'


@pytest.mark.usefixtures("answering")
async def test_too_many_attachments_are_refused_with_an_answer_and_dropped(url: str) -> None:
    async with await Wire.connected(url) as wire:
        await wire.send(f'453-7["why",{PLACE}]')
        assert await wire.receive() == '437[["binary"]]'
        await wire.send(b"1", b"2", b"3", f'451-8["why",{PLACE}]', b"1")
        assert await wire.receive() == '438[["read"]]'
        await wire.send(f'459999999-9["why",{PLACE}]')
        assert await wire.receive() == '439[["binary"]]'
        await wire.assert_lives()


async def test_attachments_that_are_too_large_are_refused_with_an_answer(
    url: str, answering: Server, options: Options
) -> None:
    async with await Wire.connected(url) as wire:
        options.max_payload = 1_000
        await wire.send(f'452-7["why",{PLACE}]', bytes(600), bytes(600))
        assert await wire.receive() == '437[["binary"]]'
        await wire.assert_lives()
        options.max_payload = 1_000_000


@pytest.mark.usefixtures("answering")
async def test_a_packet_that_comes_before_the_attachments_ends_the_wait(url: str) -> None:
    async with await Wire.connected(url) as wire:
        await wire.send(f'452-7["why",{PLACE}]', b"1", '428["why"]')
        assert [await wire.receive() for _ in range(2)] == ['437[["binary"]]', "438[[]]"]
        await wire.send(b"1")
        await wire.assert_lives()


async def test_attachments_that_never_come_are_waited_for_as_long_as_a_body(
    url: str, answering: Server, options: Options
) -> None:
    options.read_deadline = 0.05
    async with await Wire.connected(url) as wire:
        await wire.send(f'452-7["why",{PLACE}]', b"1")
        assert await wire.receive() == '437[["binary"]]'
        await wire.send(f'451-8["why",{PLACE[:-2]}7}}]', b"1")
        assert await wire.receive() == '438[["binary"]]'
        await wire.assert_lives()


async def test_by_the_protocol_a_binary_message_out_of_place_closes(url: str) -> None:
    for sent in ([b"1"], ['451-["message"]', '42["message"]']):
        wire = await Wire.connected(url)
        await wire.send(*sent)
        await wire.ended()


async def test_a_client_of_another_parser_is_told_why(
    url: str, http: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    """The msgpack parser sends binary messages alone."""
    caplog.set_level("INFO")
    connect = b"\x84\xa4type\x00\xa4data\xc0\xa3nsp\xa1/"
    for _ in range(2):
        wire = await Wire.open(url)
        await wire.send(connect)
        await wire.ended()
        assert wire.wire.close_code == 1008
        assert "default parser" in (wire.wire.close_reason or "")
    poller = await Poller.open(http)
    answer = await poller.post("b" + base64.b64encode(connect).decode())
    assert answer.status_code == 400
    assert "default parser" in answer.json()["message"]
    assert caplog.text.count("msgpack") == 1

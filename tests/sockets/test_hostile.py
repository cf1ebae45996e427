"""Frames that no decent client would send: each is answered or ignored, none does harm.

After each of them a subscribe on the same socket works, unless the protocol itself wants the
connection closed; nothing is logged; and when all have gone, nothing of them is left.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
from typing import Any

import pytest
import socketio
from tests.http.kit import bearer, token
from tests.http.raw import connected, head
from tests.sockets.kit import (
    NOTHING,
    Closed,
    Polling,
    Socket,
    eventually,
    leftovers,
    live_api,
    polling,
    served,
)
from websockets.exceptions import InvalidStatus

from tidings import Api
from tidings.realtime.limits import SocketLimits

pytestmark = pytest.mark.usefixtures("quiet")

CODES = {
    "RESOURCE_REQUIRED",
    "INVALID_SUBSCRIPTION",
    "UNSUPPORTED_OPTION",
    "INVALID_SUBSCRIPTION_ID",
    "SUBSCRIPTION_EXISTS",
    "RESOURCE_NOT_FOUND",
    "PERMISSION_DENIED",
    "FILTERING_NOT_ENABLED",
    "INVALID_FILTERS",
    "INVALID_INCLUDE",
    "INVALID_FIELDS",
    "UNSUPPORTED_FILTER",
    "SUBSCRIPTION_LIMIT_EXCEEDED",
    "PAYLOAD_TOO_LARGE",
    "SUBSCRIPTION_NOT_FOUND",
    "MISSING_SUBSCRIPTION_ID",
    "INVALID_DATA",
}
LEAKS = re.compile(r"Traceback|\.py\b|sqlite|msgspec|socketio|engineio|object at 0x|Error\(", re.I)
EVENTS = ("subscribe", "unsubscribe", "restore-subscriptions")
NAMES = ["__proto__", "constructor", "toString", "hasOwnProperty", "__class__", "", " ", "\0", "🦆"]
NAMES += ["x" * 50_000, "posts ", "Posts", "posts\0", "../posts", "information_schema", "$or", "id"]
SHAPES: list[Any] = [None, True, False, 0, -1, 1.5, 10**30, "", "text", [], [[]], {}, {"a": {}}]
SHAPES += [[{}], ["posts"], {"resource": None}, {"": ""}, "posts", [None, None]]


def assert_refused(answer: Any, *codes: str) -> dict[str, Any]:
    assert set(answer) == {"error"}, answer
    error = answer["error"]
    assert error["code"] in (codes or CODES), error
    assert set(error) <= {"code", "message", "resource", "details"}
    assert error["message"]
    text = json.dumps(error)
    assert len(text) < 30_000, text[:1000]
    assert not LEAKS.search(error["message"]), error
    return error


# Payloads


@pytest.mark.parametrize("event", EVENTS)
async def test_every_json_type_as_payload(socket: Socket, event: str) -> None:
    for shape in SHAPES:
        assert_refused(await socket.call(event, shape))
        if event == "subscribe":
            assert "code" in await socket.event("subscription.error")
    assert_refused(await socket.call(event))
    await socket.assert_healthy()


@pytest.mark.parametrize(
    "member",
    ["resource", "filters", "include", "fields", "subscriptionId", "cursor", "status", "x"],
)
async def test_every_json_type_as_member(socket: Socket, member: str) -> None:
    for shape in SHAPES:
        request = {"resource": "posts", member: shape}
        answer = await socket.call("subscribe", request)
        if "success" in answer:
            made = answer["data"]["subscriptionId"]
            assert member in (
                "filters",
                "include",
                "fields",
                "subscriptionId",
                "cursor",
                "status",
            ) or (shape == "posts")
            assert await socket.call("unsubscribe", {"subscriptionId": made}) == {"success": True}
        else:
            assert_refused(answer)
        answer = await socket.call("restore-subscriptions", {"subscriptions": [request, shape]})
        assert answer["success"] is True
        assert len(answer["restored"]) + len(answer["failed"]) == 2
        for failed in answer["failed"]:
            assert_refused({"error": failed["error"]})
        for made in answer["restored"]:
            await socket.call("unsubscribe", {"subscriptionId": made})
    await socket.assert_healthy()


async def test_names_from_other_worlds(socket: Socket) -> None:
    for name in NAMES:
        answer = await socket.call("subscribe", {"resource": name})
        assert_refused(answer, "RESOURCE_NOT_FOUND", "RESOURCE_REQUIRED")
        answer = await socket.call("subscribe", {"resource": "posts", "filters": {name: {name: 1}}})
        error = assert_refused(answer, "INVALID_FILTERS")
        # Only the id is a filter of every resource.
        code = "INVALID_VALUE" if name == "id" else "UNKNOWN_FIELD"
        assert [found["code"] for found in error["details"].values()] == [code]
        answer = await socket.call("subscribe", {"resource": "posts", "include": [name]})
        assert_refused(answer, "INVALID_INCLUDE")
        for fields in ({name: ["title"]}, {"posts": [name]}):
            answer = await socket.call("subscribe", {"resource": "posts", "fields": fields})
            assert_refused(answer, "INVALID_FIELDS")
        answer = await socket.call("subscribe", {"resource": "posts", name: 1})
        assert_refused(answer, "UNSUPPORTED_OPTION")
        answer = await socket.call("unsubscribe", {"subscriptionId": name})
        assert_refused(answer, "SUBSCRIPTION_NOT_FOUND", "MISSING_SUBSCRIPTION_ID")
    await socket.assert_healthy()


async def test_a_client_cannot_use_what_is_for_the_server(socket: Socket) -> None:
    for filters in (
        {"$or": [{"status": "a"}]},
        {"$and": []},
        {"$not": {}},
        {"note": "x"},
        {"author_id": 1},
        {"status": {"=": "a"}},
        {"status": {"$ne": "a"}},
        {"views": {">": 1}},
        {"status": ["a", "b"]},
    ):
        answer = await socket.call("subscribe", {"resource": "posts", "filters": filters})
        assert_refused(answer, "INVALID_FILTERS")
    assert_refused(await socket.call("subscribe", {"resource": "secrets"}), "PERMISSION_DENIED")
    await socket.assert_healthy()


VALUES: list[Any] = ["nul\0", 10**400, {}, [], [[1]], {"a": 1}, [None], None, True, "x" * 10_000]


async def test_values_that_make_no_sense(socket: Socket) -> None:
    for name in ("title", "status", "statuses", "views", "views_between", "anything"):
        for value in VALUES:
            request = {"resource": "posts", "filters": {name: value}}
            answer = await socket.call("subscribe", request)
            if "success" in answer:
                made = answer["data"]["subscriptionId"]
                await socket.call("unsubscribe", {"subscriptionId": made})
            else:
                error = assert_refused(answer, "INVALID_FILTERS")
                assert list(error["details"]) == [name]
                assert error["details"][name]["code"] == "INVALID_VALUE"
    await socket.assert_healthy()


UNREADABLE = [
    '{"resource":"posts","filters":{"views":NaN}}',
    '{"resource":"posts","filters":{"views":Infinity}}',
    '{"resource":"posts","filters":{"views":1e999}}',
    '{"resource":"posts","filters":{"title":"\\ud800"}}',
    '{"resource":"posts","filters":{"title":"\\udc00\\ud800"}}',
    '{"resource":"posts","filters":{"views":' + "9" * 5_000 + "}}",
    '{"resource":"posts","filters":' + "[" * 20_000 + "]" * 20_000 + "}",
    '{"resource":"posts","filters":' + '{"a":' * 15_000 + "1" + "}" * 15_000 + "}",
    '{"resource":"posts"',
    '{"resource":"posts",}',
    "{'resource':'posts'}",
    "undefined",
    "",
    '{"resource":"posts"}],"trailing"',
]


@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize("payload", UNREADABLE, ids=range(len(UNREADABLE)))
async def test_payloads_that_cannot_be_read(socket: Socket, event: str, payload: str) -> None:
    """The acknowledgement id and the event's name still can, so that there is an answer."""
    await socket.send(f'427["{event}",{payload}]')
    assert_refused(await socket.answer(7))
    await socket.assert_healthy()


@pytest.mark.parametrize("event", EVENTS)
async def test_payloads_that_are_too_large(socket: Socket, event: str) -> None:
    large = {"resource": "posts", "filters": {"title": "x" * SocketLimits().message_size}}
    assert_refused(await socket.call(event, large), "PAYLOAD_TOO_LARGE")
    many = {"subscriptions": [{"resource": "posts"}] * (SocketLimits().message_size // 20)}
    assert_refused(await socket.call(event, many), "PAYLOAD_TOO_LARGE")
    await socket.assert_healthy()


async def test_an_answer_is_not_much_longer_than_its_request(socket: Socket) -> None:
    filters = {f"k{number}": 1 for number in range(9_000)}
    answer = await socket.call("subscribe", {"resource": "posts", "filters": filters})
    assert_refused(answer, "INVALID_FILTERS")
    entries = [{"resource": "posts", "filters": filters}] * 1
    answer = await socket.call("restore-subscriptions", {"subscriptions": entries})
    assert len(json.dumps(answer)) < 30_000
    many = [{"resource": "nothing", "subscriptionId": "x" * 100}] * 700
    answer = await socket.call("restore-subscriptions", {"subscriptions": many})
    assert len(answer["failed"]) == 700
    assert len(json.dumps(answer)) < 3 * len(json.dumps(many))
    long_id = {"resource": "posts", "subscriptionId": ["x" * 90_000]}
    answer = await socket.call("restore-subscriptions", {"subscriptions": [long_id]})
    assert len(json.dumps(answer)) < 100_000 * 1.5
    await socket.assert_healthy()


async def test_extra_arguments_and_acks_that_are_no_functions(socket: Socket) -> None:
    request = {"resource": "posts", "subscriptionId": "s"}
    for extra in (["not a function"], [None], [{}, [], 1], [{"ack": True}] * 100):
        answer = await socket.call("subscribe", request, *extra)
        assert answer["success"] is True
        assert await socket.call("unsubscribe", {"subscriptionId": "s"}, *extra) == {
            "success": True
        }
        # Without an ack function there is the event alone.
        await socket.send(f"42{json.dumps(['subscribe', request, *extra])}")
        socket.events.clear()
        assert (await socket.event("subscription.created"))["subscriptionId"] == "s"
        await socket.send(f"42{json.dumps(['unsubscribe', request, *extra])}")
        await socket.send(f"42{json.dumps(['subscribe', 'nonsense', *extra])}")
        assert (await socket.event("subscription.error"))["code"] == "INVALID_SUBSCRIPTION"
    for event in EVENTS:
        await socket.send(f'42["{event}"]')
        assert_refused(await socket.call(event))
    await socket.assert_healthy()


async def test_events_that_nobody_knows(socket: Socket) -> None:
    for name in ("nothing", "subscription.update", "connected", "*", "message", "error", *NAMES):
        await socket.send(f"42{json.dumps([name, {'resource': 'posts'}])}")
        assert_refused(await socket.call(name, {"resource": "posts"}), "UNKNOWN_EVENT")
    await socket.assert_healthy()


async def test_events_with_the_names_of_the_library_s_own(socket: Socket, api: Api) -> None:
    """``connect`` and ``disconnect`` are handlers, and no client may call them as events."""
    for name in ("connect", "disconnect", "disconnecting", "connect_error", "__disconnect_final"):
        for arguments in ([], [{}], [{}, {"token": token("u2")}], ["reason"], [None, None, None]):
            await socket.send(f"42{json.dumps([name, *arguments])}")
            await socket.send(f"4299{json.dumps([name, *arguments])}")
    await socket.assert_healthy()
    assert api.socket_server._admitted == {}
    assert {found.identity.user_id for found in api.socket_server._subscribers.values()} == {"u1"}


# Frames

FRAMES: list[str | bytes] = [
    "",
    "0",
    '0{"sid":"x"}',
    "4",
    "4x",
    "45",
    "47",
    "49",
    "42",
    "42[",
    "42[]",
    "42{}",
    "42null",
    "42[1]",
    "42[null]",
    '42[["subscribe"]]',
    '42"subscribe"',
    '42-1["subscribe",{}]',
    '42999999999999999999999["subscribe",{}]',
    '42 1["subscribe",{}]',
    '42\u0661["subscribe",{}]',
    "43",
    "43[]",
    "431[]",
    "43999999999999999999[]",
    "431{}",
    '431["surprise"]',
    "44",
    '44{"message":"no"}',
    '451-["subscribe",{"_placeholder":true,"num":0}]',
    '4599999999-["x"]',
    '461-1["x"]',
    "45-",
    "2",
    "2probe",
    "3",
    "3probe",
    "3" * 1000,
    "5",
    "6",
    "7",
    "b",
    "bAAAA",
    "bad!",
    "\0",
    "\ud7ff",
    "🦆",
    "x" * 1_000_000,
    "42" + "[" * 200_000,
    "42" + "9" * 200_000,
    "4" * 100_000,
    "42/",
    "42/other",
    '42/other,["subscribe",{"resource":"posts"}]',
    '42/other,7["subscribe",{"resource":"posts"}]',
    '42/__proto__,["subscribe",{}]',
    '42//,["subscribe",{}]',
    '42/,?token=x,["subscribe",{}]',
    "40/other",
    '40/other,{"token":"x"}',
    "40/" + "x" * 100_000 + ",",
    "40/other?a=b,",
    "41/other,",
    "41/other",
    b"",
    b"binary",
    b"42",
    b"\x00\xff" * 1000,
    b'42["subscribe",{"resource":"posts"}]',
]


@pytest.mark.parametrize("frame", FRAMES, ids=range(len(FRAMES)))
async def test_frames_of_nonsense(socket: Socket, frame: str | bytes) -> None:
    for _ in range(3):
        await socket.send(frame)
    await socket.assert_healthy()


async def test_who_sends_nothing_but_nonsense_is_disconnected(url: str, api: Api) -> None:
    for frame in ("x", "42{}", b"binary"):
        async with await Socket.connected(url) as socket:
            with pytest.raises(Closed):
                for _ in range(1_000):
                    await socket.send(frame)
                await socket.ended()
                raise Closed
    await eventually(lambda: leftovers(api) == NOTHING)


async def test_a_frame_that_is_far_too_long_ends_only_its_own_connection(url: str) -> None:
    async with await Socket.connected(url) as other:
        async with await Socket.connected(url) as socket:
            await socket.send("42" + json.dumps(["subscribe", "x" * 5_000_000]))
            await socket.ended()
        await other.assert_healthy()


async def test_huge_and_zero_ack_ids(socket: Socket) -> None:
    for number in ("0", "1", "999999999999999", "00"):
        request = json.dumps(["unsubscribe", {"subscriptionId": "x"}])
        await socket.send(f"42{number}{request}")
        frame = await socket.receive()
        assert frame.startswith("43")
        assert json.loads(frame[frame.index("[") :])[0]["error"]["code"] == "SUBSCRIPTION_NOT_FOUND"
    await socket.assert_healthy()


# Order of the protocol


async def test_events_before_connect_are_ignored(url: str, api: Api) -> None:
    async with await Socket.open(url) as socket:
        for frame in (
            '42["subscribe",{"resource":"posts"}]',
            '421["subscribe",{"resource":"posts"}]',
            '42["restore-subscriptions",{"subscriptions":[{"resource":"posts"}]}]',
            '42["connect",{},{"token":"x"}]',
            '42["disconnect"]',
            "41",
            "431[]",
        ):
            await socket.send(frame)
        await socket.connect({"token": token()})
        assert [frame[:2] for frame in socket.frames] == ["0{", "40", "42"]
        assert len(api.socket_server._matcher) == 0
        await socket.assert_healthy()


async def test_a_second_connect_is_refused_and_changes_nothing(socket: Socket, api: Api) -> None:
    subscribers = len(api.socket_server._subscribers)
    for auth in ({"token": token("u2")}, {"token": "bad"}, None, {}, []):
        await socket.send(f"40{json.dumps(auth)}")
        assert (await socket.receive()).startswith("44")
    assert len(api.socket_server._subscribers) == subscribers
    assert api.socket_server._admitted == {}
    await socket.assert_healthy()


async def test_after_disconnect_events_are_ignored_and_connecting_works_again(
    url: str, api: Api
) -> None:
    async with await Socket.connected(url) as socket:
        await socket.call("subscribe", {"resource": "posts"})
        await socket.send("41")
        await socket.send('42["subscribe",{"resource":"posts"}]')
        await socket.send('421["subscribe",{"resource":"posts"}]')
        await socket.send("41")
        await eventually(lambda: len(api.socket_server._subscribers) == 0)
        assert len(api.socket_server._matcher) == 0
        socket.events.clear()
        await socket.connect({"token": token("u2")})
        await socket.assert_healthy()


async def test_a_close_packet_ends_the_connection(url: str, api: Api) -> None:
    async with await Socket.connected(url) as socket:
        await socket.call("subscribe", {"resource": "posts"})
        await socket.send("1")
        await eventually(lambda: leftovers(api)[:4] == NOTHING[:4])
    async with await Socket.connected(url) as socket:
        await socket.send("41")
        await socket.send("1")
        await socket.send('42["subscribe",{"resource":"posts"}]')
    await eventually(lambda: leftovers(api) == NOTHING)


AUTHS: list[Any] = [None, True, 0, "token", [], {}, {"token": None}, {"token": 5}, {"token": []}]
AUTHS += [
    {"token": {}},
    {"token": "a.b.c"},
    {"token": "\0"},
    {"token": "x" * 50_000},
    {"Token": "x"},
]
AUTHS += [{"token": "🦆.🦆.🦆"}, {"__proto__": {"token": "x"}}, [{"token": "x"}], {"token": True}]


@pytest.mark.parametrize("auth", AUTHS, ids=range(len(AUTHS)))
async def test_auth_payloads_of_nonsense_are_refused(url: str, api: Api, auth: Any) -> None:
    async with await Socket.open(url) as socket:
        await socket.send(f"40{json.dumps(auth)}")
        frame = await socket.receive()
        assert frame.startswith("44{"), frame
        assert json.loads(frame[2:])["message"] in (
            "Authentication required",
            "Invalid authentication token",
        )
        await socket.send('4277["subscribe",{"resource":"posts"}]')
        # The same connection may try again.
        await socket.connect({"token": token()})
        await socket.assert_healthy()
        assert not any(frame.startswith("4377[") for frame in socket.frames)


async def test_auth_payloads_that_cannot_be_read(url: str) -> None:
    for payload in (
        '{"token":',
        "[" * 50_000,
        '{"token":"\\ud800"}',
        "NaN",
        '"' + "x" * SocketLimits().message_size + '"',
    ):
        async with await Socket.open(url) as socket:
            await socket.send(f"40{payload}")
            await socket.connect({"token": token()})
            await socket.assert_healthy()


async def test_only_the_auth_payload_carries_the_token(url: str) -> None:
    given = token()
    for query, headers in (
        (f"&token={given}", {}),
        (f"&auth={given}", {}),
        (f"&auth[token]={given}", {}),
        ("", bearer()),
        ("", {"cookie": f"token={given}"}),
        ("", {"x-auth-token": given}),
    ):
        async with await Socket.open(url, query, additional_headers=headers) as socket:
            for frame in ("40", "40{}", f"40/?token={given},"):
                await socket.send(frame)
                assert (await socket.receive()).startswith("44")


# Polling


async def test_bodies_of_nonsense_are_refused_and_the_session_lives(url: str) -> None:
    async with polling(url) as http:
        client = await Polling.connected(http)
        bodies = [
            b"",
            b"\xff\xfe\xfd",
            b"x",
            b"0",
            b"9",
            b"\x1e",
            b"\x1e\x1e\x1e",
            b"d=42[]",
            b"b4AAA",
            b"4x",
            b"42[]\x1ex",
            b"\x00" * 1000,
            b"PK\x03\x04",
            '42["subscribe",{}]'.encode("utf-16"),
            b"x" * 3_000_000,
        ]
        for body in bodies:
            response = await http.post(client.url, content=body)
            assert response.status_code == 400, body[:20]
            assert not LEAKS.search(response.text)
        response = await http.post(client.url, content=b"4" * 5_000_000)
        assert response.status_code == 413
        await client.assert_healthy()
        await client.post("1")


async def test_well_formed_nonsense_in_a_body(url: str) -> None:
    async with polling(url) as http:
        client = await Polling.connected(http)
        for body in (
            "42[]",
            "42{}",
            '42[1]\x1e42["nothing"]',
            "43[]",
            "44{}",
            "40{}",
            "3",
            "3probe",
        ):
            response = await http.post(client.url, content=body.encode())
            assert response.status_code == 200, body
        await client.assert_healthy()
        await client.post("1")


async def test_a_body_without_content_length(url: str) -> None:
    async with polling(url) as http:
        client = await Polling.connected(http)
        async with connected(url) as connection:
            start = head("POST", client.url, b"", "Transfer-Encoding: chunked")
            frame = b'427["unsubscribe",{"subscriptionId":"x"}]'
            await connection.send(start + b"%x\r\n%s\r\n0\r\n\r\n" % (len(frame), frame))
            answer = await connection.answer()
            assert answer is not None
            assert answer.status == 200
        assert any("SUBSCRIPTION_NOT_FOUND" in packet for packet in await client.until("437["))
        await client.assert_healthy()
        await client.post("1")


async def test_requests_that_end_too_soon() -> None:
    api = live_api()
    async with served(api) as url, polling(url) as http:
        options = api.socket_server.io.options
        options.ping_interval = options.ping_timeout = 0.2  # sessions without a client end
        client = await Polling.connected(http)
        start = "/socket.io/?EIO=4&transport=polling"
        for target, body in ((client.url, b"42[" + b"x" * 100), (start, b""), (client.url, b"")):
            for method in ("POST", "GET"):
                async with connected(url) as connection:
                    await connection.send(head(method, target, None, "Content-Length: 500") + body)
        for _ in range(20):
            async with connected(url) as connection:
                await connection.send(head("GET", start, None))
        await eventually(lambda: leftovers(api) == NOTHING)


async def test_sessions_methods_and_transports_of_nonsense(url: str) -> None:
    base = "/socket.io/?EIO=4&transport=polling"
    async with polling(url) as http:
        for query in (
            "?EIO=4&transport=polling&sid=nothing",
            "?EIO=4&transport=polling&sid=" + "x" * 20_000,
            "?EIO=4&transport=polling&sid=%ff%00",
            "?EIO=4&transport=polling&sid=__proto__",
            "?EIO=4&transport=nothing",
            "?EIO=4&transport=websocket",
            "?EIO=3&transport=polling",
            "?EIO=x&transport=polling",
            "?transport=polling",
            "?EIO=4&transport=polling&j=x",
            "?EIO=4&transport=polling&j=-1&sid=x",
            "?" + "&".join(f"a{number}=1" for number in range(2_000)),
            "?%ff%fe",
            "",
        ):
            for method in ("GET", "POST"):
                response = await http.request(method, f"/socket.io/{query}")
                assert response.status_code == 400, (method, query)
                assert not LEAKS.search(response.text)
        for method in ("PUT", "DELETE", "PATCH", "HEAD", "TRACE", "BREW"):
            response = await http.request(method, base)
            assert response.status_code in (400, 404, 405), method
        for path in ("/socket.io", "/socket.io/x/y/../z", "/socket.io/%00", "/socket.io//"):
            assert (await http.get(path)).status_code == 400


async def test_many_packets_of_one_body_keep_the_limit(url: str, api: Api) -> None:
    async with polling(url) as http:
        client = await Polling.connected(http)
        packets = [
            f'42{number}["subscribe",{{"resource":"posts","filters":{{"views":{number}}}}}]'
            for number in range(1, 151)
        ]
        for start in range(3):
            await client.post(*packets[start::3])
        found: list[str] = []
        while sum(packet.startswith("43") for packet in found) < 150:
            found += await client.get()
        answers = [packet for packet in found if packet.startswith("43")]
        assert sum('"success":true' in packet for packet in answers) == 100
        assert sum("SUBSCRIPTION_LIMIT_EXCEEDED" in packet for packet in answers) == 50
        (subscriber,) = api.socket_server._subscribers.values()
        assert len(subscriber.subscriptions) == 100
        assert len(api.socket_server._matcher) == 100
        await client.post("1")
    await eventually(lambda: leftovers(api) == NOTHING)


async def test_the_limit_holds_while_hooks_keep_many_waiting() -> None:
    api = live_api(limit=5)
    gate, reached = asyncio.Event(), asyncio.Event()

    @api.hook("subscription_filters")
    async def wait(context: Any) -> None:
        reached.set()
        await gate.wait()

    async with served(api) as url, polling(url) as http:
        client = await Polling.connected(http)
        posts = [
            asyncio.create_task(client.post(f'42{number}["subscribe",{{"resource":"posts"}}]'))
            for number in range(1, 9)
        ]
        await reached.wait()
        gate.set()
        await asyncio.gather(*posts)
        found: list[str] = []
        while sum(packet.startswith("43") for packet in found) < 8:
            found += await client.get()
        assert sum('[{"success":true' in packet for packet in found) == 5
        (subscriber,) = api.socket_server._subscribers.values()
        assert len(subscriber.subscriptions) == 5
        await client.post("1")
        await eventually(lambda: leftovers(api) == NOTHING)


async def test_who_leaves_while_a_hook_waits_leaves_nothing() -> None:
    api = live_api()
    gate, reached = asyncio.Event(), asyncio.Event()

    @api.hook("subscription_filters")
    async def wait(context: Any) -> None:
        reached.set()
        await gate.wait()

    async with served(api) as url, polling(url) as http:
        for leaving in ("1", "41"):
            gate.clear()
            reached.clear()
            client = await Polling.connected(http)
            entries = [{"resource": "posts", "subscriptionId": name} for name in "ab"]
            request = json.dumps(["restore-subscriptions", {"subscriptions": entries}])
            post = asyncio.create_task(client.post(f"421{request}"))
            await reached.wait()
            await client.post(leaving)
            await eventually(lambda: len(api.socket_server._subscribers) == 0)
            gate.set()
            await post
            await eventually(lambda: leftovers(api)[:4] == NOTHING[:4])
            if leaving == "41":
                await client.post("1")
        await eventually(lambda: leftovers(api) == NOTHING)


# Upgrades


async def test_upgrade_probes_out_of_order(url: str, api: Api) -> None:
    async with polling(url) as http:
        for frames in (
            ["5"],
            ["5", "2probe"],
            ["3probe"],
            ["2"],
            ['42["subscribe",{"resource":"posts"}]'],
            ["2probe", "2probe"],
            ["2probe", '42["subscribe",{"resource":"posts"}]'],
            ["2probe", "1"],
            ["1"],
            ["2probe", b"binary"] * 3,
            ["x"] * 30,
            [],
        ):
            client = await Polling.connected(http)
            async with await Socket.open(url, f"&sid={client.sid}") as socket:
                try:
                    for frame in frames:
                        await socket.send(frame)
                except Closed:
                    pass
            await asyncio.wait_for(client.assert_healthy(), 10)
            await client.post("1")
    await eventually(lambda: leftovers(api) == NOTHING)


async def test_upgrades_of_sessions_that_are_not_there(url: str) -> None:
    async with await Socket.connected(url) as socket:
        sid = json.loads(socket.frames[0][1:])["sid"]
        for query in (f"&sid={sid}", "&sid=nothing", "&sid="):
            with pytest.raises((InvalidStatus, Closed, AssertionError)):
                async with await Socket.open(url, query) as other:
                    await other.send("2probe")
                    assert await other.receive() == "3probe"
        await socket.assert_healthy()


async def test_an_upgrade_in_order(url: str, api: Api) -> None:
    async with polling(url) as http:
        client = await Polling.connected(http)
        async with await Socket.open(url, f"&sid={client.sid}") as socket:
            poll = asyncio.create_task(client.get())
            await socket.send("2probe")
            assert await socket.receive() == "3probe"
            assert await poll == ["6"]
            await socket.send("5")
            await socket.assert_healthy()
            assert (await http.get(client.url)).status_code == 400
            assert (await client.post("42[]")).status_code == 400
            await socket.assert_healthy()
    await eventually(lambda: leftovers(api) == NOTHING)


async def test_bytes_that_are_no_websocket(url: str) -> None:
    key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
    target = "/socket.io/?EIO=4&transport=websocket"
    upgrade = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", key)
    for noise in (
        b"\x81\x05hello",  # not masked
        b"\xff" * 100,
        b"\x81\xff" + b"\xff" * 20,
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x83\x80\x00\x00\x00\x00",  # a reserved opcode
        b"\x88\x80\x00\x00\x00\x00",
    ):
        async with connected(url) as connection:
            await connection.send(head("GET", target, None, *upgrade))
            answer = await connection.answer(has_body=False)
            assert answer is not None
            assert answer.status == 101
            await connection.send(noise)
    for missing in range(1, 4):
        async with connected(url) as connection:
            lines = [line for index, line in enumerate(upgrade) if index != missing]
            answer = await connection.request("GET", target, None, *lines)
            assert answer is None or answer.status >= 400


# Origins


async def test_origins_are_held_to_the_list_on_both_transports() -> None:
    allowed = "https://app.example"
    api = live_api(cors={"origin": [allowed, "https://other.example"]})
    async with served(api) as url, polling(url) as http:
        for origin in (allowed, "https://other.example"):
            client = await Polling.open(http, origin=origin)
            response = await http.get(
                "/socket.io/?EIO=4&transport=polling", headers={"origin": origin}
            )
            assert response.headers["access-control-allow-origin"] == origin
            async with await Socket.open(url, origin=origin) as socket:
                await socket.connect({"token": token()})
                await socket.assert_healthy()
            await client.post("1")
        for origin in (
            "https://evil.example",
            "http://app.example",
            "https://app.example.evil.example",
            "https://app.example:8443",
            "null",
            "https://APP.example/",
        ):
            headers = {"origin": origin}
            response = await http.get("/socket.io/?EIO=4&transport=polling", headers=headers)
            assert response.status_code == 400
            assert "access-control-allow-origin" not in response.headers
            response = await http.options("/socket.io/?EIO=4&transport=polling", headers=headers)
            assert "access-control-allow-origin" not in response.headers
            with pytest.raises(InvalidStatus):
                await Socket.open(url, origin=origin)
        client = await Polling.open(http)
        response = await http.post(client.url, content=b"40", headers={"origin": "https://evil.x"})
        assert response.status_code == 400
        await client.post("1")


async def test_any_origin_by_default() -> None:
    async with served(live_api(cors=None)) as url, polling(url) as http:
        url = "/socket.io/?EIO=4&transport=polling"
        response = await http.options(url, headers={"origin": "https://any.example"})
        assert response.headers["access-control-allow-origin"] == "*"
        assert "access-control-allow-credentials" not in response.headers


async def test_an_empty_list_lets_only_the_servers_own_pages_in() -> None:
    path = "/socket.io/?EIO=4&transport=polling"
    async with served(live_api(cors={"origin": []})) as url, polling(url) as http:
        assert (await http.get(path, headers={"origin": url})).status_code == 200
        assert (await http.get(path, headers={"origin": "https://a.example"})).status_code == 400


# Fuzzing

SEED = int(os.environ.get("TIDINGS_FUZZ_SEED", "20260115"))
COUNT = int(os.environ.get("TIDINGS_FUZZ", "3000"))


class Fuzzer:
    """Makes frames that are nearly right."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def pick(self, *options: Any) -> Any:
        return self.random.choice(options)

    def chance(self, share: float) -> bool:
        return self.random.random() < share

    def value(self, depth: int = 0) -> Any:
        kinds: list[Any] = [
            lambda: self.pick("posts", "a", "draft", "", "\0", "__proto__", "x" * 300, "s1", "s2"),
            lambda: self.pick(0, 1, -1, 2**63, 10**30, 0.5, 1e308),
            lambda: self.pick(None, True, False),
        ]
        if depth < 4:
            kinds += [
                lambda: [self.value(depth + 1) for _ in range(self.random.randint(0, 3))],
                lambda: {self.name(): self.value(depth + 1) for _ in range(self.pick(0, 1, 2))},
            ]
        return self.random.choice(kinds)()

    def name(self) -> str:
        return self.pick("title", "status", "statuses", "views", "anything", "id", "$or", "x", "")

    def filters(self) -> Any:
        good = {
            "title": "a",
            "status": "draft",
            "statuses": ["a", "b"],
            "views": 3,
            "views_between": [1, 2],
            "anything": {"a": 1},
        }
        names = self.random.sample(list(good), self.random.randint(0, 3))
        filters = {name: good[name] for name in names}
        if self.chance(0.2):
            filters[self.name()] = self.value()
        return filters

    def request(self) -> Any:
        if self.chance(0.1):
            return self.value()
        request: dict[str, Any] = {"resource": "posts" if self.chance(0.9) else self.value()}
        if self.chance(0.5):
            request["filters"] = self.value() if self.chance(0.1) else self.filters()
        if self.chance(0.3):
            request["subscriptionId"] = self.pick("s1", "s2", "s3", self.value())
        if self.chance(0.2):
            request["include"] = self.pick(["author"], [], ["x"], self.value())
        if self.chance(0.2):
            request["fields"] = self.pick({"posts": ["title"]}, {"posts": "title"}, self.value())
        if self.chance(0.2):
            request["cursor"] = self.pick("a.1", "x", "a." + "9" * 40, self.value())
        if self.chance(0.05):
            request[self.name()] = self.value()
        return request

    def packet(self) -> tuple[str, list[Any]]:
        event = self.pick("subscribe", "subscribe", "unsubscribe", "restore-subscriptions", "other")
        if event == "unsubscribe":
            name = self.pick("s1", "s2", "s3", "posts-1", self.value())
            return event, [{"subscriptionId": name}]
        if event == "restore-subscriptions":
            entries = [self.request() for _ in range(self.random.randint(0, 4))]
            return event, [{"subscriptions": entries if self.chance(0.9) else self.value()}]
        return event, [self.request()] + [self.value()] * self.pick(0, 0, 0, 1, 2)

    def spoiled(self, frame: str) -> str:
        place = self.random.randrange(len(frame))
        noise = self.pick("", "x", "[", '"', "\0", "{", "é", "9", "-", ",", "/")
        return frame[:place] + noise + frame[place + self.pick(0, 0, 1, 1, 5) :]


async def test_fuzz(api: Api, url: str) -> None:
    fuzzer = Fuzzer(SEED)
    answered = {"success": 0, "error": 0}
    socket = await Socket.connected(url)
    number, spoiled = 0, 0
    async with await Socket.connected(url) as bystander:
        while number < COUNT:
            number += 1
            event, arguments = fuzzer.packet()
            frame = f"42{number}{json.dumps([event, *arguments])}"
            if fuzzer.chance(0.15):
                # Whatever this is now: it may be answered, ignored, or end the connection.
                spoiled += 1
                frame = fuzzer.spoiled(frame)
                await socket.send(frame)
                # A new one where it may have become a DISCONNECT or CLOSE, and before the
                # malformed ones are too many.
                if spoiled % 10 == 0 or not frame.startswith("42"):
                    await socket.close()
                    socket = await Socket.connected(url)
                continue
            try:
                await socket.send(frame)
                if event == "other":
                    continue
                answer = await socket.answer(number)
            except Closed:
                socket = await Socket.connected(url)
                continue
            except TimeoutError:
                pytest.fail(f"seed {SEED}, number {number}: no answer to {frame}")
            if "error" in answer:
                assert_refused(answer)
                answered["error"] += 1
            else:
                assert answer["success"] is True
                answered["success"] += 1
                for failed in answer.get("failed", ()):
                    assert_refused({"error": failed["error"]})
            if number % 100 == 0:
                await bystander.assert_healthy()
                await socket.close()
                socket = await Socket.connected(url)
                socket.events.clear()
        await bystander.assert_healthy()
    await socket.close()
    assert min(answered.values()) > COUNT / 10, answered
    await eventually(lambda: leftovers(api) == NOTHING)


async def test_a_thousand_sockets_leave_nothing() -> None:
    api = live_api()
    async with served(api) as url:
        async with await Socket.connected(url):
            pass
        await eventually(lambda: leftovers(api) == NOTHING)
        before = {task.get_name() for task in asyncio.all_tasks()}

        async def cycle(number: int) -> None:
            async with await Socket.connected(url) as socket:
                filters = {"views": number % 7}
                answer = await socket.call("subscribe", {"resource": "posts", "filters": filters})
                assert answer["success"] is True
                if number % 3 == 0:
                    await socket.send("41")
                elif number % 3 == 1:
                    socket.wire.transport.abort()

        for start in range(0, 1_000, 20):
            await asyncio.gather(*(cycle(number) for number in range(start, start + 20)))
        await eventually(lambda: leftovers(api) == NOTHING)
        await eventually(lambda: len(asyncio.all_tasks()) <= len(before) + 1)


async def test_polling_sessions_leave_nothing() -> None:
    api = live_api()
    async with served(api) as url, polling(url) as http:
        for _ in range(20):
            client = await Polling.connected(http)
            await client.assert_healthy()
            await client.post("1")
        await eventually(lambda: leftovers(api) == NOTHING)


async def test_the_official_python_client_still_works_after_all_this(url: str, api: Api) -> None:
    client = socketio.AsyncSimpleClient()
    await client.connect(url, auth={"token": token()})
    assert (await client.call("subscribe", {"resource": "posts"}))["success"] is True
    made = await api.resources.posts.post({"title": "a"})
    while (received := await client.receive(timeout=10))[0] != "subscription.update":
        pass
    assert received[1]["id"] == made["id"]
    await client.disconnect()

"""What is posted is looked at before it is read: by whom, how much, and how much at once."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import urlsplit

import pytest
from tests.sockets.kit import NOTHING, Polling, eventually, leftovers, live_api, polling, served

pytestmark = pytest.mark.anyio


async def post(url: str, target: str, *lines: str, body: bytes = b"") -> int:
    """The status that a POST is answered with, of whose body only so much comes."""
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    head = "\r\n".join([f"POST {target} HTTP/1.1", "Host: x", *lines, "", ""])
    writer.write(head.encode() + body)
    try:
        return int((await reader.readline()).split()[1])
    finally:
        writer.close()


ENDLESS = "Content-Length: 4000000"


@pytest.mark.parametrize("session", ["", "&sid=nothing", "&sid=" + "a" * 20])
async def test_a_post_of_no_session_is_refused_before_its_body_comes(session: str) -> None:
    async with served(live_api()) as url:
        target = "/socket.io/?EIO=4&transport=polling" + session
        assert await post(url, target, ENDLESS) == 400


async def test_who_has_not_shown_a_token_says_little() -> None:
    async with served(live_api()) as url, polling(url) as http:
        client = await Polling.open(http)
        answer = await http.post(client.url, content=b"4" * 70_000)
        assert answer.status_code == 413
        client = await Polling.connected(http)
        answer = await http.post(client.url, content=b"4" + b"x" * 70_000)
        assert answer.status_code == 400, "it is read, and malformed"


async def test_a_session_that_posts_two_things_at_a_time_ends() -> None:
    api = live_api()
    async with served(api) as url, polling(url) as http:
        client = await Polling.connected(http)
        link: Any = api.socket_server.io.engine.sessions[client.sid].link
        stalled = asyncio.create_task(post(url, client.url, ENDLESS, body=b"4"))
        await eventually(lambda: link.is_posting)
        assert await post(url, client.url, ENDLESS) == 400
        # The protocol wants it so: one of the two may have come before the other, or not.
        assert (await http.post(client.url, content=b"3")).status_code == 400
        stalled.cancel()
        await asyncio.gather(stalled, return_exceptions=True)
        await eventually(lambda: leftovers(api) == NOTHING)


async def test_all_bodies_together_are_bounded() -> None:
    api = live_api()
    api.socket_server.io.engine.reading._most = 100_000
    async with served(api) as url, polling(url) as http:
        clients = [await Polling.connected(http) for _ in range(3)]
        stalled = [
            asyncio.create_task(post(url, one.url, ENDLESS, body=b"4" * 45_000)) for one in clients
        ]
        done, waiting = await asyncio.wait(stalled, return_when=asyncio.FIRST_COMPLETED)
        assert [one.result() for one in done] == [503]
        for one in waiting:
            one.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)


async def test_a_body_has_to_come_in_time() -> None:
    api = live_api()
    api.socket_server.io.options.read_deadline = 0.05
    async with served(api) as url, polling(url) as http:
        client = await Polling.connected(http)
        assert await post(url, client.url, ENDLESS) == 408


async def test_a_websocket_without_its_headers_is_refused_with_a_hint(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A proxy that passes `Upgrade` on, and not `Connection`: the client would wait for ever."""
    async with served(live_api()) as url, polling(url) as http:
        session = (await Polling.open(http)).url.replace("polling", "websocket")
        for target in ("/socket.io/?EIO=4&transport=websocket", session):
            answer = await http.get(target, headers={"upgrade": "websocket"})
            assert answer.status_code == 400
    hints = [line for line in caplog.messages if "Connection: upgrade" in line]
    assert len(hints) == 1


async def test_a_client_of_an_old_protocol_is_told_what_to_use() -> None:
    async with served(live_api()) as url, polling(url) as http:
        answer = await http.get("/socket.io/?EIO=3&transport=polling")
        assert answer.status_code == 400
        assert "Socket.IO 3 or later" in answer.json()["message"]

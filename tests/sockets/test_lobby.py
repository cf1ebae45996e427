"""Who opens sessions and shows no token, or never polls again, is bounded; others come in.

Addresses of the loopback network stand for those of clients.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import socketio
from tests.http.kit import token
from tests.http.raw import connected
from tests.sockets.kit import (
    NOTHING,
    TIMEOUT,
    Closed,
    Polling,
    Socket,
    eventually,
    leftovers,
    live_api,
    polling,
    served,
)
from tests.support.server import run_server
from websockets.exceptions import InvalidStatus

from tidings import Api, SocketLimits
from tidings.socketio import Lobby, LobbyFull, address_of

HANDSHAKE = "/socket.io/?EIO=4&transport=polling"
EVIL = "127.0.0.66"


@contextlib.asynccontextmanager
async def limited(deadline: float = 60.0, **limits: int) -> AsyncIterator[tuple[Api, str]]:
    api = live_api(limits=SocketLimits(**limits), connect_deadline=deadline)
    async with served(api) as url:
        yield api, url
        await eventually(lambda: leftovers(api) == NOTHING)


@contextlib.asynccontextmanager
async def from_address(url: str, address: str) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.AsyncHTTPTransport(local_address=address)
    async with httpx.AsyncClient(base_url=url, timeout=TIMEOUT, transport=transport) as http:
        yield http


async def flood(url: str, count: int) -> Counter[int]:
    """Open so many sessions from one address, and do no more with them; gives the statuses."""
    statuses = Counter[int]()
    async with connected(url, EVIL) as connection:
        for _ in range(count):
            answer = await connection.request("GET", HANDSHAKE)
            assert answer is not None
            statuses[answer.status] += 1
    return statuses


def assert_refused(answer: httpx.Response, status: int, words: str) -> None:
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/json"
    assert int(answer.headers["retry-after"]) > 0
    assert words in answer.json()["message"]


async def assert_comes_in(url: str) -> None:
    """By polling, by WebSocket and by the official client with its upgrade."""
    async with polling(url) as http:
        session = await Polling.connected(http)
        await session.assert_healthy()
        await session.post("1")
    async with await Socket.connected(url) as socket:
        await socket.assert_healthy()
    client = socketio.AsyncSimpleClient()
    await client.connect(url, auth={"token": token()})
    await client.disconnect()


async def test_an_address_that_only_opens_sessions_is_refused_and_others_come_in(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with limited(deadline=1.0, unconnected_per_address=20) as (api, url):
        lobby = api.socket_server.io.engine.lobby
        async with from_address(url, EVIL) as http:
            assert await flood(url, 100) == {200: 20, 429: 80}
            assert_refused(await http.get(HANDSHAKE), 429, "at this address")
            assert lobby.count("unconnected") == 20
            assert len(api.socket_server.io.engine.sessions) == 20
            await assert_comes_in(url)
            # At the deadline they are ended, and count no more: not for ever is the address shut.
            await eventually(lambda: leftovers(api) == NOTHING)
            assert await flood(url, 20) == {200: 20}
    # However many are refused, one line in a minute tells of it.
    told = [record for record in caplog.records if "refused" in record.getMessage()]
    assert len(told) == 1
    assert told[0].getMessage().endswith(f"clients that have not connected at {EVIL}")


async def test_sockets_of_both_transports_that_have_not_connected_are_bounded() -> None:
    async with limited(unconnected=4) as (api, url), polling(url) as http:
        first = [await Polling.open(http) for _ in range(2)]
        others = [await Socket.open(url) for _ in range(2)]
        assert_refused(await http.get(HANDSHAKE), 503, "have not connected; try again")
        with pytest.raises(InvalidStatus) as raised:
            await Socket.open(url)
        assert raised.value.response.status_code == 403
        # Who connects makes room, and so does who leaves.
        await others[0].connect({"token": token()})
        fifth = await Polling.open(http)
        assert (await http.get(HANDSHAKE)).status_code == 503
        await first[0].post("1")
        sixth = await Socket.open(url)
        # A refused token is no connection; a namespace that is left is one no more.
        await sixth.send('40{"token":"nonsense"}')
        assert (await sixth.receive()).startswith("44")
        assert api.socket_server.io.engine.lobby.count("unconnected") == 4
        await others[0].send("41")
        await eventually(lambda: api.socket_server.io.engine.lobby.count("unconnected") == 5)
        for session in (first[1], fifth):
            await session.post("1")
        for socket in (*others, sixth):
            await socket.wire.close()


async def test_clients_that_poll_are_bounded_and_those_with_a_websocket_are_not() -> None:
    async with limited(polling=2, polling_per_address=1) as (api, url):
        lobby = api.socket_server.io.engine.lobby
        async with from_address(url, EVIL) as evil, polling(url) as http:
            mine = await Polling.connected(http)
            assert_refused(await http.get(HANDSHAKE), 429, "clients that poll at this address")
            theirs = await Polling.connected(evil)
            async with from_address(url, "127.0.0.67") as other:
                assert_refused(await other.get(HANDSHAKE), 503, "clients that poll; try")
                async with await Socket.connected(url):
                    assert lobby.count("polling") == 2
                # An upgrade makes room; an attempt that comes to nothing does not.
                for probe, count in ((["5"], 2), (["2probe", "2"], 2), (["2probe", "5"], 1)):
                    upgrade = await Socket.open(url, f"&sid={mine.sid}")
                    for frame in probe:
                        await upgrade.send(frame)
                    await eventually(lambda: lobby.count("polling") == count)  # noqa: B023
                    if count == 2:
                        await upgrade.wire.wait_closed()
                third = await Polling.connected(other)
                await third.post("1")
            await theirs.post("1")
            await upgrade.wire.close()


async def test_connected_clients_that_never_poll_again_are_ended() -> None:
    async with limited(polling=10) as (api, url):
        options = api.socket_server.io.options
        options.ping_interval, options.ping_timeout = 0.1, 0.2
        async with polling(url) as http:
            seen: set[str] = set()  # on a slow machine the first is gone before the last comes
            for _ in range(10):
                session = await Polling.open(http)
                await session.post("40" + json.dumps({"token": token()}))
                seen |= api.socket_server._subscribers.keys()
            assert len(seen) == 10
            await eventually(lambda: leftovers(api) == NOTHING)
            session = await Polling.open(http)
            await session.post("1")


async def test_handshakes_that_fail_are_not_counted() -> None:
    async with limited(unconnected=1) as (api, url), polling(url) as http:
        for _ in range(3):
            for query in ("EIO=3&transport=polling", "EIO=4&transport=carrier-pigeon", ""):
                assert (await http.get(f"/socket.io/?{query}")).status_code == 400
            evil = await http.get(HANDSHAKE, headers={"origin": "https://evil.example"})
            assert evil.status_code == 400
            assert (await http.head(HANDSHAKE)).status_code == 400
            with pytest.raises(InvalidStatus):
                await Socket.open(url, "&EIO=3", origin="https://evil.example")
        assert leftovers(api) == NOTHING


async def test_sessions_that_open_and_close_leave_nothing() -> None:
    async with limited() as (api, url), polling(url) as http:
        for _ in range(100):
            session = await Polling.open(http)
            await session.post("1")
            assert leftovers(api)[4] == 0


async def test_upgrades_are_one_at_a_time_and_have_a_deadline() -> None:
    async with limited(deadline=0.5) as (api, url), polling(url) as http:
        session = await Polling.connected(http)
        waiting = await Socket.open(url, f"&sid={session.sid}")
        another = await Socket.open(url, f"&sid={session.sid}")
        with pytest.raises(Closed):
            await another.receive()
        with pytest.raises(Closed):
            await waiting.receive()
        assert api.socket_server.io.engine.sessions[session.sid].probe is None
        await session.assert_healthy()
        # What has been upgraded outlives the deadline.
        upgraded = await Socket.open(url, f"&sid={session.sid}")
        await upgraded.send("2probe")
        assert await upgraded.receive() == "3probe"
        await upgraded.send("5")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.8):
                while True:
                    await upgraded.receive()
        await upgraded.assert_healthy()
        await upgraded.wire.close()


SERVER = """
import os, uvicorn
from tests.sockets.kit import live_api
from tidings import SocketLimits
api = live_api(connect_deadline=0.5, limits=SocketLimits(unconnected_per_address=50))
uvicorn.run(api.asgi(), port=int(os.environ["PORT"]), log_level="error", access_log=False)
"""


async def test_the_memory_that_opening_sessions_costs_is_bounded() -> None:
    def memory() -> int:
        pages = int(Path(f"/proc/{server.process.pid}/statm").read_text().split()[1])
        return pages * 4096 // 1024

    async with run_server(["-c", SERVER], tapped=False) as server:
        await flood(server.url, 2_000)
        before, statuses = memory(), Counter[int]()
        for _ in range(3):
            statuses += await flood(server.url, 2_000)
            await assert_comes_in(server.url)
        assert statuses.keys() == {200, 429}
        assert memory() - before < 4_000, f"KiB for {statuses}"


# The parts


def test_the_lobby_counts_down_when_guests_go() -> None:
    lobby = Lobby(SocketLimits(unconnected=3, unconnected_per_address=2, polling_per_address=2))
    guests = [lobby.enter(address, polls=True) for address in ("a", "a", None)]
    for address, status in (("a", 429), ("b", 503), (None, 503)):
        with pytest.raises(LobbyFull) as raised:
            lobby.enter(address, polls=False)
        assert raised.value.status == status
    guests[0].has_connected()
    guests[0].has_connected()
    assert (lobby.count("unconnected"), lobby.count("polling")) == (2, 3)
    with pytest.raises(LobbyFull, match="that poll at this address"):
        lobby.enter("a", polls=True)
    guests[0].has_upgraded()
    guests.append(lobby.enter("a", polls=True))
    guests[0].has_disconnected()
    assert (lobby.count("unconnected"), lobby.count("polling")) == (4, 3)
    for guest in guests:
        guest.leave()
        guest.has_disconnected()
        guest.leave()
    assert len(lobby) == 0


def test_zero_is_any_number() -> None:
    lobby = Lobby(SocketLimits(unconnected=0, unconnected_per_address=0, polling=0))
    for _ in range(20_000):
        lobby.enter("a", polls=True)
    assert lobby.count("polling") == 20_000


def test_the_log_is_told_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    now = [0.0]
    lobby = Lobby(SocketLimits(unconnected=1), lambda: now[0])
    lobby.enter(None, polls=False)
    for moment in (0.0, 1.0, 59.0, 60.0, 61.0):
        now[0] = moment
        with pytest.raises(LobbyFull):
            lobby.enter(None, polls=False)
    assert len(caplog.records) == 2


@pytest.mark.parametrize(
    ("client", "address"),
    [
        (("192.0.2.1", 80), "192.0.2.1"),
        (("2001:db8:1:2:3:4:5:6", 80), "2001:db8:1:2::/64"),
        (("2001:db8:1:2::9", 80), "2001:db8:1:2::/64"),
        (("::ffff:192.0.2.1", 80), "192.0.2.1"),
        (("testclient", 80), "testclient"),
        (None, None),
    ],
)
def test_an_ipv6_network_is_one_address(client: Any, address: str | None) -> None:
    assert address_of({"client": client}) == address
    assert address_of({}) is None

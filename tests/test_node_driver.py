"""The JavaScript test kit does what the tests built on it rely on."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import socketio

from tests.support.node import NodeClient, NodeClientError, SubscriptionRefused
from tests.support.server import run_server, serve

pytestmark = pytest.mark.anyio


@dataclass
class Peer:
    """A Socket.IO server that speaks as much of the wire contract as the kit needs."""

    url: str = ""
    server: socketio.AsyncServer = field(
        default_factory=lambda: socketio.AsyncServer(async_mode="asgi")
    )
    tokens: list[Any] = field(default_factory=list)
    restores: list[Any] = field(default_factory=list)
    sids: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.server.on("connect", self.on_connect)
        self.server.on("subscribe", self.on_subscribe)
        self.server.on("unsubscribe", self.on_unsubscribe)
        self.server.on("restore-subscriptions", self.on_restore)
        self.server.on("echo", self.on_echo)
        self.server.on("say", self.on_say)
        self.server.on("kick", self.on_kick)
        self.server.on("mute", self.on_mute)

    async def on_connect(self, sid: str, environ: dict[str, Any], auth: Any = None) -> None:
        self.tokens.append(auth)
        if auth == {"token": "bad"}:
            raise socketio.exceptions.ConnectionRefusedError("token is bad", {"code": "BAD"})
        self.sids.append(sid)

    async def on_subscribe(self, sid: str, options: dict[str, Any]) -> dict[str, Any]:
        if options["resource"] == "secrets":
            return {"error": {"code": "PERMISSION_DENIED", "message": "not yours"}}
        data = {**options, "subscriptionId": f"{options['resource']}-1", "cursor": "e.1"}
        await self.server.emit("subscription.created", data, to=sid)
        return {"success": True, "data": data}

    async def on_unsubscribe(self, sid: str, options: dict[str, Any]) -> dict[str, Any]:
        return {"success": True}

    async def on_restore(self, sid: str, request: dict[str, Any]) -> dict[str, Any]:
        self.restores.append(request["subscriptions"])
        names = [one["subscriptionId"] for one in request["subscriptions"]]
        return {"success": True, "restored": names, "failed": []}

    async def on_echo(self, sid: str, *args: Any) -> tuple[Any, ...]:
        return args

    async def on_say(self, sid: str, event: str, *args: Any) -> None:
        await self.server.emit(event, args, to=sid)

    async def on_kick(self, sid: str) -> None:
        await self.server.disconnect(sid)

    async def on_mute(self, sid: str) -> None:
        """Never answers in time."""
        await asyncio.Event().wait()


@pytest.fixture
async def peer() -> AsyncIterator[Peer]:
    peer = Peer()
    async with serve(socketio.ASGIApp(peer.server)) as peer.url:
        yield peer
        await peer.server.shutdown()


@pytest.fixture
async def client(peer: Peer) -> AsyncIterator[NodeClient]:
    async with NodeClient(peer.url, transports="websocket") as client:
        yield client


UPDATE = {
    "type": "resource.updated",
    "resource": "posts",
    "id": "7",
    "action": "patch",
    "subscriptionId": "posts-1",
    "meta": {"timestamp": "2026-01-15T10:00:00.123Z", "cursor": "e.2", "change": "update"},
}


async def test_connect_sends_the_token_and_tells_the_transport(peer, client):
    connected = await client.connect("good")
    assert connected["transport"] == "websocket"
    assert peer.tokens == [{"token": "good"}]
    assert [one.event for one in await client.events()] == ["connect"]


async def test_a_refused_connect_raises_and_is_logged(client):
    with pytest.raises(NodeClientError, match="token is bad") as caught:
        await client.connect("bad")
    assert caught.value.data == {"code": "BAD"}
    [refused] = await client.events("connect_error")
    assert refused.args == ["token is bad", {"code": "BAD"}]


async def test_emit_returns_the_arguments_of_the_ack(client):
    await client.connect()
    assert await client.emit("echo", 1, {"two": [3]}, None) == [1, {"two": [3]}, None]
    assert await client.emit("echo", "x", ack=False) is None


async def test_a_missing_ack_is_an_error_that_names_the_event(client):
    await client.connect()
    with pytest.raises(NodeClientError, match="no ack of mute within 50 ms"):
        await client.emit("mute", timeout=0.05)


async def test_subscribe_resolves_or_raises_as_the_guides_helper_does(client):
    await client.connect()
    subscription = await client.subscribe(resource="posts", filters={"status": "draft"})
    assert subscription["subscriptionId"] == "posts-1"
    assert await client.subscriptions() == [subscription]
    with pytest.raises(SubscriptionRefused, match="PERMISSION_DENIED") as caught:
        await client.subscribe(resource="secrets")
    assert caught.value.error == {"code": "PERMISSION_DENIED", "message": "not yours"}


async def test_the_log_keeps_the_order_of_acks_and_events(client):
    await client.connect()
    await client.subscribe(resource="posts")
    log = await client.events()
    assert [one.event for one in log] == ["connect", "subscription.created", "ack"]
    assert log[2].args[0] == "subscribe"
    assert [one.seq for one in log] == [0, 1, 2]
    assert log[0].at <= log[2].at


async def test_unsubscribe_forgets_the_subscription(client):
    await client.connect()
    await client.subscribe(resource="posts")
    assert await client.unsubscribe("posts-1") == {"success": True}
    assert await client.subscriptions() == []


async def test_wait_counts_matches_and_forgets_after_clear(client):
    await client.connect()
    for number in range(3):
        await client.emit("say", "news", {"id": number, "meta": {"odd": number % 2 == 1}})
    assert [one.data["id"] for one in await client.wait("news", count=3)] == [0, 1, 2]
    [odd] = await client.wait("news", match={"meta": {"odd": True}})
    assert odd.data["id"] == 1
    await client.clear()
    with pytest.raises(NodeClientError, match=r"no 1 of news within 50 ms \(0 came; .* nothing"):
        await client.wait("news", timeout=0.05)


async def test_wait_is_woken_by_what_comes_later(client):
    await client.connect()
    waiting = asyncio.create_task(client.wait("news"))
    await client.emit("say", "news", "fresh")
    [news] = await waiting
    assert news.data == "fresh"


async def test_an_update_reaches_the_guides_handler(client):
    await client.connect()
    await client.emit("say", "subscription.update", UPDATE)
    [handled] = await client.wait("handled")
    assert handled.args == ["updated", UPDATE]


@pytest.mark.parametrize("transports", ["websocket", "polling", "polling,websocket", None])
async def test_after_a_drop_the_client_comes_back_and_restores(peer, transports):
    async with NodeClient(peer.url, transports=transports) as client:
        first = await client.connect("good")
        subscription = await client.subscribe(resource="posts")
        reason = await client.drop()
        assert reason in {"transport close", "transport error"}
        await client.wait("connect", count=2)
        [restored] = await client.wait("ack", match="restore-subscriptions")
        assert restored.args[1]["restored"] == ["posts-1"]
        assert peer.restores == [[subscription]]
        status = await client.status()
        assert status["connected"]
        assert status["id"] != first["id"]


async def test_an_abrupt_drop_says_nothing_to_the_server(peer):
    async with NodeClient(peer.url, transports="polling") as client:
        await client.connect()
        await client.drop(hold=True)
        await client.reconnect()
        assert peer.server.manager.is_connected(peer.sids[0], "/")


async def test_a_held_drop_stays_away_until_reconnect(peer, client):
    await client.connect("good", auto_restore=False)
    subscription = await client.subscribe(resource="posts")
    await client.drop(hold=True)
    assert not (await client.status())["connected"]
    assert len(peer.sids) == 1
    await client.reconnect("newer")
    assert peer.tokens == [{"token": "good"}, {"token": "newer"}]
    assert peer.restores == []
    assert (await client.restore())["restored"] == ["posts-1"]
    await client.restore([])
    assert peer.restores == [[subscription], []]


async def test_cursors_are_kept_only_on_request(client):
    await client.connect()
    await client.connect(cursors=True, socket="tracking")
    for socket, cursor in (("main", "e.1"), ("tracking", "e.2")):
        await client.subscribe(resource="posts", socket=socket)
        await client.emit("say", "subscription.update", UPDATE, socket=socket)
        await client.wait("subscription.update", socket=socket)
        [kept] = await client.subscriptions(socket=socket)
        assert kept["cursor"] == cursor


async def test_disconnect_and_being_disconnected_are_told_apart(client):
    await client.connect()
    await client.disconnect()
    await client.reconnect()
    await client.emit("kick", ack=False)
    reasons = await client.wait("disconnect", count=2)
    assert [one.data for one in reasons] == ["io client disconnect", "io server disconnect"]


async def test_the_transport_is_upgraded_by_default(peer):
    async with NodeClient(peer.url) as client:
        await client.connect()
        assert await client.transport(until="websocket") == "websocket"
        assert await client.emit("echo", 1) == [1]


async def test_named_sockets_are_separate(peer, client):
    await client.connect("a", socket="a")
    await client.connect("b", socket="b")
    await client.emit("say", "news", "for b", socket="b")
    await client.wait("news", socket="b")
    assert await client.events("news", socket="a") == []
    assert len(set(peer.sids)) == 2
    with pytest.raises(NodeClientError, match="no socket named 'main'"):
        await client.emit("echo")


async def test_the_guides_manager_runs(peer, client):
    await client.manager_new("good")
    subscription = await client.manager_subscribe("posts", {"status": "draft"}, {"include": ["a"]})
    assert subscription["filters"] == {"status": "draft"}
    assert subscription["include"] == ["a"]
    assert await client.manager_subscriptions() == [subscription]
    with pytest.raises(SubscriptionRefused):
        await client.manager_subscribe("secrets")
    await client.emit("say", "subscription.update", UPDATE, socket="manager")
    await client.wait("resource:updated", socket="manager")
    [told] = await client.manager_events()
    assert told == {"resource": "posts", "id": "7", "action": "patch", "notification": UPDATE}
    await client.drop(socket="manager")
    await client.wait("ack", match="restore-subscriptions", socket="manager")
    assert peer.restores == [[subscription]]


async def test_a_dead_process_is_reported_with_its_error_output(peer, client):
    await client.connect()
    process = client._running()
    waiting = asyncio.create_task(client.wait("never"))
    await client.events()
    process.kill()
    with pytest.raises(NodeClientError, match="ended with code -9"):
        await waiting


SERVER = """
import http.server, os
print("about to listen")
handler = http.server.SimpleHTTPRequestHandler
http.server.HTTPServer(("127.0.0.1", int(os.environ["PORT"])), handler).serve_forever()
"""


async def test_a_server_process_is_waited_for_and_ended():
    async with run_server(["-c", SERVER], env={"COLOUR": "blue"}) as server:
        assert "about to listen" in server.output()
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"GET /pyproject.toml HTTP/1.0\r\n\r\n")
        assert b'name = "tidings"' in await reader.read()
        writer.close()
        await writer.wait_closed()
    assert server.process.returncode == -signal.SIGTERM


async def test_a_server_that_ends_at_once_is_reported_with_its_output():
    with pytest.raises(RuntimeError, match=r"(?s)ended with 3; its output:.*cannot start"):
        async with run_server(["-c", "print('cannot start'); raise SystemExit(3)"]):
            pytest.fail("it never ran")


async def test_a_server_deaf_to_sigterm_is_killed(monkeypatch):
    monkeypatch.setattr("tests.support.server.STOP_TIMEOUT", 0.2)
    deaf = "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)" + SERVER
    async with run_server(["-c", deaf], ready_path=None) as server:
        pass
    assert server.process.returncode == -signal.SIGKILL

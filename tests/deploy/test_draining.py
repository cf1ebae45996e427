"""A process that is told to stop: what its clients get, when they go, and what it answers."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from signal import SIGINT
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.deploy.kit import SERVE, Writer, settings
from tests.support.node import NodeClient
from tests.support.redis import RedisServer
from tests.support.server import RunningServer, run_server, serve
from tidings import (
    Api,
    ConfigurationError,
    Drainable,
    OperationContext,
    RedisFeedPlugin,
    SocketIOPlugin,
    SqlAlchemyPlugin,
)
from tidings.realtime import draining
from tidings.realtime.draining import Draining

pytestmark = pytest.mark.anyio

MANY = 300


@dataclass
class Raw:
    """A WebSocket by hand: what came, and when it ended."""

    wire: ClientConnection
    frames: list[str] = field(default_factory=list)
    ended_at: float = 0.0

    async def read(self) -> None:
        with contextlib.suppress(ConnectionClosed):
            async for frame in self.wire:
                self.frames.append(str(frame))
        self.ended_at = time.monotonic()

    @property
    def told(self) -> list[str]:
        """The ids of the records it was told of."""
        updates = [f for f in self.frames if f.startswith('42["subscription.update"')]
        return [json.loads(frame[2:])[1]["id"] for frame in updates]


async def subscribed(url: str, resource: str = "posts") -> Raw:
    address = url.replace("http", "ws") + "/socket.io/?EIO=4&transport=websocket"
    wire = await connect(address, compression=None, open_timeout=30)
    assert (await wire.recv())[0] == "0"
    await wire.send("40")
    await wire.send(f'421["subscribe",{{"resource":"{resource}"}}]')
    while not str(frame := await wire.recv()).startswith("431"):
        pass
    assert '"success":true' in frame
    return Raw(wire)


@contextlib.asynccontextmanager
async def many(url: str, count: int, resource: str = "posts") -> AsyncIterator[list[Raw]]:
    clients: list[Raw] = []
    for _ in range(0, count, 20):
        clients += await asyncio.gather(*(subscribed(url, resource) for _ in range(20)))
    readers = [asyncio.create_task(client.read()) for client in clients]
    try:
        yield clients
    finally:
        await asyncio.gather(*(client.wire.close() for client in clients))
        await asyncio.gather(*readers)


async def stopped(server: RunningServer, within: float = 15.0) -> None:
    async with asyncio.timeout(within):
        assert await server.process.wait() == 0
    assert "Traceback" not in server.output()
    assert "Error" not in server.output()


async def test_clients_are_told_everything_and_let_go_one_after_the_other(
    redis: RedisServer, tmp_path: Path
) -> None:
    env = settings(tmp_path, redis, DRAIN_SECONDS="2")
    async with run_server(SERVE, env=env, ready_path="/process") as server:
        async with many(server.url, MANY) as clients:
            writer = Writer(server.url)
            for _ in range(5):
                assert (await writer.post()).status_code == 201
            server.process.terminate()
            await stopped(server)
            await writer.http.aclose()
        assert all(client.told == writer.ids for client in clients)
        for client in clients:
            assert client.frames[-1] == "1"  # Engine.IO is closed, and not by Socket.IO
            assert not any(frame.startswith("41") for frame in client.frames)
            assert client.wire.close_code == 1000
        ends = sorted(client.ended_at for client in clients)
        # Load can only draw it out.
        assert ends[-1] - ends[0] > 1.0
        assert ends[MANY * 3 // 4] - ends[MANY // 4] > 0.5


async def test_one_client_is_not_kept_waiting(redis: RedisServer, tmp_path: Path) -> None:
    env = settings(tmp_path, redis, DRAIN_SECONDS="60")
    async with (
        run_server(SERVE, env=env, ready_path="/process") as server,
        NodeClient(server.url, transports="polling") as node,
    ):
        await node.connect(options={"reconnection": False})
        server.process.terminate()
        await stopped(server)
        (gone,) = await node.wait("disconnect")
        assert gone.data == "transport close"


async def test_a_request_in_flight_is_answered(redis: RedisServer, tmp_path: Path) -> None:
    async with run_server(SERVE, env=settings(tmp_path, redis), ready_path="/process") as server:
        writer = Writer(server.url)
        posting = asyncio.create_task(writer.post("slow"))
        async with asyncio.timeout(10):
            while "a slow one has begun" not in server.output():
                await asyncio.sleep(0.01)
        server.process.terminate()
        assert (await posting).status_code == 201
        await stopped(server)
        await writer.http.aclose()


async def test_a_second_ctrl_c_waits_for_nobody(own_redis: RedisServer, tmp_path: Path) -> None:
    env = settings(tmp_path, own_redis)
    async with (
        run_server(SERVE, env=env, ready_path="/process") as server,
        many(server.url, 20),
    ):
        own_redis.freeze()
        server.process.send_signal(SIGINT)
        async with asyncio.timeout(10):
            while await is_accepting(server.port):
                await asyncio.sleep(0.01)
        server.process.send_signal(SIGINT)
        async with asyncio.timeout(10):
            await server.process.wait()
        assert "could not all be told" not in server.output()


async def is_accepting(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


async def test_plain_uvicorn_ends_sockets_so_that_clients_come_back(
    redis: RedisServer, tmp_path: Path
) -> None:
    command = (
        "import os, uvicorn; uvicorn.run('tests.deploy.app:app', port=int(os.environ['PORT']), "
        "timeout_graceful_shutdown=2, ws_per_message_deflate=False, lifespan='on')"
    )
    env = settings(tmp_path, redis)
    async with (
        run_server(["-c", command], env=env, ready_path="/process") as server,
        NodeClient(server.url, transports="websocket") as node,
    ):
        await node.connect(options={"reconnection": False})
        server.process.terminate()
        (gone,) = await node.wait("disconnect")
        assert gone.data == "transport close"


def blog(directory: Path, **options: Any) -> Api:
    api = Api(name="blog")
    api.use(SqlAlchemyPlugin(f"sqlite+aiosqlite:///{directory}/blog.db", create_tables=True))
    api.use(SocketIOPlugin(anonymous=True, cors={"origin": ["http://a"]}, **options))
    api.add_resource("posts", schema={"title": "string"})
    return api


async def test_no_new_sockets_are_taken_and_those_there_are_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(draining, "FEW", 0.2)
    api = blog(tmp_path, drain_seconds=10)
    async with (
        serve(api.asgi()) as url,
        httpx.AsyncClient(base_url=url) as http,
        many(url, 20) as clients,
    ):
        ending = asyncio.create_task(api.drain())
        async with asyncio.timeout(10):
            while not any(client.ended_at for client in clients):
                await asyncio.sleep(0.01)
        assert api.is_draining
        answer = await http.get("/socket.io/?EIO=4&transport=polling")
        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "1"
        with pytest.raises(InvalidStatus) as refused:
            await subscribed(url)
        assert refused.value.response.status_code == 503
        await api.resources.posts.post({"title": "late"})
        staying = [client for client in clients if not client.ended_at]
        async with asyncio.timeout(10):
            while not all(client.told == ["1"] or client.ended_at for client in staying):
                await asyncio.sleep(0.01)
        ending.cancel()
        api.socket_server._draining.reset()
        assert (await http.get("/socket.io/?EIO=4&transport=polling")).status_code == 200


async def test_drainable_finds_the_sockets_below_middleware_and_in_other_apps(
    tmp_path: Path,
) -> None:
    api = blog(tmp_path)
    host = FastAPI()
    api.install(host)
    app = Drainable(CORSMiddleware(host))
    await app.drain()  # there are none yet
    async with serve(app) as url, many(url, 20) as clients:
        await asyncio.gather(app.drain(), app.drain())
        async with asyncio.timeout(10):
            while not all(client.ended_at for client in clients):
                await asyncio.sleep(0.01)
        assert Counter(client.frames[-1] for client in clients) == {"1": 20}


async def test_who_has_asked_something_is_answered_first(tmp_path: Path) -> None:
    asked, may_go_on = asyncio.Event(), asyncio.Event()
    api = blog(tmp_path)

    @api.hook("subscription_filters")
    async def wait(_: Any) -> None:
        if asked.is_set():
            await may_go_on.wait()

    async with serve(api.asgi()) as url, many(url, 20) as clients:
        asked.set()
        await clients[0].wire.send('422["subscribe",{"resource":"posts"}]')
        ending = asyncio.create_task(api.drain())
        async with asyncio.timeout(10):
            while not all(client.ended_at for client in clients[1:]):
                await asyncio.sleep(0.005)
        may_go_on.set()
        await ending
        assert any(frame.startswith('432[{"success":true') for frame in clients[0].frames)


async def test_nobody_is_let_go_before_what_is_on_its_way_is_told(tmp_path: Path) -> None:
    may_be_told = asyncio.Event()
    api = blog(tmp_path, permission_seconds=0)

    async def check(context: OperationContext) -> bool:
        if context.method == "query" and may_not_ask.is_set():
            await may_be_told.wait()
        return True

    may_not_ask = asyncio.Event()
    api.add_resource("notes", schema={"text": "string"}, check_permissions=check)
    async with serve(api.asgi()) as url, many(url, 20, resource="notes") as clients:
        may_not_ask.set()
        await api.resources.notes.post({"text": "a"})
        ending = asyncio.create_task(api.drain())
        await asyncio.wait({ending}, timeout=0.5)
        assert not any(client.ended_at for client in clients)
        may_be_told.set()
        await ending
        assert [client.told for client in clients] == [["1"]] * 20


async def test_what_waits_for_redis_is_told_before_anybody_is_let_go(
    own_redis: RedisServer, tmp_path: Path
) -> None:
    api = blog(tmp_path)
    api.use(RedisFeedPlugin(own_redis.redis()))
    async with serve(api.asgi()) as url, many(url, 20) as clients:
        own_redis.freeze()
        await api.resources.posts.post({"title": "a"})
        ending = asyncio.create_task(api.drain())
        await asyncio.wait({ending}, timeout=0.5)
        assert not any(client.ended_at for client in clients)
        own_redis.thaw()
        await ending
        assert [client.told for client in clients] == [["1"]] * 20


class Stuck:
    """Connections that do not end."""

    def __init__(self, *ids: str) -> None:
        self.ids = ids
        self.released: list[str] = []

    def connections(self) -> Sequence[str]:
        return self.ids

    def is_answering(self, engine_id: str) -> bool:
        return False

    def release(self, engine_id: str) -> None:
        self.released.append(engine_id)


async def test_what_cannot_be_flushed_does_not_keep_the_process(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(draining, "FLUSH_SECONDS", 0.05)
    never = asyncio.Event()

    async def flush() -> None:
        await never.wait()

    async with asyncio.timeout(10):
        await Draining(Stuck(), flush, 5).run()
    assert "could not all be told" in caplog.text


async def test_connections_that_do_not_end_do_not_keep_the_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(draining, "LEAVE_SECONDS", 0.2)
    stuck = Stuck("a", "b")
    async with asyncio.timeout(10):
        await Draining(stuck, partial(asyncio.sleep, 0), 0).run()
    assert sorted(stuck.released) == ["a", "b"]


@pytest.mark.parametrize("seconds", [-1, float("inf"), "5", True])
def test_drain_seconds_is_a_number_of_seconds(seconds: Any) -> None:
    with pytest.raises(ConfigurationError, match="drain_seconds must be"):
        SocketIOPlugin(drain_seconds=seconds)

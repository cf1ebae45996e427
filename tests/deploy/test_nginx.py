"""The nginx configuration of the documentation, run as it stands before two real processes."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.deploy.kit import (
    EVERY_TRANSPORT,
    Writer,
    moved,
    settings,
    sources,
    told,
    two_processes,
    who,
)
from tests.docs.blocks import REPOSITORY, blocks
from tests.support.databases import MissingServer
from tests.support.nginx import nginx, program
from tests.support.node import NodeClient, NodeClientError
from tests.support.redis import RedisServer
from tests.support.server import RunningServer

pytestmark = pytest.mark.anyio


@dataclass
class Site:
    """Two processes behind a balancer, and an address from which one comes to each of them."""

    url: str
    servers: list[RunningServer]
    addresses: list[str]

    @property
    def pids(self) -> list[int]:
        return [server.process.pid for server in self.servers]


def documented() -> str:
    page = REPOSITORY / "docs" / "processes.md"
    (block,) = [block for block in blocks(page) if block.language == "nginx"]
    return block.code


@contextlib.asynccontextmanager
async def site(env: dict[str, str], directory: Path) -> AsyncIterator[Site]:
    try:
        program()
    except MissingServer as missing:
        pytest.skip(str(missing))
    async with two_processes(env) as servers:
        with nginx(documented(), [server.port for server in servers], directory) as port:
            url = f"http://127.0.0.1:{port}"
            pids = [server.process.pid for server in servers]
            found = await sources(url, set(pids))
            yield Site(url, servers, [found[pid] for pid in pids])


@contextlib.asynccontextmanager
async def watching(found: Site) -> AsyncIterator[list[NodeClient]]:
    """A client with each of the transports from each of the addresses: first those of process 1."""
    async with contextlib.AsyncExitStack() as stack:
        clients = []
        for address, pid in zip(found.addresses, found.pids, strict=True):
            for transports in EVERY_TRANSPORT:
                node = NodeClient(found.url, transports=transports, source=address)
                await stack.enter_async_context(node)
                await node.connect(cursors=True)
                if transports is None:
                    await node.transport(until="websocket")
                assert await who(node) == pid
                await node.subscribe(resource="posts")
                clients.append(node)
        yield clients


async def test_a_write_through_either_process_reaches_every_client_once(
    redis: RedisServer, tmp_path: Path
) -> None:
    async with site(settings(tmp_path, redis), tmp_path) as found, watching(found) as clients:
        for address in found.addresses:
            writer = Writer(found.url, address)
            for _ in range(3):
                assert (await writer.post()).status_code == 201
            await writer.http.aclose()
        wanted = dict.fromkeys(map(str, range(1, 7)), 1)
        assert [await told(node, 6) for node in clients] == [wanted] * 6


async def test_clients_of_a_killed_process_move_and_miss_nothing(
    redis: RedisServer, tmp_path: Path
) -> None:
    async with site(settings(tmp_path, redis), tmp_path) as found, watching(found) as clients:
        writer = Writer(found.url, found.addresses[1])
        assert (await writer.post()).status_code == 201
        for node in clients:
            await told(node, 1)
        found.servers[0].process.kill()
        for _ in range(10):
            assert (await writer.post()).status_code == 201
        for node in clients:
            await moved(node, found.pids[1])
        for _ in range(5):
            assert (await writer.post()).status_code == 201
        await writer.http.aclose()
        wanted = dict.fromkeys(writer.ids, 1)
        assert [await told(node, 16) for node in clients] == [wanted] * 6


async def test_limits_per_address_see_the_client_and_not_the_balancer(
    redis: RedisServer, tmp_path: Path
) -> None:
    async with (
        site(settings(tmp_path, redis, PER_ADDRESS="1"), tmp_path) as found,
        NodeClient(found.url, source=found.addresses[0]) as one,
        NodeClient(found.url, source=found.addresses[1]) as other,
    ):
        await one.connect()
        await other.connect()
        pretended = {"extraHeaders": {"X-Forwarded-For": "192.0.2.7"}}
        for options in ({}, pretended):
            with pytest.raises(NodeClientError, match=r"(poll|websocket) error"):
                await one.connect(socket="second", options={"reconnection": False, **options})


async def test_clients_of_a_process_that_ends_are_sent_to_the_other(
    redis: RedisServer, tmp_path: Path
) -> None:
    env = settings(tmp_path, redis, DRAIN_SECONDS="2")
    async with site(env, tmp_path) as found, watching(found) as clients:
        writer = Writer(found.url, found.addresses[1])
        for _ in range(5):
            assert (await writer.post()).status_code == 201
        ending = found.servers[0].process
        ending.terminate()
        while ending.returncode is None:
            assert (await writer.post()).status_code == 201
        for node in clients:
            await moved(node, found.pids[1])
        assert (await writer.post()).status_code == 201
        await writer.http.aclose()
        assert ending.returncode == 0
        assert "Traceback" not in found.servers[0].output()
        wanted = dict.fromkeys(writer.ids, 1)
        assert [await told(node, len(wanted)) for node in clients] == [wanted] * 6
        for node in clients[:3]:
            (gone,) = await node.events("disconnect")
            assert gone.data.startswith(
                "transport"
            )  # after "io server disconnect" it would stay away

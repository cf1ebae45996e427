"""The guide's app as a process: its settings, and how it starts and ends."""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
import sys
import time

import httpx
import jwt
import pytest

from tests.guide.kit import APP, Rest, token
from tests.support.node import NodeClient
from tests.support.server import REPOSITORY, free_port, run_server

pytestmark = pytest.mark.anyio


def start(**env: str) -> subprocess.CompletedProcess[str]:
    """Run the app where it is expected to end by itself."""
    return subprocess.run(
        [sys.executable, APP],
        env={"PATH": "", "PORT": str(free_port()), **env},
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=15,
    )


def test_a1_9_a_port_in_use_is_reported_and_the_status_is_not_0():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = start(PORT=str(port))
    assert done.returncode != 0
    assert done.stderr.count("\n") == 1, done.stderr
    assert str(port) in done.stderr
    assert "in use" in done.stderr


@pytest.mark.parametrize(
    ("setting", "value", "told"),
    [
        ("PORT", "http", "PORT must be a number"),
        ("PORT", "-1", "PORT must be a number"),
        ("PORT", "70000", "65535"),
        ("JWT_SECRET", "short", "32"),
        ("DATABASE_URL", "oracle://x", "oracle"),
        ("DATABASE_URL", "nonsense", "cannot be read"),
        ("HOST", "no-such-host.invalid", "no-such-host.invalid"),
    ],
)
def test_wrong_settings_are_one_line_and_a_status_that_is_not_0(setting, value, told):
    done = start(**{setting: value})
    assert done.returncode != 0
    assert done.stderr.count("\n") == 1, done.stderr
    assert told in done.stderr


async def test_the_settings_are_read_from_the_environment(tmp_path):
    database, secret = tmp_path / "guide.db", "another-secret-another-secret-another"
    settings = {"DATABASE_URL": f"sqlite+aiosqlite:///{database}", "JWT_SECRET": secret}
    mine = jwt.encode({"sub": "u1"}, secret)
    async with run_server(APP, env=settings) as server:
        async with httpx.AsyncClient(base_url=server.url) as http:
            post = await Rest(http).create("posts", auth=mine, title="kept", author_id="1")
            assert (await Rest(http).send("GET", "orders", auth=token())).status_code == 401
        async with NodeClient(server.url) as node:
            await node.connect(mine)
    async with (
        run_server(APP, env=settings) as server,
        httpx.AsyncClient(base_url=server.url) as http,
    ):
        assert (await Rest(http).get("posts", post, auth=None))["title"] == "kept"


async def test_by_default_every_start_is_a_fresh_one():
    for _ in range(2):
        async with run_server(APP) as server, httpx.AsyncClient(base_url=server.url) as http:
            assert await Rest(http).create("posts", title="x", author_id="1") == "1"


async def test_localhost_is_served_under_each_of_its_addresses():
    async with run_server(APP) as server:
        for host in ("localhost", "127.0.0.1"):
            async with httpx.AsyncClient(base_url=f"http://{host}:{server.port}") as http:
                assert (await http.get("/api/posts")).status_code == 200


@pytest.mark.parametrize("transports", ["polling", "websocket"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda found: found.name)
async def test_a1_11_a_signal_ends_it_within_5_seconds_whoever_is_connected(transports, number):
    async with run_server(APP) as server, NodeClient(server.url, transports=transports) as node:
        await node.connect(token(), options={"reconnection": False})
        await node.subscribe(resource="posts")
        started = time.monotonic()
        server.process.send_signal(number)
        async with asyncio.timeout(5):
            await server.process.wait()
        assert time.monotonic() - started < 5
        assert "Traceback" not in server.output()
        await node.wait("disconnect")

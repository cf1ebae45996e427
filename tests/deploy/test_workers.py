"""Several processes with one listening socket: uvicorn's workers, and those of the command."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.deploy.kit import APP, SERVE, Writer, eventually, process_of, settings, told, who
from tests.docs.blocks import REPOSITORY
from tests.support.node import NodeClient, NodeClientError
from tests.support.redis import RedisServer
from tests.support.server import RunningServer, run_server

pytestmark = pytest.mark.anyio

WORKERS = [*SERVE, "--workers", "2"]


def documented_uvicorn() -> list[str]:
    """The flags that the documentation gives uvicorn."""
    text = (REPOSITORY / "docs" / "deploying.md").read_text()
    found = re.search(r"^uvicorn app:app (.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert found is not None
    flags = found[1].replace("\\", " ").split()
    for option in ("--host", "--port", "--workers"):
        at = flags.index(option)
        del flags[at : at + 2]
    return flags


def uvicorn_workers() -> list[str]:
    arguments = ["uvicorn", APP, "--workers", "2", *documented_uvicorn(), "--port"]
    return ["-c", f"import os, sys; sys.argv = [*{arguments!r}, os.environ['PORT']]\n{_RUN}"]


_RUN = "from uvicorn.main import main; main()"


@contextlib.asynccontextmanager
async def on_both(url: str, *, least: int = 4) -> AsyncIterator[tuple[NodeClient, dict[str, int]]]:
    """WebSockets, as many as it takes for both processes to have some; where each has come to."""
    places: dict[str, int] = {}
    async with NodeClient(url, transports="websocket") as node:
        while len(set(places.values())) < 2 or len(places) < least:
            assert len(places) < 200, "one process gets everything"
            name = f"s{len(places)}"
            await node.connect(socket=name, cursors=True, timeout=20)
            places[name] = await who(node, name)
            await node.subscribe(socket=name, resource="posts")
        yield node, places


async def write(url: str, count: int) -> list[str]:
    writer = Writer(url)
    for _ in range(count):
        assert (await writer.post()).status_code == 201
    await writer.http.aclose()
    return writer.ids


@pytest.mark.parametrize("kind", ["uvicorn", "tidings"])
async def test_a_write_reaches_the_websockets_of_all_workers_once(
    kind: str, redis: RedisServer, tmp_path: Path
) -> None:
    command = WORKERS if kind == "tidings" else uvicorn_workers()
    async with (
        run_server(command, env=settings(tmp_path, redis), ready_path="/process") as server,
        on_both(server.url) as (node, places),
    ):
        ids = await write(server.url, 5)
        for name in places:
            assert await told(node, 5, socket=name) == Counter(ids)


async def announced(server: RunningServer) -> None:
    async def has_said() -> bool:
        return "(2 processes) is at" in server.output()

    await eventually(has_said, server.output)


async def back(node: NodeClient, places: dict[str, int], gone: set[int]) -> None:
    """Wait until every socket is at a process that has not gone."""
    for name in places:

        async def has_moved(name: str = name) -> bool:
            with contextlib.suppress(NodeClientError):
                return await who(node, name) not in gone
            return False

        await eventually(has_moved, lambda: f"{places} {gone}")


async def test_a_worker_that_dies_is_replaced_and_its_clients_miss_nothing(
    redis: RedisServer, tmp_path: Path
) -> None:
    async with run_server(WORKERS, env=settings(tmp_path, redis), ready_path="/process") as server:
        await announced(server)
        async with on_both(server.url) as (node, places):
            victim = places["s0"]
            os.kill(victim, signal.SIGKILL)
            ids = await write(server.url, 5)
            await back(node, places, {victim})
            ids += await write(server.url, 2)
            for name in places:
                assert await told(node, 7, socket=name) == Counter(ids)
            survivors = set(places.values()) - {victim}
            await others_serve(server.url, survivors)
        assert f"process {victim} has ended (-9); another one is started" in server.output()


async def others_serve(url: str, known: set[int]) -> None:
    async def somebody_else() -> bool:
        return await process_of(url) not in known

    await eventually(somebody_else, lambda: "there is no new process")


async def test_a_hangup_replaces_the_workers_and_nobody_misses_anything(
    redis: RedisServer, tmp_path: Path
) -> None:
    env = settings(tmp_path, redis, DRAIN_SECONDS="1")
    async with run_server(WORKERS, env=env, ready_path="/process") as server:
        await announced(server)
        async with on_both(server.url) as (node, places):
            old = set(places.values())
            server.process.send_signal(signal.SIGHUP)
            ids: list[str] = []
            while any(is_running(pid) for pid in old):
                ids += await write(server.url, 1)
            await back(node, places, old)
            ids += await write(server.url, 1)
            for name in places:
                assert await told(node, len(ids), socket=name) == Counter(ids)
        assert "has ended" not in server.output()


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
async def test_workers_end_with_their_parent(
    number: signal.Signals, redis: RedisServer, tmp_path: Path
) -> None:
    async with run_server(WORKERS, env=settings(tmp_path, redis), ready_path="/process") as server:
        await announced(server)
        async with on_both(server.url, least=2) as (_, places):
            server.process.send_signal(number)
            async with asyncio.timeout(15):
                status = await server.process.wait()
                while any(is_running(pid) for pid in places.values()):
                    await asyncio.sleep(0.02)
        assert status == (-9 if number == signal.SIGKILL else 0)
        assert "Traceback" not in server.output()


async def failed(target: str, env: dict[str, str]) -> tuple[int | None, str]:
    """What becomes of workers that cannot start."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tidings", "serve", target, "--workers", "2", "--port", "0"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        cwd=REPOSITORY,
        env={**os.environ, **env},
    )
    async with asyncio.timeout(30):
        output, _ = await process.communicate()
    return process.returncode, output.decode()


async def test_workers_that_cannot_start_end_the_command(tmp_path: Path) -> None:
    database = f"sqlite+aiosqlite:///{tmp_path}/missing/app.db"
    env = {"DATABASE": database, "REDIS": "redis://127.0.0.1:1/0"}
    status, output = await failed(APP, env)
    assert status == 3
    assert "Application startup failed" in output


async def test_workers_without_a_shared_feed_are_refused(tmp_path: Path) -> None:
    status, output = await failed(
        "tests.deploy.app:api", {"DATABASE": f"sqlite+aiosqlite:///{tmp_path}/app.db"}
    )
    assert status == 1
    assert "shares no feed" in output


async def test_a_target_that_is_not_there_is_said_once(tmp_path: Path) -> None:
    status, output = await failed("tests.deploy.nothing:api", {})
    assert status == 1
    assert output == (
        "Error: there is no module 'tests.deploy.nothing' here or in the environment\n"
    )

"""Servers under measurement: each a process of its own, on a free port."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from benchmarks.machine import processor_seconds

ROOT = Path(__file__).parent.parent
NODE = Path(__file__).parent / "node"
REST_PEERS = Path(__file__).parent / "node-rest"
_START_TIMEOUT = 20.0
HOST = "127.0.0.1"
FAST = "tidings.socketio.uvicorn:UvicornProtocol"
PORTABLE = "websockets-sansio"


class Unavailable(Exception):
    """A baseline cannot run here; the message says why."""


@dataclass(frozen=True, slots=True)
class Server:
    """A running server process."""

    pid: int
    port: int

    def processor_seconds(self) -> float:
        """How much processor time it has had so far; NaN where the system does not tell."""
        seconds = processor_seconds(self.pid)
        return float("nan") if seconds is None else seconds


@asynccontextmanager
async def python_server(
    app: str,
    *,
    narrow: bool = False,
    ws: str | None = FAST,
    environment: Mapping[str, str] = MappingProxyType({}),
) -> AsyncIterator[Server]:
    """Run ``benchmarks.apps.<app>`` with uvicorn, on a database file of its own.

    ``narrow``: with small buffers of the system for what is sent. ``ws`` is uvicorn's option; with
    None ``tidings serve`` runs it.
    """
    options = ["--log-level", "warning", "--no-access-log", "--ws-per-message-deflate", "false"]
    options += ["--ws", str(ws)]
    with tempfile.TemporaryDirectory(prefix="tidings-bench-") as directory:
        database = {"BENCH_DATABASE": str(Path(directory) / "bench.db"), **environment}
        port = free_port()
        command = [sys.executable, "-m", "uvicorn", f"benchmarks.apps.{app}:app", *options]
        if ws is None:
            command = [sys.executable, "-m", "tidings", "serve", f"benchmarks.apps.{app}:app"]
        command += ["--port", str(port)]
        if narrow:
            command = [sys.executable, "-m", "benchmarks.narrow", app, str(port)]
        async with _running(command, port, database) as server:
            yield server


@asynccontextmanager
async def node_server() -> AsyncIterator[Server]:
    """Run Node's own socket.io; its package is installed at the first use.

    Raises:
        Unavailable: there is no Node, or the package cannot be installed.
    """
    node = await _prepared(NODE)
    port = free_port()
    async with _running([node, str(NODE / "server.mjs"), str(port)], port, {}) as server:
        yield server


@asynccontextmanager
async def rest_peer(name: str, environment: Mapping[str, str]) -> AsyncIterator[Server]:
    """Run ``benchmarks/node-rest/<name>.mjs``, on a database file of its own.

    Raises:
        Unavailable: there is no Node, or a package cannot be installed.
    """
    node = await _prepared(REST_PEERS)
    with tempfile.TemporaryDirectory(prefix="tidings-bench-") as directory:
        database = {"BENCH_DATABASE": str(Path(directory) / "bench.db"), **environment}
        port = free_port()
        command = [node, str(REST_PEERS / f"{name}.mjs"), str(port)]
        async with _running(command, port, database) as server:
            yield server


async def _prepared(folder: Path) -> str:
    """The Node to run what is in a folder, whose packages are installed."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        raise Unavailable("Node.js is not installed")
    if not (folder / "node_modules").is_dir():
        await _install(npm, folder)
    return node


async def _install(npm: str, folder: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        npm,
        "ci",
        "--no-audit",
        "--no-fund",
        cwd=folder,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    if await process.wait():
        shutil.rmtree(folder / "node_modules", ignore_errors=True)
        raise Unavailable(f"npm ci in benchmarks/{folder.name} failed")


@asynccontextmanager
async def _running(
    command: Sequence[str], port: int, environment: Mapping[str, str]
) -> AsyncIterator[Server]:
    process = await asyncio.create_subprocess_exec(
        *command, cwd=ROOT, env={**os.environ, **environment}
    )
    try:
        await _accepting(process, port)
        yield Server(process.pid, port)
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def _accepting(process: asyncio.subprocess.Process, port: int) -> None:
    async with asyncio.timeout(_START_TIMEOUT):
        while True:
            if process.returncode is not None:
                raise RuntimeError(f"a server ended with {process.returncode}")
            with suppress(OSError):
                _, writer = await asyncio.open_connection(HOST, port)
                writer.close()
                return
            await asyncio.sleep(0.05)


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port

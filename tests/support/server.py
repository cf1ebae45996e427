"""Real servers for tests: in a process of their own, or in this one.

async with run_server(["-m", "tidings", "demo"]) as server:
    async with httpx.AsyncClient(base_url=server.url) as http: ...

async with serve(app) as url: ...
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shlex
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvicorn

from tidings.socketio.uvicorn import UvicornProtocol

REPOSITORY = Path(__file__).parent.parent.parent
FAST = UvicornProtocol
"""What ``tidings serve`` has uvicorn use for WebSockets."""
START_TIMEOUT = 60.0
STOP_TIMEOUT = 5.0


def free_port() -> int:
    """A TCP port of the loopback interface that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@dataclass
class RunningServer:
    """A server process that accepts connections at `url`."""

    port: int
    process: asyncio.subprocess.Process
    tapped: dict[str, Any] | None = None
    """What the tap has found, once the process has ended (see ``tests.security.tapped``)."""
    _output: bytearray = field(default_factory=bytearray, repr=False)

    @property
    def url(self) -> str:
        """Where it listens, without a slash at the end."""
        return f"http://127.0.0.1:{self.port}"

    def output(self) -> str:
        """What the process has written to its output and error output so far."""
        return self._output.decode(errors="replace")

    async def _collect(self) -> None:
        assert self.process.stdout is not None
        while chunk := await self.process.stdout.read(65536):
            self._output += chunk

    async def _answers(self, path: str | None) -> bool:
        """Whether the port accepts a connection and, given a path, answers HTTP there at all."""
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            return False
        try:
            if path is None:
                return True
            request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
            writer.write(request.encode())
            return (await reader.read(5)) == b"HTTP/"
        except OSError:
            return False
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _ready(self, path: str | None) -> None:
        try:
            async with asyncio.timeout(START_TIMEOUT):
                while not await self._answers(path):
                    if self.process.returncode is not None:
                        raise RuntimeError(self._explain(f"ended with {self.process.returncode}"))
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise RuntimeError(self._explain(f"gave no answer in {START_TIMEOUT:g} s")) from None

    def _explain(self, what: str) -> str:
        return f"the server on port {self.port} {what}; its output:\n{self.output() or '(nothing)'}"

    async def _stop(self) -> None:
        if self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                self.process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(STOP_TIMEOUT):
                await self.process.wait()
        except TimeoutError:
            pass
        # Its own session, so that workers it started do not outlive it.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        await self.process.wait()


@contextlib.asynccontextmanager
async def run_server(
    target: str | Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    ready_path: str | None = "/",
    tapped: bool = True,
) -> AsyncIterator[RunningServer]:
    """Run ``python <target>`` from the repository's root with ``PORT`` set to a free port.

    `target` is a list of arguments, or one string of them: ``"examples/blog.py"``. Waits until
    the port accepts connections and `ready_path` gets any HTTP answer (`None`: does not ask).
    On leaving, SIGTERM, and SIGKILL 5 seconds later.

    Unless not `tapped`, no value of a record may be in a frame that it has sent: on leaving an
    AssertionError names both. The tap keeps everything, so that memory is not what it would be.
    """
    arguments = shlex.split(target) if isinstance(target, str) else target
    port = free_port()
    report = Path(tempfile.mkdtemp(prefix="tidings-tap-")) / "report.json"
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *(["-m", "tests.security.tapped"] if tapped else []),
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONUNBUFFERED": "1", "TIDINGS_TAP": str(report)}
        | {**(env or {}), "PORT": str(port)},
        start_new_session=True,
    )
    server = RunningServer(port, process)
    collector = asyncio.create_task(server._collect())
    try:
        await server._ready(ready_path)
        yield server
    finally:
        await server._stop()
        await collector
        server.tapped = json.loads(report.read_text()) if report.exists() else None
        shutil.rmtree(report.parent)
    # A process that had to be killed could not tell.
    if tapped and process.returncode != -signal.SIGKILL:
        assert server.tapped is not None, "the server did not say what the tap has found"
        assert server.tapped["leaks"] == [], server.tapped["leaks"][:3]


@contextlib.asynccontextmanager
async def serve(app: Any, *, port: int = 0, **config: Any) -> AsyncIterator[str]:
    """Serve an ASGI app from this process, as ``tidings serve`` does; yields its URL."""
    # With the protocol named, asyncio turns Nagle off: an answer would wait 40 ms otherwise.
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        port = listener.getsockname()[1]
        settings = {"log_level": "warning", "timeout_graceful_shutdown": 1, "ws": FAST, **config}
        server = uvicorn.Server(uvicorn.Config(app, **settings))
        task = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            async with asyncio.timeout(START_TIMEOUT):
                while not server.started and not task.done():
                    await asyncio.sleep(0.005)
            if task.done():
                raise RuntimeError(f"the server did not start: {task.exception()!r}")
            yield f"http://127.0.0.1:{port}"
        finally:
            server.should_exit = True
            await task

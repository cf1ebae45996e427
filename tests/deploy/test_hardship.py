"""``tidings serve`` without descriptors, readers of its output, or an application that starts."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import textwrap
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import httpx
import pytest

from tests.support.server import free_port

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="it has no such limits")

_APP = """
    async def app(scope, receive, send):
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
            return
        import os
        body = str(os.getpid()).encode()
        if scope["path"] == "/end":
            os._exit(7)
        if scope["path"] == "/block":
            import time
            time.sleep(600)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": body})
"""
_HANGING = """
    import pathlib, os, time, signal
    if "{where}" == "import" and not pathlib.Path("first").exists():
        pathlib.Path("first").touch()  # the command itself, which looks at the app
    elif "{where}" == "import":
        pathlib.Path(f"worker-{os.getpid()}").touch()
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(600)

    async def app(scope, receive, send):
        import asyncio
        pathlib.Path(f"worker-{os.getpid()}").touch()
        await asyncio.sleep(600)
"""


@asynccontextmanager
async def command(
    folder: Path,
    source: str,
    *options: str,
    before: str = "",
    output: Callable[[], int] | None = None,
) -> AsyncIterator[tuple[asyncio.subprocess.Process, str, Path]]:
    """The command in a folder with the module ``app``; its URL, and where its output goes."""
    (folder / "app.py").write_text(textwrap.dedent(source).replace("{where}", before))
    port = free_port()
    log = folder / "log"
    serve = f"exec {sys.executable} -m tidings serve app:app --port {port} {' '.join(options)}"
    limit = "ulimit -n 128; " if "limited" in before else ""
    with log.open("wb") as written:
        target = written.fileno() if output is None else output()
        process = await asyncio.create_subprocess_exec(
            "sh", "-c", limit + serve, cwd=folder, stdout=target, stderr=target
        )
    try:
        yield process, f"http://127.0.0.1:{port}", log
    finally:
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(process.wait(), 30)
        except TimeoutError:
            process.kill()
            await process.wait()


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.05)


async def answer(url: str) -> str:
    """What the app says, as soon as it says something."""
    async with asyncio.timeout(60), httpx.AsyncClient() as http:
        while True:
            try:
                return (await http.get(url)).text
            except httpx.TransportError:
                await asyncio.sleep(0.05)


@pytest.mark.parametrize("workers", [1, 2])
async def test_without_descriptors_clients_are_let_go_and_the_log_says_so_once(
    tmp_path: Path, workers: int
) -> None:
    options = ("--workers", str(workers))
    async with command(tmp_path, _APP, *options, before="limited") as (_, url, log):
        await answer(url)
        host, port = url.removeprefix("http://").split(":")
        clients = []
        for _ in range(400):
            client = socket.create_connection((host, int(port)))
            client.setblocking(False)
            clients.append(client)
        await until(lambda: b"connections were refused" in log.read_bytes())
        # Whoever is let go is told so by the end of the connection; nobody hangs in the backlog.
        await until(lambda: sum(is_closed(client) for client in clients) >= 400 - workers * 128)
        lines = log.read_text().splitlines()
        assert sum("connections were refused: at most 128 files" in line for line in lines) <= 6
        assert len(lines) < 20
        for client in clients:
            client.close()
        assert await answer(url)


def is_closed(client: socket.socket) -> bool:
    try:
        return client.recv(1, socket.MSG_PEEK) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


async def test_the_parent_serves_on_when_nobody_reads_what_it_says(tmp_path: Path) -> None:
    def closed_pipe() -> int:
        reader, writer = os.pipe()
        os.close(reader)
        return writer

    async with command(tmp_path, _APP, "--workers", "2", output=closed_pipe) as (process, url, _):
        first = await answer(url)
        os.kill(int(first), signal.SIGKILL)
        seen: set[str] = set()
        while len(seen | {first}) < 3:  # the other one, and the successor
            seen.add(await answer(url))
        assert process.returncode is None


async def test_workers_that_keep_ending_are_started_ever_more_seldom(tmp_path: Path) -> None:
    async with command(tmp_path, _APP, "--workers", "2") as (process, url, log):
        for _ in range(4):
            await answer(url)
            with suppress(httpx.TransportError):
                async with httpx.AsyncClient() as http:
                    await http.get(f"{url}/end")
        await until(lambda: len(pauses_in(log)) >= 3)
        pauses = pauses_in(log)
        assert process.returncode is None
        assert pauses == sorted(pauses)
        assert len(set(pauses)) == len(pauses)


def pauses_in(log: Path) -> list[float]:
    return [
        float(line.split(" in ")[1].split()[0])
        for line in log.read_text().splitlines()
        if "another one is started" in line
    ]


async def hang(url: str, pid: int, how: str) -> asyncio.Task[None]:
    """Have a process do nothing any more: by blocking its event loop, or as a whole."""
    if how == "stopped":
        os.kill(pid, signal.SIGSTOP)
        return asyncio.create_task(asyncio.sleep(0))

    async def block() -> None:
        async with httpx.AsyncClient(timeout=None) as http:
            with suppress(httpx.TransportError):
                await http.get(f"{url}/block")

    return asyncio.create_task(block())


@pytest.mark.parametrize("how", ["blocked", "stopped"])
async def test_a_worker_that_hangs_is_killed_and_replaced(tmp_path: Path, how: str) -> None:
    options = ("--workers", "2", "--timeout-worker-healthcheck", "3")
    async with command(tmp_path, _APP, *options) as (process, url, log):
        asking = await hang(url, int(await answer(url)), how)
        # Which one a request blocks is only known by what is said of it.
        await until(lambda: killed_in(log))
        victims = killed_in(log)
        await until(lambda: not any(is_alive(pid) for pid in victims))
        await until(lambda: "another one is started" in log.read_text())
        seen: set[str] = set()
        async with asyncio.timeout(60):
            while len(seen) < 2:
                seen.add(await answer(url))
        assert not seen & {str(pid) for pid in victims}
        assert process.returncode is None
        await asking


@pytest.mark.parametrize("how", ["blocked", "stopped"])
async def test_a_worker_that_hangs_does_not_keep_the_command_from_ending(
    tmp_path: Path, how: str
) -> None:
    options = ("--workers", "2", "--timeout-worker-healthcheck", "2")
    async with command(tmp_path, _APP, *options) as (process, url, _):
        asking = await hang(url, int(await answer(url)), how)
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 60) == 0
        await asking


async def test_without_a_health_check_a_worker_may_stand_still(tmp_path: Path) -> None:
    options = ("--workers", "2", "--timeout-worker-healthcheck", "0")
    async with command(tmp_path, _APP, *options) as (process, url, log):
        pid = int(await answer(url))
        os.kill(pid, signal.SIGSTOP)
        await asyncio.sleep(2)
        os.kill(pid, signal.SIGCONT)
        assert is_alive(pid)
        assert process.returncode is None
        assert not killed_in(log)


def killed_in(log: Path) -> list[int]:
    lines = [line for line in log.read_text().splitlines() if "it is killed" in line]
    return [int(line.split()[1]) for line in lines]


@pytest.mark.parametrize("where", ["import", "startup"])
@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
async def test_workers_that_hang_in_their_start_end_with_the_parent(
    tmp_path: Path, where: str, end: int
) -> None:
    options = ("--workers", "2")
    async with command(tmp_path, _HANGING, *options, before=where) as (process, _, _log):
        await until(lambda: len(worker_ids(tmp_path)) == 2)
        pids = worker_ids(tmp_path)
        process.send_signal(end)
        await asyncio.wait_for(process.wait(), 60)
        await until(lambda: not any(is_alive(pid) for pid in pids))


def worker_ids(folder: Path) -> list[int]:
    return [int(path.name.partition("-")[2]) for path in folder.glob("worker-*")]


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


async def test_a_configuration_error_in_a_fastapi_app_is_said_without_a_traceback(
    tmp_path: Path,
) -> None:
    source = """
        from fastapi import FastAPI
        from tidings import Api, RestApiPlugin, SqlAlchemyPlugin

        api = Api(name="blog")
        api.use(RestApiPlugin())
        api.use(SqlAlchemyPlugin("postgresql+asyncpg://u:secret@127.0.0.1:1/x"))
        api.add_resource("posts", schema={"title": "string"})
        app = FastAPI()
        api.install(app)
    """
    async with command(tmp_path, source) as (process, _, log):
        assert await asyncio.wait_for(process.wait(), 60) == 3
        lines = log.read_text().splitlines()
        assert len(lines) <= 3, lines
        assert "cannot connect to postgresql+asyncpg://u:***@127.0.0.1:1/x" in lines[0]

"""``tidings run``: its options, from the command line and from the environment."""

from __future__ import annotations

import asyncio
import os
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import httpx
import pytest
import socketio
from click.testing import CliRunner
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from tests.support.server import run_server
from tidings.cli import main
from tidings.cli.serve import serve

AS_COMMAND = "from tidings.cli import main; main()"
APP = """\
from tidings import Api, JWTAuthPlugin, RestApiPlugin, SocketIOPlugin, SqlAlchemyPlugin

api = Api(name="blog")
api.use(RestApiPlugin())
api.use(SqlAlchemyPlugin("sqlite+aiosqlite:///blog.db", create_tables=True))
api.use(JWTAuthPlugin(secret="a secret that is long enough for HS256"))
api.use(SocketIOPlugin(anonymous=True))
api.add_resource("posts", schema={"title": "string"})
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "blog.py").write_text(APP)
    return tmp_path


def command(project: Path, *arguments: str) -> list[str]:
    start = f"import os; os.chdir({str(project)!r}); {AS_COMMAND}"
    return ["-c", start, "run", "blog:api", *arguments]


async def test_run_is_serve(project: Path) -> None:
    async with run_server(command(project)) as server, httpx.AsyncClient() as http:
        assert (await http.get(f"{server.url}/api/posts")).status_code == 200
    assert server.output().endswith(f"blog:api is at {server.url} (Ctrl+C stops it)\n")


async def test_a_line_for_each_request_where_that_is_asked_for(project: Path) -> None:
    env = {"TIDINGS_ACCESS_LOG": "1"}
    async with run_server(command(project), env=env) as server, httpx.AsyncClient() as http:
        await http.get(f"{server.url}/api/posts?sort=id")
    assert '"GET /api/posts?sort=id HTTP/1.1" 200' in server.output()
    arguments = ["--no-access-log", "--log-level", "info"]
    async with run_server(command(project, *arguments), env=env) as server:
        pass
    assert "HTTP/1.1" not in server.output()
    assert "Application startup complete" in server.output()


async def test_once_it_serves_an_error_has_its_whole_traceback_in_the_log(project: Path) -> None:
    (project / "blog.py").write_text(
        "from fastapi import FastAPI\n\napi = FastAPI()\n\n\n"
        '@api.get("/fails")\nasync def fails():\n    raise ValueError("not today")\n'
    )
    async with (
        run_server(command(project)) as server,
        httpx.AsyncClient(base_url=server.url) as http,
    ):
        assert (await http.get("/fails")).status_code == 500
    assert "Traceback (most recent call last):" in server.output()
    assert 'raise ValueError("not today")' in server.output()


async def test_the_path_that_a_proxy_has_taken_off(project: Path) -> None:
    async with (
        run_server(command(project, "--root-path", "/data")) as server,
        httpx.AsyncClient(base_url=server.url) as http,
    ):
        answer = await http.get("/api/posts")
    assert answer.json()["links"]["first"].startswith("/data/api/posts?")


@asynccontextmanager
async def process(project: Path, *arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """The command, once it has said that it serves."""
    started = await asyncio.create_subprocess_exec(
        sys.executable,
        *command(project, *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    assert started.stdout is not None
    try:
        async with asyncio.timeout(30):
            line = b""
            while b"(Ctrl+C stops it)" not in line:
                line = await started.stdout.readline()
                assert line, "it has ended"
        yield started
    finally:
        if started.returncode is None:
            started.terminate()
            await started.wait()


async def ended(project: Path, *arguments: str) -> tuple[int | None, str]:
    """The command, which ends by itself: its exit code, and what it says."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *command(project, *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(30):
        said, _ = await process.communicate()
    return process.returncode, said.decode()


async def polled(http: httpx.AsyncClient) -> bool:
    answer = await http.get("/socket.io/?EIO=4&transport=polling")
    return answer.text.startswith("0{")


async def test_a_unix_socket(project: Path) -> None:
    path = project / "tidings.sock"
    for _ in range(2):  # the second one finds what the first has left
        async with process(project, "--uds", str(path)):
            transport = httpx.AsyncHTTPTransport(uds=str(path))
            async with httpx.AsyncClient(transport=transport, base_url="http://x") as http:
                assert (await http.get("/api/posts")).status_code == 200
                assert await polled(http)
            code, said = await ended(project, "--uds", str(path))
            assert code == 1
            assert "it is in use" in said
    other = project / "file"
    other.write_text("not a socket")
    code, said = await ended(project, "--uds", str(other))
    assert code == 1
    assert "cannot listen at" in said
    assert other.read_text() == "not a socket"


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    found = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-keyout", found[1], "-out", found[0], "-subj", "/CN=localhost"),
            *("-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"),
        ],
        check=True,
        capture_output=True,
    )
    return found


async def test_tls(project: Path, certificate: tuple[Path, Path]) -> None:
    options = ["--ssl-certfile", str(certificate[0]), "--ssl-keyfile", str(certificate[1])]
    context = ssl.create_default_context(cafile=str(certificate[0]))
    async with run_server(command(project, *options), ready_path=None) as server:
        url = server.url.replace("http://", "https://")
        async with httpx.AsyncClient(base_url=url, verify=context) as http:
            assert (await http.get("/api/posts")).status_code == 200
            assert await polled(http)
            client = socketio.AsyncSimpleClient(ssl_verify=False)
            await client.connect(url, transports=["websocket"])
            answer = await client.call("subscribe", {"resource": "posts"})
            assert answer["success"]
            body = {"data": {"type": "posts", "attributes": {"title": "x"}}}
            await http.post(
                "/api/posts", json=body, headers={"content-type": "application/vnd.api+json"}
            )
            while (event := await client.receive(timeout=10))[0] != "subscription.update":
                pass
            assert event[1]["id"] == "1"
            await client.disconnect()
    assert f"is at {url}" in server.output()


_TELLS_ITS_ARGUMENTS = """\
import json, sys

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    body = json.dumps([sys.argv, scope["client"][0], scope["root_path"]]).encode()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})
"""


@pytest.fixture
def encrypted(certificate: tuple[Path, Path]) -> Path:
    """The key of the certificate, with the password open-sesame."""
    found = certificate[1].with_name("encrypted.pem")
    subprocess.run(
        [
            *("openssl", "rsa", "-aes256", "-in", certificate[1], "-out", found),
            *("-passout", "pass:open-sesame"),
        ],
        check=True,
        capture_output=True,
    )
    return found


async def test_workers_read_an_encrypted_key_and_nobody_sees_its_password(
    project: Path, certificate: tuple[Path, Path], encrypted: Path
) -> None:
    (project / "tells.py").write_text(_TELLS_ITS_ARGUMENTS)
    options = ["--ssl-certfile", str(certificate[0]), "--ssl-keyfile", str(encrypted)]
    code, said = await ended(project, *options)
    assert code == 1
    assert said.startswith(f"Error: {certificate[0]} and the key {encrypted} cannot be used")
    assert said.count("\n") == 1
    options += ["--ssl-keyfile-password", "open-sesame", "--workers", "2", "--root-path", "/x"]
    options += ["--forwarded-allow-ips", "127.0.0.1"]
    start = command(project, *options)
    start[start.index("blog:api")] = "tells:app"
    context = ssl.create_default_context(cafile=str(certificate[0]))
    async with run_server(start, ready_path=None, tapped=False) as server:
        url = server.url.replace("http://", "https://")
        async with httpx.AsyncClient(base_url=url, verify=context, timeout=60) as http:
            answer = await http.get("/", headers={"x-forwarded-for": "192.0.2.7"})
    arguments, client, root = answer.json()
    assert "--listener" in arguments, "it was a worker who answered"
    assert "open-sesame" not in str(arguments)
    assert (client, root) == ("192.0.2.7", "/x")


async def test_a_module_that_fails_is_waited_for_and_then_served(project: Path) -> None:
    (project / "blog.py").write_text("import nowhere\n")
    async with waiting(project, "--reload") as it:
        await it.until("It is started again when a file changes.")
        assert "Error: 'blog' cannot be imported: ModuleNotFoundError" in it.said
        assert "Traceback" not in it.said
        (project / "blog.py").write_text(APP)
        await it.until("(Ctrl+C stops it)")


async def test_before_it_starts_anew_it_drains(project: Path) -> None:
    """Clients are sent away in order, as by every other stop: the last word is Engine.IO's."""
    async with run_server(command(project, "--reload")) as server:
        address = server.url.replace("http", "ws") + "/socket.io/?EIO=4&transport=websocket"
        async with connect(address, compression=None) as wire:
            await wire.send("40")
            while not str(await wire.recv()).startswith('42["connected"'):
                pass
            (project / "other.py").write_text("x = 1\n")
            (project / "blog.py").write_text(APP + "\n# changed\n")
            frames: list[str] = []
            async with asyncio.timeout(60):
                with suppress(ConnectionClosed):
                    async for frame in wire:
                        frames.append(str(frame))
        assert frames[-1] == "1"
        assert wire.close_code == 1000


class Waiting:
    """The command, and all that it has said so far."""

    said = ""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def until(self, text: str) -> None:
        assert self._process.stdout is not None
        async with asyncio.timeout(60):
            while text not in self.said:
                chunk = await self._process.stdout.read(4096)
                assert chunk, self.said
                self.said += chunk.decode()


@asynccontextmanager
async def waiting(project: Path, *arguments: str) -> AsyncIterator[Waiting]:
    started = await asyncio.create_subprocess_exec(
        sys.executable,
        *command(project, *arguments, "--port", "0"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    try:
        yield Waiting(started)
    finally:
        started.terminate()
        await started.communicate()


async def test_it_starts_anew_when_a_file_changes(project: Path) -> None:
    async with (
        run_server(command(project, "--reload")) as server,
        httpx.AsyncClient(base_url=server.url, timeout=5) as http,
    ):
        assert (await http.get("/api/posts")).status_code == 200
        assert (await http.get("/api/notes")).status_code == 404
        (project / "blog.py").write_text(APP + 'api.add_resource("notes", {"x": "string"})\n')
        status = 404
        async with asyncio.timeout(60):
            while status != 200:
                with suppress(httpx.HTTPError):
                    status = (await http.get("/api/notes")).status_code
                await asyncio.sleep(0.1)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--ssl-keyfile", __file__], "TLS needs both --ssl-certfile and --ssl-keyfile"),
        (["--reload", "--workers", "2"], "--reload is for development, with one process"),
        (["--log-level", "loud"], "Invalid value for '--log-level'"),
        (["--uds", "/nowhere/to/be/found"], "cannot listen at /nowhere/to/be/found"),
    ],
)
def test_wrong_options(
    project: Path, arguments: list[str], complaint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    monkeypatch.syspath_prepend(str(project))
    result = CliRunner().invoke(main, ["run", "blog:api", *arguments])
    sys.modules.pop("blog", None)
    assert result.exit_code in (1, 2)
    assert complaint in result.output


def test_the_environment_gives_every_option(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = str(project / "blog.py")
    given: dict[str, tuple[str, object]] = {
        "host": ("0.0.0.0", "0.0.0.0"),
        "port": ("81", 81),
        "uds": ("/run/a.sock", "/run/a.sock"),
        "workers": ("3", 3),
        "timeout_worker_healthcheck": ("12.5", 12.5),
        "reload": ("true", True),
        "log_level": ("debug", "debug"),
        "access_log": ("1", True),
        "root_path": ("/data", "/data"),
        "forwarded_allow_ips": ("10.0.0.1,10.0.0.2", "10.0.0.1,10.0.0.2"),
        "ssl_certfile": (file, file),
        "ssl_keyfile": (file, file),
        "ssl_keyfile_password": ("secret", "secret"),
    }
    for name, (text, _) in given.items():
        monkeypatch.setenv(f"TIDINGS_{name.upper()}", text)
    monkeypatch.setenv("PORT", "82")
    monkeypatch.setenv("TIDINGS_LISTENER", "3")
    found = serve.make_context("run", ["blog:api"]).params
    found["timeout_worker_healthcheck"] = found.pop("patience")
    expected = {name: value for name, (_, value) in given.items()}
    assert found == expected | {"target": "blog:api", "listener": None, "parent": None}
    monkeypatch.delenv("TIDINGS_PORT")
    assert serve.make_context("run", ["blog:api"]).params["port"] == 82
    assert serve.make_context("run", ["blog:api", "--port", "83"]).params["port"] == 83
    asked = serve.make_context("run", ["blog:api", "--no-access-log"]).params
    assert asked["access_log"] is False


async def test_workers_are_told_the_same(project: Path) -> None:
    """Each takes its settings from the one that started it."""
    from tidings.serving import Settings

    settings = Settings(log_level="info", access_log=True, root_path="/x")
    assert settings.arguments() == ["--log-level", "info", "--root-path", "/x", "--access-log"]


def test_importing_the_package_imports_no_server() -> None:
    code = "import sys, tidings; print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.split(".")[0] for name in done.stdout.split()}
    assert not loaded & {"uvicorn", "click", "websockets", "httpx", "uvloop"}

"""``tidings run``: its options, from the command line and from the environment."""

from __future__ import annotations

import asyncio
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

from tests.support.server import run_server
from tidings.cli import main

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

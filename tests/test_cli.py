"""The command: what it prints, how it refuses, and that it serves."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import httpx
import jwt
import pytest
from click.testing import CliRunner, Result
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

import tidings
from tests.support.server import REPOSITORY, free_port, run_server
from tidings.cli import main

AS_COMMAND = "from tidings.cli import main; main()"
SECRET = "a secret that is long enough for HS256"

APP = """\
from tidings import Api, RestApiPlugin, SqlAlchemyPlugin

api = Api(name="blog")
api.use(RestApiPlugin())
api.use(SqlAlchemyPlugin("sqlite+aiosqlite:///blog.db", create_tables=True))
api.add_resource("posts", schema={"title": {"type": "string", "required": True}})
number = 7


class Inner:
    async def app(scope, receive, send):
        assert scope["type"] == "lifespan" or scope["type"] == "http"
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
            return
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"hello"})
"""


def run(*arguments: str, env: dict[str, str] | None = None) -> Result:
    unset = {"JWT_SECRET": None, "JWT_PRIVATE_KEY_FILE": None, "PORT": None}
    return CliRunner().invoke(main, arguments, env={**unset, **(env or {})})


async def execute(*arguments: str, cwd: Path) -> tuple[int | None, str]:
    """Run the command as a process that is expected to end by itself."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tidings",
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        cwd=cwd,
    )
    try:
        async with asyncio.timeout(20):
            output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode, output.decode()


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "blog.py").write_text(APP)
    (tmp_path / "broken.py").write_text("import nowhere_to_be_found\n")
    (tmp_path / "raising.py").write_text(
        "from blog import api\n\n\n"
        '@api.hook("startup")\n'
        'def not_today(*_):\n    raise ValueError("not today")\n'
    )
    (tmp_path / "fast.py").write_text(
        "from contextlib import asynccontextmanager\nfrom fastapi import FastAPI\n\n"
        "@asynccontextmanager\nasync def life(app):\n"
        '    raise ValueError("not today")\n    yield\n\n'
        "app = FastAPI(lifespan=life)\n"
    )
    (tmp_path / "picky.py").write_text(
        'async def app(scope, receive, send):\n    assert scope["type"] == "http"\n'
    )
    (tmp_path / "misdeclared.py").write_text(
        'from tidings import Api\nApi().add_resource("posts", schema={"title": "strng"})\n'
    )
    (tmp_path / "unfinished.py").write_text(
        "from tidings import Api, RestApiPlugin\napi = Api()\napi.use(RestApiPlugin())\n"
    )
    return tmp_path


@pytest.fixture
def here(project: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The project is the working directory, and what is imported from it is forgotten again."""
    monkeypatch.chdir(project)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name in ("blog", "misdeclared"):
            del sys.modules[name]


def test_version_is_the_package_s():
    result = run("--version")
    assert result.exit_code == 0
    assert result.output == f"tidings, version {tidings.__version__}\n"


COMMANDS = (
    *("new", "run", "serve", "demo", "routes", "openapi", "types", "token", "watch", "explain"),
    *("doctor", "triggers"),
)


def test_help_names_every_command_with_a_whole_sentence():
    lines = run("--help").output.partition("Commands:\n")[2].splitlines()
    assert [line.split()[0] for line in lines] == list(COMMANDS)
    assert all(line.endswith(".") and not line.endswith("...") for line in lines)


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_an_example_or_needs_none(command: str):
    output = run(command, "--help").output
    assert "Usage: " in output
    assert "For example: tidings " in output or command in ("demo", "triggers")


def test_the_docs_name_every_command_option_and_variable():
    page = (REPOSITORY / "docs" / "command.md").read_text()
    others = (REPOSITORY / "docs" / "operations.md").read_text()
    context = click.Context(main)
    for name in COMMANDS:
        command = main.get_command(context, name)
        assert f"`{name}`" in page
        for option in command.params:
            if not isinstance(option, click.Option) or option.hidden:
                continue
            shown = page if name != "doctor" else others
            assert any(one in shown for one in option.opts), (name, option.opts)
            for variable in variables_of(name, option):
                assert variable in shown, (name, variable)


def variables_of(command: str, option: click.Option) -> list[str]:
    given = option.envvar or []
    found = [given] if isinstance(given, str) else list(given)
    if command == "run":
        found.append(f"TIDINGS_{option.opts[0].lstrip('-').replace('-', '_').upper()}")
    return found


def test_a_command_imports_only_what_it_needs():
    code = (
        "import sys; from tidings.cli import main\n"
        f"main(['token', '--secret', {SECRET!r}, '--sub', '7'], standalone_mode=False)\n"
        "print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.split(".")[0] for name in done.stdout.split()}
    assert "click" in loaded
    assert not loaded & {"uvicorn", "websockets", "httpx", "socketio"}


def test_token_holds_what_was_asked():
    before = int(time.time())
    result = run(
        *("token", "--secret", SECRET, "--sub", "7", "--role", "editor", "--role", "admin"),
        *("--claim", "workspace_id=north", "--claim", "level=3", "--claim", 'tags=["a", "b"]'),
        *("--claim", "motto=a=b", "--expires", "60"),
    )
    claims = jwt.decode(result.output.strip(), SECRET, algorithms=["HS256"])
    assert before <= claims.pop("iat") <= time.time()
    assert before + 60 <= claims.pop("exp") <= time.time() + 60
    assert claims == {
        "sub": "7",
        "roles": ["editor", "admin"],
        "workspace_id": "north",
        "level": 3,
        "tags": ["a", "b"],
        "motto": "a=b",
    }


def test_token_takes_its_secret_from_the_environment_and_has_no_end_unless_told():
    result = run("token", "--sub", "7", env={"JWT_SECRET": SECRET})
    claims = jwt.decode(result.output.strip(), SECRET, algorithms=["HS256"])
    assert claims.keys() == {"sub", "iat"}


async def test_token_signs_one_in(tmp_path: Path):
    signed = run("token", "--secret", SECRET, "--sub", "7", "--role", "editor").output.strip()
    api = tidings.Api()
    api.use(tidings.RestApiPlugin())
    api.use(tidings.SqlAlchemyPlugin(f"sqlite+aiosqlite:///{tmp_path}/a.db", create_tables=True))
    api.use(tidings.JWTAuthPlugin(secret=SECRET))
    seen: list[tidings.Identity] = []
    api.add_resource("things", {"name": "string"}, check_permissions=lambda c: seen.append(c.auth))
    async with (
        api,
        httpx.AsyncClient(
            transport=httpx.ASGITransport(api.asgi()), base_url="http://test"
        ) as http,
    ):
        await http.get("/api/things", headers={"authorization": f"Bearer {signed}"})
    assert [(identity.user_id, identity.roles) for identity in seen] == [("7", {"editor"})]


KEYS = {
    "RS256": lambda: rsa.generate_private_key(65537, 2048),
    "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "ES384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate,
}


def pem_of(key: Any, password: bytes | None = None) -> bytes:
    cipher = BestAvailableEncryption(password) if password else NoEncryption()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, cipher)


@pytest.mark.parametrize("algorithm", KEYS)
def test_token_is_signed_with_a_private_key(algorithm: str, tmp_path: Path):
    key = KEYS[algorithm]()
    path = tmp_path / "key.pem"
    path.write_bytes(pem_of(key))
    public = key.public_key()
    # The key that was asked for comes before a secret that happens to be in the environment.
    for how in (
        run("token", "--sub", "7", "--private-key", str(path), env={"JWT_SECRET": SECRET}),
        run("token", "--sub", "7", env={"JWT_PRIVATE_KEY_FILE": str(path)}),
    ):
        claims = jwt.decode(how.output.strip(), public, algorithms=[algorithm])
        assert claims["sub"] == "7"
    other = run(
        *("token", "--sub", "7", "--secret", SECRET), env={"JWT_PRIVATE_KEY_FILE": str(path)}
    )
    assert jwt.decode(other.output.strip(), SECRET, algorithms=["HS256"])["sub"] == "7"


def test_token_refuses_other_keys(tmp_path: Path):
    path = tmp_path / "key.pem"
    key = KEYS["ES256"]()
    koblitz = ec.generate_private_key(ec.SECP256K1())
    for content in (b"nothing", pem_of(key, b"secret"), pem_of(koblitz)):
        path.write_bytes(content)
        result = run("token", "--sub", "7", "--private-key", str(path))
        assert result.exit_code == 2
        assert str(path) in result.output
        assert result.output.count("\n") == 2


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--sub", "7"], "Missing option '--secret'"),
        (["--secret", SECRET], "Missing option '--sub'"),
        (["--secret", "short", "--sub", "7"], "shorter than 32 bytes"),
        (["--secret", SECRET, "--sub", "7", "--claim", "north"], "'north' is not NAME=VALUE"),
        (["--secret", SECRET, "--sub", "7", "--claim", "=north"], "'=north' is not NAME=VALUE"),
        (["--secret", SECRET, "--sub", "7", "--claim", "exp=1"], "use --expires for 'exp'"),
        (["--secret", SECRET, "--sub", "7", "--expires", "0"], "--expires"),
    ],
)
def test_token_refuses(arguments: list[str], complaint: str):
    result = run("token", *arguments)
    assert result.exit_code == 2
    assert complaint in result.output


@pytest.mark.parametrize(
    ("target", "complaint"),
    [
        ("blog", "'blog' is not MODULE:ATTRIBUTE"),
        (":api", "':api' is not MODULE:ATTRIBUTE"),
        ("nothing:api", "there is no module 'nothing'"),
        ("blog.inner:api", "there is no module 'blog.inner'"),
        ("blog:apj", "module 'blog' has no 'apj'"),
        ("blog:number", "'blog:number' is neither an Api nor an ASGI app, but a int"),
        ("misdeclared:api", "resource 'posts'"),
    ],
)
@pytest.mark.usefixtures("here")
def test_serve_refuses_in_one_line(target: str, complaint: str):
    result = run("serve", target, "--port", "0")
    assert result.exit_code in (1, 2)
    assert complaint in result.output
    assert result.output.strip().splitlines()[-1].startswith("Error: ")


async def test_a_module_that_fails_is_said_in_two_lines(project: Path):
    code, output = await execute("serve", "broken:api", cwd=project)
    assert code == 1
    assert output == (
        "Error: 'broken' cannot be imported: ModuleNotFoundError: No module named "
        "'nowhere_to_be_found'\n"
        "  broken.py, line 1: import nowhere_to_be_found (TIDINGS_TRACEBACK=1 shows all of it)\n"
    )


async def test_somebody_may_ask_for_the_whole_traceback(
    project: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("TIDINGS_TRACEBACK", "1")
    for target in ("broken:api", "raising:api"):
        code, output = await execute("serve", target, "--port", "0", cwd=project)
        assert code in (1, 3)
        assert "Traceback (most recent call last):" in output
        assert "cannot be imported" not in output


@pytest.mark.parametrize(
    ("target", "first", "place"),
    [
        ("raising:api", "ValueError: not today", "raising.py, line 6: raise ValueError("),
        ("fast:app", "ValueError: not today", 'fast.py, line 6: raise ValueError("not today")'),
        ("picky:app", "AssertionError", 'picky.py, line 2: assert scope["type"] == "http"'),
    ],
)
async def test_an_app_that_fails_at_its_start_is_said_in_three_lines(
    project: Path, target: str, first: str, place: str
):
    code, output = await execute("serve", target, "--port", "0", cwd=project)
    assert code == 3
    lines = output.splitlines()
    assert len(lines) == 3, output
    assert lines[0] == f"ERROR:    {first}"
    assert lines[1].strip().startswith(place)
    assert lines[2] == "ERROR:    Application startup failed. Exiting."


@pytest.mark.parametrize(
    ("arguments", "usage", "complaint"),
    [
        (["run"], "Usage: tidings run [OPTIONS] MODULE:ATTRIBUTE", "Missing argument"),
        (["explain", "a:b", "--usr", "7"], "Usage: tidings explain [OPTIONS] MODULE:API", "--usr"),
        (["sreve"], "Usage: tidings [OPTIONS] COMMAND [ARGS]...", "No such command 'sreve'"),
        (["triggers", "drop"], "Usage: tidings triggers [OPTIONS] COMMAND", "'drop'"),
    ],
)
def test_a_wrong_command_line_is_said_in_two_lines(
    arguments: list[str], usage: str, complaint: str
):
    result = CliRunner().invoke(main, arguments, prog_name="tidings")
    assert result.exit_code == 2
    first, second = result.output.splitlines()
    assert first.startswith(usage)
    assert first.endswith("(--help tells more)")
    assert second.startswith("Error: ")
    assert complaint in second


def test_whatever_else_fails_is_no_traceback(monkeypatch: pytest.MonkeyPatch):
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("out of paper")

    monkeypatch.setattr("jwt.encode", fail)
    result = run("token", "--secret", SECRET, "--sub", "7")
    assert result.exit_code == 1
    assert result.output.startswith("Error: RuntimeError: out of paper\n")
    assert result.output.count("\n") == 2


def test_ctrl_c_is_no_failure_of_ours(monkeypatch: pytest.MonkeyPatch):
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("jwt.encode", interrupt)
    result = run("token", "--secret", SECRET, "--sub", "7")
    assert (result.exit_code, result.output) == (130, "")


async def test_serve_says_so_when_the_app_does_not_start(project: Path):
    code, output = await execute("serve", "unfinished:api", "--port", "0", cwd=project)
    assert code == 3
    assert "an Api needs the SqlAlchemyPlugin: use it" in output
    assert "Application startup failed" in output


@pytest.mark.parametrize(
    ("target", "path", "answer"),
    [("blog:api", "/api/posts", '"data":[]'), ("blog:Inner.app", "/", "hello")],
)
async def test_serve_serves(project: Path, target: str, path: str, answer: str):
    arguments = ["-c", f"import os; os.chdir({str(project)!r}); {AS_COMMAND}", "serve", target]
    async with run_server(arguments) as server, httpx.AsyncClient(base_url=server.url) as http:
        assert answer in (await http.get(path)).text
    assert server.process.returncode == 0
    assert server.output() == f"{target} is at {server.url} (Ctrl+C stops it)\n"


@pytest.mark.parametrize("command", [["demo"], ["serve", "blog:api"]])
@pytest.mark.usefixtures("here")
def test_a_port_in_use_is_said_in_one_line(command: list[str]):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        result = run(*command, "--port", str(port))
    assert result.exit_code == 1
    assert result.output == (
        f"Error: port {port} on 127.0.0.1 is in use; choose another one with --port or PORT\n"
    )


@pytest.mark.parametrize("host", ["a..b", "192.0.2.1"])
def test_a_host_that_is_not_ours_is_said_in_one_line(host: str):
    result = run("demo", "--host", host, "--port", "0")
    assert result.exit_code == 1
    assert result.output.startswith("Error: cannot listen on ")
    assert host in result.output
    assert result.output.count("\n") == 1


async def test_two_demos_cannot_share_a_port(tmp_path: Path):
    async with run_server(["-m", "tidings", "demo"]) as server:
        code, output = await execute("demo", "--port", str(server.port), cwd=tmp_path)
    assert code == 1
    assert output.startswith(f"Error: port {server.port} on 127.0.0.1 is in use")
    assert output.count("\n") == 1


async def test_demo_serves_its_page_and_leaves_nothing_behind(tmp_path: Path):
    env = {"TMPDIR": str(tmp_path)}
    async with (
        run_server(["-m", "tidings", "demo"], env=env) as server,
        httpx.AsyncClient(base_url=server.url) as http,
    ):
        page = await http.get("/")
        assert page.status_code == 200
        assert "<title>tidings</title>" in page.text
        assert os.listdir(tmp_path) != []
        for path in ("board", "inspector", "demo/code"):
            assert (await http.get(f"/{path}")).status_code == 200
        for name in ("board.js", "posts.js", "style.css", "icon.svg", "tidings.min.js"):
            assert (await http.get(f"/static/{name}")).status_code == 200
        assert "//" not in page.text.replace("<!doctype html>", "")  # nothing from elsewhere
    assert server.process.returncode == 0
    assert os.listdir(tmp_path) == []
    assert server.output() == f"The demo is at {server.url} (Ctrl+C stops it)\n"


async def test_demo_takes_its_port_from_the_option_first():
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tidings", "demo", "--port", str(port)),
        stdout=asyncio.subprocess.PIPE,
        cwd=REPOSITORY,
        env={**os.environ, "PORT": "1"},
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(20):
            line = await process.stdout.readline()
        assert line.decode() == f"The demo is at http://127.0.0.1:{port} (Ctrl+C stops it)\n"
    finally:
        process.terminate()
        assert await process.wait() == 0

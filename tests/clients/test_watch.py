"""``tidings watch``: on a terminal, in a pipe, and when the server goes."""

from __future__ import annotations

import asyncio
import os
import pty
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import pytest
from click.testing import CliRunner

from tests.clients.test_python_client import PATIENCE, make_api, token
from tests.support.server import free_port, serve
from tidings import Api, SocketIOPlugin, SqlAlchemyPlugin
from tidings.cli import main

pytestmark = pytest.mark.anyio


@dataclass
class Watching:
    """The command while it runs; its lines so far."""

    process: asyncio.subprocess.Process
    out: list[str] = field(default_factory=list)
    err: list[str] = field(default_factory=list)

    async def read(self, stream: asyncio.StreamReader | None, lines: list[str]) -> None:
        assert stream is not None
        async for line in stream:
            lines.append(line.decode().rstrip("\n"))

    async def until(self, holds: Callable[[], bool]) -> None:
        try:
            async with asyncio.timeout(PATIENCE):
                while not holds():
                    await asyncio.sleep(0.01)
        except TimeoutError:
            raise AssertionError(f"{self.out} {self.err} {self.process.returncode}") from None

    async def ended(self) -> int:
        async with asyncio.timeout(PATIENCE):
            return await self.process.wait()

    def changes(self) -> list[str]:
        """What it has said, without the time of day."""
        return [" ".join(line.split()[1:]) for line in self.out]


@asynccontextmanager
async def watching(*arguments: str, **env: str) -> AsyncIterator[Watching]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tidings", "watch", *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "TIDINGS_TOKEN": token()} | env,
    )
    found = Watching(process)
    reading = [
        asyncio.create_task(found.read(process.stdout, found.out)),
        asyncio.create_task(found.read(process.stderr, found.err)),
    ]
    try:
        yield found
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        await asyncio.gather(*reading)


def make_open_api() -> Api:
    """Everybody may see everything, so that what was missed can be told one by one."""
    api = Api(name="blog")
    api.use(SqlAlchemyPlugin("sqlite+aiosqlite://", create_tables=True))
    api.use(SocketIOPlugin(anonymous=True))
    api.add_resource("posts", {"title": "string"})
    return api


def served(api: Api, port: int, **options: Any) -> Any:
    """The api, which stays open when its server goes: its changes have one epoch."""
    return serve(api.asgi(), port=port, lifespan="off", log_level="critical", **options)


async def test_it_says_what_it_watches_and_what_becomes_of_it() -> None:
    async with make_api() as api, served(api, free_port()) as url:
        filters = ("--filter", "status=published", "--filter", "views=[1, 2]")
        async with watching(url, "posts", *filters, "--count", "2") as it:
            await it.until(lambda: it.out != [])
            await api.resources.posts.post({"title": "a", "status": "draft", "views": 1})
            await api.resources.posts.patch("1", {"status": "published"})
            await api.resources.posts.patch("1", {"views": 3})
            assert await it.ended() == 0
    assert it.changes() == [
        "live posts where status=published, views=[1, 2]",
        "enter posts 1",
        "leave posts 1",
    ]
    assert it.err == []


async def test_a_lost_connection_is_made_again_and_nothing_is_missed() -> None:
    port = free_port()
    async with make_open_api() as api:
        async with watching(
            f"http://127.0.0.1:{port}", "posts", "--count", "3", TIDINGS_TOKEN=""
        ) as it:
            await it.until(lambda: any("cannot be connected to" in line for line in it.err))
            assert "it is tried again" in it.err[0]
            async with served(api, port):
                await it.until(lambda: it.out != [])
                await api.resources.posts.post({"title": "a"})
                await it.until(lambda: len(it.out) == 2)
            await it.until(lambda: "the connection was lost; it is made again" in it.err)
            await api.resources.posts.delete("1")
            await api.resources.posts.post({"title": "b"})
            async with served(api, port):
                assert await it.ended() == 0
        assert it.changes() == [
            "live all posts",
            "enter posts 1",
            "leave posts 1",
            "enter posts 2",
        ]
        assert it.err[1:] == ["the connection was lost; it is made again", "connected again"]


async def test_where_there_are_no_sockets_it_ends() -> None:
    async with (
        make_api() as api,
        served(api, free_port()) as url,
        watching(url, "posts", "--path", "/elsewhere") as it,
    ):
        assert await it.ended() == 1
    assert it.out == []
    assert it.err == [
        f"Error: {url} has no sockets at /elsewhere (it answers 404): see that the URL is right, "
        "or give --path"
    ]


async def test_a_token_that_will_not_do_ends_it() -> None:
    async with (
        make_api() as api,
        served(api, free_port()) as url,
        watching(url, "posts", "--token", token(seconds=-10)) as it,
    ):
        assert await it.ended() == 1
    assert it.err[-1].startswith("Error: TOKEN_EXPIRED")
    assert len(it.err) <= 3


async def test_ctrl_c_ends_it_without_a_word() -> None:
    async with make_api() as api, served(api, free_port()) as url, watching(url, "posts") as it:
        await it.until(lambda: it.out != [])
        it.process.send_signal(signal.SIGINT)
        assert await it.ended() == 130
    assert it.err == []


async def test_it_ends_when_nobody_reads_any_more() -> None:
    async with make_api() as api, served(api, free_port()) as url:
        reader, writer = os.pipe()
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tidings", "watch", url, "posts", "--token", token()),
            stdout=writer,
            stderr=asyncio.subprocess.PIPE,
        )
        os.close(writer)
        assert await asyncio.to_thread(os.read, reader, 1)
        os.close(reader)
        await api.resources.posts.post({"title": "a"})
        async with asyncio.timeout(PATIENCE):
            _, said = await process.communicate()
    assert said == b""
    assert process.returncode == 1


async def on_a_terminal(url: str, **env: str) -> bytes:
    """What it writes to a terminal until the first change has come."""
    ours, its = pty.openpty()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tidings", "watch", url, "posts", "--count", "1"),
        stdout=its,
        env={**os.environ, "TIDINGS_TOKEN": token(), **env},
    )
    os.close(its)
    async with asyncio.timeout(PATIENCE):
        said = b""
        with suppress(OSError):  # by which a terminal says that this is its end
            while chunk := await asyncio.to_thread(os.read, ours, 4096):
                said += chunk
    os.close(ours)
    assert await process.wait() == 0
    return said


@pytest.mark.parametrize("is_plain", [False, True])
async def test_a_terminal_has_colours_unless_somebody_wants_none(is_plain: bool) -> None:
    async with make_api() as api, served(api, free_port()) as url:

        async def write() -> None:
            while not api.socket_server._service.active():
                await asyncio.sleep(0.01)
            await api.resources.posts.post({"title": "a"})

        writing = asyncio.create_task(write())
        said = await on_a_terminal(url, **({"NO_COLOR": "1"} if is_plain else {}))
        await writing
    assert b"posts 1" in said
    assert (b"\x1b[32menter" in said) is not is_plain
    assert (b"\x1b" in said) is not is_plain


async def test_without_the_packages_it_says_which() -> None:
    code = (
        "import sys; sys.modules['socketio'] = None\n"
        "from tidings.cli import main\nmain(['watch', 'http://127.0.0.1:1', 'posts'])"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, stderr=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(PATIENCE):
        _, said = await process.communicate()
    assert process.returncode == 1
    assert said.decode().count("\n") == 1
    assert 'pip install "tidings[client]"' in said.decode()


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["example.org", "posts"], "'example.org' does not begin with http:// or https://"),
        (["http://example.org", "posts", "--filter", "status"], "'status' is not NAME=VALUE"),
        (["http://example.org"], "Missing argument 'RESOURCE'"),
    ],
)
def test_what_cannot_be_watched(arguments: list[str], complaint: str) -> None:
    result = CliRunner().invoke(main, ["watch", *arguments])
    assert result.exit_code == 2
    assert complaint in result.output

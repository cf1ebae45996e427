"""The demo's page, opened and driven in a real browser; the scenarios are in browser-demo.mjs."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from tests.support.node import JS_DIRECTORY
from tests.support.server import REPOSITORY, free_port, run_server

pytestmark = pytest.mark.browser

DRIVER = JS_DIRECTORY / "browser-demo.mjs"
PICTURE = REPOSITORY / "docs" / "images" / "demo.png"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
DEMO = ["-m", "tidings", "demo"]
PATIENCE = 90


@pytest.fixture(scope="module")
def browser() -> str:
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip("no Chromium is installed")
    if shutil.which("node") is None:
        pytest.skip("Node.js is not installed")
    if not (JS_DIRECTORY / "node_modules" / "playwright-core").is_dir():
        pytest.skip("the JavaScript packages are missing: run make setup-js")
    return found


async def play(
    browser: str,
    url: str,
    *arguments: str,
    restart: Callable[[], Awaitable[None]] | None = None,
) -> None:
    """Run one scenario; where it writes ``restart``, call that and let it go on."""
    driver = await asyncio.create_subprocess_exec(
        "node",
        str(DRIVER),
        url,
        *arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={**os.environ, "CHROMIUM": browser},
    )
    assert driver.stdin is not None
    assert driver.stdout is not None
    output = []
    try:
        async with asyncio.timeout(PATIENCE):
            async for line in driver.stdout:
                output.append(line.decode())
                if line == b"restart\n" and restart is not None:
                    await restart()
                    driver.stdin.write(b"\n")
                    await driver.stdin.drain()
            await driver.wait()
    finally:
        # Asked politely, the driver closes its browser before it goes.
        with contextlib.suppress(ProcessLookupError):
            driver.terminate()
        driver.stdin.close()
        await driver.wait()
    assert driver.returncode == 0, "".join(output)


@pytest.mark.parametrize(
    "scenario",
    [
        "two pages",
        "other workspace",
        "filters",
        "refusals",
        "open form",
        "keyboard",
        "lost connection",
        "both sides",
    ],
)
async def test_the_board(browser: str, scenario: str) -> None:
    async with run_server(DEMO) as server:
        await play(browser, server.url, scenario)
    assert "Traceback" not in server.output()


async def test_the_board_survives_a_restart_of_the_server(browser: str, tmp_path: Path) -> None:
    port = free_port()
    async with contextlib.AsyncExitStack() as second, contextlib.AsyncExitStack() as first:
        await first.enter_async_context(demo_on(port, tmp_path))

        async def restart() -> None:
            await first.aclose()
            await second.enter_async_context(demo_on(port, tmp_path))

        await play(browser, f"http://127.0.0.1:{port}", "restart", restart=restart)


@pytest.mark.skipif("TIDINGS_SCREENSHOT" not in os.environ, reason="TIDINGS_SCREENSHOT is not set")
async def test_the_picture_in_the_documentation_is_taken_again(browser: str) -> None:
    PICTURE.parent.mkdir(parents=True, exist_ok=True)
    async with run_server(DEMO) as server:
        folder = os.environ["TIDINGS_SCREENSHOT"]
        more = [folder] if os.path.isdir(folder) else []  # noqa: ASYNC240
        await play(browser, server.url, "both sides", str(PICTURE), *more)
    assert PICTURE.read_bytes().startswith(b"\x89PNG")
    assert PICTURE.stat().st_size < 300_000


@contextlib.asynccontextmanager
async def demo_on(port: int, folder: Path) -> AsyncIterator[None]:
    """A demo on just this port, killed without a chance to say goodbye or to clear `folder`."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *DEMO,
        "--port",
        str(port),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        cwd=REPOSITORY,
        env={**os.environ, "TMPDIR": str(folder)},
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(20):
            assert b"is at" in await process.stdout.readline()
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()

"""The page that ``tidings new`` writes, in a real browser; the steps are in browser-new.mjs."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.browser.test_demo import browser
from tests.support.node import JS_DIRECTORY
from tests.support.server import run_server

from tidings.cli import main

__all__ = ["browser"]
pytestmark = pytest.mark.browser
AS_COMMAND = "from tidings.cli import main; main()"


@pytest.mark.parametrize("options", [[], ["--fastapi"]])
async def test_two_people_see_each_others_notes(
    browser: str, tmp_path: Path, options: list[str]
) -> None:
    made = tmp_path / "notes"
    assert CliRunner().invoke(main, ["new", str(made), *options]).exit_code == 0
    start = f"import os; os.chdir({str(made)!r}); {AS_COMMAND}"
    image = os.environ.get("NEW_PICTURE")
    async with run_server(["-c", start, "run", "app:app"]) as server:
        driver = await asyncio.create_subprocess_exec(
            "node",
            str(JS_DIRECTORY / "browser-new.mjs"),
            server.url,
            *([image] if image else []),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env={**os.environ, "CHROMIUM": browser},
        )
        async with asyncio.timeout(90):
            said, _ = await driver.communicate()
    assert driver.returncode == 0, said.decode()

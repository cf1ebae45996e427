"""The React page of examples/fastapi, bundled and used in a real browser by people of two teams."""

from __future__ import annotations

import asyncio
import importlib
import os
import shutil
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from types import ModuleType

import pytest
from tests.support.node import JS_DIRECTORY
from tests.support.server import REPOSITORY, serve

pytestmark = [pytest.mark.anyio, pytest.mark.browser]

FOLDER = REPOSITORY / "examples" / "fastapi"
CLIENT = REPOSITORY / "clients" / "js"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
MODULES = ("app", "live", "page")


async def run(*command: str, **environment: str) -> None:
    process = await asyncio.create_subprocess_exec(
        *command,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={**os.environ, **environment},
    )
    async with asyncio.timeout(90):
        output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()


@pytest.fixture
async def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ModuleType]:
    """The example, with three people in two teams, and a folder of its own for the page."""
    monkeypatch.setenv("DATABASE_URL", f"sqlite+aiosqlite:///{tmp_path / 'work.db'}")
    monkeypatch.syspath_prepend(FOLDER)
    for name in MODULES:
        sys.modules.pop(name, None)
    try:
        page = importlib.import_module("page")
        app, live = sys.modules["app"], sys.modules["live"]
        async with app.engine.begin() as connection:
            await connection.run_sync(app.Base.metadata.create_all)
        await live.api.triggers.install()
        async with app.make_session() as session:
            people = [app.User(name=name, password="x") for name in ("ann", "cleo", "ben")]
            red, blue = app.Team(name="red"), app.Team(name="blue")
            session.add_all([*people, red])
            await session.flush()
            session.add(blue)
            await session.flush()
            for person, team in zip(people, (red, red, blue), strict=True):
                session.add(app.Membership(team_id=team.id, user_id=person.id))
            await session.commit()
        yield page
        await app.engine.dispose()
    finally:
        for name in MODULES:
            sys.modules.pop(name, None)


async def test_people_of_a_team_see_each_other_s_tasks(page: ModuleType, tmp_path: Path) -> None:
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    bundler = CLIENT / "node_modules" / ".bin" / "esbuild"
    if browser is None or shutil.which("node") is None:
        pytest.skip("no Chromium or no Node.js is installed")
    if not bundler.exists() or not (CLIENT / "dist").is_dir():
        pytest.skip("the client is not built: make setup-js")
    files = tmp_path / "page"
    shutil.copytree(FOLDER / "page", files)
    await run(
        str(bundler),
        str(files / "main.jsx"),
        "--bundle",
        "--jsx=automatic",
        f"--alias:@tidings/client={CLIENT / 'dist' / 'index.js'}",
        f"--alias:@tidings/client/react={CLIENT / 'dist' / 'react.js'}",
        '--define:process.env.NODE_ENV="production"',
        f"--outfile={files / 'main.js'}",
        "--log-level=error",
        NODE_PATH=str(CLIENT / "node_modules"),
    )
    # Nothing is built into the repository: the page is served from where it was bundled.
    page.app.routes[-1].app.all_directories = [files]
    pictures = os.environ.get("TIDINGS_SCREENSHOT")
    async with serve(page.app) as url:
        more = [f"{pictures}/example.png"] if pictures else []
        await run("node", str(JS_DIRECTORY / "browser-example.mjs"), url, *more, CHROMIUM=browser)


def test_the_page_is_about_sixty_lines() -> None:
    lines = (FOLDER / "page" / "main.jsx").read_text().splitlines()
    assert len([line for line in lines if line.strip()]) <= 65

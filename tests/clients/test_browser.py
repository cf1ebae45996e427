"""`@tidings/client` in a real browser, with the recipes of docs/clients.md."""

from __future__ import annotations

import shutil

import pytest

from tests.clients.server import run_node, run_world

pytestmark = [pytest.mark.anyio, pytest.mark.browser]

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@pytest.mark.parametrize(
    "scenario", ["html", "react", "a lost network", "a token that ends while the page sleeps"]
)
async def test_a_page(scenario: str) -> None:
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        pytest.skip("no Chromium is installed")
    async with run_world() as world:
        code, report = await run_node(
            "tests/browser.mjs", scenario, world=world, env={"CHROMIUM": browser}
        )
    assert code == 0, report

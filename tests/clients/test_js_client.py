"""`@tidings/client` in Node, against a real server."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from tests.clients.schedules import play
from tests.clients.server import PACKAGE, run_node, run_world

pytestmark = pytest.mark.anyio

SCHEDULES = 200


async def test_each_race_is_won() -> None:
    async with run_world() as world:
        code, report = await run_node("--test", "tests/races.test.mjs", world=world)
    assert code == 0, report


@pytest.mark.parametrize("script", ["lint", "size"])
def test_the_package_is_well_formed_and_small(script: str) -> None:
    if shutil.which("npm") is None or not (PACKAGE / "dist").is_dir():
        pytest.skip("needs Node.js 20 or later and the built client: run 'make setup-js'")
    done = subprocess.run(["npm", "run", script], cwd=PACKAGE, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


async def test_the_recipes_of_the_docs_the_types_and_the_guide_s_classes() -> None:
    async with run_world() as world:
        code, report = await run_node("--test", "tests/recipes.test.mjs", world=world)
    assert code == 0, report


async def test_after_any_schedule_the_list_is_the_server_s_answer() -> None:
    code, report = await play(SCHEDULES)
    assert code == 0, report


async def test_the_schedules_find_what_was_wrong_with_the_example_that_the_docs_had() -> None:
    code, report = await play(40, client="old")
    assert code == 1, report
    assert "seed" in report

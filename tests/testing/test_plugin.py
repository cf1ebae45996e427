"""The fixtures for pytest, in a pytest of their own."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent

APP = """
from tests.testing.kit import make_api

api = make_api()
app = api.asgi()
"""
TESTS = """
import pytest

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend():
    return "asyncio"


async def test_who_is_told(live):
    ada, bob = live.client(user_id=1), live.client(user_id=2)
    watch = await bob.subscribe("posts", {"status": "published"})
    await ada.create("posts", {"title": "News", "owner_id": "1"})
    await watch.assert_silent()
    await ada.update("posts", 1, {"status": "published"})
    await watch.assert_told(("enter", 1))


async def test_begins_with_an_empty_database(live):
    assert (await live.api.resources.posts.query()).total == 0


async def test_that_fails(live):
    watch = await live.client(user_id=2).subscribe("posts", {"status": "published"})
    await live.api.resources.posts.post({"title": "News"})
    await watch.assert_told(("enter", 1))
"""


def run(folder: Path, *settings: str, tests: str = TESTS) -> str:
    (folder / "blog.py").write_text(APP)
    (folder / "test_blog.py").write_text(tests)
    listing = "\n".join(("[pytest]", "pythonpath = .", "filterwarnings = error", *settings))
    (folder / "pytest.ini").write_text(listing)
    # By name, since the entry point is there only where the package was installed after it.
    command = ["-m", "pytest", "-p", "no:cacheprovider", "-q"]
    if not is_registered():
        command += ["-p", "pytest_tidings"]
    paths = os.pathsep.join((str(ROOT), str(ROOT / "src")))
    done = subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": paths, "PYTEST_ADDOPTS": ""},
        capture_output=True,
        text=True,
    )
    return done.stdout + done.stderr


def is_registered() -> bool:
    from importlib.metadata import entry_points

    return any(one.value == "pytest_tidings" for one in entry_points(group="pytest11"))


def test_the_package_registers_it():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["pytest11"] == {"tidings": "pytest_tidings"}


@pytest.mark.parametrize("settings", [(), ("tidings_app = blog:app",)], ids=["api", "app"])
def test_the_fixture_serves_what_the_settings_name(tmp_path, settings):
    output = run(tmp_path, "tidings_api = blog:api", *settings)
    assert "1 failed, 2 passed" in output, output
    assert "expected: [('enter', '1')]" in output
    assert "fails: filter 'status': status = 'published'; it is 'draft'" in output
    # The traceback ends at the test: what is inside the assertion is no help.
    assert "watching.py" not in output


def test_a_fixture_of_ones_own_makes_the_api(tmp_path):
    own = (
        "from tests.testing.kit import make_api\n"
        f"{TESTS}\n\n@pytest.fixture\ndef tidings_api():\n    return make_api()\n"
    )
    assert "1 failed, 2 passed" in run(tmp_path, tests=own)


def test_what_is_missing_is_said(tmp_path):
    assert "say where it is: tidings_api = 'package.module:name'" in run(tmp_path)
    assert "'blog:apu' cannot be loaded" in run(tmp_path, "tidings_api = blog:apu")


def test_the_plugin_imports_no_package_before_it_is_used():
    script = "import sys, pytest_tidings; assert 'tidings' not in sys.modules"
    path = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    subprocess.run([sys.executable, "-c", script], check=True, env=path)

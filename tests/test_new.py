"""``tidings new``: what it writes runs, in a browser too, and its own tests pass."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner

import tidings
from tests.support.server import REPOSITORY, run_server
from tests.testing.test_plugin import is_registered
from tidings.cli import main

AS_COMMAND = "from tidings.cli import main; main()"


def make(folder: Path, *options: str) -> Path:
    result = CliRunner().invoke(main, ["new", str(folder / "notes"), *options])
    assert result.exit_code == 0, result.output
    assert "tidings run app:app --reload" in result.output
    return folder / "notes"


def plugin() -> list[str]:
    """What loads the fixtures, where the package was installed before they were in it."""
    return [] if is_registered() else ["-p", "pytest_tidings"]


def its_tests_pass(made: Path) -> None:
    ours = str(Path(tidings.__file__).parent.parent)
    tested = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *plugin()],
        cwd=made,
        env={**os.environ, "PYTHONPATH": ours},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "3 passed" in tested.stdout, tested.stdout + tested.stderr


@pytest.mark.parametrize("options", [[], ["--fastapi"]])
async def test_it_runs_and_its_tests_pass(tmp_path: Path, options: list[str]) -> None:
    made = make(tmp_path, *options)
    start = f"import os; os.chdir({str(made)!r}); {AS_COMMAND}"
    async with (
        run_server(["-c", start, "run", "app:app"]) as server,
        httpx.AsyncClient(base_url=server.url) as http,
    ):
        page = await http.get("/")
        assert "<title>Notes</title>" in page.text
        for path in ("notes.js", "tidings.min.js"):
            assert (await http.get(f"/static/{path}")).status_code == 200
        body = {"data": {"type": "notes", "attributes": {"text": "x"}}}
        headers = {"content-type": "application/vnd.api+json"}
        assert (await http.post("/api/notes", json=body, headers=headers)).status_code == 201
        if options:
            assert "/api/notes" in (await http.get("/openapi.json")).json()["paths"]
    its_tests_pass(made)


async def test_it_runs_over_postgresql(tmp_path: Path, postgres_url: str) -> None:
    made = make(tmp_path, "--postgresql")
    start = f"import os; os.chdir({str(made)!r}); {AS_COMMAND}"
    async with (
        run_server(["-c", start, "run", "app:app"], env={"DATABASE_URL": postgres_url}) as server,
        httpx.AsyncClient(base_url=server.url) as http,
    ):
        body = {"data": {"type": "notes", "attributes": {"text": "x"}}}
        headers = {"content-type": "application/vnd.api+json"}
        assert (await http.post("/api/notes", json=body, headers=headers)).status_code == 201
        (note,) = (await http.get("/api/notes")).json()["data"]
        assert note["attributes"]["text"] == "x"
    its_tests_pass(made)  # in memory, whatever database it names


def test_postgresql_is_named(tmp_path: Path) -> None:
    made = make(tmp_path, "--postgresql")
    assert "postgresql+asyncpg://localhost/notes" in (made / "app.py").read_text()
    assert "postgres" in (made / "requirements.txt").read_text()


@pytest.mark.parametrize("options", [[], ["--fastapi"]])
def test_what_it_writes_is_tidy(tmp_path: Path, options: list[str]) -> None:
    made = make(tmp_path, *options)
    for command in (["check", "--select", "E,F,I,UP,B"], ["format", "--check"]):
        done = subprocess.run(
            ["ruff", *command, "--isolated", "--line-length", "100", "."],
            cwd=made,
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        )
        assert done.returncode == 0, done.stdout


def test_the_client_is_the_package_s_own() -> None:
    """What the application gets is built from clients/js; make setup-js copies it."""
    built = REPOSITORY / "clients" / "js" / "dist" / "tidings.min.js"
    if not built.is_file():
        pytest.skip("the client is not built: make setup-js")
    ours = REPOSITORY / "src" / "tidings" / "starter" / "tidings.min.js"
    assert ours.read_bytes() == built.read_bytes()


def test_it_writes_over_nothing(tmp_path: Path) -> None:
    make(tmp_path)
    again = CliRunner().invoke(main, ["new", str(tmp_path / "notes")])
    assert again.exit_code == 1
    assert again.output.strip().endswith("is there already, and not empty")
    file = tmp_path / "file"
    file.write_text("x")
    assert CliRunner().invoke(main, ["new", str(file)]).exit_code == 1
    assert file.read_text() == "x"
    bad = CliRunner().invoke(main, ["new", str(tmp_path / "9 lives")])
    assert bad.exit_code == 2

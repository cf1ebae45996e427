"""``tidings types``: what it runs, and what it says where that is not there or fails."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import tidings
from tests.support.server import REPOSITORY

APP = """\
from tidings import Api, RestApiPlugin, SqlAlchemyPlugin

api = Api(name="blog")
api.use(RestApiPlugin())
api.use(SqlAlchemyPlugin("sqlite+aiosqlite:///blog.db"))
api.add_resource("posts", {"title": {"type": "string", "required": True}})
"""
OURS = str(Path(tidings.__file__).parent.parent)
INSTALLED = REPOSITORY / "clients" / "js" / "node_modules" / ".bin"
needs_sh = pytest.mark.skipif(sys.platform == "win32", reason="the stand-in is a shell script")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project" / "backend"
    folder.mkdir(parents=True)
    (folder / "blog.py").write_text(APP)
    return folder


def install(folder: Path, script: str) -> None:
    """A stand-in for openapi-typescript."""
    program = folder / "node_modules" / ".bin" / "openapi-typescript"
    program.parent.mkdir(parents=True)
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


def types(
    project: Path, *arguments: str, path: str = "/usr/bin:/bin"
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tidings", "types", "blog:api", *arguments],
        cwd=project,
        env={**os.environ, "PYTHONPATH": OURS, "PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )


@needs_sh
def test_the_nearest_installation_gets_the_document(project: Path) -> None:
    install(project.parent, 'echo "// made of:"; cat "$1"')
    done = types(project)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("// made of:\n{")
    assert '"/api/posts"' in done.stdout
    install(project, "echo // nearer")
    assert types(project).stdout == "// nearer\n"


@needs_sh
def test_a_file_is_written(project: Path) -> None:
    install(project, "echo // types")
    for option in ("-o", "--output"):
        done = types(project, option, "schema.ts")
        assert (done.returncode, done.stdout) == (0, "")
        assert (project / "schema.ts").read_text() == "// types\n"
    done = types(project, "-o", "nowhere/schema.ts")
    assert done.returncode == 1
    assert done.stderr == "Error: cannot write nowhere/schema.ts: No such file or directory\n"


@needs_sh
def test_a_failure_is_one_line_and_writes_nothing(project: Path) -> None:
    install(project, "echo >&2; echo first >&2; echo 'not a document' >&2; exit 3")
    done = types(project, "-o", "schema.ts")
    assert done.returncode == 1
    assert done.stderr == "Error: openapi-typescript failed: not a document\n"
    assert not (project / "schema.ts").exists()


@pytest.mark.parametrize("has_node", [True, False])
@needs_sh
def test_what_is_missing_is_said(project: Path, has_node: bool) -> None:
    programs = project / "programs"
    programs.mkdir()
    if has_node:
        (programs / "node").write_text("#!/bin/sh\n")
        (programs / "node").chmod(0o755)
    done = types(project, path=str(programs))
    assert done.returncode == 1
    missing = "run npm install --save-dev" if has_node else "needs Node.js, which is not installed"
    assert missing in done.stderr
    assert done.stderr.count("\n") == 1


def test_the_real_one_makes_types_of_the_resources(project: Path) -> None:
    if shutil.which("node") is None or not (INSTALLED / "openapi-typescript").exists():
        pytest.skip("openapi-typescript is not there: make setup-js")
    done = types(project, path=f"{INSTALLED}:{os.environ['PATH']}")
    assert done.returncode == 0, done.stderr
    assert "export interface components" in done.stdout
    assert "title: string" in done.stdout

"""``tidings explain``: why a subscription sees a record, in words and as an exit code."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

import tidings

APP = """\
from tidings import Api, RestApiPlugin, SocketIOPlugin, SqlAlchemyPlugin

api = Api(name="blog")
api.use(RestApiPlugin())
api.use(SqlAlchemyPlugin("sqlite+aiosqlite:///blog.db", create_tables=True))
api.use(SocketIOPlugin(anonymous=True))
api.add_resource(
    "posts",
    {
        "title": "string",
        "status": {"type": "string", "search": True},
        "views": {"type": "integer", "search": True},
        "tenant": "string",
    },
    check_permissions=lambda context: context.auth.has_role("reader"),
)


@api.hook("subscription_filters")
def own_tenant(context):
    context.subscription.enforce("tenant", context.auth.tenant)
"""
OURS = str(Path(tidings.__file__).parent.parent)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The app, and a post of the north that is published."""
    folder = tmp_path_factory.mktemp("explained")
    (folder / "blog.py").write_text(APP)
    fill = (
        "import asyncio\nfrom blog import api\n"
        "async def main():\n    async with api:\n"
        "        await api.resources.posts.post("
        "{'title': 'a', 'status': 'published', 'views': 3, 'tenant': 'north'})\n"
        "asyncio.run(main())"
    )
    done = subprocess.run([sys.executable, "-c", fill], cwd=folder, env=environment(), check=False)
    assert done.returncode == 0
    return folder


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": OURS}


async def explain(project: Path, *arguments: str) -> tuple[int | None, list[str]]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tidings", "explain", "blog:api", *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        cwd=project,
        env=environment(),
    )
    async with asyncio.timeout(60):
        said, _ = await process.communicate()
    return process.returncode, said.decode().splitlines()


ANN = ("--user", "ann", "--role", "reader", "--claim", "tenant=north")


async def test_it_says_which_clauses_hold(project: Path) -> None:
    code, said = await explain(project, "posts", "1", "--filter", "status=published", *ANN)
    assert code == 0
    assert said[0] == "matches"
    assert [line.split(":")[0] for line in said[1:]] == ["  holds", "  holds"]
    assert any("'north'" in line for line in said)


async def test_it_says_which_clause_fails(project: Path) -> None:
    filters = ("--filter", "status=published", "--filter", "views=4")
    code, said = await explain(project, "posts", "1", *filters, *ANN)
    assert code == 1
    assert said[0] == "does not match"
    (failing,) = [line for line in said if line.startswith("  fails")]
    assert "filter 'views'" in failing
    assert failing.endswith("it is 3")


async def test_somebody_elses_subscription(project: Path) -> None:
    other = ("--user", "ben", "--role", "reader", "--claim", "tenant=south")
    code, said = await explain(project, "posts", "1", *other)
    assert code == 1
    assert said[1].startswith("  fails: server: ")
    code, said = await explain(project, "posts", "1", "--user", "cleo")
    assert code == 1
    assert said[0].startswith("does not match: the subscription is refused")
    code, said = await explain(project, "posts", "1", "--anonymous")
    assert code == 1
    assert said[0].startswith("does not match: the subscription is refused")


async def test_without_somebody_only_the_filters_count(project: Path) -> None:
    code, said = await explain(project, "posts", "1", "--filter", "views=3")
    assert code == 0
    assert len(said) == 2


@pytest.mark.parametrize(
    ("arguments", "code", "complaint"),
    [
        (["posts", "7"], 1, "Error: There is no 'posts' with id '7'"),
        (["notes", "1"], 1, "Error: There is no resource 'notes'"),
        (["posts", "1", "--filter", "state=x"], 1, "Error: Invalid filter values: state"),
        (["posts", "1", "--role", "reader"], 2, "Error: --role, --permission and --claim are"),
        (["posts", "1", "--user", "a", "--anonymous"], 2, "Error: --user and --anonymous are"),
        (["posts", "1", "--filter", "views"], 2, "'views' is not NAME=VALUE"),
    ],
)
async def test_what_cannot_be_explained(
    project: Path, arguments: list[str], code: int, complaint: str
) -> None:
    status, said = await explain(project, *arguments)
    assert status == code
    assert complaint in said[-1]
    assert len(said) == code

"""``tidings new``: a first application that runs, with a page and tests of its own."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Final

import click

_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,60}")
_HERE: Final = files("tidings")
_PLAIN_IMPORTS: Final = """\
from starlette.applications import Starlette
from starlette.responses import FileResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from tidings import Api, JWTAuthPlugin, RestApiPlugin, SocketIOPlugin, SqlAlchemyPlugin
"""
_PLAIN_SERVING: Final = """\


async def page(_request: object) -> FileResponse:
    return FileResponse(HERE / "static" / "page.html")


files = StaticFiles(directory=HERE / "static")
app = Starlette(routes=[Route("/", page), Mount("/static", files)])
api.install(app)
"""
_FASTAPI_IMPORTS: Final = """\
from fastapi import FastAPI
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles
from tidings import Api, JWTAuthPlugin, RestApiPlugin, SocketIOPlugin, SqlAlchemyPlugin
"""
_FASTAPI_SERVING: Final = """\
app = FastAPI(title="$name")


@app.get("/", include_in_schema=False)
async def page() -> FileResponse:
    return FileResponse(HERE / "static" / "page.html")


app.mount("/static", StaticFiles(directory=HERE / "static"))
api.install(app)
"""


@click.command()
@click.argument("folder", metavar="FOLDER", type=click.Path(path_type=Path))
@click.option("--fastapi", is_flag=True, help="Within a FastAPI application.")
@click.option("--postgresql", is_flag=True, help="Over PostgreSQL instead of SQLite.")
def new(folder: Path, fastapi: bool, postgresql: bool) -> None:
    """Write a first application: resources, a live page, and tests.

    For example: tidings new notes && cd notes && tidings run app:app
    """
    name = folder.name
    if not _NAME.fullmatch(name):
        raise click.BadParameter(
            f"{name!r}: letters, digits, '-' and '_', beginning with a letter", param_hint="FOLDER"
        )
    if folder.exists() and any(folder.iterdir() if folder.is_dir() else [folder]):
        raise click.ClickException(f"{folder} is there already, and not empty")
    try:
        for path, content in _files(name, fastapi=fastapi, postgresql=postgresql):
            place = folder / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(content, encoding="utf-8")
    except OSError as error:
        raise click.ClickException(f"cannot write {folder}: {error.strerror}") from error
    click.echo(f"{folder} is there. Now: cd {folder} && {_start()}")


def _start() -> str:
    return "tidings run app:app --reload"


def _files(name: str, *, fastapi: bool, postgresql: bool) -> Iterator[tuple[str, str]]:
    database = (
        f"postgresql+asyncpg://localhost/{name}" if postgresql else f"sqlite+aiosqlite:///{name}.db"
    )
    serving = _FASTAPI_SERVING if fastapi else _PLAIN_SERVING
    values = {
        "name": name,
        "database": database,
        "imports": (_FASTAPI_IMPORTS if fastapi else _PLAIN_IMPORTS).rstrip(),
        "serving": Template(serving).substitute(name=name).rstrip(),
        "start": _start(),
    }
    for path in ("app.py", "test_app.py", "pytest.ini", "README.md"):
        text = (_HERE / "starter" / f"{path}.txt").read_text(encoding="utf-8")
        yield path, Template(text).substitute(values)
    for path in ("page.html", "notes.js", "tidings.min.js"):
        yield f"static/{path}", (_HERE / "starter" / path).read_text(encoding="utf-8")
    # The client holds socket.io-client, whose licence goes with it.
    licence = _HERE / "demo" / "static" / "socket.io.LICENSE.txt"
    yield "static/socket.io.LICENSE.txt", licence.read_text(encoding="utf-8")
    extras = ["testing"] + (["postgres"] if postgresql else [])
    needed = [f"tidings[{','.join(extras)}]", "pytest"] + (["fastapi"] if fastapi else [])
    yield "requirements.txt", "\n".join(needed) + "\n"
    yield ".gitignore", f".venv/\n__pycache__/\n{name}.db*\n"

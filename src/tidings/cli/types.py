"""``tidings types``: an api's resources as TypeScript, by openapi-typescript."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Final

import click

from tidings.loading import load_api

_TOOL: Final = "openapi-typescript"
_SECONDS: Final = 120


@click.command(short_help="Print an Api's resources as TypeScript.")
@click.argument("target", metavar="MODULE:API")
@click.option(
    "--output",
    "-o",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write them here instead.",
)
def types(target: str, output: Path | None) -> None:
    """Print TypeScript types of an Api's resources, for @tidings/client and others.

    For example: tidings types blog:api -o src/schema.ts

    openapi-typescript makes them, from what 'tidings openapi' prints. It needs Node.js, and the
    package in this directory, in one above, or installed globally; nothing is downloaded.
    """
    tool = _find_tool(Path.cwd())
    document = json.dumps(load_api(target).openapi())
    with tempfile.TemporaryDirectory(prefix="tidings-types-") as folder:
        source = Path(folder) / "openapi.json"
        source.write_text(document, encoding="utf-8")
        made = _run(tool, source)
    if output is None:
        click.echo(made, nl=False)
        return
    try:
        output.write_text(made, encoding="utf-8")
    except OSError as error:
        raise click.ClickException(f"cannot write {output}: {error.strerror}") from None


def _find_tool(here: Path) -> str:
    """The program of the nearest installation, as npm's own commands find it.

    Raises:
        ClickException: there is none.
    """
    for folder in (here, *here.parents):
        if found := shutil.which(_TOOL, path=folder / "node_modules" / ".bin"):
            return found
    if found := shutil.which(_TOOL):
        return found
    if shutil.which("node") is None:
        raise click.ClickException(f"{_TOOL} needs Node.js, which is not installed")
    raise click.ClickException(
        f"{_TOOL} is not installed here: run npm install --save-dev {_TOOL} typescript"
    )


def _run(tool: str, source: Path) -> str:
    try:
        done = subprocess.run(  # noqa: S603  the program was looked for by its name
            [tool, str(source)],
            capture_output=True,
            encoding="utf-8",
            timeout=_SECONDS,
            check=False,
        )
    except OSError as error:
        raise click.ClickException(f"{tool} cannot be run: {error.strerror}") from None
    except subprocess.TimeoutExpired:
        raise click.ClickException(f"{tool} did not end within {_SECONDS} seconds") from None
    if done.returncode != 0 or not done.stdout:
        said = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        raise click.ClickException(f"{_TOOL} failed: {said[-1] if said else 'it said nothing'}")
    return done.stdout

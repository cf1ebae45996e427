"""``tidings triggers``: the triggers that tell of other writers, from the command line."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import click

from tidings import TidingsError
from tidings.loading import load_api

_T = TypeVar("_T")
_target = click.argument("target", metavar="MODULE:API")


@click.group(short_help="Triggers that tell of every writer of the tables.")
def triggers() -> None:
    """Triggers that tell of everybody who writes an Api's tables."""


def _capture(target: str) -> Any:
    api = load_api(target)
    try:
        return api.triggers
    except TidingsError as error:
        raise click.ClickException(str(error)) from None


def _run(work: Coroutine[Any, Any, _T]) -> _T:
    try:
        return asyncio.run(work)
    except TidingsError as error:
        raise click.ClickException(str(error)) from None


def _named(capture: Any) -> str:
    return ", ".join(watched.source for watched in capture.watched)


@triggers.command()
@_target
def install(target: str) -> None:
    """Make the triggers anew, and the table that they write to.

    For example: tidings triggers install blog:api

    It needs the right to do so: TRIGGER and CREATE. Run it after each migration of these tables.
    """
    capture = _capture(target)
    _run(capture.install())
    click.echo(f"installed on {_named(capture)}")


@triggers.command()
@_target
def remove(target: str) -> None:
    """Remove the triggers. What they have noted, and nobody has been told of yet, stays."""
    capture = _capture(target)
    _run(capture.remove())
    click.echo(f"removed from {_named(capture)}")


@triggers.command()
@_target
def check(target: str) -> None:
    """Tell which tables lack triggers, or have old ones. The exit code is 1 if there are any."""
    capture = _capture(target)
    missing = {watched.source for watched in _run(capture.missing())}
    for watched in capture.watched:
        state = "missing or old" if watched.source in missing else "ok"
        click.echo(f"{watched.source}: {state}")
    if missing:
        raise SystemExit(1)


@triggers.command()
@_target
def sql(target: str) -> None:
    """Print the SQL that 'install' runs, for a migration of your own or for those who review it."""
    capture = _capture(target)
    for statement in _run(capture.statements()):
        click.echo(f"{statement.rstrip()};\n")

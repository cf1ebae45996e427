"""``tidings watch``: the changes of a resource of a running server, as they happen."""

from __future__ import annotations

import asyncio
import json
from datetime import datetime
from typing import Any, Final

import click

from tidings import ConfigurationError
from tidings.cli.pairs import read_pairs
from tidings.client import Change, Client, ClientError

_COLOURS: Final = {"enter": "green", "update": "yellow", "leave": "red", "resync": "cyan"}


@click.command(short_help="Show live what a subscription is told.")
@click.argument("url", metavar="URL")
@click.argument("resource", metavar="RESOURCE")
@click.option(
    "--filter",
    "filters",
    multiple=True,
    metavar="NAME=VALUE",
    help="A filter; may be given more than once. VALUE is JSON where it can be read so.",
)
@click.option("--token", envvar="TIDINGS_TOKEN", show_envvar=True, help="The token to show.")
@click.option(
    "--path", "socket_path", default="/socket.io", show_default=True, help="The sockets'."
)
@click.option("--json", "as_json", is_flag=True, help="A JSON object for each change.")
@click.option("--count", type=click.IntRange(1), help="End after so many changes.")
def watch(
    url: str,
    resource: str,
    filters: tuple[str, ...],
    token: str | None,
    socket_path: str,
    as_json: bool,
    count: int | None,
) -> None:
    """Show what a subscription is told: type and id of what enters, changes and leaves.

    For example: tidings watch http://127.0.0.1:8000 posts --filter status=published

    A lost connection is made again, and what was missed comes then. Ctrl+C ends it.
    """
    named = read_pairs(filters, "--filter")
    try:
        asyncio.run(_watch(url, resource, named, token, socket_path, as_json=as_json, count=count))
    except (ClientError, ConfigurationError) as error:
        raise click.ClickException(str(error)) from None


async def _watch(
    url: str,
    resource: str,
    filters: dict[str, Any],
    token: str | None,
    socket_path: str,
    *,
    as_json: bool,
    count: int | None,
) -> None:
    seen = 0
    async with Client(url, token=token, socket_path=socket_path) as client:
        async for change in client.watch(resource, filters):
            click.echo(_as_json(change) if as_json else _line(change))
            seen += change.reason != "subscribed"
            if seen == count:
                return


def _line(change: Change) -> str:
    kind = click.style(f"{change.kind:7}", fg=_COLOURS[change.kind])
    moment = click.style(f"{datetime.now():%H:%M:%S}", dim=True)
    what = change.reason if change.kind == "resync" else f"{change.resource} {change.id}"
    return f"{moment} {kind} {what}"


def _as_json(change: Change) -> str:
    known = {"kind": change.kind, "resource": change.resource, "cursor": change.cursor}
    more = {"reason": change.reason} if change.kind == "resync" else {"id": change.id}
    return json.dumps(known | more)

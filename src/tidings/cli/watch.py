"""``tidings watch``: the changes of a resource of a running server, as they happen."""

from __future__ import annotations

import asyncio
import json
import logging
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import click

from tidings.cli.pairs import read_pairs
from tidings.client import Change, Client, Status

_COLOURS: Final = {"enter": "green", "update": "yellow", "leave": "red", "resync": "cyan"}


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What is watched, and where."""

    url: str
    resource: str
    filters: dict[str, Any]
    token: str | None
    socket_path: str

    def __str__(self) -> str:
        named = ", ".join(f"{name}={_text(value)}" for name, value in self.filters.items())
        return f"{self.resource} where {named}" if named else f"all {self.resource}"


@click.command(short_help="Show live what a subscription is told.")
@click.argument("url", metavar="URL")
@click.argument("resource", metavar="RESOURCE")
@click.option(
    "--filter",
    "filters",
    multiple=True,
    metavar="NAME=VALUE",
    help='A filter; may be given more than once. VALUE is JSON (3, true, ["a"]), or else text.',
)
@click.option("--token", envvar="TIDINGS_TOKEN", show_envvar=True, help="The token to show.")
@click.option(
    "--path",
    "socket_path",
    default="/socket.io",
    show_default=True,
    help="Where the server has its sockets.",
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object for each change.")
@click.option("--count", type=click.IntRange(1), metavar="N", help="End after N changes.")
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

    A lost connection is made again, and what was missed comes then; the error output says so. It
    ends with Ctrl+C, after --count changes, or with exit code 1 when the server refuses. It needs
    pip install "tidings[client]".
    """
    if not url.startswith(("http://", "https://")):
        raise click.BadParameter(f"{url!r} does not begin with http:// or https://")
    wanted = _Wanted(url, resource, read_pairs(filters, "--filter"), token, socket_path)
    asyncio.run(_watch(wanted, as_json=as_json, count=count))


async def _watch(wanted: _Wanted, *, as_json: bool, count: int | None) -> None:
    # What becomes of the connection is said in our own words.
    for name in ("engineio.client", "socketio.client"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    link = _Link(wanted)
    client = Client(
        wanted.url, token=wanted.token, socket_path=wanted.socket_path, on_status=link.note
    )
    async with client:
        watching = asyncio.create_task(_print(client, wanted, as_json=as_json, count=count))
        checking = asyncio.create_task(link.check(client))
        try:
            await asyncio.wait({watching, checking}, return_when=asyncio.FIRST_EXCEPTION)
            for done in (watching, checking):
                if done.done():
                    done.result()  # raises what has ended it
            await watching
        finally:
            watching.cancel()
            checking.cancel()
            await asyncio.gather(watching, checking, return_exceptions=True)


async def _print(client: Client, wanted: _Wanted, *, as_json: bool, count: int | None) -> None:
    seen = 0
    async for change in client.watch(wanted.resource, wanted.filters):
        click.echo(_as_json(change) if as_json else _line(change, wanted))
        seen += change.reason != "subscribed"
        if seen == count:
            return


class _Link:
    """Says on the error output how the connection is, when that has changed."""

    def __init__(self, wanted: _Wanted) -> None:
        self._wanted = wanted
        self._was_live = False
        self._is_live: bool | None = None
        self._tried = asyncio.Event()

    def note(self, status: Status, reason: str) -> None:
        """Hear how it is."""
        is_live = status == "live"
        if self._was_live and is_live != self._is_live:
            said = "connected again" if is_live else f"{reason}; it is made again"
            click.echo(click.style(said, dim=True), err=True)
        self._is_live = is_live
        self._was_live |= is_live
        self._tried.set()

    async def check(self, client: Client) -> None:
        """Find out why the first connection could not be made.

        Raises:
            ClickException: there is a server, and it has no sockets there.
        """
        await self._tried.wait()
        if self._was_live:
            return
        import httpx  # the client has it, or would not be here

        path = f"{self._wanted.socket_path.rstrip('/')}/?EIO=4&transport=polling"
        try:
            status = (await client.http.get(path)).status_code
        except httpx.HTTPError as error:
            why = str(error) or type(error).__name__
        else:
            if status in (404, 405):
                raise click.ClickException(
                    f"{self._wanted.url} has no sockets at {self._wanted.socket_path} (it answers "
                    f"{status}): see that the URL is right, or give --path"
                )
            why = f"it answers {status}"
        said = f"{self._wanted.url} cannot be connected to: {why}; it is tried again"
        click.echo(click.style(said, dim=True), err=True)


def _line(change: Change, wanted: _Wanted) -> str:
    kind: str = change.kind
    what = f"{change.resource} {change.id}"
    if change.reason == "subscribed":
        kind, what = "live", str(wanted)
    elif change.kind == "resync":
        what = f"fetch all of it anew: {change.reason}"
    moment = click.style(f"{datetime.now():%H:%M:%S}", dim=True)
    return f"{moment} {click.style(f'{kind:7}', fg=_COLOURS[change.kind])} {what}"


def _as_json(change: Change) -> str:
    known = {"kind": change.kind, "resource": change.resource, "cursor": change.cursor}
    more = {"reason": change.reason} if change.kind == "resync" else {"id": change.id}
    return json.dumps(known | more)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)

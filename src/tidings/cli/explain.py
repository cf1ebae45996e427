"""``tidings explain``: why a subscription sees a record, or why not."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import click

from tidings import ANONYMOUS, Api, Explanation, Identity
from tidings.cli.pairs import read_pairs
from tidings.loading import load_api


@click.command(short_help="Tell why a subscription sees a record, or why not.")
@click.argument("target", metavar="MODULE:API")
@click.argument("resource", metavar="RESOURCE")
@click.argument("record_id", metavar="ID")
@click.option(
    "--filter",
    "filters",
    multiple=True,
    metavar="NAME=VALUE",
    help="A filter of the subscription; may be given more than once. VALUE is JSON or text.",
)
@click.option("--user", metavar="ID", help="Whose subscription it is, by the user's id.")
@click.option("--role", "roles", multiple=True, help="A role of the user; may be repeated.")
@click.option("--permission", "permissions", multiple=True, help="A permission of the user.")
@click.option(
    "--claim", "claims", multiple=True, metavar="NAME=VALUE", help="A further claim of the token."
)
@click.option("--anonymous", is_flag=True, help="It is that of somebody without a token.")
def explain(
    target: str,
    resource: str,
    record_id: str,
    filters: tuple[str, ...],
    user: str | None,
    roles: tuple[str, ...],
    permissions: tuple[str, ...],
    claims: tuple[str, ...],
    anonymous: bool,
) -> None:
    """Tell why a subscription sees a record, or why not, clause by clause.

    For example: tidings explain blog:api posts 7 --filter status=published --user ann

    Without --user or --anonymous only the filters count, and no permission is asked. The api is
    opened as in a server, hooks included. It shows values that clients may not see. The exit code
    is 1 where the record does not match.
    """
    if user is None and (roles or permissions or claims):
        raise click.UsageError("--role, --permission and --claim are those of a --user")
    if user is not None and anonymous:
        raise click.UsageError("--user and --anonymous are different people")
    who: dict[str, Any] = {}
    if anonymous:
        who = {"auth": ANONYMOUS}
    elif user is not None:
        named = read_pairs(claims, "--claim")
        who = {"auth": Identity(user, frozenset(roles), frozenset(permissions), named)}
    asked = read_pairs(filters, "--filter")
    # Warnings of a server that starts are none of this one's business.
    logging.getLogger("tidings").setLevel(logging.ERROR)
    found = asyncio.run(_explain(load_api(target), resource, record_id, asked, who))
    click.echo(_coloured(found))
    if not found.matches:
        raise SystemExit(1)


async def _explain(
    api: Api, resource: str, record_id: str, filters: dict[str, Any], who: dict[str, Any]
) -> Explanation:
    async with api:
        return await api.explain(resource, record_id, filters, **who)


def _coloured(found: Explanation) -> str:
    """What it says, green where it holds and red where it fails; on a terminal."""
    first, *clauses = str(found).splitlines()
    shown = [click.style(first, fg="green" if found.matches else "red", bold=True)]
    for line in clauses:
        colour = "green" if line.startswith("  holds") else "red"
        shown.append(click.style(line, fg=colour))
    return "\n".join(shown)

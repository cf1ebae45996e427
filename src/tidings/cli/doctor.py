"""``tidings doctor``: one line for each thing that an api needs, and what to do where it lacks."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any, Final

import click
import jwt

from tidings import Api, Finding, diagnose
from tidings.loading import load_api

_SECONDS: Final = 120
_COLOURS: Final = {"ok": "green", "warning": "yellow", "failed": "red"}
_WIDTH: Final = 12


@click.command(short_help="Check what an Api needs, and what it lacks.")
@click.argument("target", metavar="MODULE:API")
@click.option("--url", help="Where it runs; without, it is started for the moment.")
@click.option("--token", help="A token that a client would show.")
@click.option(
    "--secret",
    envvar="JWT_SECRET",
    show_envvar=True,
    help="Without --token: the secret to make one with, for two minutes.",
)
@click.option("--sub", default="tidings-doctor", show_default=True, help="For whom it is made.")
@click.option("--origin", help="The origin of the pages that connect, as in https://example.org.")
@click.option(
    "--timeout",
    type=click.FloatRange(0.1, 60),
    default=5.0,
    show_default=True,
    help="Seconds that each check may take.",
)
def doctor(
    target: str,
    url: str | None,
    token: str | None,
    secret: str | None,
    sub: str,
    origin: str | None,
    timeout: float,
) -> None:
    """Check what an Api needs: its database, feed, keys, sockets and settings.

    For example: tidings doctor blog:api --origin https://example.org

    It writes nothing that stays. Without --url the api is opened as in a server, hooks included.
    The exit code is 1 if anything has failed.
    """
    api = load_api(target)
    # What goes wrong is said in a line of its own, and once.
    logging.getLogger("tidings").setLevel(logging.CRITICAL + 1)
    is_made = False
    if token is None and secret is not None:
        is_made = True
        claims = {"sub": sub, "iat": int(time.time()), "exp": int(time.time()) + _SECONDS}
        token = jwt.encode(claims, secret, "HS256")
    failed = asyncio.run(
        _report(api, url=url, token=token, is_made=is_made, origin=origin, seconds=timeout)
    )
    if failed:
        raise SystemExit(1)


async def _report(api: Api, **options: Any) -> bool:
    failed = False
    async for finding in diagnose(api, **options):
        failed |= finding.status == "failed"
        click.echo(_line(finding))
    return failed


def _line(finding: Finding) -> str:
    word = "FAILED" if finding.status == "failed" else finding.status
    text = finding.message if finding.advice is None else f"{finding.message}; {finding.advice}"
    shown = click.style(f"{word:<8}", fg=_COLOURS[finding.status])
    return f"{shown} {finding.check:<{_WIDTH}} {' '.join(text.split())}"

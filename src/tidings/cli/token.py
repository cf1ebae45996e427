"""``tidings token``: a signed token, for development."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

import click
import jwt

from tidings.cli.pairs import read_pairs

_SECRET_BYTES: Final = 32
_NAMED_CLAIMS: Final = {"sub": "--sub", "roles": "--role", "exp": "--expires"}


@click.command(short_help="Print a signed token, for development.")
@click.option(
    "--secret",
    envvar="JWT_SECRET",
    show_envvar=True,
    required=True,
    help="The secret that the api verifies with: 32 bytes or more.",
)
@click.option("--sub", required=True, help="The user's id.")
@click.option("--role", "roles", multiple=True, help="A role; may be given more than once.")
@click.option(
    "--claim",
    "claims",
    multiple=True,
    metavar="NAME=VALUE",
    help='A further claim. VALUE is read as JSON where it is JSON (3, true, ["a"]), else as text.',
)
@click.option("--expires", type=click.IntRange(1), metavar="SECONDS", help="How long it is valid.")
def token(
    secret: str, sub: str, roles: tuple[str, ...], claims: tuple[str, ...], expires: int | None
) -> None:
    """Print a JSON Web Token (HS256) for development.

    For example: tidings token --sub ann --role editor --expires 3600

    Whoever has the secret can make a token for anybody: it belongs to the server's environment.
    """
    if len(secret.encode()) < _SECRET_BYTES:
        raise click.UsageError(f"the secret is shorter than {_SECRET_BYTES} bytes")
    now = datetime.now(UTC)
    payload = read_pairs(claims, "--claim")
    for name in _NAMED_CLAIMS.keys() & payload.keys():
        message = f"use {_NAMED_CLAIMS[name]} for {name!r}"
        raise click.BadParameter(message, param_hint="--claim")
    payload |= {"sub": sub, "iat": now}
    if roles:
        payload["roles"] = list(roles)
    if expires is not None:
        payload["exp"] = now + timedelta(seconds=expires)
    click.echo(jwt.encode(payload, secret, algorithm="HS256"))

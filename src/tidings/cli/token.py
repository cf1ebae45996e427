"""``tidings token``: a signed token, for development."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import click
import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from tidings.cli.pairs import read_pairs

_SECRET_BYTES: Final = 32
_NAMED_CLAIMS: Final = {"sub": "--sub", "roles": "--role", "exp": "--expires"}
_CURVES: Final = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}


@click.command(short_help="Print a signed token, for development.")
@click.option(
    "--secret",
    envvar="JWT_SECRET",
    show_envvar=True,
    help="The secret that the api verifies with: 32 bytes or more.",
)
@click.option(
    "--private-key",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    envvar="JWT_PRIVATE_KEY_FILE",
    show_envvar=True,
    help="Instead: the PEM file of the key whose public_key the api has (RSA, EC, Ed25519).",
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
@click.pass_context
def token(
    context: click.Context,
    secret: str | None,
    private_key: Path | None,
    sub: str,
    roles: tuple[str, ...],
    claims: tuple[str, ...],
    expires: int | None,
) -> None:
    """Print a signed JSON Web Token for development, with the key from the environment.

    For example: tidings token --sub ann --role editor --expires 3600

    Whoever has the key can make a token for anybody: it belongs to the server's environment.
    """
    key, algorithm = _key(context, secret, private_key)
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
    click.echo(jwt.encode(payload, key, algorithm=algorithm))


def _key(context: click.Context, secret: str | None, path: Path | None) -> tuple[Any, str]:
    """The key to sign with, and the algorithm that fits it.

    Raises:
        UsageError: there is none, or it cannot be used.
    """
    is_asked_for = context.get_parameter_source("secret") is click.core.ParameterSource.COMMANDLINE
    if path is not None and not (secret and is_asked_for):
        return _private_key(path)
    if not secret:
        raise click.UsageError("Missing option '--secret' (or JWT_SECRET), or '--private-key'")
    if len(secret.encode()) < _SECRET_BYTES:
        raise click.UsageError(f"the secret is shorter than {_SECRET_BYTES} bytes")
    return secret, "HS256"


def _private_key(path: Path) -> tuple[Any, str]:
    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except (ValueError, TypeError):  # TypeError: it is encrypted
        raise click.UsageError(
            f"{path} is not the PEM file of a private key, unencrypted"
        ) from None
    match key:
        case rsa.RSAPrivateKey():
            return key, "RS256"
        case ec.EllipticCurvePrivateKey() if key.curve.name in _CURVES:
            return key, _CURVES[key.curve.name]
        case ed25519.Ed25519PrivateKey() | ed448.Ed448PrivateKey():
            return key, "EdDSA"
    raise click.UsageError(f"{path} is a key that no token is signed with")

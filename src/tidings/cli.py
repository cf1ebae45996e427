"""The command ``tidings``: run the demo, serve an api, look after it, make a token."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import click
import jwt

from tidings import __version__
from tidings.demo import build_demo
from tidings.doctor import doctor
from tidings.loading import load_api
from tidings.new import new
from tidings.serving import (
    Settings,
    run,
    run_as_worker,
    run_reloading,
    run_target,
    run_workers,
)
from tidings.triggers import triggers
from tidings.watching import watch

_SECRET_BYTES: Final = 32
_NAMED_CLAIMS: Final = {"sub": "--sub", "roles": "--role", "exp": "--expires"}

_host = click.option(
    "--host",
    default="127.0.0.1",
    envvar="TIDINGS_HOST",
    show_default=True,
    show_envvar=True,
    help="Address to listen on.",
)
_port = click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8000,
    envvar=["TIDINGS_PORT", "PORT"],
    show_default=True,
    show_envvar=True,
    help="Port to listen on; 0 takes a free one.",
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="tidings")
def main() -> None:
    """Resources as JSON:API over SQL, and word over Socket.IO that something has changed."""


main.add_command(doctor)
main.add_command(triggers)
main.add_command(new)
main.add_command(watch)


@main.command()
@_host
@_port
def demo(host: str, port: int) -> None:
    """Run a live board of posts, with a database that is gone when it stops."""
    with tempfile.TemporaryDirectory(prefix="tidings-demo-", ignore_cleanup_errors=True) as folder:
        run(build_demo(Path(folder)).app, Settings(host, port), "The demo")


def _option(name: str, *more: str, **options: Any) -> Callable[[Any], Any]:
    """An option that the environment can give, too."""
    variable = f"TIDINGS_{name.lstrip('-').split('/')[0].replace('-', '_').upper()}"
    return click.option(name, *more, envvar=variable, show_envvar=True, **options)


_FILE = click.Path(exists=True, dir_okay=False)


@main.command()
@click.argument("target", metavar="MODULE:ATTRIBUTE")
@_host
@_port
@_option("--uds", metavar="PATH", help="A Unix socket to listen at, instead of host and port.")
@_option(
    "--workers",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="How many processes serve. They must share a feed (Redis or PostgreSQL).",
)
@click.option("--reload", is_flag=True, help="Start anew when a file of Python changes.")
@_option(
    "--log-level",
    type=click.Choice(["critical", "error", "warning", "info", "debug"]),
    default="warning",
    show_default=True,
    help="What the server's own log holds.",
)
@_option("--access-log/--no-access-log", default=False, help="A line in the log for each request.")
@_option("--root-path", default="", help="The path that a proxy has taken off.")
@_option("--ssl-certfile", type=_FILE, help="The file of a TLS certificate.")
@_option("--ssl-keyfile", type=_FILE, help="The file of its private key.")
@click.option("--listener", type=int, hidden=True, help="What a worker listens with.")
@click.option("--parent", type=int, hidden=True, help="Its line to the process that started it.")
def serve(
    target: str,
    host: str,
    port: int,
    uds: str | None,
    workers: int,
    reload: bool,
    log_level: str,
    access_log: bool,
    root_path: str,
    ssl_certfile: str | None,
    ssl_keyfile: str | None,
    listener: int | None,
    parent: int | None,
) -> None:
    """Serve an Api, or any ASGI app, by the name of its module and its own.

    For example: tidings run blog:api --reload

    SIGTERM and Ctrl+C end it in order: clients of its sockets are told what has been committed,
    and sent elsewhere. With several workers SIGHUP replaces them one by one.
    """
    if (ssl_certfile is None) != (ssl_keyfile is None):
        raise click.UsageError("TLS needs both --ssl-certfile and --ssl-keyfile")
    settings = Settings(
        host, port, uds, root_path, log_level, access_log, ssl_certfile, ssl_keyfile
    )
    if listener is not None and parent is not None:
        run_as_worker(target, listener, parent, settings)
    elif reload and workers > 1:
        raise click.UsageError("--reload is for development, with one process")
    elif reload:
        run_reloading(target, settings)
    elif workers > 1:
        run_workers(target, settings, workers)
    else:
        run_target(target, settings)


main.add_command(serve, "run")


@main.command()
@click.argument("target", metavar="MODULE:ATTRIBUTE")
def openapi(target: str) -> None:
    """Print the OpenAPI document of an Api, with all its resources and fields.

    For example: tidings openapi blog:api > openapi.json
    """
    click.echo(json.dumps(load_api(target).openapi(), indent=2))


@main.command()
@click.argument("target", metavar="MODULE:ATTRIBUTE")
def routes(target: str) -> None:
    """Print the methods and paths of an Api's resources.

    For example: tidings routes blog:api
    """
    for path, item in load_api(target).openapi()["paths"].items():
        methods = [name.upper() for name in item if name != "parameters"]
        click.echo(f"{' '.join(methods):28} {path}")


@main.command()
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
    metavar="KEY=VALUE",
    help='A further claim. VALUE is read as JSON where it is JSON (3, true, ["a"]), else as text.',
)
@click.option("--expires", type=click.IntRange(1), metavar="SECONDS", help="How long it is valid.")
def token(
    secret: str, sub: str, roles: tuple[str, ...], claims: tuple[str, ...], expires: int | None
) -> None:
    """Print a JSON Web Token (HS256) for development."""
    if len(secret.encode()) < _SECRET_BYTES:
        raise click.UsageError(f"the secret is shorter than {_SECRET_BYTES} bytes")
    now = datetime.now(UTC)
    payload: dict[str, Any] = dict(_claim(text) for text in claims)
    payload |= {"sub": sub, "iat": now}
    if roles:
        payload["roles"] = list(roles)
    if expires is not None:
        payload["exp"] = now + timedelta(seconds=expires)
    click.echo(jwt.encode(payload, secret, algorithm="HS256"))


def _claim(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise click.BadParameter(f"{text!r} is not KEY=VALUE", param_hint="--claim")
    if key in _NAMED_CLAIMS:
        raise click.BadParameter(f"use {_NAMED_CLAIMS[key]} for {key!r}", param_hint="--claim")
    try:
        return key, json.loads(value)
    except ValueError:
        return key, value

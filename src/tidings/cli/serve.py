"""``tidings run``, or ``tidings serve``: an app, by one process or several."""

from __future__ import annotations

from typing import Final

import click

from tidings.cli.addresses import FROM_ENVIRONMENT, host_option, port_option
from tidings.serving import (
    Settings,
    run_as_worker,
    run_reloading,
    run_target,
    run_workers,
)

_FILE: Final = click.Path(exists=True, dir_okay=False)
_LEVELS: Final = ("critical", "error", "warning", "info", "debug")


@click.command(
    "run", context_settings=FROM_ENVIRONMENT, short_help="Serve an Api, or any ASGI app."
)
@click.argument("target", metavar="MODULE:ATTRIBUTE")
@host_option
@port_option
@click.option(
    "--uds",
    metavar="PATH",
    show_envvar=True,
    help="A Unix socket to listen at, instead of host and port.",
)
@click.option(
    "--workers",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    show_envvar=True,
    help="How many processes serve. They must share a feed (Redis or PostgreSQL).",
)
@click.option(
    "--timeout-worker-healthcheck",
    "patience",
    type=click.FloatRange(0),
    default=30.0,
    envvar="TIDINGS_TIMEOUT_WORKER_HEALTHCHECK",
    metavar="SECONDS",
    show_default=True,
    show_envvar=True,
    help="A worker whose event loop stands still for so long is killed and replaced; 0: never.",
)
@click.option(
    "--reload",
    is_flag=True,
    show_envvar=True,
    help="Start anew when a file of Python changes; for development.",
)
@click.option(
    "--log-level",
    type=click.Choice(_LEVELS),
    default="warning",
    show_default=True,
    show_envvar=True,
    help="What the server's own log holds.",
)
@click.option(
    "--access-log/--no-access-log",
    default=False,
    show_envvar=True,
    help="Whether each request is a line in the log.",
)
@click.option(
    "--root-path",
    default="",
    metavar="PATH",
    show_envvar=True,
    help="The path that a proxy has taken off.",
)
@click.option(
    "--forwarded-allow-ips",
    metavar="ADDRESSES",
    show_envvar=True,
    help="The proxies whose X-Forwarded-For is believed, with commas between; '*' for all.",
)
@click.option("--ssl-certfile", type=_FILE, show_envvar=True, help="The file of a certificate.")
@click.option("--ssl-keyfile", type=_FILE, show_envvar=True, help="The file of its private key.")
@click.option(
    "--ssl-keyfile-password", metavar="TEXT", show_envvar=True, help="The password of the key."
)
# What a worker is given by the process that started it: what it listens with, and a line to it.
@click.option("--listener", type=int, hidden=True, allow_from_autoenv=False)
@click.option("--parent", type=int, hidden=True, allow_from_autoenv=False)
def serve(
    target: str,
    host: str,
    port: int,
    uds: str | None,
    workers: int,
    patience: float,
    reload: bool,
    log_level: str,
    access_log: bool,
    root_path: str,
    forwarded_allow_ips: str | None,
    ssl_certfile: str | None,
    ssl_keyfile: str | None,
    ssl_keyfile_password: str | None,
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
        host=host,
        port=port,
        uds=uds,
        root_path=root_path,
        log_level=log_level,
        access_log=access_log,
        certificate=ssl_certfile,
        key=ssl_keyfile,
        key_password=ssl_keyfile_password,
        proxies=forwarded_allow_ips,
        patience=patience,
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

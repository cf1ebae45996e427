"""Running: one process, one that is started anew when a file changes, or several."""

from __future__ import annotations

import os
import socket
import sys
from functools import partial
from typing import Any

import click
import uvicorn
from uvicorn.supervisors import ChangeReload

from tidings import Api
from tidings.loading import load
from tidings.serving.binding import listen
from tidings.serving.listening import Listener
from tidings.serving.server import STARTUP_FAILURE, Server, serve
from tidings.serving.settings import Settings
from tidings.serving.workers import Workers, inherited, inherited_listener, watch_parent


def run(app: Any, settings: Settings, what: str) -> None:
    """Serve until told to stop.

    Raises:
        ClickException: the address cannot be listened on, or the certificate cannot be used.
        SystemExit: the app did not start; uvicorn has logged why.
    """
    settings.check_certificate()
    listener = listen(settings)
    serve(app, listener, settings, announcement(what, listener, settings))


def run_target(target: str, settings: Settings) -> None:
    """The same, of the app that ``module:attribute`` names."""
    run(_load(target), settings, target)


def run_reloading(target: str, settings: Settings) -> None:
    """Serve in a process of its own, which is started anew when a file of Python changes.

    Nothing of the application is imported here: a module that fails is mended while we wait.
    """
    settings.check_certificate()
    listener = listen(settings)
    # Its processes get it by way of pickle, which knows no subclass of a socket.
    plain = socket.socket(fileno=listener.detach())
    config = uvicorn.Config(target, reload=True, reload_dirs=[os.getcwd()], log_level="info")
    child = partial(_serve_reloaded, target, settings)
    ChangeReload(config, target=child, sockets=[plain]).run()


def _serve_reloaded(
    target: str, settings: Settings, sockets: list[socket.socket] | None = None
) -> None:
    assert sockets
    said = announcement(target, sockets[0], settings)
    try:
        serve(_load(target), sockets[0], settings, said)
    except click.ClickException as error:
        # Nobody above would show it as the command does: this is a process of its own.
        error.show()
        click.echo("It is started again when a file changes.", err=True)
        sys.exit(error.exit_code)


def run_as_worker(target: str, listener: int, parent: int, settings: Settings) -> None:
    """Serve as one of several processes, for the one that started it."""
    _serve_as_worker(target, inherited_listener(listener), inherited(parent), settings)


def _serve_as_worker(
    target: str, listener: Listener, parent: socket.socket, settings: Settings
) -> None:
    servers: list[Server] = []

    def end() -> None:
        if servers and servers[0].started:
            servers[0].should_exit = True
        else:
            os._exit(STARTUP_FAILURE)  # nothing less ends what hangs

    watch_parent(parent, end)
    serve(_load(target), listener, settings, "", parent, servers.append)


def run_workers(target: str, settings: Settings, count: int) -> None:
    """Serve by several processes.

    Raises:
        ClickException: they could not share what has to be shared.
    """
    if os.name == "nt":
        raise click.ClickException("--workers needs processes that can share a socket: not here")
    api = getattr(_load(target), "api", None)  # what is wrong with it is said once, here
    if isinstance(api, Api) and api.has_sockets and api.is_alone:
        raise click.ClickException(
            f"{target!r} shares no feed: the sockets of one process would never hear of what "
            "another has written. Use RedisFeedPlugin or PostgresFeedPlugin, or one worker"
        )
    settings.check_certificate()
    listener = listen(settings)
    if settings.key_password is not None:
        os.environ["TIDINGS_SSL_KEYFILE_PASSWORD"] = settings.key_password
    command = ["-m", "tidings", "serve", target, *settings.arguments()]
    workers = Workers(command, listener, count, patience=settings.patience)
    try:
        status = workers.run(announcement(f"{target} ({count} processes)", listener, settings))
    finally:
        listener.close()
    raise SystemExit(status)


def announcement(what: str, listener: socket.socket, settings: Settings) -> str:
    """The line that says where a server is."""
    if settings.uds is not None:
        return f"{what} is at the socket {settings.uds} (Ctrl+C stops it)"
    host, port = listener.getsockname()[:2]
    address = f"[{host}]" if ":" in host else host
    scheme = "http" if settings.certificate is None else "https"
    return f"{what} is at {scheme}://{address}:{port} (Ctrl+C stops it)"


def _load(target: str) -> Any:
    """The ASGI app that ``module:attribute`` names; an Api gives its own.

    Raises:
        ClickException: it is neither.
    """
    found = load(target)
    if isinstance(found, Api):
        return found.asgi()
    if not callable(found):
        kind = type(found).__name__
        raise click.ClickException(f"{target!r} is neither an Api nor an ASGI app, but a {kind}")
    return found

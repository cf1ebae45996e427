"""Binding: the socket that a server listens on, and why there cannot be one."""

from __future__ import annotations

import errno
import os
import socket
import stat
from contextlib import suppress

import click

from tidings.serving.listening import BACKLOG, Listener
from tidings.serving.settings import Settings


def listen(settings: Settings) -> socket.socket:
    """Listen where the settings say.

    Raises:
        ClickException: the address cannot be listened on; the message says why.
    """
    if settings.uds is not None:
        return _listen_at(settings.uds)
    host, port = settings.host, settings.port
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = Listener(family, kind, protocol)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or "that is no host name"
        raise click.ClickException(f"cannot listen on {host}: {reason}") from error
    try:
        if os.name != "nt":  # there it would let two servers share the port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        # A second server may bind the same address as long as neither listens.
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise click.ClickException(_refusal(host, port, error)) from error
    return listener


def _listen_at(path: str) -> socket.socket:
    """Listen at a Unix socket, in place of one that a server has left behind."""
    if not hasattr(socket, "AF_UNIX"):
        raise click.ClickException("--uds needs Unix sockets: not here")
    listener = Listener(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if _is_left_behind(path):
            os.unlink(path)
        listener.bind(path)
        os.chmod(path, 0o666)  # noqa: S103  as uvicorn has it: who may come is the folder's business
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        used = error.errno == errno.EADDRINUSE
        why = "it is in use" if used else error.strerror or str(error)
        raise click.ClickException(f"cannot listen at {path}: {why}") from error
    return listener


def _is_left_behind(path: str) -> bool:
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            return False
    except FileNotFoundError:
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe, suppress(ConnectionError):
        probe.connect(path)
        return False
    return True


def _refusal(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} on {host} is in use; choose another one with --port or PORT"
    return f"cannot listen on port {port} of {host}: {error.strerror}"

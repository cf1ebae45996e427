"""Serving an app with uvicorn: by one process, by one that is started anew, or by several."""

from __future__ import annotations

import asyncio
import errno
import gc
import logging
import os
import re
import signal
import socket
import stat
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from types import FrameType
from typing import Any, Final

import click
import uvicorn
from uvicorn.importer import import_from_string
from uvicorn.protocols.http.auto import AutoHTTPProtocol
from uvicorn.supervisors import ChangeReload

from tidings import Api, Drainable
from tidings.listening import BACKLOG, Listener, refusing
from tidings.loading import load
from tidings.workers import Workers, inherited, inherited_listener, watch_parent

STARTUP_FAILURE: Final = 3
"""The exit code of a server that did not start, as uvicorn has it."""
GRACE: Final = 3
"""Seconds that open connections have when the server stops."""
SOCKETS: Final = "tidings.socketio.uvicorn:UvicornProtocol"
"""What serves WebSockets: those of Socket.IO without a task for each."""
_KEEP_ALIVE: Final = 75
"""Longer than proxies keep a connection that is idle."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Where and how to serve. ``uds`` is the path of a Unix socket, instead of host and port."""

    host: str = "127.0.0.1"
    port: int = 8000
    uds: str | None = None
    root_path: str = ""
    log_level: str = "warning"
    access_log: bool = False
    certificate: str | None = None
    """The file of a TLS certificate, with ``key`` that of its private key."""
    key: str | None = None

    def arguments(self) -> list[str]:
        """What tells a worker the same; where to listen it is given."""
        found = ["--log-level", self.log_level, "--root-path", self.root_path]
        found.append("--access-log" if self.access_log else "--no-access-log")
        if self.certificate is not None and self.key is not None:
            found += ["--ssl-certfile", self.certificate, "--ssl-keyfile", self.key]
        return found

    def config(self, app: Any) -> uvicorn.Config:
        """What uvicorn is to do."""
        found = uvicorn.Config(
            app,
            http=refusing(AutoHTTPProtocol),
            lifespan="on",
            log_level=self.log_level,
            access_log=self.access_log,
            root_path=self.root_path,
            ssl_certfile=self.certificate,
            ssl_keyfile=self.key,
            timeout_graceful_shutdown=GRACE,
            timeout_keep_alive=_KEEP_ALIVE,
            ws=import_from_string(SOCKETS),  # older versions of uvicorn take no name here
            ws_per_message_deflate=False,
            backlog=BACKLOG,
        )
        if self.access_log:  # whatever else is not to be said
            logging.getLogger("uvicorn.access").setLevel(logging.INFO)
        return found


def _load(target: str) -> Any:
    """The ASGI app that ``module:attribute`` names; an Api gives its own."""
    found = load(target)
    if isinstance(found, Api):
        return found.asgi()
    if not callable(found):
        kind = type(found).__name__
        raise click.ClickException(f"{target!r} is neither an Api nor an ASGI app, but a {kind}")
    return found


class _Brief:
    """Wraps an ASGI app so that a configuration error at its start is told without a traceback.

    Starlette and FastAPI hand the whole traceback over as the reason.
    """

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def send_briefly(message: Any) -> None:
            if message["type"] == "lifespan.startup.failed":
                message = {**message, "message": _reason(message.get("message", ""))}
            await send(message)

        await self._app(scope, receive, send_briefly if scope["type"] == "lifespan" else send)


def _reason(text: str) -> str:
    """What a traceback ends with, where that is an error which says what to do."""
    found = re.split(r"(?m)^tidings\.errors\.\w+: ", text)
    return found[-1].strip() if len(found) > 1 else text


class _Server(uvicorn.Server):
    """Says that it serves, once it does; drains before it stops.

    A worker says it to its parent.
    """

    def __init__(
        self,
        app: Drainable,
        config: uvicorn.Config,
        announcement: str,
        parent: socket.socket | None,
    ) -> None:
        super().__init__(config)
        self._app = app
        self._announcement = announcement
        self._parent = parent

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        if not self.started:
            return
        # What has been loaded stays, so that the collector need not look at it again and again.
        gc.collect()
        gc.freeze()
        if self._parent is None:
            click.echo(self._announcement)
        else:
            self._parent.send(b"1")

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for one in (*self.servers, *(sockets or ())):
            one.close()
        draining = asyncio.create_task(self._app.drain())
        while not draining.done() and not self.force_exit:
            await asyncio.wait({draining}, timeout=0.1)
        if draining.done() and (error := draining.exception()) is not None:
            click.echo(f"The sockets could not be drained: {error!r}", err=True)
        draining.cancel()
        await super().shutdown(sockets)


def run(app: Any, settings: Settings, what: str) -> None:
    """Serve until told to stop.

    Raises:
        ClickException: the address cannot be listened on.
        SystemExit: the app did not start; uvicorn has logged why.
    """
    _serve(app, _listen(settings), settings, what)


def run_target(target: str, settings: Settings) -> None:
    """The same, of the app that ``module:attribute`` names."""
    run(_load(target), settings, target)


def run_reloading(target: str, settings: Settings) -> None:
    """Serve in a process of its own, which is started anew when a file of Python changes."""
    listener = _listen(settings)
    # Its processes get it by way of pickle, which knows no subclass of a socket.
    plain = socket.socket(fileno=listener.detach())
    config = uvicorn.Config(target, reload=True, reload_dirs=[os.getcwd()], log_level="info")
    serve = partial(_serve_reloaded, target, settings)
    ChangeReload(config, target=serve, sockets=[plain]).run()


def _serve_reloaded(
    target: str, settings: Settings, sockets: list[socket.socket] | None = None
) -> None:
    assert sockets
    _serve(_load(target), sockets[0], settings, target)


def run_as_worker(target: str, listener: int, parent: int, settings: Settings) -> None:
    """Serve as one of several processes, for the one that started it."""
    _serve_as_worker(target, listener, inherited(parent), settings)


def _serve_as_worker(target: str, listener: int, parent: socket.socket, settings: Settings) -> None:
    servers: list[_Server] = []

    def end() -> None:
        if servers and servers[0].started:
            servers[0].should_exit = True
        else:
            os._exit(STARTUP_FAILURE)  # nothing less ends what hangs

    watch_parent(parent, end)
    heard = inherited_listener(listener)
    _serve(_load(target), heard, settings, target, parent, servers.append)


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
    listener = _listen(settings)
    command = ["-m", "tidings", "serve", target, *settings.arguments()]
    workers = Workers(command, listener, count)
    try:
        status = workers.run(_announcement(f"{target} ({count} processes)", listener, settings))
    finally:
        listener.close()
    raise SystemExit(status)


def _announcement(what: str, listener: socket.socket, settings: Settings) -> str:
    if settings.uds is not None:
        return f"{what} is at the socket {settings.uds} (Ctrl+C stops it)"
    host, port = listener.getsockname()[:2]
    address = f"[{host}]" if ":" in host else host
    scheme = "http" if settings.certificate is None else "https"
    return f"{what} is at {scheme}://{address}:{port} (Ctrl+C stops it)"


def _serve(
    app: Any,
    listener: socket.socket,
    settings: Settings,
    what: str,
    parent: socket.socket | None = None,
    made: Callable[[_Server], object] = lambda _: None,
) -> None:
    drainable = Drainable(_Brief(app))
    config = settings.config(drainable)
    server = _Server(drainable, config, _announcement(what, listener, settings), parent)
    made(server)
    # uvicorn stops in order and then raises the signal again; by default that would end the
    # process at once and leave the demo's database behind.
    signal.signal(signal.SIGTERM, _leave)
    try:
        server.run(sockets=[listener])
    except KeyboardInterrupt:
        return
    finally:
        listener.close()
    if not server.started:  # older versions of uvicorn come back here, newer ones leave
        raise SystemExit(STARTUP_FAILURE)


def _leave(_signal: int, _frame: FrameType | None) -> None:
    raise SystemExit(0)


def _listen(settings: Settings) -> socket.socket:
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

"""The command ``tidings``: run the demo, serve an api, look after it, make a token."""

from __future__ import annotations

import asyncio
import errno
import gc
import json
import os
import re
import signal
import socket
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import FrameType
from typing import Any, Final

import click
import jwt
import uvicorn
from uvicorn.importer import import_from_string
from uvicorn.protocols.http.auto import AutoHTTPProtocol

from tidings import Api, Drainable, __version__
from tidings.demo import build_demo
from tidings.doctor import doctor
from tidings.listening import BACKLOG, Listener, refusing
from tidings.loading import load, load_api
from tidings.triggers import triggers
from tidings.workers import Workers, inherited, inherited_listener, watch_parent

STARTUP_FAILURE: Final = 3
"""The exit code of a server that did not start, as uvicorn has it."""
GRACE: Final = 3
"""Seconds that open connections have when the server stops."""
SOCKETS: Final = "tidings.socketio.uvicorn:UvicornProtocol"
"""What serves WebSockets: those of Socket.IO without a task for each."""
_KEEP_ALIVE: Final = 75
"""Longer than proxies keep a connection that is idle."""
_SECRET_BYTES: Final = 32
_NAMED_CLAIMS: Final = {"sub": "--sub", "roles": "--role", "exp": "--expires"}

_host = click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
_port = click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8000,
    envvar="PORT",
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


@main.command()
@_host
@_port
def demo(host: str, port: int) -> None:
    """Run a live board of posts, with a database that is gone when it stops."""
    with tempfile.TemporaryDirectory(prefix="tidings-demo-", ignore_cleanup_errors=True) as folder:
        _run(build_demo(Path(folder)).app, host, port, "The demo")


@main.command()
@click.argument("target", metavar="MODULE:ATTRIBUTE")
@_host
@_port
@click.option(
    "--workers",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="How many processes serve. They must share a feed (Redis or PostgreSQL).",
)
@click.option("--listener", type=int, hidden=True, help="What a worker listens with.")
@click.option("--parent", type=int, hidden=True, help="Its line to the process that started it.")
def serve(
    target: str, host: str, port: int, workers: int, listener: int | None, parent: int | None
) -> None:
    """Serve an Api, or any ASGI app, by the name of its module and its own.

    For example: tidings serve blog:api

    SIGTERM and Ctrl+C end it in order: clients of its sockets are told what has been committed,
    and sent elsewhere. With several workers SIGHUP replaces them one by one.
    """
    if listener is not None and parent is not None:
        _serve_as_worker(target, listener, inherited(parent))
    elif workers > 1:
        _run_workers(target, host, port, workers)
    else:
        _run(_load(target), host, port, target)


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


def _run(app: Any, host: str, port: int, what: str) -> None:
    """Serve until told to stop.

    Raises:
        ClickException: the address cannot be listened on.
        SystemExit: the app did not start; uvicorn has logged why.
    """
    _serve(app, _listen(host, port), what)


def _serve_as_worker(target: str, listener: int, parent: socket.socket) -> None:
    servers: list[_Server] = []

    def end() -> None:
        if servers and servers[0].started:
            servers[0].should_exit = True
        else:
            os._exit(STARTUP_FAILURE)  # nothing less ends what hangs

    watch_parent(parent, end)
    _serve(_load(target), inherited_listener(listener), target, parent, servers.append)


def _run_workers(target: str, host: str, port: int, count: int) -> None:
    if os.name == "nt":
        raise click.ClickException("--workers needs processes that can share a socket: not here")
    api = getattr(_load(target), "api", None)  # what is wrong with it is said once, here
    if isinstance(api, Api) and api.has_sockets and api.is_alone:
        raise click.ClickException(
            f"{target!r} shares no feed: the sockets of one process would never hear of what "
            "another has written. Use RedisFeedPlugin or PostgresFeedPlugin, or one worker"
        )
    listener = _listen(host, port)
    workers = Workers(["-m", "tidings", "serve", target], listener, count)
    try:
        status = workers.run(_announcement(f"{target} ({count} processes)", listener))
    finally:
        listener.close()
    raise SystemExit(status)


def _announcement(what: str, listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    address = f"[{host}]" if ":" in host else host
    return f"{what} is at http://{address}:{port} (Ctrl+C stops it)"


def _serve(
    app: Any,
    listener: socket.socket,
    what: str,
    parent: socket.socket | None = None,
    made: Callable[[_Server], object] = lambda _: None,
) -> None:
    drainable = Drainable(_Brief(app))
    config = uvicorn.Config(
        drainable,
        http=refusing(AutoHTTPProtocol),
        lifespan="on",
        log_level="warning",
        timeout_graceful_shutdown=GRACE,
        timeout_keep_alive=_KEEP_ALIVE,
        ws=import_from_string(SOCKETS),  # older versions of uvicorn take no name here
        ws_per_message_deflate=False,
        backlog=BACKLOG,
    )
    server = _Server(drainable, config, _announcement(what, listener), parent)
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


def _listen(host: str, port: int) -> socket.socket:
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


def _refusal(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} on {host} is in use; choose another one with --port or PORT"
    return f"cannot listen on port {port} of {host}: {error.strerror}"

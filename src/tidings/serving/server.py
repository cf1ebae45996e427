"""The server: that of uvicorn, which drains before it stops, and says briefly why it failed."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import socket
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Any, Final

import click
import uvicorn

from tidings import Drainable
from tidings.failing import condensed, wants_traceback
from tidings.serving.settings import Settings
from tidings.serving.workers import BEAT_SECONDS

STARTUP_FAILURE: Final = 3
"""The exit code of a server that did not start, as uvicorn has it."""


class _Brief:
    """Wraps an ASGI app so that a failure at its start is told in two lines.

    Starlette and FastAPI hand the whole traceback over as the reason, an Api logs it.
    """

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "lifespan" or wants_traceback():
            await self._app(scope, receive, send)
            return
        with _Condensing() as logged:

            async def send_briefly(message: Any) -> None:
                if message["type"] == "lifespan.startup.failed":
                    said = logged.last or condensed(message.get("message", ""))
                    message = {**message, "message": said}
                elif message["type"] == "lifespan.startup.complete":
                    logged.end()  # from now on the log is that of a server that runs
                await send(message)

            await self._app(scope, receive, send_briefly)


class _Condensing(logging.Filter):
    """Keeps tracebacks of the start out of the log; ``last`` is the last one, in two lines."""

    def __init__(self) -> None:
        super().__init__()
        self.last = ""
        self._log = logging.getLogger("tidings")
        self._of_server = logging.getLogger("uvicorn.error")

    def __enter__(self) -> _Condensing:
        self._log.addFilter(self)
        self._of_server.addFilter(self)
        return self

    def __exit__(self, *error: object) -> None:
        # An error that leaves the app is logged by uvicorn in a moment: that one is ours, too.
        if error[0] is None:
            self.end()

    def end(self) -> None:
        """Leave the log as it is."""
        self._log.removeFilter(self)
        self._of_server.removeFilter(self)

    def filter(self, record: logging.LogRecord) -> bool:
        """Have a record without its traceback; the api's own is told as the reason."""
        if not isinstance(record.exc_info, tuple):
            return True
        self.last = condensed(logging.Formatter().formatException(record.exc_info))
        if record.name == "tidings":
            return False
        record.msg, record.args, record.exc_info = self.last, (), None
        return True


class Server(uvicorn.Server):
    """Says that it serves, once it does; drains before it stops.

    A worker says it to its parent, and goes on saying so for as long as its event loop turns.
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
        """Start to serve, and say so."""
        await super().startup(sockets=sockets)
        if not self.started:
            return
        # What has been loaded stays, so that the collector need not look at it again and again.
        gc.collect()
        gc.freeze()
        if self._parent is None:
            click.echo(self._announcement)
        else:
            self._beat(self._parent)

    def _beat(self, parent: socket.socket) -> None:
        # A parent that does not read is none of our business, and must not hold us up.
        with suppress(OSError):
            parent.send(b"1", socket.MSG_DONTWAIT)
        asyncio.get_running_loop().call_later(BEAT_SECONDS, self._beat, parent)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Drain, and then stop."""
        for one in (*self.servers, *(sockets or ())):
            one.close()
        draining = asyncio.create_task(self._app.drain())
        while not draining.done() and not self.force_exit:
            await asyncio.wait({draining}, timeout=0.1)
        if draining.done() and (error := draining.exception()) is not None:
            click.echo(f"The sockets could not be drained: {error!r}", err=True)
        draining.cancel()
        await super().shutdown(sockets)


def serve(
    app: Any,
    listener: socket.socket,
    settings: Settings,
    announcement: str,
    parent: socket.socket | None = None,
    made: Callable[[Server], object] = lambda _: None,
) -> None:
    """Serve what comes to a listener, until told to stop.

    Raises:
        SystemExit: the app did not start; why is in the log.
    """
    drainable = Drainable(_Brief(app))
    server = Server(drainable, settings.config(drainable), announcement, parent)
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

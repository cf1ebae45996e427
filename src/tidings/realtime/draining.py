"""Draining: a process that is about to stop sends its clients elsewhere, in order and in time.

Nothing is lost where a process just stops: clients restore with their cursors. But all of them
would come back at the same moment, and so they are let go one after the other.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Protocol

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

_log = logging.getLogger("tidings.realtime")

FLUSH_SECONDS: Final = 3.0
"""So long what has been committed may take on its way to the sockets."""
ANSWER_SECONDS: Final = 1.0
"""So long a client that has asked something is left to wait for the answer."""
LEAVE_SECONDS: Final = 2.5
"""So long the last of them may take to go."""
FEW: Final = 100
"""So many leave in a second where there is no need to take longer."""
_AT_ONCE: Final = 20
_EXTENSION: Final = "tidings.drain"

Drain = Callable[[], Awaitable[None]]


class Leaving(Protocol):
    """The connections of a process, by the ids of their Engine.IO sockets."""

    def connections(self) -> Sequence[str]:
        """Those that there are."""
        ...

    def is_answering(self, engine_id: str) -> bool:
        """Whether a client has asked something and has not been answered."""
        ...

    def release(self, engine_id: str) -> None:
        """End a connection when what is queued for it has been sent; its client comes back."""
        ...


class Draining:
    """What becomes of the connections of a process that is about to stop.

    ``flush`` waits until what has been committed is on its way to them. They are then ended, each
    at a moment of its own within ``seconds``.
    """

    def __init__(self, leaving: Leaving, flush: Drain, seconds: float) -> None:
        self._leaving = leaving
        self._flush = flush
        self._seconds = seconds
        self._task: asyncio.Task[None] | None = None

    @property
    def has_begun(self) -> bool:
        """Whether no new connection is taken."""
        return self._task is not None

    async def run(self) -> None:
        """Drain; who calls it again waits for the same, and who gives up does not end it."""
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="tidings-drain")
        task = self._task
        await asyncio.wait({task})
        if not task.cancelled():
            task.result()

    def reset(self) -> None:
        """Take connections (again)."""
        if self._task is not None:
            self._task.cancel()
            self._task = None

    async def _run(self) -> None:
        try:
            async with asyncio.timeout(FLUSH_SECONDS):
                await self._flush()
        except TimeoutError:
            _log.warning("what was committed last could not all be told before the stop")
        going = list(self._leaving.connections())
        if not going:
            return
        _log.info("%d connections are sent elsewhere", len(going))
        try:
            async with asyncio.timeout(self._seconds + LEAVE_SECONDS):
                await self._release(going)
                await _until(lambda: not self._leaving.connections(), LEAVE_SECONDS)
        except TimeoutError:
            _log.warning("not all connections could be ended in time")

    async def _release(self, going: list[str]) -> None:
        # In any other order the first to have connected would always be the first to be back.
        random.shuffle(going)
        step = min(self._seconds / len(going), 1 / FEW)
        clock = asyncio.get_running_loop().time
        begun = clock()
        async with asyncio.TaskGroup() as tasks:
            for place, engine_id in enumerate(going):
                due = begun + (place + random.random()) * step  # noqa: S311  no secret
                # A process that has too much to do gets behind, and must catch up.
                if due > clock() or place % _AT_ONCE == 0:
                    await asyncio.sleep(max(0.0, due - clock()))
                tasks.create_task(self._release_one(engine_id))

    async def _release_one(self, engine_id: str) -> None:
        await _until(lambda: not self._leaving.is_answering(engine_id), ANSWER_SECONDS)
        self._leaving.release(engine_id)


async def _until(is_so: Callable[[], bool], seconds: float) -> None:
    """Wait until something is so, or the time has passed."""
    clock = asyncio.get_running_loop().time
    until = clock() + seconds
    while not is_so() and clock() < until:  # noqa: ASYNC110  there is no event for that
        await asyncio.sleep(0.01)


class Drainable:
    """Wraps an ASGI app so that whoever runs the server can drain the sockets served in it.

    `drain` ends them in order, before the server stops; without sockets there is nothing to do.
    It finds them wherever they are in the app, below middleware or in a FastAPI app.

        app = Drainable(app)
        await app.drain()
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._drains: set[Drain] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            extensions = scope.get("extensions") or {}
            scope = {**scope, "extensions": {**extensions, _EXTENSION: self._drains}}
        await self._app(scope, receive, send)

    async def drain(self) -> None:
        """Take no new sockets, tell the others what has been committed, and end them."""
        await asyncio.gather(*(drain() for drain in self._drains))


def offer(scope: Scope, drain: Drain) -> None:
    """Have the server drain before it stops, if it knows how to."""
    drains = (scope.get("extensions") or {}).get(_EXTENSION)
    if drains is not None:
        drains.add(drain)


def is_new(scope: Scope) -> bool:
    """Tell whether a request is to begin a connection, rather than of one that there is."""
    return b"sid=" not in scope.get("query_string", b"")


async def refuse(scope: Scope, receive: Receive, send: Send) -> None:
    """Send who wants to connect to another process: 503, which a balancer understands."""
    answer = JSONResponse({"message": "This process is about to stop"}, 503, {"Retry-After": "1"})
    if scope["type"] == "http" or "websocket.http.response" in (scope.get("extensions") or {}):
        await answer(scope, receive, send)
    else:
        await send({"type": "websocket.close", "code": 1013})

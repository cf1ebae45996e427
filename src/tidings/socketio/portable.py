"""The portable way: a WebSocket of any ASGI server."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Coroutine, Generator
from functools import partial
from types import coroutine
from typing import Any, Final

from tidings.socketio import upgrades
from tidings.socketio.frames import Frame
from tidings.socketio.http import Message, Receive, Send
from tidings.socketio.polling import BURST
from tidings.socketio.session import LAST_SECONDS, Session

_log = logging.getLogger("tidings.socketio")


_WITHOUT_A_TASK: Final = (
    "uvicorn.protocols.websockets.websockets_sansio_impl",
    "uvicorn.protocols.websockets.wsproto_impl",
)
"""The `send` of these is known not to need a task around it, and a task for each frame is a third
of what that costs.
"""


class PortableLink:
    """A WebSocket of an ASGI server. A task writes while there is something to write."""

    is_websocket = True
    __slots__ = (
        "_end",
        "_is_given_up",
        "_own",
        "_resumed",
        "_send",
        "_serving",
        "_session",
        "_steps",
        "_taken",
        "_writing",
        "is_open",
        "limit",
        "tick",
    )

    def __init__(self, send: Send) -> None:
        self._send = send
        self._session: Session | None = None
        self._steps = getattr(send, "__module__", "") in _WITHOUT_A_TASK
        self._own: list[Frame] = []
        self._taken = 0
        self._end: Message | None = None
        self._is_given_up = False
        self._serving: asyncio.Task[Any] | None = None
        self._writing: asyncio.Task[None] | None = None
        self._resumed: asyncio.Future[None] | None = None
        self.is_open = True
        self.limit = 0
        self.tick: int | None = None

    @property
    def unsent(self) -> int:
        """What the server's buffer has not taken yet."""
        return self._taken

    def begin(self, session: Session) -> None:
        """Be the transport of a session, or try to become it."""
        self._session = session
        self.limit = session.limit
        if session.probe is self:
            session.engine.wheel.set(
                self, time.monotonic() + session.engine.options.connect_deadline
            )

    def flush(self, session: Session) -> None:
        """Begin to write, unless that is under way."""
        if self._writing is not None or not self.is_open:
            return
        if self._steps:
            self._step(self._write())
        else:
            self._writing = asyncio.create_task(self._write(), name="tidings-write")

    def _step(self, writing: Coroutine[Any, Any, None]) -> None:
        """Write at once; a task goes on only where that has to wait."""
        try:
            waits_for = writing.send(None)
        except StopIteration:
            return
        self._writing = asyncio.create_task(_go_on(writing, waits_for), name="tidings-write")

    def write(self, frame: Frame) -> None:
        """Send a frame of a WebSocket that is not the session's yet."""
        self._own.append(frame)
        if self._session is not None:
            self.flush(self._session)

    def write_rest(self, data: bytes) -> None:
        """There is no descriptor here."""
        raise NotImplementedError

    def close(self, session: Session, code: int, why: str = "") -> None:
        """End, when what is held has been written or has had the time to."""
        if self._end is None and self.is_open:
            self._end = {"type": "websocket.close", "code": code, "reason": why}
            session.engine.wheel.discard(self)
            session.engine.wheel.set(self, time.monotonic() + LAST_SECONDS)
            self.flush(session)
            self.resume_reading()

    def pause_reading(self) -> None:
        """The loop that reads looks for itself whether the session is held."""

    def resume_reading(self) -> None:
        """Have it go on."""
        if self._resumed is not None and not self._resumed.done():
            self._resumed.set_result(None)

    def due(self, now: float) -> float | None:
        """An upgrade that has not come in time, or a client that does not read to the end."""
        session = self._session
        if session is not None and session.probe is self:
            upgrades.fail(session, "it has not come in time")
        elif self._end is not None and self._serving is not None:
            # The server still waits for its client; we do not.
            self._is_given_up = True
            self._serving.cancel()
        return None

    async def serve(self, receive: Receive) -> None:
        """Read until the client has gone."""
        session = self._session
        assert session is not None
        self._serving = asyncio.current_task()
        try:
            while (message := await receive())["type"] == "websocket.receive":
                self._take(session, message)
                while session.is_held and session.link is self:
                    self._resumed = asyncio.get_running_loop().create_future()
                    await self._resumed
        except asyncio.CancelledError:
            if not self._is_given_up:
                raise
            if self._serving is not None:
                self._serving.uncancel()
        finally:
            self.is_open = False
            session.engine.wheel.discard(self)
            if session.link is self:
                session.drop()
            if self._writing is not None:
                self._writing.cancel()

    def _take(self, session: Session, message: Message) -> None:
        text, data = message.get("text"), message.get("bytes")
        if not session.is_open:
            return
        size = len(text if text is not None else data or b"")
        if size > self.limit:
            session.too_large(self)
        elif session.link is not self:
            upgrades.receive(session, self, text or "")
        elif text is not None:
            session.receive(text)
        else:
            session.receive_binary(data or b"")

    async def _write(self) -> None:
        session = self._session
        assert session is not None
        try:
            while frames := self._next(session):
                self._taken = sum(len(frame.wire) for frame in frames)
                session.is_behind = True
                for frame in frames:
                    key = "bytes" if frame.is_binary else "text"
                    value = frame.payload if frame.is_binary else frame.text
                    await self._send({"type": "websocket.send", key: value})
                self._taken = 0
                session.has_room()
            if self._end is not None:
                await self._send(self._end)
        except Exception as error:  # noqa: BLE001  servers have no common error for that
            _log.debug("a client left before it had everything: %r", error)
        finally:
            self._taken = 0
            self._writing = None

    def _next(self, session: Session) -> list[Frame]:
        own, self._own = self._own, []
        return own or (session.take(BURST) if session.link is self else [])


@coroutine
def _go_on(begun: Coroutine[Any, Any, None], waits_for: Any) -> Generator[Any, Any, None]:
    """Await a coroutine that has begun, and waits for something."""
    while True:
        try:
            result = yield waits_for
        except BaseException as error:  # noqa: BLE001  it is the coroutine's
            step: Any = partial(begun.throw, error)
        else:
            step = partial(begun.send, result)
        try:
            waits_for = step()
        except StopIteration:
            return

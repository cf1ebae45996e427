"""Inbox: what one client has asked and has not been answered, so that answers keep its order."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final

from tidings.socketio.session import Session

MOST_WAITING: Final = 256
"""So many packets of a client wait, or fewer that are long."""
MOST_WAITING_SIZE: Final = 1_000_000
"""That is, so many characters."""
_TURN_SECONDS: Final = 0.005

Work = Callable[[], Awaitable[None] | None]


class Inbox:
    """Does the work for one client piece by piece, beside the loop that reads: a slow answer must
    not keep the client's pongs waiting, which would look like its death. While too much waits
    nothing is read; and nothing is answered while the client does not read.
    """

    __slots__ = ("_idle", "_room", "_session", "_size", "_task", "_waiting")

    def __init__(self, session: Session, idle: Callable[[], None]) -> None:
        """``idle`` is called when nothing is left to be done, and the inbox of no use any more."""
        self._session = session
        self._idle = idle
        self._waiting: deque[tuple[int, Work]] = deque()
        self._size = 0
        self._task: asyncio.Task[None] | None = None
        self._room: asyncio.Future[None] | None = None

    @property
    def is_busy(self) -> bool:
        """Whether anything has not been answered."""
        return self._task is not None

    def put(self, work: Work, size: int) -> None:
        """Have something done after what came before it; ``size`` is of the packet."""
        self._waiting.append((size, work))
        self._size += size
        if self._is_full():
            self._session.hold()
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="tidings-inbox")

    def drained(self) -> None:
        """The client has read something."""
        if self._room is not None and not self._room.done():
            self._room.set_result(None)

    def close(self) -> None:
        """Drop what waits, and give up what is being done."""
        self._waiting.clear()
        self._size = 0
        if self._task is not None and self._task is not asyncio.current_task():
            self._task.cancel()

    def _is_full(self) -> bool:
        return len(self._waiting) >= MOST_WAITING or self._size > MOST_WAITING_SIZE

    async def _run(self) -> None:
        session, turn_ends = self._session, time.monotonic() + _TURN_SECONDS
        try:
            while self._waiting:
                await self._has_room()
                size, work = self._waiting.popleft()
                self._size -= size
                awaitable = work()
                if awaitable is not None:
                    await awaitable
                if session.is_held and not self._is_full():
                    session.release()
                if time.monotonic() > turn_ends:
                    await asyncio.sleep(0)
                    turn_ends = time.monotonic() + _TURN_SECONDS
        finally:
            self._task = None
            self._idle()

    async def _has_room(self) -> None:
        session, most = self._session, self._session.engine.options.answer_bytes
        while session.unsent >= most:
            self._room = asyncio.get_running_loop().create_future()
            session.wants_room = True
            await self._room
            self._room = None

"""SendQueue: what waits to be sent to one client, in bytes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from tidings.realtime.subscriptions import Frame

BURST: Final = 32_768
"""So many bytes are taken at once: then other clients get a turn, and what was sent counts."""


class SendQueue(asyncio.Queue["Frame | None"]):
    """The queue of an Engine.IO socket, which knows how many bytes have not been sent.

    Whoever sends takes a burst and comes for the next when that has gone: over a WebSocket when
    the server's buffer for it has room, with polling when the client polls again. Until then what
    was taken has not been sent. ``refill`` is called each time somebody comes.
    """

    def __init__(self) -> None:
        super().__init__()
        self.refill: Callable[[], None] | None = None
        self.waiting = 0
        """The bytes that nobody has taken yet."""
        self._taken = 0
        self._moved: asyncio.Future[None] | None = None

    @property
    def unsent(self) -> int:
        """The bytes that have not been sent."""
        return self.waiting + self._taken

    async def get(self) -> Frame | None:
        """Wait for the first frame of a burst; the one before has been sent."""
        self._sent()
        while True:
            try:
                return await super().get()
            except asyncio.QueueEmpty:  # somebody else has taken a whole burst meanwhile
                self._sent()

    def get_nowait(self) -> Frame | None:
        """The next frame of a burst.

        Raises:
            asyncio.QueueEmpty: there is none, or the burst is large enough.
        """
        if self._taken >= BURST:
            raise asyncio.QueueEmpty
        return super().get_nowait()

    async def below(self, size: int) -> None:
        """Wait until less than so many bytes are unsent; one at a time may wait."""
        while self.unsent >= size:
            self._moved = asyncio.get_running_loop().create_future()
            await self._moved

    def discard(self) -> None:
        """Drop what waits."""
        taken = self._taken
        while not self.empty():
            self._taken = 0
            self.get_nowait()
            self.task_done()
        self._taken = taken

    def _sent(self) -> None:
        self._taken = 0
        if self.refill is not None:
            self.refill()
        if self._moved is not None and not self._moved.done():
            self._moved.set_result(None)

    def _put(self, item: Frame | None) -> None:
        super()._put(item)
        self.waiting += _size(item)

    def _get(self) -> Frame | None:
        item = super()._get()
        size = _size(item)
        self.waiting -= size
        self._taken += size
        return item


def _size(frame: Frame | None) -> int:
    if frame is None:  # Engine.IO's word for the end
        return 0
    encoded = frame.encode()  # which a frame keeps, so that this costs nothing
    if isinstance(encoded, str) and not encoded.isascii():
        encoded = encoded.encode()
    return len(encoded)

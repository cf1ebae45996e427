"""Turns of the event loop: what a client is sent in one of them leaves in one piece."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from tidings.socketio.session import Session

_AT_ONCE: Final = 250
"""So many sessions are written to before other work gets a turn."""


class Turns:
    """The sessions that have something to send, until the end of the turn."""

    def __init__(self) -> None:
        self._queued: list[Session] = []
        self.number = 0
        """It changes with each turn in which something was written at once."""
        self.is_counted = False
        self.is_together = False

    def flush_later(self, session: Session) -> None:
        """Have what a session holds leave at the end of this turn of the event loop."""
        if not self._queued and not self.is_together:
            asyncio.get_running_loop().call_soon(self._flush)
        self._queued.append(session)

    def count(self) -> None:
        """Have this turn told apart from the next."""
        self.is_counted = True
        asyncio.get_running_loop().call_soon(self._turned)

    def _turned(self) -> None:
        self.is_counted = False
        self.number += 1

    @contextmanager
    def together(self) -> Iterator[None]:
        """What each client is sent meanwhile leaves in one piece, at the end."""
        self.is_together = True
        try:
            yield
        finally:
            self.is_together = False
            if self._queued:
                asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        if self.is_together:
            return
        queued, self._queued = self._queued[:_AT_ONCE], self._queued[_AT_ONCE:]
        if self._queued:
            asyncio.get_running_loop().call_soon(self._flush)
        for session in queued:
            session.is_queued = False
            if session.is_open:
                session.link.flush(session)

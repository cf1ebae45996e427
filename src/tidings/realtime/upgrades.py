"""Upgrades: polling sessions that change to a WebSocket, one attempt at a time, and in time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from starlette.types import Message, Receive


class Upgrades:
    """Those of the sessions in ``sockets``; ``upgraded`` is called with each that has succeeded.

    The library would let one session have any number of WebSockets that wait, for ever, to
    become its own.
    """

    def __init__(
        self, sockets: Mapping[str, Any], seconds: float, upgraded: Callable[[str], None]
    ) -> None:
        self._sockets = sockets
        self._seconds = seconds
        self._upgraded = upgraded
        self._under_way: set[str] = set()

    def __len__(self) -> int:
        return len(self._under_way)

    def begin(self, session: str) -> bool:
        """Begin an attempt; False where there is one already."""
        if session in self._under_way:
            return False
        self._under_way.add(session)
        return True

    def watched(self, session: str, receive: Receive) -> Receive:
        """The frames of an attempt; without success in time the connection is as good as ended."""
        until: float | None = asyncio.get_running_loop().time() + self._seconds

        async def receive_in_time() -> Message:
            nonlocal until
            if until is not None and self._is_upgraded(session):
                until = None
                self._upgraded(session)
            if until is None:
                return await receive()
            try:
                async with asyncio.timeout_at(until):
                    return await receive()
            except TimeoutError:
                return {"type": "websocket.disconnect", "code": 1008}

        return receive_in_time

    def end(self, session: str) -> None:
        """End an attempt, or the WebSocket that came of it.

        A session whose attempt came to nothing goes on polling: the library leaves it marked as
        upgrading, and so without packets.
        """
        self._under_way.discard(session)
        if not self._is_upgraded(session) and session in self._sockets:
            self._sockets[session].upgrading = False

    def _is_upgraded(self, session: str) -> bool:
        engine_socket = self._sockets.get(session)
        return engine_socket is not None and bool(engine_socket.upgraded)

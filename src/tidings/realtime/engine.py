"""The Engine.IO server: its sessions have queues that count, and are forgotten when they end."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import engineio
from engineio.async_socket import AsyncSocket

from tidings.realtime.queues import SendQueue


class EngineServer(engineio.AsyncServer):  # type: ignore[misc]  # python-engineio is untyped
    """The library leaves a session that has ended among its sockets until it looks at all of them
    again, and its timer for the next ping running, each up to 25 seconds: who opens sessions and
    closes them would fill the memory with those.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._pings: dict[str, asyncio.Task[Any]] = {}

    def create_queue(self, *args: Any, **options: Any) -> SendQueue:
        """The queue of a session, which counts what has not been sent."""
        return SendQueue()

    def start_background_task(self, target: Any, *args: Any, **kwargs: Any) -> Any:
        """Keep the timers of sessions (their only tasks), so that they can be stopped."""
        task = super().start_background_task(target, *args, **kwargs)
        engine_socket = getattr(target, "__self__", None)
        if isinstance(engine_socket, AsyncSocket):
            self._pings[engine_socket.sid] = task
            task.add_done_callback(partial(self._is_done, engine_socket.sid))
        return task

    def forget(self, sid: str) -> None:
        """Drop what is kept of a session that ends."""
        self.sockets.pop(sid, None)
        task = self._pings.get(sid)
        if task is not None and task is not asyncio.current_task():
            task.cancel()

    def _is_done(self, sid: str, task: asyncio.Task[Any]) -> None:
        if self._pings.get(sid) is task:
            del self._pings[sid]

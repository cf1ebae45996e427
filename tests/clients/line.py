"""A line between a client and its server that is slow, and can be cut."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from random import Random


class Line:
    """Passes bytes on, each piece up to ``latency`` seconds late, and in order.

    Requests over HTTP and the socket have connections of their own, so that they overtake each
    other. ``target`` is the server's port; it may change, as that of a server that is restarted.
    """

    def __init__(self, target: int, random: Random, latency: float) -> None:
        self.target = target
        self.latency = latency
        self._random = random
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_cut = False
        self.port = 0

    @contextlib.asynccontextmanager
    async def opened(self) -> AsyncIterator[Line]:
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            self._break()
            for task in list(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def cut(self, seconds: float) -> None:
        """Nothing passes for so long; what was on its way is lost."""
        self._is_cut = True
        self._break()
        await asyncio.sleep(seconds)
        self._is_cut = False

    def _break(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        try:
            if self._is_cut:
                return
            there, onwards = await asyncio.open_connection("127.0.0.1", self.target)
            self._writers.add(onwards)
            try:
                async with asyncio.TaskGroup() as both:
                    both.create_task(self._pass(reader, onwards))
                    both.create_task(self._pass(there, writer))
            finally:
                self._writers.discard(onwards)
                onwards.transport.abort()
        except (OSError, ExceptionGroup, asyncio.CancelledError):
            pass  # a stream's task that is cancelled is an error to asyncio, and this one has ended
        finally:
            self._tasks.discard(task)
            self._writers.discard(writer)
            writer.transport.abort()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            if self.latency:
                await asyncio.sleep(self._random.random() * self.latency)
            writer.write(data)
            await writer.drain()
        raise ConnectionResetError  # one side has gone, and with it the other

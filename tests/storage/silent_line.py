"""A TCP line to a database server that can fall silent: nothing passes, and nothing breaks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy import make_url


class SilentLine:
    """Passes bytes on until it falls silent. Connections that are made then hang as well."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._speaks = asyncio.Event()
        self._speaks.set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._lost: list[asyncio.StreamWriter] = []
        self.url = ""

    @classmethod
    @asynccontextmanager
    async def to(cls, url: str) -> AsyncIterator[SilentLine]:
        parts = make_url(url)
        assert parts.port is not None
        line = cls(parts.port)
        server = await asyncio.start_server(line._accept, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        line.url = parts.set(port=port).render_as_string(hide_password=False)
        try:
            yield line
        finally:
            server.close()
            for task in list(line._tasks):
                task.cancel()
            await asyncio.gather(*line._tasks, return_exceptions=True)
            for writer in line._lost:
                writer.transport.abort()

    def fall_silent(self) -> None:
        """From now on nothing passes, on any connection."""
        self._speaks = asyncio.Event()

    def speak(self) -> None:
        """New connections pass again; those that were silent stay so, as after a fail-over."""
        self._speaks = asyncio.Event()
        self._speaks.set()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        speaks = self._speaks
        self._lost.append(writer)
        if not speaks.is_set():
            return
        there, back = await asyncio.open_connection("127.0.0.1", self._to)
        self._lost.append(back)
        for source, sink in ((reader, back), (there, writer)):
            task = asyncio.ensure_future(self._copy(source, sink, speaks))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _copy(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, speaks: asyncio.Event
    ) -> None:
        try:
            while data := await source.read(65536):
                if self._speaks is not speaks:
                    return  # swallowed, and the line stays open
                sink.write(data)
        except ConnectionError:
            pass
        if self._speaks is speaks:
            sink.close()

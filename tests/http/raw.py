"""HTTP by hand, for what no decent client would send."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from urllib.parse import urlsplit

TIMEOUT = 20.0


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes


class Connection:
    """One TCP connection to a server."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def send(self, data: bytes) -> None:
        with contextlib.suppress(ConnectionError):
            self._writer.write(data)
            await self._writer.drain()

    async def request(
        self, method: str, target: bytes | str, body: bytes | None = None, *headers: str
    ) -> Answer | None:
        await self.send(head(method, target, body, *headers) + (body or b""))
        return await self.answer(has_body=method != "HEAD")

    async def answer(self, *, has_body: bool = True) -> Answer | None:
        """The next answer; None where the server ended the connection instead."""
        async with asyncio.timeout(TIMEOUT):
            try:
                text = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            except (asyncio.IncompleteReadError, ConnectionError):
                return None
            first, *lines = text.strip().split("\r\n")
            headers = {
                name.lower(): value.strip()
                for name, _, value in (line.partition(":") for line in lines)
            }
            body = await self._body(headers) if has_body else b""
        return Answer(int(first.split(" ")[1]), headers, body)

    async def _body(self, headers: dict[str, str]) -> bytes:
        if headers.get("transfer-encoding") != "chunked":
            return await self._reader.readexactly(int(headers.get("content-length", "0")))
        body = b""
        while size := int(await self._reader.readline(), 16):
            body += (await self._reader.readexactly(size + 2))[:-2]
        await self._reader.readline()
        return body

    def half_close(self) -> None:
        self._writer.write_eof()

    async def close(self) -> None:
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()


def head(method: str, target: bytes | str, body: bytes | None, *headers: str) -> bytes:
    lines = ["Host: test", *headers]
    if body is not None and not any(line.lower().startswith("transfer-") for line in lines):
        lines.append(f"Content-Length: {len(body)}")
    target = target.encode("latin-1") if isinstance(target, str) else target
    first = method.encode() + b" " + target + b" HTTP/1.1\r\n"
    return first + "".join(f"{line}\r\n" for line in lines).encode("latin-1") + b"\r\n"


@contextlib.asynccontextmanager
async def connected(url: str, address: str | None = None) -> AsyncIterator[Connection]:
    """A connection, from this address of the loopback network."""
    parts = urlsplit(url)
    local = None if address is None else (address, 0)
    reader, writer = await asyncio.open_connection(
        parts.hostname, parts.port, limit=2**24, local_addr=local
    )
    connection = Connection(reader, writer)
    try:
        yield connection
    finally:
        await connection.close()

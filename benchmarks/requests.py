"""An HTTP client that costs little: one request at a time on a connection that stays open."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from benchmarks.servers import HOST, Server

JSON_API = "application/vnd.api+json"


def get(path: str, token: str | None = None) -> bytes:
    """A GET request, encoded."""
    return f"GET {path} HTTP/1.1\r\nHost: {HOST}\r\n{_authorization(token)}\r\n".encode()


def post(
    path: str, document: Any = None, media_type: str = JSON_API, token: str | None = None
) -> bytes:
    """A POST request, encoded."""
    body = b"" if document is None else json.dumps(document).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: {media_type}\r\n"
        f"Content-Length: {len(body)}\r\n{_authorization(token)}\r\n"
    )
    return head.encode() + body


def _authorization(token: str | None) -> str:
    return "" if token is None else f"Authorization: Bearer {token}\r\n"


class HttpConnection(asyncio.Protocol):
    """One connection; an answer other than 2xx is an error."""

    def __init__(self) -> None:
        self._buffer = b""
        self._answer: asyncio.Future[bytes] | None = None
        self._transport: asyncio.WriteTransport | None = None

    @classmethod
    async def open(cls, server: Server) -> HttpConnection:
        """Connect."""
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(cls, HOST, server.port)
        return connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(exc or ConnectionError("the server hung up"))

    async def send(self, request: bytes) -> bytes:
        """Send an encoded request; gives the body of its answer."""
        if self._transport is None:
            raise ConnectionError("the server hung up")
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._answer

    def close(self) -> None:
        """Hang up."""
        if self._transport is not None:
            self._transport.close()

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer = self._buffer + data
        end = buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        start = end + 4
        stop = start + _content_length(buffer[:end])
        if len(buffer) < stop or self._answer is None:
            return
        self._buffer = buffer[stop:]
        if buffer[9:10] != b"2":
            self._answer.set_exception(RuntimeError(buffer.decode(errors="replace")))
        else:
            self._answer.set_result(buffer[start:stop])


def _content_length(head: bytes) -> int:
    head = head.lower()
    start = head.find(b"content-length:")
    if start < 0:
        return 0
    return int(head[start + 15 :].split(b"\r\n", 1)[0])

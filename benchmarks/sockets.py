"""A Socket.IO client that costs little: a bare WebSocket on an asyncio transport."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from itertools import repeat
from typing import Any

from benchmarks.servers import HOST, Server

_UPDATE = b'42["subscription.update"'
_HANDSHAKE = (
    f"GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: {HOST}\r\n"
    "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
).encode()
_TEXT, _PING, _PONG = 1, 9, 10
_CONNECT_AT_ONCE = 50


class SocketClient(asyncio.Protocol):
    """One socket, counting notifications; ``notified`` is called for each."""

    def __init__(self, notified: Callable[[], None], token: str | None = None) -> None:
        self._notified = notified
        self._auth = b"" if token is None else json.dumps({"token": token}).encode()
        self._buffer = b""
        self._is_open = False
        self._transport: asyncio.WriteTransport | None = None
        self._accepted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._acks: dict[int, asyncio.Future[Any]] = {}

    @classmethod
    async def open(
        cls, server: Server, notified: Callable[[], None], token: str | None = None
    ) -> SocketClient:
        """Connect, and wait until the server has accepted the socket."""
        loop = asyncio.get_running_loop()
        _, client = await loop.create_connection(lambda: cls(notified, token), HOST, server.port)
        await client._accepted
        return client

    async def call(self, event: str, payload: Any) -> Any:
        """Emit an event and wait for its ack."""
        number = len(self._acks)
        answer = self._acks[number] = asyncio.get_running_loop().create_future()
        self._send(f"42{number}{json.dumps([event, payload])}".encode())
        return await answer

    def stall(self) -> None:
        """Read nothing until `resume`."""
        assert isinstance(self._transport, asyncio.Transport)
        self._transport.pause_reading()

    def resume(self) -> None:
        """Read again."""
        assert isinstance(self._transport, asyncio.Transport)
        self._transport.resume_reading()

    def close(self) -> None:
        """Hang up."""
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        self._transport = transport
        transport.write(_HANDSHAKE)

    def connection_lost(self, exc: Exception | None) -> None:
        for waiting in (self._accepted, *self._acks.values()):
            if not waiting.done():
                waiting.set_exception(exc or ConnectionError("the server hung up"))

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer + data if self._buffer else data
        if not self._is_open:
            end = buffer.find(b"\r\n\r\n")
            if end < 0:
                self._buffer = buffer
                return
            self._is_open = True
            buffer = buffer[end + 4 :]
        position = 0
        while len(buffer) - position >= 2:
            start, size = position + 2, buffer[position + 1]
            if size == 126:
                start, size = position + 4, int.from_bytes(buffer[position + 2 : position + 4])
            elif size == 127:
                start, size = position + 10, int.from_bytes(buffer[position + 2 : position + 10])
            if len(buffer) < start + size:
                break
            self._frame(buffer[position] & 0x0F, buffer[start : start + size])
            position = start + size
        self._buffer = buffer[position:]

    def _frame(self, opcode: int, payload: bytes) -> None:
        if opcode == _PING:
            self._send(payload, _PONG)
        elif opcode == _TEXT:
            self._packet(payload)

    def _packet(self, packet: bytes) -> None:
        if packet.startswith(_UPDATE):
            self._notified()
        elif packet.startswith(b"0"):
            self._send(b"40" + self._auth)
        elif packet.startswith(b"40"):
            self._accepted.set_result(None)
        elif packet.startswith(b"44"):
            self._accepted.set_exception(ConnectionError(packet.decode()))
        elif packet.startswith(b"43"):
            number, bracket, rest = packet[2:].partition(b"[")
            self._acks[int(number)].set_result(json.loads(bracket + rest)[0])
        elif packet == b"2":
            self._send(b"3")

    def _send(self, payload: bytes, opcode: int = _TEXT) -> None:
        """One frame; its mask is zero, which masks nothing and costs nothing."""
        size = len(payload)
        first = 0x80 | opcode
        head = (
            bytes([first, 0x80 | size]) if size < 126 else bytes([first, 0xFE]) + size.to_bytes(2)
        )
        assert self._transport is not None
        self._transport.write(head + b"\0\0\0\0" + payload)


async def open_many(
    server: Server,
    count: int,
    notified: Callable[[], None],
    tokens: Iterator[str | None] | None = None,
) -> list[SocketClient]:
    """Many sockets, a few at a time."""
    clients: list[SocketClient] = []
    tokens = repeat(None) if tokens is None else tokens
    while len(clients) < count:
        group = min(_CONNECT_AT_ONCE, count - len(clients))
        opening = (SocketClient.open(server, notified, next(tokens)) for _ in range(group))
        clients += await asyncio.gather(*opening)
    return clients

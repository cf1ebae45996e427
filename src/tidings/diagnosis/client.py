"""A client for the moment: Engine.IO and Socket.IO over one WebSocket, as far as it takes."""

from __future__ import annotations

import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlencode
from urllib.request import Request, urlopen

from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Origin


class Refused(Exception):
    """The server has refused to let the client in; the text is what it said."""


class Client:
    """A WebSocket on which the Engine.IO handshake is done."""

    def __init__(self, wire: ClientConnection) -> None:
        self._wire = wire

    @property
    def is_deflated(self) -> bool:
        """Whether every message is compressed by itself."""
        response = self._wire.response
        offered = "" if response is None else response.headers.get("Sec-WebSocket-Extensions", "")
        return "permessage-deflate" in offered

    async def enter(self, token: str | None) -> dict[str, Any]:
        """Show the token; gives what ``connected`` says.

        Raises:
            Refused: the token will not do.
        """
        await self._wire.send(f"40{json.dumps({} if token is None else {'token': token})}")
        while True:
            frame = await self._receive()
            if frame.startswith("44"):
                raise Refused(json.loads(frame[2:]).get("message", "no reason given"))
            if frame.startswith('42["connected"'):
                greeting: dict[str, Any] = json.loads(frame[2:])[1]
                return greeting

    async def call(self, event: str, payload: Any) -> dict[str, Any]:
        """Emit, and wait for the answer."""
        await self._wire.send(f"421{json.dumps([event, payload])}")
        while True:
            frame = await self._receive()
            if frame.startswith("431["):
                answer: dict[str, Any] = json.loads(frame[3:])[0]
                return answer

    async def _receive(self) -> str:
        while True:
            frame = await self._wire.recv()
            if frame == "2":
                await self._wire.send("3")
            elif isinstance(frame, str):
                return frame


@asynccontextmanager
async def opened(url: str, path: str, origin: str | None, *, local: bool) -> AsyncIterator[Client]:
    """A client of the sockets at a path of a server; ``local``: it is in this process."""
    query = urlencode({"EIO": 4, "transport": "websocket"})
    address = f"ws{url.removeprefix('http')}{path}/?{query}"
    shown = None if origin is None else Origin(origin)
    async with connect(address, origin=shown, proxy=None if local else True) as wire:
        frame = await wire.recv()
        if not isinstance(frame, str) or not frame.startswith("0{"):
            raise ValueError("what answers there does not speak Engine.IO")
        yield Client(wire)


def fetch(url: str, token: str | None, seconds: float) -> tuple[int, bytes]:
    """GET, over a connection of its own; the status and the first part of the body.

    Blocks; errors are those of `urlopen`, but a refusal is an answer, too.
    """
    from urllib.error import HTTPError

    headers = {"Accept": "application/vnd.api+json", "User-Agent": "tidings-doctor"}
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    request = Request(url, headers=headers)  # noqa: S310  the scheme was checked
    context = ssl.create_default_context() if url.startswith("https:") else None
    try:
        with urlopen(request, timeout=seconds, context=context) as answer:  # noqa: S310  as above
            return answer.status, answer.read(1_000_000)
    except HTTPError as error:
        with error:
            return error.code, b""

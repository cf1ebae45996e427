"""Large answers: encoded in short steps, and so many at once that they fit into memory."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from itertools import islice
from typing import Any, Final

import msgspec
from starlette.responses import Response

from tidings.errors import Unavailable
from tidings.jsonapi.conditions import tag_of
from tidings.jsonapi.negotiation import MEDIA_TYPE

_VARY: Final = "Accept, Authorization"
_AT_ONCE: Final = 100
"""So many resource objects are built and encoded in one turn."""
LARGE: Final = 262_144
"""Smaller answers than this many bytes are not counted."""
MAX_HELD: Final = 128_000_000
"""So many bytes of large answers wait at once for clients to read them."""
_PATIENCE: Final = 5.0
_encoder = msgspec.json.Encoder(decimal_format="string")
READING_SECONDS: Final = 60.0
"""A client that has not read a large answer after so long is disconnected."""


async def answered(status: int, document: dict[str, Any], state: str = "") -> Response:
    """A response with what may be many resource objects, and their entity tag; ``state`` is that
    of the record which it is about.
    """
    for name in ("data", "included"):
        if isinstance(document.get(name), Iterator):
            document[name] = await encoded(_encoder, document[name])
    return tagged(status, document, state)


def tagged(status: int, document: dict[str, Any], state: str = "") -> Response:
    """A response with a document of resources, and its entity tag.

    The cursor is not part of what the tag is of: it moves on whatever has changed anywhere, and
    would have clients fetch again what they have.
    """
    meta = dict(document.pop("meta"))
    cursor = meta.pop("cursor")
    content, rest = _encoder.encode(document), _encoder.encode(meta)
    tag = tag_of(content, rest)
    meta["cursor"] = cursor
    body = b"".join((content[:-1], b',"meta":', _encoder.encode(meta), b"}"))
    response = Response(body, status, media_type=MEDIA_TYPE)
    response.headers["etag"] = f'"{state}.{tag}"' if state else f'"{tag}"'
    response.headers["vary"] = _VARY
    return response


def answer(status: int, document: dict[str, Any], *, media_type: str = MEDIA_TYPE) -> Response:
    """A response with a document."""
    response = Response(_encoder.encode(document), status, media_type=media_type)
    response.headers["vary"] = _VARY
    return response


async def encoded(encoder: msgspec.json.Encoder, objects: Iterator[Any]) -> list[Any]:
    """Objects as an array of a document; where they are many, with turns for others in between."""
    few = list(islice(objects, _AT_ONCE))
    if len(few) < _AT_ONCE:
        return few  # all of them, to be encoded with what is around them
    found: list[Any] = []
    while few:
        found += [msgspec.Raw(encoder.encode(one)) for one in few]
        await asyncio.sleep(0)
        few = list(islice(objects, _AT_ONCE))
    return found


class Room:
    """Room for large answers, from when they are encoded until their clients have read them."""

    def __init__(self, most: int = MAX_HELD) -> None:
        self._most = most
        self._waiting: deque[asyncio.Future[None]] = deque()
        self.held = 0
        """How many bytes are held at the moment."""

    @asynccontextmanager
    async def hold(self, size: int) -> AsyncIterator[None]:
        """Take room for so many bytes, and give it back.

        Raises:
            Unavailable: ``SERVER_BUSY``, there was none for a while.
        """
        if size < LARGE:
            yield
            return
        await self._take(size)
        try:
            yield
        finally:
            self.held -= size
            while self._waiting and self._waiting[0].done():
                self._waiting.popleft()
            if self._waiting:
                self._waiting.popleft().set_result(None)

    async def _take(self, size: int) -> None:
        try:
            async with asyncio.timeout(_PATIENCE):
                while self.held and self.held + size > self._most:
                    turn = asyncio.get_running_loop().create_future()
                    self._waiting.append(turn)
                    await turn
        except TimeoutError:
            raise Unavailable(
                "Too many large answers are on their way; ask again, or for fewer records",
                code="SERVER_BUSY",
            ) from None
        self.held += size

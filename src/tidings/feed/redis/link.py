"""Link: one connection to Redis, that is given up at the first sign of trouble."""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any, Final, TypeVar

from redis.exceptions import (
    AuthenticationError,
    InvalidResponse,
    MovedError,
    NoPermissionError,
    NoScriptError,
    RedisError,
)

from tidings.feed.feed import FeedUnavailable
from tidings.feed.redis.connection import TIMEOUT, RawConnection, new_connection
from tidings.feed.redis.options import Address, RedisOptions
from tidings.feed.redis.scripts import Script
from tidings.feed.redis.sentinel import masters
from tidings.feed.window import FeedGap

Answer = TypeVar("Answer")
Command = Sequence[str | bytes | int]

_REDIRECTS: Final = 3
_CLOSED: Final = "the connection is closed"
# What a server says that will say so again: it is too old, or keeps something else there.
_FOR_GOOD: Final = re.compile(
    r"unknown.*command|wrongtype|wrong kind of value|db index|invalid database|cluster mode|"
    r"no permissions|can't run this|denied redis is running in protected mode",
    re.IGNORECASE,
)


class Refused(FeedUnavailable):
    """The server answers, and will not have it: trying again would not help."""


class Link:
    """A connection that is made when it is needed, and used by one at a time.

    ``greet`` is called with each new one, before anything else is asked of it. Whatever goes wrong
    closes the connection: no answer can be taken for that to another question, and none that is
    made anew goes without the greeting.
    """

    def __init__(self, options: RedisOptions, greet: Callable[[Link], Awaitable[object]]) -> None:
        self._options = options
        self._greet = greet
        self._lock = asyncio.Lock()
        self._connection: RawConnection | None = None
        self._node: Address | None = None
        self._is_closed = False

    async def use(self, work: Callable[[Link], Awaitable[Answer]]) -> Answer:
        """Let ``work`` ask this link, and nobody else meanwhile; gives what it gives.

        Raises:
            FeedUnavailable: the server cannot be reached, does not answer in time or refuses.
        """
        await self._turn()
        try:
            try:
                await self._connect()
                return await work(self)
            except FeedGap:
                raise
            except (RedisError, OSError) as error:
                await self._give_up()
                raise _failure(error) from error
            except BaseException:
                await self._give_up()
                raise
        finally:
            self._lock.release()

    async def ask(self, *command: str | bytes | int, seconds: float = TIMEOUT) -> Any:
        """Send a command and wait for its answer, for so many ``seconds``."""
        connection = self._connection
        if connection is None:
            raise FeedUnavailable(_CLOSED)
        async with asyncio.timeout(seconds):
            await connection.send_command(*command)
            return await connection.read_response()

    async def run(
        self, script: Script, keys: Sequence[str], args: Command, reloaded: Command | None = None
    ) -> Any:
        """Run a script; ``reloaded`` are the arguments where the server did not know it yet."""
        try:
            return await self.ask("EVALSHA", script.sha, len(keys), *keys, *args)
        except NoScriptError:
            await self.ask("SCRIPT", "LOAD", script.text)
        return await self.ask("EVALSHA", script.sha, len(keys), *keys, *(reloaded or args))

    async def close(self) -> None:
        """Close the connection, also where somebody waits for an answer."""
        self._is_closed = True
        connection, self._connection = self._connection, None
        if connection is not None:
            # It is gone either way; a server that hangs need not say goodbye.
            with suppress(RedisError, OSError):
                await connection.disconnect()

    async def _turn(self) -> None:
        """Have the lock; but not after many others who wait for a server that hangs."""
        try:
            async with asyncio.timeout(TIMEOUT):
                await self._lock.acquire()
        except TimeoutError:
            raise FeedUnavailable("others wait for an answer") from None

    async def _connect(self) -> None:
        if self._is_closed:
            raise FeedUnavailable(_CLOSED)
        if self._connection is not None:
            # With nothing asked there is nothing to read but the end of the connection.
            if self._connection.is_connected and not await self._connection.can_read():
                return
            await self._give_up()
        failure: Exception = FeedUnavailable("no address is known")
        async for node in self._candidates():
            try:
                await self._reach(node)
                return
            except (RedisError, OSError) as error:
                await self._give_up()
                failure = error
                if isinstance(_failure(error), Refused):
                    break
        raise failure

    async def _candidates(self) -> AsyncIterator[Address]:
        """Where the master may be, each once: it was there last, or it is said to be there."""
        if self._options.path is not None:
            yield self._options.addresses[0]
            return
        tried: set[Address] = set()
        if self._node is not None and not self._options.sentinels:
            tried.add(self._node)
            yield self._node
        places = masters(self._options) if self._options.sentinels else _each(self._options)
        async for address in places:
            if address not in tried:
                tried.add(address)
                yield address

    async def _reach(self, node: Address) -> None:
        for _ in range(_REDIRECTS):
            try:
                await self._make(node)
            except MovedError as moved:
                # All keys are in one slot: the node that has it is the only one to talk to.
                await self._give_up()
                node = (moved.host or node[0], moved.port)
            else:
                self._node = node
                return
        raise FeedUnavailable("the nodes of the cluster send from one to the other")

    async def _make(self, node: Address) -> None:
        self._connection = connection = new_connection(self._options, node)
        try:
            async with asyncio.timeout(TIMEOUT):
                await connection.connect()
            # A server that wants a password says so to a short command only.
            await self.ask("PING")
            await self._greet(self)
        except BaseException:
            # Here, for it may have been closed, and forgotten, while it was being made.
            await connection.disconnect(nowait=True)
            raise

    async def _give_up(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.disconnect(nowait=True)


async def _each(options: RedisOptions) -> AsyncIterator[Address]:
    for address in options.addresses:
        yield address


def _failure(error: Exception) -> FeedUnavailable:
    text = " ".join(str(error).split()) or "no answer in time"
    code = getattr(error, "status_code", None)
    if code and not text.startswith(code):
        text = f"{code} {text}"
    is_final = (
        isinstance(error, AuthenticationError | NoPermissionError | InvalidResponse)
        or isinstance(error.__context__, ssl.SSLError)
        or _FOR_GOOD.search(text)
    )
    return Refused(text) if is_final else FeedUnavailable(text)

"""RedisLog: the log of a shared feed, on Redis Streams."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Sequence
from functools import partial
from time import monotonic
from typing import Any, Final

from tidings.errors import ConfigurationError
from tidings.feed.cursor import Cursor
from tidings.feed.log import Batch, Entry
from tidings.feed.redis.link import Command, Link, Refused
from tidings.feed.redis.options import RedisOptions
from tidings.feed.redis.scripts import APPEND, HEAD
from tidings.feed.window import FeedGap, new_epoch

_log = logging.getLogger("tidings.feed")

# One call of a script must be short: Redis does nothing else meanwhile.
_CHUNK_ENTRIES: Final = 500
_CHUNK_BYTES: Final = 500_000

_SEEN_MOST: Final = 200_000
_SEEN_SECONDS: Final = 86_400
_BLOCK_SECONDS: Final = 2.0
_CHECK_SECONDS: Final = 2.0
_MARGIN_SECONDS: Final = 3.0
_MOST_LOSSES: Final = 8
_ANY_SECOND: Final = 2**64 - 1


class RedisLog:
    """A log on Redis Streams, one for all processes with the same options.

    Following has a connection of its own, so that appending never waits behind it. Each connection
    begins with a look at the epoch, and following looks again every 2 seconds; an entry names its
    epoch besides. So what becomes of the server, with or without a word, is noticed.
    """

    def __init__(self, options: RedisOptions) -> None:
        self.options = options
        # The braces make Redis Cluster keep the three in one slot.
        name = f"tidings:{{{options.name}}}"
        self._entries = f"{name}:entries"
        self._keys = (f"{name}:state", self._entries, f"{name}:seen")
        self._commands, self._follower = self._links()
        self._is_closed = False
        self._has_warned = False
        # As the follower's connection has last seen it.
        self._head = Cursor("", 0)
        self._checked_at = 0.0
        self._losses = 0
        # The epoch that was last appended to, and when: until the next epoch has been told.
        self._appended = ("", 0.0)

    def __repr__(self) -> str:
        return f"RedisLog({self.where!r})"

    @property
    def name(self) -> str:
        return self.options.name

    @property
    def where(self) -> str:
        """The server as a URL without secrets."""
        return self.options.where

    async def open(self) -> None:
        """Connect.

        Raises:
            ConfigurationError: it is no Redis, has no streams, or refuses this user.
        """
        if self._is_closed:
            self._commands, self._follower = self._links()
            self._is_closed = False
        try:
            await self.head()
        except Refused as refused:
            await self.close()
            raise ConfigurationError(f"redis: {self.where} refuses: {refused}") from refused

    async def close(self) -> None:
        """Close both connections."""
        self._is_closed = True
        await asyncio.gather(self._commands.close(), self._follower.close())

    async def head(self) -> Cursor:
        """The epoch and the newest offset; begins another epoch where entries may be lost."""
        return await self._commands.use(self._look)

    async def append(self, batches: Sequence[Batch]) -> None:
        """Append batches in their order; a very large one in parts, each of them whole."""
        for part in _parts(batches):
            await self._commands.use(partial(self._append, part))

    async def follow(self, after: Cursor, limit: int) -> Sequence[Entry]:
        """Wait for entries beyond ``after``, about 2 seconds at most; the next ones, in order."""
        return await self._follower.use(lambda link: self._follow(link, after, limit))

    async def between(self, after: Cursor, until: int, limit: int) -> Sequence[Entry]:
        """Entries beyond ``after`` up to offset ``until``, at most ``limit``, without waiting."""
        if until <= after.offset:
            return []
        return await self._commands.use(lambda link: self._range(link, after, until, limit))

    def _links(self) -> tuple[Link, Link]:
        return Link(self.options, self._look), Link(self.options, self._check)

    async def _look(self, link: Link) -> Cursor:
        told, common = self._appended, self._arguments()
        # A server that does not know the script may be one that was restarted.
        reply = await link.run(HEAD, self._keys, [*common, 0], [*common, 1])
        epoch, offset, run = reply
        if self._appended is told and told[0] != epoch.decode():
            self._appended = ("", 0.0)  # the server has compared it with the epoch that follows
        if not run and not self._has_warned:
            self._has_warned = True
            _log.warning(
                "%s does not let this user have INFO: a restart in which entries were lost is "
                "noticed by its script cache alone, which is less sure (allow +info)",
                self.where,
            )
        return Cursor(epoch.decode(), int(offset))

    async def _check(self, link: Link) -> Cursor:
        self._head = await self._look(link)
        self._checked_at = monotonic()
        return self._head

    async def _append(self, part: Command, link: Link) -> None:
        args = [*self._arguments(), self.options.max_length, *part]
        self._appended = ((await link.run(APPEND, self._keys, args)).decode(), monotonic())

    def _arguments(self) -> Command:
        """What both scripts begin with."""
        bounds = (new_epoch(), int(self.options.max_age), _SEEN_MOST, _SEEN_SECONDS)
        epoch, at = self._appended
        return (*bounds, epoch, f"{monotonic() - at:.6f}")

    async def _follow(self, link: Link, after: Cursor, limit: int) -> Sequence[Entry]:
        is_due = monotonic() - self._checked_at >= _CHECK_SECONDS
        if is_due or self._head.epoch != after.epoch:
            _compare(await self._check(link), after)
        if entries := await self._wait(link, after, limit):
            return await self._continued(link, after, entries)
        head = await self._check(link)
        _compare(head, after)
        if head.offset == after.offset:
            return []
        # They came at this moment, or are gone: a read that waits would not tell.
        return await self._range(link, after, head.offset, limit)

    async def _wait(self, link: Link, after: Cursor, limit: int) -> Sequence[_Found]:
        """Read what is there, or the first that comes.

        Where the connection is lost over it, less is asked for next time: a server may cut off
        who is sent too much at once, and must not do so for ever.
        """
        if self._losses >= _MOST_LOSSES and self._head.offset > after.offset:
            self._losses = 0
            _log.error("%s: what follows offset %d cannot be read", self.where, after.offset)
            raise FeedGap(self._head)
        count = max(1, limit >> (2 * self._losses))
        self._losses += 1
        reply = await link.ask(
            *("XREAD", "COUNT", count, "BLOCK", int(_BLOCK_SECONDS * 1000)),
            *("STREAMS", self._entries, f"{after.offset}-{_ANY_SECOND}"),
            seconds=_BLOCK_SECONDS + _MARGIN_SECONDS,
        )
        self._losses = 0
        return _found(reply[0][1]) if reply else []

    async def _range(self, link: Link, after: Cursor, until: int, limit: int) -> Sequence[Entry]:
        first, last = str(after.offset + 1), f"{until}-{_ANY_SECOND}"
        reply = await link.ask("XRANGE", self._entries, first, last, "COUNT", limit)
        if reply:
            return await self._continued(link, after, _found(reply))
        head = await self._look(link)
        if head.epoch == after.epoch and head.offset <= after.offset:
            return []
        raise _gap(head, after)

    async def _continued(
        self, link: Link, after: Cursor, found: Sequence[_Found]
    ) -> Sequence[Entry]:
        """The entries, if they are those that follow ``after``."""
        offset, epoch, _ = found[0]
        if offset != after.offset + 1 or epoch != after.epoch:
            raise _gap(await self._look(link), after)
        return [(offset, data) for offset, _, data in found]


_Found = tuple[int, str, bytes]
"""Offset, epoch and data of an entry."""


def _found(reply: Sequence[Any]) -> Sequence[_Found]:
    return [
        (int(identifier.partition(b"-")[0]), name.decode(), data)
        for identifier, (name, data) in reply
    ]


def _compare(head: Cursor, after: Cursor) -> None:
    """Refuse a place that the log, with this head, does not have."""
    if head.epoch != after.epoch or head.offset < after.offset:
        raise _gap(head, after)


def _gap(head: Cursor, after: Cursor) -> FeedGap:
    # From the head on: who is told of the gap looks at everything anew, and what a reader wants
    # of the entries before, the log still has.
    return FeedGap(head, "window" if head.epoch == after.epoch else "epoch")


def _parts(batches: Sequence[Batch]) -> Iterator[Command]:
    """Arguments of the script, for one call each: batches as key, number of entries, entries."""
    part: list[str | bytes | int] = []
    count = size = 0
    for batch in _split(batches):
        more = sum(map(len, batch.entries))
        if part and (count + len(batch.entries) > _CHUNK_ENTRIES or size + more > _CHUNK_BYTES):
            yield part
            part, count, size = [], 0, 0
        part += (batch.key, len(batch.entries), *batch.entries)
        count, size = count + max(1, len(batch.entries)), size + more
    if part:
        yield part


def _split(batches: Sequence[Batch]) -> Iterator[Batch]:
    """The batches; large ones as several, each with a key of its own."""
    for batch in batches:
        cuts = _cuts(batch.entries)
        if len(cuts) == 1:
            yield batch
            continue
        for start, stop in zip(cuts, [*cuts[1:], len(batch.entries)], strict=True):
            yield Batch(f"{batch.key}\0{start}", batch.entries[start:stop])


def _cuts(entries: Sequence[bytes]) -> list[int]:
    """Where parts of entries begin."""
    cuts, size = [0], 0
    for index, entry in enumerate(entries):
        size += len(entry)
        if index - cuts[-1] == _CHUNK_ENTRIES or (size > _CHUNK_BYTES and index > cuts[-1]):
            cuts.append(index)
            size = len(entry)
    return cuts

"""PostgresLog: a log in a PostgreSQL database, for several processes without another server.

Ids that a sequence gives are taken before the commit, so who reads by "id > last" skips those that
commit late. Here an append takes the feed's row in ``tidings_feed_state``, counts offsets on from
it, and holds it until it has committed: offsets become visible in their order, without gaps.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from hashlib import blake2b
from importlib import import_module
from importlib.util import find_spec
from math import inf
from time import monotonic
from typing import Any, Final

from sqlalchemy import URL

from tidings.errors import ConfigurationError, MissingExtraError
from tidings.feed.cursor import Cursor
from tidings.feed.feed import FeedUnavailable
from tidings.feed.log import Batch, Entry
from tidings.feed.postgres import statements
from tidings.feed.postgres.session import (
    Connection,
    Server,
    Session,
    check_pooler,
    refusal,
)
from tidings.feed.window import FeedGap, new_epoch

_log = logging.getLogger("tidings.feed")

_POLL_SECONDS: Final = 2.0
_UNHEARD: Final = 3
_TRIM_SECONDS: Final = 30.0
_TRIM_ROWS: Final = 2_000
_KEY_SECONDS: Final = 3_600.0
_TRIM_PORTIONS: Final = 10
_PORTION_ENTRIES: Final = 1_000
_ATTEMPTS: Final = 3
_LAST: Final = 2**62
_LOCK_OF_TABLES: Final = int.from_bytes(b"tidings")
_UNSTEADY: Final = "it begins anew again and again"
_Trust = tuple[str, str, str, int]


class PostgresLog:
    """A `Log` in three tables of a PostgreSQL database, which several feeds may share by ``name``.

    ``url`` is an SQLAlchemy URL (``postgresql+asyncpg://...``, or without the driver). The newest
    ``max_length`` entries are kept, at most ``max_age`` seconds (None: however old), both roughly:
    trimming lags behind. ``timeout`` (seconds) is how long the server may take for anything; a
    call takes at most a second more. At most three connections are held.

    Needs connections of its own to the server, not a pooler's that change with each transaction.
    """

    def __init__(
        self,
        url: str | URL,
        name: str = "tidings",
        *,
        max_length: int = 100_000,
        max_age: float | None = 24 * 3600.0,
        timeout: float = 5.0,
    ) -> None:
        self._server = Server(url, _positive("timeout", timeout))
        if find_spec("asyncpg") is None:
            raise MissingExtraError("asyncpg", "postgres", "a feed over PostgreSQL")
        if not name or len(name) > 100 or "\0" in name:
            raise ConfigurationError(f"the feed's name has 1 to 100 characters, not {name!r}")
        self._name = name
        self._max_length = int(_positive("max_length", max_length))
        self._max_age = None if max_age is None else _positive("max_age", max_age)
        hashed = blake2b(name.encode(), digest_size=8).digest()
        self._channel = f"tidings_feed_{hashed.hex()}"
        self._lock_of_trimming = int.from_bytes(hashed, signed=True)
        self._appends = Session(self._server)
        self._reads = Session(self._server)
        self._follows = Session(self._server, self._channel)
        self._seen = Cursor("", 0)
        self._end: Cursor | None = None
        self._appended = 0
        self._unheard = 0
        self._trimmed_at = self._keys_trimmed_at = monotonic()

    @property
    def name(self) -> str:
        """Tells the feeds of one database apart."""
        return self._name

    @property
    def where(self) -> str:
        """The server and the database, and the feed's name."""
        return f"{self._server} (feed {self._name!r})"

    def __repr__(self) -> str:
        return f"<PostgresLog {self.where}>"

    async def open(self) -> None:
        """Connect; create the tables where they are missing.

        Raises:
            ConfigurationError: the server refuses, so that trying again would not help.
            FeedUnavailable: it cannot be reached. `head` and the others try it again.
        """
        for session in (self._appends, self._reads, self._follows):
            session.open()
        try:
            await self.head()
            await self._reads.run(lambda one: self._appends.run(partial(check_pooler, one)))
        except FeedUnavailable as error:
            if (reason := refusal(error)) is None:
                raise
            await self.close()
            raise ConfigurationError(
                f"the feed at {self.where} cannot be used: {reason}. It needs the tables "
                "tidings_feed, tidings_feed_state and tidings_feed_keys, the right to create them "
                "or the rights to select, insert, update and delete in them, and a connection "
                "that is not shared with others"
            ) from error.__cause__

    async def close(self) -> None:
        """Give up all connections, and what is being waited for."""
        for session in (self._follows, self._appends, self._reads):
            await session.close()

    async def head(self) -> Cursor:
        """The epoch, begun now where entries may have been lost, and the newest entry's offset."""
        return await self._reads.run(self._head)

    async def append(self, batches: Sequence[Batch]) -> None:
        """Append batches in their order, each whole; one whose key is known is dropped."""
        for some in _portions(batches):
            await self._appends.run(partial(self._append, some))
        if self._appended * 10 >= self._max_length or self._is_time_to_trim:
            await self._trim()

    async def follow(self, after: Cursor, limit: int) -> Sequence[Entry]:
        """Wait for entries beyond ``after``, at most for some seconds; the next ones, in order.

        A notification only says that it is time to look. Without one it is time after two seconds.
        """
        woken = self._follows.woken
        may_be_there = woken.is_set() or after != self._end
        if may_be_there and (found := await self._look(after, limit)):
            return found
        try:
            async with asyncio.timeout(_POLL_SECONDS):
                await woken.wait()
        except TimeoutError:
            if self._is_time_to_trim:
                await self._trim()
            found = await self._look(after, limit)
            self._note_hearing(is_deaf=bool(found) and not woken.is_set())
            return found
        if not self._follows.is_lost:
            self._note_hearing(is_deaf=False)
        return await self._look(after, limit)

    def _note_hearing(self, *, is_deaf: bool) -> None:
        """Note whether entries come with a notification; say so when they do not, or do again.

        One alone may cross the look that finds its entry.
        """
        if not is_deaf:
            if self._unheard >= _UNHEARD:
                _log.info("notifications of the feed at %s arrive again", self.where)
            self._unheard = 0
            return
        self._unheard += 1
        if self._unheard == _UNHEARD:
            _log.warning(
                "notifications of the feed at %s do not arrive, so that changes are told up to "
                "%g s late: connect straight to the server, or through a pooler in session mode",
                self.where,
                _POLL_SECONDS,
            )
            self._follows.give_up()  # another connection may hear

    async def between(self, after: Cursor, until: int, limit: int) -> Sequence[Entry]:
        """Entries beyond ``after`` up to offset ``until``, at most ``limit``, without waiting."""
        return await self._read(self._reads, after, until, limit)

    async def _look(self, after: Cursor, limit: int) -> Sequence[Entry]:
        session = self._follows
        if session.is_lost:
            session.drop()
            raise FeedUnavailable("the connection was lost")
        session.woken.clear()
        self._end = None
        found = await self._read(session, after, _LAST, limit)
        # Until the next notification there is no need to look again.
        self._end = Cursor(after.epoch, after.offset + len(found)) if len(found) < limit else None
        return found

    async def _read(
        self, session: Session, after: Cursor, until: int, limit: int
    ) -> Sequence[Entry]:
        async def read(connection: Connection) -> Sequence[Any]:
            trust = self._trust(session)
            rows: Sequence[Any] = await connection.fetch(
                statements.READ, *trust, after.offset, until, limit
            )
            return rows

        rows = await session.run(read)
        if not rows or not rows[0]["is_trusted"]:
            raise FeedGap(await self.head(), "epoch")
        newest = self._note(Cursor(rows[0]["epoch"], rows[0]["newest"]))
        if newest.epoch != after.epoch or newest.offset < after.offset:
            raise FeedGap(newest, "epoch")
        found = [(row["offset"], row["entry"]) for row in rows if row["offset"] is not None]
        _check_continuity(found, after, newest, until)
        return found

    async def _head(self, connection: Connection) -> Cursor:
        if not await connection.fetchval(statements.HAS_TABLES):
            async with connection.transaction():
                await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK_OF_TABLES)
                await connection.execute(statements.TABLES)
        for _ in range(_ATTEMPTS):
            trust = self._trust(self._reads)
            if (row := await connection.fetchrow(statements.HEAD, *trust)) is not None:
                return self._note(Cursor(row["epoch"], row["offset"]))
            await self._begin(connection, trust)
        raise FeedUnavailable(_UNSTEADY)

    async def _append(self, batches: Mapping[bytes, Sequence[bytes]], to: Connection) -> None:
        entries = [(key, entry) for key, several in batches.items() for entry in several]
        columns = list(batches), [key for key, _ in entries], [entry for _, entry in entries]
        for _ in range(_ATTEMPTS):
            trust = self._trust(self._appends)
            try:
                row = await to.fetchrow(statements.APPEND, *trust, *columns, self._channel)
            except import_module("asyncpg").UniqueViolationError:
                # There are entries beyond what the state says is the newest.
                await to.execute(statements.DISTRUST, self._name)
                row = None
            if row is not None:
                self._note(Cursor(row["epoch"], row["offset"]))
                self._appended += len(entries)
                return
            await self._begin(to, trust)
        raise FeedUnavailable(_UNSTEADY)

    async def _begin(self, connection: Connection, trust: _Trust) -> None:
        """Begin another epoch, unless somebody else has."""
        async with connection.transaction():
            done = await connection.execute(statements.BEGIN, *trust, new_epoch())
            if done == "INSERT 0 0":
                return
            await connection.execute("DELETE FROM tidings_feed WHERE name = $1", self._name)
            await connection.execute("SELECT pg_notify($1, '')", self._channel)
        _log.warning("the feed at %s begins anew: it is empty, or may be incomplete", self.where)

    def _trust(self, session: Session) -> _Trust:
        """What the state has to agree with: where it does not, entries may have been lost.

        It cannot be before a place that has been read. This is where a server that went back in
        time (a disk's snapshot) is found out, if its mark is still the same.
        """
        return self._name, session.mark, self._seen.epoch, self._seen.offset

    def _note(self, place: Cursor) -> Cursor:
        if place.epoch != self._seen.epoch or place.offset > self._seen.offset:
            self._seen = place
        return place

    @property
    def _is_time_to_trim(self) -> bool:
        return monotonic() - self._trimmed_at > _TRIM_SECONDS

    async def _trim(self) -> None:
        self._appended = 0
        self._trimmed_at = monotonic()
        try:
            await self._reads.run(self._trim_with)
        except FeedUnavailable as error:
            _log.warning("the feed at %s could not be trimmed: %s", self.where, error)

    async def _trim_with(self, connection: Connection) -> None:
        bounds = self._max_length, self._max_age
        await self._delete(connection, statements.TRIM, *bounds)
        if monotonic() - self._keys_trimmed_at > _KEY_SECONDS / 10:
            self._keys_trimmed_at = monotonic()
            await self._delete(connection, statements.TRIM_KEYS, _KEY_SECONDS)

    async def _delete(self, connection: Connection, sql: str, *bounds: float | None) -> None:
        """Delete in small portions, one process at a time."""
        for _ in range(_TRIM_PORTIONS):
            async with connection.transaction():
                lock = "SELECT pg_try_advisory_xact_lock($1)"
                if not await connection.fetchval(lock, self._lock_of_trimming):
                    return
                done = await connection.execute(sql, self._name, *bounds, _TRIM_ROWS)
            if done != f"DELETE {_TRIM_ROWS}":
                return


def _check_continuity(found: Sequence[Entry], after: Cursor, newest: Cursor, until: int) -> None:
    if not found:
        if after.offset < min(newest.offset, until):
            raise FeedGap(newest)
    elif found[0][0] != after.offset + 1:
        raise FeedGap(Cursor(after.epoch, found[0][0] - 1))
    elif found[-1][0] != after.offset + len(found):
        raise FeedGap(Cursor(after.epoch, found[-1][0]))


def _portions(batches: Sequence[Batch]) -> Iterator[Mapping[bytes, Sequence[bytes]]]:
    """Batches by their keys, as many as one statement appends: so long all others wait."""
    portion: dict[bytes, Sequence[bytes]] = {}
    size = 0
    for batch in batches:
        if not batch.entries:
            continue
        portion.setdefault(_hashed(batch.key), batch.entries)
        size += len(batch.entries)
        if size >= _PORTION_ENTRIES:
            yield portion
            portion, size = {}, 0
    if portion:
        yield portion


def _hashed(key: str) -> bytes:
    """Keys are compared, and of any length."""
    return blake2b(key.encode(), digest_size=16).digest()


def _positive(name: str, value: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < inf:
        raise ConfigurationError(f"{name} must be a positive number, not {value!r}")
    return value

"""FeedLink: the feed of an api and what publishes to it, opened and closed with the api."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final

from sqlalchemy import Table

from tidings.api.parts import FeedOptions, Tracing
from tidings.errors import ConfigurationError, DatabaseBusy, TidingsError
from tidings.feed import FeedUnavailable, MemoryFeed, Recheck, SharedFeed
from tidings.storage import Database, DirectPublisher, Outbox, Publisher, Relay

_OWN: Final = "feed"
_log = logging.getLogger("tidings.feed")


class FeedLink:
    """Made by `link`; ``tables`` are those that it needs in the database."""

    def __init__(
        self, feed: MemoryFeed | SharedFeed, publisher: Publisher, relay: Relay | None = None
    ) -> None:
        self.feed = feed
        self.publisher = publisher
        self.relay = relay
        self._checks: set[asyncio.Task[None]] = set()

    def follow(self, recheck: Callable[[Recheck], Coroutine[Any, Any, None]]) -> None:
        """Have rights checked anew when another process says so."""
        if isinstance(self.feed, SharedFeed):
            self.feed.on_recheck = lambda changed: self._start(recheck(changed))

    def tell(self, changed: Recheck) -> None:
        """Say to all processes that rights have changed."""
        if isinstance(self.feed, SharedFeed):
            self.publisher.begin([changed]).committed(kept=False)

    def _start(self, check: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(check, name="tidings-recheck")
        self._checks.add(task)
        task.add_done_callback(self._checks.discard)

    @property
    def outbox(self) -> Outbox | None:
        """The outbox, where there is one."""
        return None if self.relay is None else self.relay.outbox

    @property
    def tables(self) -> Sequence[Table]:
        """The table of the outbox, for ``create_tables``."""
        return [] if self.outbox is None else [self.outbox.table]

    async def open(self) -> None:
        """Begin to follow and to publish; call it when the database is open."""
        if self.outbox is not None:
            await _check(self.outbox)
        await self.feed.open()
        if self.relay is not None:
            self.relay.start()

    async def settle(self) -> None:
        """Wait until what has been committed is published, and read back by this process."""
        try:
            if self.relay is not None:
                await self.relay.settle()
            if isinstance(self.feed, SharedFeed):
                await self.feed.catch_up()
        except (FeedUnavailable, DatabaseBusy) as error:
            _log.warning("what was committed last is told by other processes: %s", error)

    async def close(self) -> None:
        """Publish what is waiting, and stop."""
        for check in self._checks:
            check.cancel()
        await asyncio.gather(*self._checks, return_exceptions=True)
        try:
            if self.relay is not None:
                await self.relay.close()
        finally:
            await self.feed.close()


def feed_name(api_name: str) -> str:
    """What an api's feed is called where it is kept, unless the application says otherwise."""
    return api_name.translate({ord("{"): None, ord("}"): None, 0: None})[:100] or "feed"


def make_feed(options: FeedOptions) -> MemoryFeed | SharedFeed:
    """The feed that the options ask for."""
    if options.log is None:
        return MemoryFeed(options.window)
    return SharedFeed(options.log, options.window)


def link(
    feed: MemoryFeed | SharedFeed,
    options: FeedOptions,
    database: Database,
    recheck: Callable[[Recheck], Coroutine[Any, Any, None]],
    tracing: Tracing | None = None,
) -> FeedLink:
    """Connect a feed with the database that its changes come from."""
    if isinstance(feed, MemoryFeed) and not options.outbox:
        direct = DirectPublisher(feed)
        return FeedLink(
            feed, direct if tracing is None else tracing.publisher(direct, is_direct=True)
        )
    name = feed.log.name if isinstance(feed, SharedFeed) else _OWN
    appending = feed if tracing is None else tracing.appending(feed)
    relay = Relay(appending, Outbox(database, name) if options.outbox else None)
    publisher = relay if tracing is None else tracing.publisher(relay, is_direct=False)
    linked = FeedLink(feed, publisher, relay)
    linked.follow(recheck)
    return linked


async def _check(outbox: Outbox) -> None:
    try:
        await outbox.state()
    except TidingsError:
        raise
    except Exception as error:
        raise ConfigurationError(
            f"the table {outbox.table.name!r} cannot be read: create it with "
            "api.create_tables() or SqlAlchemyPlugin(..., create_tables=True)"
        ) from error

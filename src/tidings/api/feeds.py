"""FeedLink: the feed of an api and what publishes to it, opened and closed with the api."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Final

from sqlalchemy import Table

from tidings.api.parts import FeedOptions, Tracing
from tidings.errors import ConfigurationError, DatabaseBusy, TidingsError
from tidings.feed import FeedUnavailable, Invalidation, MemoryFeed, Recheck, SharedFeed
from tidings.storage import (
    Database,
    DirectPublisher,
    Keeps,
    Outbox,
    Publication,
    Publisher,
    Relay,
)

_OWN: Final = "feed"
_TOLD_SECONDS: Final = 5.0
"""For so long `FeedLink.tell` waits until the other processes can read it."""
_log = logging.getLogger("tidings.feed")


class FeedLink:
    """Made by `link`; ``tables`` are those that it needs in the database."""

    def __init__(
        self,
        feed: MemoryFeed | SharedFeed,
        publisher: Publisher,
        database: Database,
        relay: Relay | None = None,
    ) -> None:
        self.feed = feed
        self.publisher = publisher
        self.relay = relay
        self._database = database

    async def tell(self, changed: Recheck) -> None:
        """Say to all processes that rights have changed; what is committed later comes after it.

        Raises:
            DatabaseBusy: the outbox could not be written, so that only this process knows.
        """
        if not isinstance(self.feed, SharedFeed):
            return
        publication = self.publisher.begin([changed])
        if self.outbox is None:
            publication.committed(kept=False)
        else:
            await self._keep(publication)
        try:
            async with asyncio.timeout(_TOLD_SECONDS):
                await self._publish()
        except (FeedUnavailable, DatabaseBusy, TimeoutError) as error:
            where = "when the feed is back" if self.outbox is None else "from the outbox"
            _log.warning("other processes will hear %s that rights changed: %s", where, error)

    async def tell_stale(self, resources: Sequence[str]) -> None:
        """Say to all processes that nobody knows what became of these resources."""
        publication = self.publisher.begin([Invalidation(name) for name in resources])
        if self.outbox is not None:
            await self._keep(publication)

    async def _keep(self, publication: Publication) -> None:
        try:
            async with self._database.writing() as transaction:
                await publication.keep(transaction)
                await transaction.commit()
        except BaseException:
            publication.failed()
            raise
        publication.committed()

    async def _publish(self) -> None:
        if self.relay is not None:
            await self.relay.settle()

    @property
    def outbox(self) -> Keeps | None:
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
            await self._publish()
            if isinstance(self.feed, SharedFeed):
                await self.feed.catch_up()
        except (FeedUnavailable, DatabaseBusy) as error:
            _log.warning("what was committed last is told by other processes: %s", error)

    async def close(self) -> None:
        """Publish what is waiting, and stop."""
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
        return MemoryFeed(options.window, options.window_bytes)
    return SharedFeed(options.log, options.window, options.window_bytes)


def link(
    feed: MemoryFeed | SharedFeed,
    options: FeedOptions,
    database: Database,
    forget_rights: Callable[[], None],
    tracing: Tracing | None = None,
    captured: Keeps | None = None,
    is_watched: Callable[[str], bool] = lambda _: True,
) -> FeedLink:
    """Connect a feed with the database that its changes come from.

    ``captured`` is the outbox that triggers write to as well, where there are any.

    ``forget_rights`` is called when any process has said that rights have changed, and when that
    may have been missed. ``is_watched`` says whether somebody here watches a resource.
    """
    if isinstance(feed, MemoryFeed) and not options.outbox and captured is None:
        direct = DirectPublisher(feed)
        publisher = direct if tracing is None else tracing.publisher(direct, is_direct=True)
        return FeedLink(feed, publisher, database)
    name = feed.log.name if isinstance(feed, SharedFeed) else _OWN
    appending = feed if tracing is None else tracing.appending(feed)
    outbox = Outbox(database, name) if options.outbox else None
    relay = Relay(appending, captured or outbox)
    if isinstance(feed, SharedFeed):
        feed.on_recheck, feed.is_watched = forget_rights, is_watched
    told = relay if tracing is None else tracing.publisher(relay, is_direct=False)
    return FeedLink(feed, told, database, relay)


async def _check(outbox: Keeps) -> None:
    try:
        await outbox.state()
    except TidingsError:
        raise
    except Exception as error:
        raise ConfigurationError(
            f"the table {outbox.table.name!r} cannot be read: create it with "
            "api.create_tables() or SqlAlchemyPlugin(..., create_tables=True)"
        ) from error

"""FeedLink: the feed of an api and what publishes to it, opened and closed with the api."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Table

from tidings.api.parts import FeedOptions, Tracing
from tidings.errors import ConfigurationError, TidingsError
from tidings.feed import Feed, MemoryFeed, SharedFeed
from tidings.storage import Database, DirectPublisher, Outbox, Publisher, Relay


class FeedLink:
    """Made by `link`; ``tables`` are those that it needs in the database."""

    def __init__(self, feed: Feed, publisher: Publisher, relay: Relay | None = None) -> None:
        self.feed = feed
        self.publisher = publisher
        self.relay = relay

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

    async def close(self) -> None:
        """Publish what is waiting, and stop."""
        try:
            if self.relay is not None:
                await self.relay.close()
        finally:
            await self.feed.close()


def make_feed(options: FeedOptions) -> MemoryFeed | SharedFeed:
    """The feed that the options ask for."""
    if options.log is None:
        return MemoryFeed(options.window)
    return SharedFeed(options.log, options.window)


def link(
    feed: MemoryFeed | SharedFeed,
    options: FeedOptions,
    database: Database,
    tracing: Tracing | None = None,
) -> FeedLink:
    """Connect a feed with the database that its changes come from."""
    if isinstance(feed, MemoryFeed) and not options.outbox:
        direct = DirectPublisher(feed)
        return FeedLink(
            feed, direct if tracing is None else tracing.publisher(direct, is_direct=True)
        )
    appending = feed if tracing is None else tracing.appending(feed)
    relay = Relay(appending, Outbox(database) if options.outbox else None)
    publisher = relay if tracing is None else tracing.publisher(relay, is_direct=False)
    return FeedLink(feed, publisher, relay)


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

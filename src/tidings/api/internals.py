"""Internals: what an Api is made of, as those see it who watch over a running one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Table

from tidings.api.authority import Authority
from tidings.api.capture import Capture
from tidings.api.feeds import FeedLink
from tidings.api.parts import Parts, SocketOptions
from tidings.feed import MemoryFeed, SharedFeed
from tidings.realtime import SocketServer


@dataclass(frozen=True, slots=True)
class Internals:
    """The parts of an Api. ``sockets`` is None until they are first used."""

    parts: Parts
    feed: MemoryFeed | SharedFeed
    link: FeedLink
    sockets: SocketServer | None
    socket_options: SocketOptions | None
    authority: Authority
    creates_tables: bool = False
    capture: Capture | None = None
    """The triggers, where writers beside tidings are told of."""

    @property
    def tables(self) -> Sequence[Table]:
        """All tables that it needs, its own included."""
        return [*self.parts.tables.values(), *self.link.tables, *self.authority.tables]

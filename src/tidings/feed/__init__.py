"""The order of changes: Change, Cursor, and the feeds that carry them."""

from tidings.feed.change import Action, Change, Invalidation, Notice
from tidings.feed.cursor import Cursor
from tidings.feed.memory import Feed, FeedGap, MemoryFeed

__all__ = [
    "Action",
    "Change",
    "Cursor",
    "Feed",
    "FeedGap",
    "Invalidation",
    "MemoryFeed",
    "Notice",
]

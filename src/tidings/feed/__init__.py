"""The order of changes: Change, Cursor, and the feeds that carry them."""

from tidings.feed.change import Action, Change, Invalidation, Notice, Recheck
from tidings.feed.codec import decode_notice, encode_notice
from tidings.feed.cursor import Cursor
from tidings.feed.feed import Feed, FeedUnavailable, LocalFeed
from tidings.feed.log import Batch, Entry, Log
from tidings.feed.memory import MemoryFeed
from tidings.feed.net_changes import fold, net_changes
from tidings.feed.packed import Packed, unpacked
from tidings.feed.shared import SharedFeed
from tidings.feed.weight import MAX_VALUE, bounded, weigh_all, weight
from tidings.feed.window import WINDOW_BYTES, FeedGap, Place, new_epoch

__all__ = [
    "MAX_VALUE",
    "WINDOW_BYTES",
    "Action",
    "Batch",
    "Change",
    "Cursor",
    "Entry",
    "Feed",
    "FeedGap",
    "FeedUnavailable",
    "Invalidation",
    "LocalFeed",
    "Log",
    "MemoryFeed",
    "Notice",
    "Packed",
    "Place",
    "Recheck",
    "SharedFeed",
    "bounded",
    "decode_notice",
    "encode_notice",
    "fold",
    "net_changes",
    "new_epoch",
    "unpacked",
    "weigh_all",
    "weight",
]

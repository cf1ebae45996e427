"""A feed that remembers, and an api to write through."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tidings import Api, SqlAlchemyPlugin
from tidings.feed import Change, MemoryFeed


class RecordingFeed(MemoryFeed):
    """A `MemoryFeed` that keeps what was published, in order and by publication."""

    def __init__(self) -> None:
        super().__init__()
        self.published: list[list[Change]] = []
        self.start = self.position

    def publish(self, changes: Sequence[Change]) -> None:
        self.published.append(list(changes))
        super().publish(changes)

    @property
    def changes(self) -> list[Change]:
        return [change for changes in self.published for change in changes]

    @property
    def words(self) -> list[str]:
        """What was published, as "post A", with the title or, for a delete, the former one."""
        return [f"{c.action} {(c.after or c.before or {})['title']}" for c in self.changes]


NOTES: dict[str, Any] = {
    "title": {"type": "string", "required": True, "search": True},
    "body": {"type": "text", "search": True},
}


def make_api(plugin: SqlAlchemyPlugin, **resources: Any) -> tuple[Api, RecordingFeed]:
    """An api with the resource ``notes`` (and others), and the feed it publishes to."""
    api = Api()
    api._feed = feed = RecordingFeed()
    api.use(plugin)
    for name, schema in {"notes": NOTES, **resources}.items():
        api.add_resource(name, schema=schema)
    return api, feed

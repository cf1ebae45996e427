"""following: what a change costs each process that reads the log, watched there or not."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from benchmarks.feeds import redis_server
from benchmarks.machine import Effort
from benchmarks.tables import Table, median
from tidings.feed import Batch, Change, Log, SharedFeed, encode_notice
from tidings.feed.redis import redis_log
from tidings.filters import Atom
from tidings.identity import Identity
from tidings.matching import Matcher
from tidings.realtime.delivery import Dispatcher

_BATCH = 100


class _Nobody:
    """Stands for the permissions and the subscriptions of a process in which no filter matches."""

    def ask(self, _resource: str, _identity: Identity) -> Any:
        raise AssertionError("nothing matches")

    def rooms(self, _node: object) -> Sequence[Any]:
        return ()

    nodes = active = lambda _self: ()


async def run(effort: Effort) -> Table:
    """Append changes to a Redis log, and read them as a process does."""
    table = Table(
        "following: a change in a process that reads the log of a private Redis",
        ["CPU µs per change", "KiB remembered each"],
        notes=["processor time of a process that reads what others have written"],
    )
    async with redis_server() as url:
        for what, filters in (("nobody watches the resource", 0), ("1,000 filters, none", 1000)):
            found = [
                await _follow(*_logs(url, f"{filters}-{number}"), filters, effort)
                for number in range(effort.rounds)
            ]
            figures = [median(each) for each in zip(*found, strict=True)]
            table.add(what, dict(zip(table.columns, figures, strict=True)))
    return table


async def _follow(log: Log, writer: Log, filters: int, effort: Effort) -> tuple[float, float]:
    count = 2_000 * effort.rounds
    matcher = Matcher()
    for number in range(filters):
        matcher.acquire("posts", Atom("author_id", "=", -1 - number))
    feed = SharedFeed(log)
    feed.is_watched = matcher.watches
    await feed.open()
    await feed.close()  # so that it has all of them to read, and nothing else is measured
    await writer.open()
    for start in range(0, count, _BATCH):
        entries = [_entry(start + number) for number in range(_BATCH)]
        await writer.append([Batch(str(start), entries)])
    await writer.close()
    dispatcher = Dispatcher(feed, matcher, _Nobody())
    begin = time.process_time()
    await feed.open()
    dispatcher.start(_Nobody(), lambda _: None)  # type: ignore[arg-type]
    try:
        await feed.catch_up()
        await dispatcher.caught_up()
        cpu = time.process_time() - begin
        return cpu / count * 1e6, feed.weight / count / 1024
    finally:
        await dispatcher.stop()
        await feed.close()


def _logs(url: str, name: str) -> tuple[Log, Log]:
    return redis_log(url, name), redis_log(url, name)


def _entry(number: int) -> bytes:
    image = {
        "id": str(number),
        "title": "A title of some words",
        "status": "published",
        "author_id": number % 50,
        "views": 17,
        "created_at": datetime.now(UTC),
        "price": 1.5,
    }
    return encode_notice(
        Change("posts", str(number), "patch", image, {**image, "views": number}, derived=False)
    )

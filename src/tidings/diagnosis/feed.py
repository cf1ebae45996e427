"""The feed: does its server answer, and how fast?"""

from __future__ import annotations

import asyncio
import os
import time

from tidings.api.internals import Internals
from tidings.diagnosis.finding import Findings, failed, milliseconds, ok, reason, warning
from tidings.feed import Log, MemoryFeed


async def check_feed(internals: Internals, seconds: float) -> Findings:
    """Reach the log that processes share, where they do."""
    feed = internals.feed
    if isinstance(feed, MemoryFeed):
        yield ok("feed", "in memory: for one process")
        workers = os.environ.get("WEB_CONCURRENCY", "1")
        if workers.isdigit() and int(workers) > 1:
            message = f"WEB_CONCURRENCY={workers} workers, but each hears of its own changes only"
            yield failed("workers", message, "run one, or use a shared feed")
        return
    try:
        async with asyncio.timeout(seconds):
            yield ok("feed", await _reached(feed.log))
    except Exception as error:  # noqa: BLE001  whatever it is, it is what is to be told
        message = f"{feed.log.where}: {reason(error, seconds)}"
        yield failed("feed", message, "see that the server runs, and host, port and password")
    finally:
        await feed.log.close()
    if internals.link.outbox is None:
        message = "there is none: what waits for the feed is gone with its process"
        yield warning("outbox", message, "keep one, so that another process publishes it")


async def _reached(log: Log) -> str:
    await log.open()
    position = await log.head()
    begin = time.perf_counter()
    await log.head()
    took = milliseconds(time.perf_counter() - begin)
    return f"{log.where} answers in {took}; position {position}"

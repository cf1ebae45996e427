"""Findings: figures that somebody else has to be asked for, and how far delivery is behind."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

from tidings.api import Api
from tidings.feed import Change, Cursor, FeedGap, Packed, SharedFeed
from tidings.monitoring.questions import Questions

_log = logging.getLogger("tidings.monitoring")
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Findings:
    """The newest place of the shared log, and the outbox: its rows, and when the oldest was
    written. None: there is none, or it did not answer in time.
    """

    head: Cursor | None = None
    outbox: tuple[int, float | None] | None = None

    @property
    def outbox_age(self) -> float:
        """How old the oldest row of the outbox is, in seconds."""
        oldest = None if self.outbox is None else self.outbox[1]
        return 0.0 if oldest is None else max(0.0, time.time() - oldest)


async def ask(api: Api, questions: Questions) -> Findings:
    """Ask the log of the feed and the outbox; whoever is late, or fails, is left out."""
    internals = api.internals
    feed, outbox = internals.feed, internals.link.outbox
    head, state = None, None
    if isinstance(feed, SharedFeed) and feed.is_connected:
        head = await _answer(questions, "head", feed.log.head)
    if outbox is not None:
        state = await _answer(questions, "outbox", outbox.state)
    return Findings(head, state)


def lag(api: Api, delivered: Cursor, head: Cursor | None) -> tuple[int, float]:
    """How many changes of the feed have not been delivered here, and the age (in seconds) of the
    oldest of them that this process has read.
    """
    feed = api.internals.feed
    newest = head or feed.position
    same = newest.epoch == delivered.epoch
    behind = newest.offset - delivered.offset if same else newest.offset
    try:
        waiting = feed.recent(delivered)
    except FeedGap:
        waiting = []
    written = [one.at.timestamp() for _, one in waiting[:1] if isinstance(one, Change | Packed)]
    return max(0, behind), max(0.0, time.time() - written[0]) if written else 0.0


async def _answer(
    questions: Questions, name: str, question: Callable[[], Coroutine[Any, Any, _T]]
) -> _T | None:
    try:
        return await questions.ask(name, question)
    except Exception as error:  # noqa: BLE001  the other figures are wanted all the same
        _log.info("the figures lack the %s: %s", name, error)
        return None

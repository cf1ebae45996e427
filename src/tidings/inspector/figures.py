"""Figures: what this process has to tell of its sockets, its feed and its outbox at one moment."""

from __future__ import annotations

import asyncio
import heapq
import os
import platform
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from itertools import islice
from typing import Any, Final, TypeVar

from tidings._version import __version__
from tidings.api import Api
from tidings.counting import Histogram
from tidings.feed import Change, Cursor, Invalidation, SharedFeed
from tidings.filters import in_words
from tidings.inspector.recorder import LONGEST, Recorded, Recorder, changed_at
from tidings.matching import Node
from tidings.monitoring.findings import ask, lag
from tidings.monitoring.questions import Questions
from tidings.realtime import SocketServer, SocketStatistics, Subscriber
from tidings.realtime.connection import SocketConnection

CHANGES: Final = 100
CONNECTIONS: Final = 50
FILTERS: Final = 50
_SUBSCRIPTIONS: Final = 20
"""So many subscriptions are listed of one connection."""
_WORDS: Final = 300
_TURN_SECONDS: Final = 0.005

_T = TypeVar("_T")
Document = dict[str, Any]


class Figures:
    """Puts documents together, and gives other work a turn meanwhile.

    ``seconds`` bounds the questions to the feed's log and to the outbox.
    """

    def __init__(self, api: Api, recorder: Recorder, *, seconds: float = 1.0) -> None:
        self._api = api
        self._recorder = recorder
        self._questions = Questions(seconds)
        self._since = time.time()
        self.process = f"{os.getpid()}@{platform.node()}"[:LONGEST]
        """Tells this process from the others behind the same address."""

    async def document(self, user: str | None = None) -> Document:
        """Everything that the page shows; with ``user``, the connections of that user only."""
        api = self._api
        document: Document = {
            "api": {"name": api.name, "version": api.version, "tidings": __version__},
            "process": self.process,
            "at": time.time(),
            "since": self._since,
            "state": api.state,
        }
        if api.state not in ("open", "closing"):
            return document
        sockets = api.internals.sockets
        now = None if sockets is None else sockets.statistics()
        if sockets is not None and now is not None:
            document |= await self._sockets(sockets, now, user)
        document["feed"] = await self._feed(None if now is None else now.position)
        document["changes"] = [_change(one) for one in self._recorder.latest(CHANGES)]
        document["kept"] = {"changes": len(self._recorder), "bytes": self._recorder.bytes}
        return document

    async def _sockets(
        self, sockets: SocketServer, now: SocketStatistics, user: str | None
    ) -> Document:
        slow = sockets.slow
        found = sockets.subscribers if user is None else sockets.subscribers_of(user)
        connections = [_connection(one) async for one in in_turns(islice(found, CONNECTIONS))]
        nodes = sockets.subscriptions.nodes()
        largest = heapq.nlargest(FILTERS, nodes, key=lambda node: node.holders)
        return {
            "sockets": {
                "connections": now.connections,
                "subscriptions": now.subscriptions,
                "filters": now.filters,
                "queueBytes": now.queue_bytes,
                "notifications": now.notifications,
                "resyncs": dict(now.resyncs),
                "behind": slow.behind,
                "held": slow.held,
                "dropped": slow.dropped,
                "delay": _spread(now.delay),
                "matching": _spread(now.matching),
            },
            "connections": connections,
            "connectionsFound": len(found),
            "filters": [_filter(node) async for node in in_turns(largest)],
        }

    async def _feed(self, delivered: Cursor | None) -> Document:
        internals = self._api.internals
        feed, relay = internals.feed, internals.link.relay
        asked = await ask(self._api, self._questions)
        document: Document = {
            "shared": isinstance(feed, SharedFeed),
            "connected": feed.is_connected if isinstance(feed, SharedFeed) else True,
            "position": str(feed.position),
            "windowBytes": feed.weight,
            "waitingBytes": None if relay is None else relay.waiting,
            "hasOutbox": internals.link.outbox is not None,
            "outboxRows": None if asked.outbox is None else asked.outbox[0],
            "outboxAge": None if asked.outbox is None else asked.outbox_age,
        }
        if delivered is not None:
            document["behind"], document["lag"] = lag(self._api, delivered, asked.head)
        return document


async def in_turns(items: Iterable[_T]) -> AsyncIterator[_T]:
    """The items; every few milliseconds other work gets a turn."""
    ends = time.monotonic() + _TURN_SECONDS
    for item in items:
        if time.monotonic() > ends:
            await asyncio.sleep(0)
            ends = time.monotonic() + _TURN_SECONDS
        yield item


def words(node: Node) -> str:
    """A filter in words, what policies and hooks add included."""
    text = in_words(node.expression)
    return text if len(text) <= _WORDS else text[: _WORDS - 1] + "…"


def change_document(recorded: Recorded) -> Document:
    """A recorded notice with those who were told."""
    told = [one._asdict() for one in recorded.told]
    return {**_change(recorded), "told": told}


def _change(recorded: Recorded) -> Document:
    notice = recorded.notice
    document: Document = {
        "cursor": str(recorded.cursor),
        "at": changed_at(notice) or recorded.seen_at,
        "resource": notice.resource,
        "ways": dict(recorded.ways),
    }
    if isinstance(notice, Change):
        action = "related" if notice.derived else notice.action
        return {**document, "kind": action, "id": notice.id[:LONGEST]}
    kind = "many" if isinstance(notice, Invalidation) else "rights"
    return {**document, "kind": kind, "id": None}


def _connection(subscriber: Subscriber) -> Document:
    user, connection = subscriber.identity.user_id, subscriber.connection
    subscriptions = list(islice(subscriber.subscriptions.values(), _SUBSCRIPTIONS))
    document: Document = {
        "socket": subscriber.id,
        "user": None if user is None else user[:LONGEST],
        "expiresAt": subscriber.identity.expires_at,
        "count": len(subscriber.subscriptions),
        "subscriptions": [
            {
                "id": one.id[:LONGEST],
                "resource": one.resource,
                "filter": words(one.node),
                "permitted": one.is_permitted,
            }
            for one in subscriptions
        ],
    }
    if isinstance(connection, SocketConnection):
        document |= {"unsent": connection.unsent, "held": connection.held}
    return document


def _filter(node: Node) -> Document:
    return {
        "key": node.key.hex(),
        "resource": node.resource,
        "filter": words(node),
        "subscriptions": node.holders,
    }


def _spread(histogram: Histogram) -> Document:
    """Bounds below which half, and 99 of 100, of the values are; in seconds."""
    return {
        "count": histogram.count,
        "half": _bound(list(histogram.cumulative()), 0.5),
        "most": _bound(list(histogram.cumulative()), 0.99),
    }


def _bound(buckets: Sequence[tuple[float, int]], share: float) -> float | None:
    total = buckets[-1][1]
    for bound, count in buckets:
        if total and count >= share * total:
            return None if bound == float("inf") else bound
    return None

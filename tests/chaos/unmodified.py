"""An unmodified ``socket.io-client`` as a follower: it restores by itself, from its last cursor."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import aiohttp

from tests.chaos.follower import fetched
from tests.chaos.ledger import Journal, Told, Values
from tests.support.node import Event, NodeClient


class NodeFollower:
    """What its client logs, as a journal; lists are fetched for it where it is told to."""

    def __init__(
        self, client: NodeClient, http: aiohttp.ClientSession, url: str, filters: Values
    ) -> None:
        self.journal = Journal(filters)
        self._client = client
        self._http = http
        self._url = url
        self._read = 0
        self._connection = 0
        self._lost_at: float | None = None

    async def begin(self) -> None:
        """Connect, fetch and subscribe."""
        await self._client.connect(cursors=True)
        found, cursor = await fetched(self._http, self._url, self.journal.filters)
        self.journal.fetched.append(found)
        self.journal.view = set(found.versions)
        asked = {"resource": "notes", "filters": dict(self.journal.filters), "cursor": cursor}
        await self._client.subscribe(subscriptionId="list", **asked)

    async def until(self, holds: Callable[[Journal], bool], seconds: float = 20.0) -> None:
        """Wait until this holds of the journal."""
        async with asyncio.timeout(seconds):
            while not holds(self.journal):
                await self.take()
                await asyncio.sleep(0.02)

    async def take(self) -> None:
        """Take in what has been logged since."""
        events = await self._client.events()
        new = [one for one in events if one.seq > self._read]
        for one in new:
            self._read = one.seq
            await self._event(one)

    async def _event(self, one: Event) -> None:
        if one.event == "connect":
            self._connection += 1
        elif one.event == "disconnect":
            self._lost_at = self._lost_at or one.at
        elif one.event == "ack" and one.args[0] == "restore-subscriptions":
            if one.args[1].get("restored") != ["list"]:
                self.journal.errors.append(f"restore: {one.args[1]}")
            if self._lost_at is not None:
                self.journal.gaps.append((self._lost_at, one.at))
                self._lost_at = None
        elif one.event == "subscription.resync":
            self.journal.resyncs[one.data["reason"]] += 1
            found, _ = await fetched(self._http, self._url, self.journal.filters)
            self.journal.fetched.append(found)
            self.journal.view = set(found.versions)
        elif one.event == "subscription.update":
            self._told(one.data)

    def _told(self, payload: dict[str, Any]) -> None:
        told = Told.read(payload, self._connection)
        self.journal.told.append(told)
        if told.way == "leave":
            self.journal.view.discard(told.record)
        else:
            self.journal.view.add(told.record)

"""A client that follows: a list fetched once, and kept by notifications, as WIRE.md has it.

A bare WebSocket, so that hundreds cost little. It comes back whenever its connection is lost, to
whichever server, and restores its subscription from the last cursor it has seen.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Final

import aiohttp

from tests.chaos.ledger import Fetched, Journal, Told, Values

ANSWER_SECONDS: Final = 30.0
_NAME: Final = "list"


class Gone(Exception):
    """The connection was lost."""


class Follower:
    """One subscription; ``urls`` are where it may connect, ``rest`` where it may fetch."""

    def __init__(
        self,
        http: aiohttp.ClientSession,
        urls: Sequence[str],
        filters: Values,
        seed: str,
        *,
        rest: Sequence[str] | None = None,
        notice: Callable[[Told], None] = lambda told: None,
    ) -> None:
        self.journal = Journal(filters)
        self.connection = 0
        self._http = http
        self._urls = urls
        self._rest = rest or urls
        self._random = random.Random(seed)
        self._notice = notice
        self._stored: dict[str, Any] | None = None
        self._lost_at: float | None = None
        self._acks: dict[int, asyncio.Future[Any]] = {}
        self._greeted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._buffer: list[Told] = []
        self._to_fetch = 0
        self._fetches: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()
        self._is_following = asyncio.Event()

    async def run(self) -> None:
        """Follow until cancelled."""
        try:
            while True:
                try:
                    await self._connection()
                except (aiohttp.ClientError, OSError, Gone):
                    pass
                finally:
                    self._is_following.clear()
                    if self._lost_at is None and self._stored is not None:
                        self._lost_at = time.time()
                await asyncio.sleep(self._random.uniform(0, 0.03))
        except asyncio.CancelledError:
            raise
        except Exception as error:
            self.journal.errors.append(f"the client has failed: {error!r}")
            raise
        finally:
            if self._fetches is not None:
                self._fetches.cancel()

    async def until(self, holds: Callable[[Journal], bool], seconds: float = 20.0) -> None:
        """Wait until this holds of the journal, and nothing is being fetched."""
        try:
            async with asyncio.timeout(seconds):
                while self._to_fetch or not holds(self.journal):
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise AssertionError(
                f"{dict(self.journal.filters)}: not within {seconds:g} s; {len(self.journal.told)} "
                f"told, {dict(self.journal.resyncs)}, {self.journal.errors}, connection "
                f"{self.connection} is {'' if self._is_following.is_set() else 'not '}following, "
                f"{self._to_fetch} to fetch, last {self.journal.told[-1:]}, {self._stored}"
            ) from None

    async def following(self) -> None:
        """Wait until the subscription is active."""
        async with asyncio.timeout(ANSWER_SECONDS):
            await self._is_following.wait()

    async def fetch(self) -> tuple[Fetched, str]:
        """The list as REST gives it, and its cursor, from whichever server answers."""
        while True:
            url = self._random.choice(self._rest)
            try:
                return await fetched(self._http, url, self.journal.filters)
            except (aiohttp.ClientError, OSError):
                await asyncio.sleep(0.01)

    async def _connection(self) -> None:
        url = self._random.choice(self._urls) + "/socket.io/?EIO=4&transport=websocket"
        async with self._http.ws_connect(url, max_msg_size=0, timeout=_PATIENT) as ws:
            self.connection += 1
            self._acks = {}
            self._greeted = asyncio.get_running_loop().create_future()
            await ws.send_str("40")
            reading = asyncio.create_task(self._read(ws))
            try:
                await self._either(self._greeted, reading)
                await self._subscribed(ws, reading)
                await reading
            finally:
                reading.cancel()
                await asyncio.gather(reading, return_exceptions=True)

    async def _read(self, ws: aiohttp.ClientWebSocketResponse) -> None:
        async for message in ws:
            if message.type is not aiohttp.WSMsgType.TEXT:
                break
            frame: str = message.data
            if frame == "2":
                await ws.send_str("3")
            elif frame.startswith("42"):
                self._event(*json.loads(frame[2:]))
            elif frame.startswith("43"):
                number, _, rest = frame[2:].partition("[")
                answer = self._acks.pop(int(number))
                if not answer.done():
                    answer.set_result(json.loads("[" + rest)[0])
            elif frame.startswith("44"):
                raise AssertionError(f"refused: {frame}")
        raise Gone

    async def _call(
        self,
        ws: aiohttp.ClientWebSocketResponse,
        reading: asyncio.Task[None],
        event: str,
        data: Any,
    ) -> Any:
        number = len(self._acks) + 1
        answer = self._acks[number] = asyncio.get_running_loop().create_future()
        await ws.send_str(f"42{number}{json.dumps([event, data])}")
        return await self._either(answer, reading)

    async def _either(self, answer: asyncio.Future[Any], reading: asyncio.Task[None]) -> Any:
        """The answer, unless the connection is lost before it comes."""
        async with asyncio.timeout(ANSWER_SECONDS):
            await asyncio.wait([answer, reading], return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            await reading
            raise Gone
        return answer.result()

    async def _subscribed(
        self, ws: aiohttp.ClientWebSocketResponse, reading: asyncio.Task[None]
    ) -> None:
        if self._stored is None:
            found, cursor = await self.fetch()
            self.journal.fetched.append(found)
            self.journal.view = set(found.versions)
            asked = {
                "resource": "notes",
                "filters": dict(self.journal.filters),
                "subscriptionId": _NAME,
                "cursor": cursor,
            }
            answer = await self._call(ws, reading, "subscribe", asked)
            if "error" in answer:
                self.journal.errors.append(f"subscribe: {answer}")
        else:
            entries = {"subscriptions": [self._stored]}
            answer = await self._call(ws, reading, "restore-subscriptions", entries)
            if answer.get("restored") != [_NAME]:
                self.journal.errors.append(f"restore: {answer}")
        if self._lost_at is not None:
            self.journal.gaps.append((self._lost_at, time.time()))
            self._lost_at = None
        self._is_following.set()

    def _event(self, name: str, payload: Any) -> None:
        if name == "connected":
            self._greeted.set_result(None)
        elif name == "subscription.created":
            self._stored = payload
        elif name == "subscription.update":
            self._told(payload)
        elif name == "subscription.resync":
            self.journal.resyncs[payload["reason"]] += 1
            self._seen(payload["cursor"])
            self._refetch()
        self._changed.set()

    def _told(self, payload: Any) -> None:
        told = Told.read(payload, self.connection)
        self.journal.told.append(told)
        self._seen(payload["meta"]["cursor"])
        self._buffer.append(told)
        self._fold(told)
        self._notice(told)

    def _fold(self, told: Told) -> None:
        if told.way == "leave":
            self.journal.view.discard(told.record)
        else:
            self.journal.view.add(told.record)

    def _seen(self, cursor: str) -> None:
        if self._stored is None:
            self.journal.errors.append("told before subscription.created")
        else:
            self._stored = {**self._stored, "cursor": cursor}

    def _refetch(self) -> None:
        self._to_fetch += 1
        if self._fetches is None or self._fetches.done():
            self._fetches = asyncio.create_task(self._fetch_all())

    async def _fetch_all(self) -> None:
        while wanted := self._to_fetch:
            self._buffer.clear()
            found, _ = await self.fetch()
            self.journal.fetched.append(found)
            self.journal.view = set(found.versions)
            # What came meanwhile may be newer than the list, or in it already.
            for told in self._buffer:
                self._fold(told)
            self._to_fetch -= wanted
        self._changed.set()


_PATIENT: Final = aiohttp.ClientWSTimeout(ws_close=1.0)


async def fetched(http: aiohttp.ClientSession, url: str, filters: Values) -> tuple[Fetched, str]:
    """One list, whole, and its cursor."""
    parameters = {f"filter[{name}]": str(value) for name, value in filters.items()}
    parameters |= {"fields[notes]": "version", "page[size]": "5000"}
    asked = time.time()
    async with http.get(f"{url}/api/notes", params=parameters) as answer:
        document = await answer.json(content_type=None)
    if answer.status == 503:
        raise aiohttp.ClientConnectionError("busy")
    assert answer.status == 200, document
    assert document["meta"]["page"]["pages"] <= 1, "too many records for this test"
    versions = {one["id"]: one["attributes"]["version"] for one in document["data"]}
    return Fetched(versions, asked, time.time()), document["meta"]["cursor"]


@contextlib.asynccontextmanager
async def following(followers: Sequence[Follower]) -> AsyncIterator[None]:
    """Have clients follow, once all of them have begun, until the end of the block."""
    tasks = [asyncio.create_task(one.run()) for one in followers]
    try:
        ready = asyncio.gather(*(one.following() for one in followers))
        await asyncio.wait([ready, *tasks], return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            if task.done():
                ready.cancel()
                task.result()
        await ready
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

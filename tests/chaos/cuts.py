"""Clients whose network goes away for seconds: everything is told, or there is a resync.

Beside it the same with plain Socket.IO, rooms and all, which has no way to tell.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass

import aiohttp

from tests.chaos.app import Setup
from tests.chaos.field import field_of
from tests.chaos.follower import following
from tests.chaos.ledger import Tally
from tests.chaos.proxy import Proxy, proxies
from tests.support.server import run_server


async def cut(
    setup: Setup,
    seed: str,
    *,
    cuts: int,
    seconds: float,
    clients: int = 10,
    writers: int = 3,
    mutant: str | None = None,
) -> Tally:
    """Cut clients off so many times while others write."""
    async with field_of(setup, seed, mutant=mutant) as field:
        targets = [field.cluster.urls[number % 2] for number in range(clients)]
        async with proxies(targets) as lines:
            field.follow(clients, lambda number: [lines[number].url])
            field.write(writers, pause=0.02)
            async with following(field.followers):
                async with field.writing():
                    await _cut_all(lines, cuts, seconds, seed)
                return await field.account()


async def _cut_all(lines: Sequence[Proxy], cuts: int, seconds: float, seed: str) -> None:
    """Each line in turns of its own: up for a while, away for a while."""
    left = itertools.count(1)

    async def one(line: Proxy, chance: random.Random) -> None:
        while True:
            # So that a line is away for about 15 % of the time.
            await asyncio.sleep(chance.uniform(0, 2) * seconds * 0.85 / 0.15)
            if next(left) > cuts:
                return
            await line.cut(seconds)

    chances = (random.Random(f"{seed}/cut/{number}") for number in range(len(lines)))
    await asyncio.gather(*(one(line, each) for line, each in zip(lines, chances, strict=True)))


@dataclass
class Plain:
    """What became of messages to a room."""

    due: int
    delivered: int
    cuts: int

    def __str__(self) -> str:
        share = 100 * self.delivered / max(1, self.due)
        return f"{self.cuts} cuts: {self.delivered:,} of {self.due:,} delivered ({share:.1f} %)"


async def cut_plain(seed: str, *, cuts: int, seconds: float, clients: int = 10) -> Plain:
    """The same cuts with a python-socketio server that emits to a room."""
    async with (
        run_server("-m tests.chaos.plain", ready_path="/socket.io/") as server,
        proxies([server.url] * clients) as lines,
        aiohttp.ClientSession() as http,
    ):
        members = [_Member(http, line.url) for line in lines]
        tasks = [asyncio.create_task(one.run()) for one in members]
        try:
            for one in members:
                await one.joined.wait()
            emitting = asyncio.create_task(_emit(http, server.url))
            await _cut_all(lines, cuts, seconds, seed)
            emitting.cancel()
            (sent,) = await asyncio.gather(emitting, return_exceptions=True)
            assert isinstance(sent, int), sent
            # All are there now: the last one comes to everybody, after all others.
            for one in members:
                await one.joined.wait()
            await _emit_one(http, server.url, -1)
            for one in members:
                await one.last.wait()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
    got = sum(len(one.got) for one in members)
    return Plain(sent * clients, got, sum(line.cuts for line in lines))


async def _emit(http: aiohttp.ClientSession, url: str) -> int:
    """Emit messages until cancelled; gives how many."""
    number = 0
    try:
        while True:
            await _emit_one(http, url, number)
            number += 1
            await asyncio.sleep(0.02)
    except asyncio.CancelledError:
        return number


async def _emit_one(http: aiohttp.ClientSession, url: str, number: int) -> None:
    async with http.post(f"{url}/emit", json=number) as answer:
        assert answer.status == 200


class _Member:
    """A Socket.IO client of the usual kind: it comes back, and joins its room again."""

    def __init__(self, http: aiohttp.ClientSession, url: str) -> None:
        self.got: set[int] = set()
        self.joined = asyncio.Event()
        self.last = asyncio.Event()
        self._http = http
        self._url = url

    async def run(self) -> None:
        while True:
            with contextlib.suppress(aiohttp.ClientError, OSError):
                await self._connection()
            self.joined.clear()
            await asyncio.sleep(0.02)

    async def _connection(self) -> None:
        url = f"{self._url}/socket.io/?EIO=4&transport=websocket"
        async with self._http.ws_connect(url) as ws:
            await ws.send_str("40")
            async for message in ws:
                if message.type is not aiohttp.WSMsgType.TEXT:
                    return
                frame: str = message.data
                if frame == "2":
                    await ws.send_str("3")
                elif frame.startswith("40"):
                    await ws.send_str('421["join"]')
                elif frame.startswith("431"):
                    self.joined.set()
                elif frame.startswith("42"):
                    number = json.loads(frame[2:])[1]
                    if number < 0:
                        self.last.set()
                    else:
                        self.got.add(number)

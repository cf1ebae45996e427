"""Connections that come and go by the thousand: nothing of them stays."""

from __future__ import annotations

import asyncio
import json
import random
from dataclasses import dataclass, field
from statistics import mean

import aiohttp

from tests.chaos.app import Setup
from tests.chaos.field import FILTERS, Field, field_of

SUBSCRIPTIONS = 3


@dataclass
class Curve:
    """Resident memory of the server in MB, after each tenth of the cycles."""

    cycles: int
    megabytes: list[float] = field(default_factory=list)
    books: list[int] = field(default_factory=list)

    @property
    def growth(self) -> float:
        """MB from the middle of the run, when all caches are warm, to its end."""
        return mean(self.megabytes[-2:]) - mean(self.megabytes[4:6])

    def __str__(self) -> str:
        line = " ".join(f"{one:.1f}" for one in self.megabytes)
        return f"{self.cycles:,} cycles: RSS {line} MB; left in the books {self.books}"


async def cycle(setup: Setup, seed: str, *, cycles: int, at_once: int = 20) -> Curve:
    """Connect, subscribe and disconnect so often, at one process."""
    curve = Curve(cycles)
    async with field_of(setup, seed, slots=1) as place:
        for tenth in range(10):
            chances = [random.Random(f"{seed}/{tenth}/{number}") for number in range(at_once)]
            share = cycles // 10 // at_once
            await asyncio.gather(*(_cycles(place, share, chance) for chance in chances))
            curve.books = await _empty(place)
            curve.megabytes.append(place.cluster.rss(0) / 1e6)
        assert not place.cluster.died, place.cluster.died
    return curve


async def _cycles(place: Field, count: int, chance: random.Random) -> None:
    url = f"{place.cluster.urls[0]}/socket.io/?EIO=4&transport=websocket"
    for _ in range(count):
        async with place.http.ws_connect(url) as ws:
            await ws.send_str("40")
            await _until(ws, '42["connected"')
            for number in range(SUBSCRIPTIONS):
                asked = {"resource": "notes", "filters": dict(chance.choice(FILTERS))}
                await ws.send_str(f"42{number}{json.dumps(['subscribe', asked])}")
                answer = await _until(ws, f"43{number}[")
                assert '"success":true' in answer, answer
            if chance.random() < 0.5:
                await ws.send_str("41")
            elif chance.random() < 0.5:
                # Without a word, as when a phone leaves the house.
                transport = ws.get_extra_info("socket") and ws._writer.transport
                transport.abort()


async def _until(ws: aiohttp.ClientWebSocketResponse, start: str) -> str:
    while True:
        frame = await ws.receive_str()
        if frame.startswith(start):
            return frame


async def _empty(place: Field) -> list[int]:
    """What is left in the server's books, once it has noticed that all are gone."""
    async with asyncio.timeout(30):
        while True:
            async with place.http.get(f"{place.cluster.urls[0]}/books") as answer:
                books: list[int] = await answer.json()
            if not any(books):
                return books
            await asyncio.sleep(0.02)

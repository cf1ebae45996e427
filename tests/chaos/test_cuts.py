"""Clients whose network goes away: all is told, or there is a resync; plain Socket.IO beside it."""

from __future__ import annotations

from pathlib import Path

from tests.chaos.app import Setup
from tests.chaos.cuts import cut, cut_plain
from tests.support.redis import RedisServer


async def test_cut_connections_lose_nothing(tmp_path: Path, redis: RedisServer) -> None:
    setup = Setup(f"sqlite+aiosqlite:///{tmp_path}/c.db", redis=redis.redis())
    tally = await cut(setup, "cuts", cuts=20, seconds=0.2)
    assert not tally.faults, f"{tally}\n" + "\n".join(tally.faults[:10])
    # A cut may find its client still away from the one before.
    assert tally.reconnections >= 10, tally


async def test_plain_rooms_lose_what_comes_meanwhile() -> None:
    """The harness measures what it means to: the same cuts cost the usual way its messages."""
    plain = await cut_plain("plain", cuts=10, seconds=0.2)
    assert plain.delivered < plain.due, plain

"""Redis that dies, hangs, is emptied or cuts clients off: nothing is lost without a word."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.app import Setup
from tests.chaos.outages import OUTAGES, hurt
from tests.support.redis import RedisServer

# Where entries may have gone with the server, there is another epoch, and all have to refetch.
RESYNCS = {"killed": True, "emptied": True, "flushed": True}


@pytest.mark.parametrize("outage", OUTAGES)
async def test_outages_of_redis_lose_nothing(
    outage: str, tmp_path: Path, redis: RedisServer
) -> None:
    setup = Setup(f"sqlite+aiosqlite:///{tmp_path}/c.db", redis=redis.redis())
    tally = await hurt(setup, redis, outage, outages=[outage], seconds=0.8)
    assert not tally.faults, f"{tally}\n" + "\n".join(tally.faults[:10])
    assert tally.told > 50, tally
    assert bool(tally.resyncs) == RESYNCS.get(outage, False), tally

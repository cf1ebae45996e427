"""Server processes that are killed at any moment: nothing is lost, and nothing comes twice."""

from __future__ import annotations

from tests.chaos.app import Setup
from tests.chaos.kills import kill
from tests.support.redis import RedisServer


async def test_killed_servers_lose_nothing(database_url: str, redis: RedisServer) -> None:
    tally, died = await kill(Setup(database_url, redis.redis()), "kills", kills=20)
    assert not tally.faults, f"{tally}\n" + "\n".join(tally.faults[:10])
    assert tally.told > 100, tally
    print(tally, dict(died))

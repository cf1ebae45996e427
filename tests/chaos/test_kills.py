"""Server processes that are killed at any moment: nothing is lost, and nothing comes twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.app import Setup
from tests.chaos.kills import kill
from tests.support.redis import RedisServer

KILLS = {"sqlite": 22, "postgresql": 16, "mariadb": 16}


async def test_killed_servers_lose_nothing(database_url: str, redis: RedisServer) -> None:
    kills = KILLS[database_url.partition("+")[0]]
    tally, died = await kill(Setup(database_url, redis=redis.redis()), "kills", kills=kills)
    assert not tally.faults, f"{tally}\n" + "\n".join(tally.faults[:10])
    assert died.total() >= kills - 2, died
    assert tally.told > 100, tally


async def test_killed_servers_that_share_postgresql_lose_nothing(postgres_url: str) -> None:
    tally, _ = await kill(Setup(postgres_url, postgres=postgres_url), "kills", kills=8)
    assert not tally.faults, f"{tally}\n" + "\n".join(tally.faults[:10])
    assert tally.told > 50, tally


@pytest.mark.parametrize(
    "mutant",
    [
        "publish before commit",
        "drop a change",
        "skip the outbox",
        "replay one short",
        "replay one twice",
        "forget repeats",
    ],
)
async def test_the_proof_finds_a_fault(mutant: str, tmp_path: Path, redis: RedisServer) -> None:
    setup = Setup(f"sqlite+aiosqlite:///{tmp_path}/c.db", redis=redis.redis())
    tally, _ = await kill(setup, "kills", kills=8, mutant=mutant)
    assert tally.faults, tally

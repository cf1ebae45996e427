"""Many writers at once: none is skipped, none told before its commit, each row in its order."""

from __future__ import annotations

import pytest

from tests.chaos.app import Setup
from tests.chaos.contention import contend
from tests.support.redis import RedisServer


@pytest.mark.parametrize("database", ["postgres_url", "mariadb_url"])
async def test_concurrent_writers_are_told_in_the_order_of_their_commits(
    database: str, redis: RedisServer, request: pytest.FixtureRequest
) -> None:
    setup = Setup(request.getfixturevalue(database), redis=redis.redis())
    tally = await contend(setup, "contention", transactions=2, mutant="commit slowly")
    assert not tally.faults, f"{tally}\n" + "\n".join(tally.faults[:10])
    assert tally.commits > 200, tally
    assert tally.undone > 64, tally


async def test_the_feed_in_postgresql_has_the_order_of_commits(postgres_url: str) -> None:
    setup = Setup(postgres_url, postgres=postgres_url)
    tally = await contend(setup, "contention", transactions=2, mutant="commit slowly")
    assert not tally.faults, f"{tally}\n" + "\n".join(tally.faults[:10])


@pytest.mark.parametrize("mutant", ["read on by id", "publish before commit"])
async def test_the_proof_finds_a_fault(mutant: str, postgres_url: str, redis: RedisServer) -> None:
    """With one process, since another may make up for what the first has skipped; and with fewer
    writers than connections, so that what is published is published between their commits.
    """
    setup = Setup(postgres_url, redis=redis.redis())
    tally = await contend(setup, "contention", writers=8, transactions=10, slots=1, mutant=mutant)
    assert tally.faults, tally

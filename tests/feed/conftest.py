"""A private Redis server for the tests of the feed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.databases import MissingServer
from tests.support.redis import RedisServer, redis_server


@pytest.fixture(scope="session")
def lasting_redis() -> Iterator[RedisServer]:
    """A server that all tests share."""
    try:
        with redis_server() as server:
            yield server
    except MissingServer as missing:
        pytest.skip(str(missing))


@pytest.fixture
def redis(lasting_redis: RedisServer) -> RedisServer:
    """A server that is empty, and not to be killed."""
    lasting_redis.execute("FLUSHALL")
    return lasting_redis


@pytest.fixture
def own_redis(lasting_redis: RedisServer) -> Iterator[RedisServer]:
    """A server of the test's own, empty, to be hurt."""
    with redis_server() as server:
        yield server

"""What the tests of chaos share: a private Redis."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.databases import MissingServer
from tests.support.redis import RedisServer, redis_server


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    """A private Redis, which may be hurt."""
    try:
        with redis_server() as server:
            yield server
    except MissingServer as missing:
        pytest.skip(str(missing))

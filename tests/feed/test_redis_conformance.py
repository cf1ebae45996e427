"""RedisLog does what every log must."""

from __future__ import annotations

import pytest

from tests.feed.conformance import LogConformance, MakeLog
from tests.support.redis import RedisServer
from tidings.feed import Log
from tidings.feed.redis import redis_log


class TestRedisLog(LogConformance):
    @pytest.fixture
    def make_log(self, redis: RedisServer) -> MakeLog:
        def make(*, max_length: int = 100_000) -> Log:
            return redis_log(redis.redis(max_length=max_length))

        return make

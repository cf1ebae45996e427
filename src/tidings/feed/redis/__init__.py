"""The log of a shared feed, on Redis Streams."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

from tidings.errors import MissingExtraError
from tidings.feed.log import Log
from tidings.feed.redis.options import RedisOptions

__all__ = ["RedisOptions", "redis_log"]


def redis_log(redis: Mapping[str, Any] | str, name: str = "feed") -> Log:
    """The log that ``redis=`` asks for; see `RedisOptions`. ``name``, unless it says another.

    Raises:
        ConfigurationError: an option is unknown or of no use.
        MissingExtraError: redis-py is not installed.
    """
    options = RedisOptions.read(redis, name)
    if find_spec("redis") is None:
        raise MissingExtraError("redis", "redis", "redis=")
    # Not before, so that whoever needs no Redis needs no redis-py.
    from tidings.feed.redis.log import RedisLog

    return RedisLog(options)

"""Sentinels: where they say that the master is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Final

from redis.exceptions import RedisError, ResponseError

from tidings.feed.redis.connection import TIMEOUT, new_connection
from tidings.feed.redis.options import Address, RedisOptions

_FEW_SECONDS: Final = 1.0
"""How long one sentinel may take while others are left to ask."""


async def masters(options: RedisOptions) -> AsyncIterator[Address]:
    """What each sentinel says, one after the other: during a fail-over they may not agree.

    Raises:
        RedisError: none of them knows a master.
    """
    failures: list[str] = []
    patience = TIMEOUT if len(options.sentinels) == 1 else _FEW_SECONDS
    for sentinel in options.sentinels:
        try:
            async with asyncio.timeout(patience):
                address = await _ask(options, sentinel)
        except (RedisError, OSError) as error:
            failures.append(f"{sentinel[0]}:{sentinel[1]}: {error or 'no answer in time'}")
        else:
            yield address
    if len(failures) == len(options.sentinels):
        raise RedisError(f"no sentinel leads to {options.service!r} ({'; '.join(failures)})")


async def _ask(options: RedisOptions, sentinel: Address) -> Address:
    own = replace(
        options, db=0, username=options.sentinel_username, password=options.sentinel_password
    )
    connection = new_connection(own, sentinel)
    try:
        await connection.connect()
        await connection.send_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", options.service or "")
        reply = await connection.read_response()
    finally:
        await connection.disconnect(nowait=True)
    if not reply:
        raise ResponseError(f"it knows no master of the name {options.service!r}")
    host, port = reply
    return host.decode(), int(port)

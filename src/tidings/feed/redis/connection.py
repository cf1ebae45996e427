"""A connection of redis-py, as the options ask for it."""

from __future__ import annotations

from typing import Any, Final, Protocol

from redis.asyncio.connection import Connection, SSLConnection, UnixDomainSocketConnection

from tidings.feed.redis.options import Address, RedisOptions

TIMEOUT: Final = 5.0
"""Seconds that connecting may take, and any answer that is not waited for by intention."""


class RawConnection(Protocol):
    """What is used of redis-py's connections."""

    @property
    def is_connected(self) -> bool: ...

    async def connect(self) -> None: ...

    async def disconnect(self, nowait: bool = False) -> None: ...

    async def can_read(self) -> bool: ...

    async def send_command(self, *args: str | bytes | int) -> None: ...

    async def read_response(self, disable_decoding: bool = False) -> Any: ...


def new_connection(options: RedisOptions, node: Address) -> RawConnection:
    """A connection to this node, not made yet; to the Unix socket where there is one."""
    host, port = node
    # RESP2 needs no HELLO, which servers before 6 do not know. What is waited for, and how long,
    # is known in `ask` only.
    common: dict[str, Any] = {
        "db": options.db,
        "username": options.username,
        "password": options.password,
        "protocol": 2,
        "driver_info": None,
        "socket_timeout": None,
        "socket_connect_timeout": TIMEOUT,
    }
    if options.path is not None:
        return UnixDomainSocketConnection(path=options.path, **common)
    if not options.ssl:
        return Connection(host=host, port=port, **common)
    return SSLConnection(
        host=host,
        port=port,
        ssl_ca_certs=options.ssl_ca_certs,
        ssl_certfile=options.ssl_certfile,
        ssl_keyfile=options.ssl_keyfile,
        ssl_check_hostname=options.ssl_check_hostname,
        **common,
    )

"""An app for several processes. Its settings are in the environment: DATABASE and REDIS (URLs),
DRAIN_SECONDS, PER_ADDRESS (how many connections).

A socket that emits ``who`` is told which process it has come to, as is ``GET /process``.
"""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any

from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from tidings import (
    Api,
    OperationContext,
    RedisFeedPlugin,
    RestApiPlugin,
    SocketIOPlugin,
    SocketLimits,
    SqlAlchemyPlugin,
)

api = Api(name="deployed")
api.use(RestApiPlugin())
api.use(SqlAlchemyPlugin(os.environ["DATABASE"], create_tables=True))
if "REDIS" in os.environ:
    api.use(RedisFeedPlugin(os.environ["REDIS"]))
api.use(
    SocketIOPlugin(
        anonymous=True,
        cors={"origin": ["http://example.org"]},
        drain_seconds=float(os.environ.get("DRAIN_SECONDS", "5")),
        limits=SocketLimits(connections_per_address=int(os.environ.get("PER_ADDRESS", "0"))),
    )
)
api.add_resource("posts", schema={"title": {"type": "string", "required": True}})


@api.hook("before_write")
async def take_time(context: OperationContext) -> None:
    """A post may ask to be a slow one."""
    if (context.values or {}).get("title") == "slow":
        sys.stdout.write("a slow one has begun\n")
        await asyncio.sleep(1.0)


_served = api.asgi()


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "http" and scope["path"] == "/process":
        await PlainTextResponse(str(os.getpid()))(scope, receive, send)
    else:
        await _served(scope, receive, send)


@api.io.on("who")
async def who(_socket: Any) -> int:
    return os.getpid()

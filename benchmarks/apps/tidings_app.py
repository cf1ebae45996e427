"""The resource under measurement, as an application would declare it."""

from __future__ import annotations

import os
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from tidings import (
    Api,
    JWTAuthPlugin,
    MemoryFeedPlugin,
    RestApiPlugin,
    SocketIOPlugin,
    SqlAlchemyPlugin,
)

ROWS = 1000
STATUSES = ("draft", "published", "archived", "review")

api = Api(name="bench")
api.use(RestApiPlugin())
url = os.environ.get("BENCH_URL") or f"sqlite+aiosqlite:///{os.environ['BENCH_DATABASE']}"
api.use(SqlAlchemyPlugin(url, create_tables=True))
if "BENCH_OUTBOX" in os.environ:
    api.use(MemoryFeedPlugin(outbox=True))
if "BENCH_SECRET" in os.environ:
    api.use(JWTAuthPlugin(secret=os.environ["BENCH_SECRET"], algorithms=["HS256"]))
api.use(SocketIOPlugin(anonymous=True))
api.add_resource(
    "posts",
    schema={
        "title": {"type": "string", "required": True},
        "body": {"type": "text"},
        "status": {"type": "string", "default": "draft", "search": True},
        "views": {"type": "integer", "default": 0},
        "published_at": {"type": "dateTime"},
    },
)


@api.hook("startup")
async def seed(_context: Any) -> None:
    async with api.transaction() as uow:
        for number in range(ROWS):
            values = {
                "title": f"Post {number}",
                "body": "Lorem ipsum dolor sit amet. " * 8,
                "status": STATUSES[number % len(STATUSES)],
                "published_at": "2026-01-15T10:00:00Z",
            }
            await api.resources.posts.post(values, transaction=uow)


_served = api.asgi()


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """The api, and POST /burst?status=: ten records in one transaction, ten changes in one turn."""
    if scope["type"] != "http" or scope["path"] != "/burst":
        await _served(scope, receive, send)
        return
    status = Request(scope).query_params["status"]
    async with api.transaction() as uow:
        for _ in range(10):
            await api.resources.posts.post({"title": "x", "status": status}, transaction=uow)
    await Response(status_code=204)(scope, receive, send)

"""The resource under measurement, as an application would declare it."""

from __future__ import annotations

import os
from typing import Any

from tidings import Api, JWTAuthPlugin, RestApiPlugin, SocketIOPlugin, SqlAlchemyPlugin

ROWS = 1000
STATUSES = ("draft", "published", "archived", "review")

api = Api(name="bench")
api.use(RestApiPlugin())
api.use(SqlAlchemyPlugin(f"sqlite+aiosqlite:///{os.environ['BENCH_DATABASE']}", create_tables=True))
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


app = api.asgi()

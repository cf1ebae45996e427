"""An api whose feed is what ``BENCH_FEED`` says: memory, outbox, redis or postgres, and a URL."""

from __future__ import annotations

import os

from tidings import (
    Api,
    MemoryFeedPlugin,
    PostgresFeedPlugin,
    RedisFeedPlugin,
    RestApiPlugin,
    SocketIOPlugin,
    SqlAlchemyPlugin,
)

kind, _, url = os.environ["BENCH_FEED"].partition(" ")
api = Api(name="bench")
api.use(RestApiPlugin())
api.use(SqlAlchemyPlugin(f"sqlite+aiosqlite:///{os.environ['BENCH_DATABASE']}", create_tables=True))
if kind.startswith("redis"):
    api.use(RedisFeedPlugin(url, outbox=kind == "redis"))
elif kind == "postgres":
    api.use(PostgresFeedPlugin(url))
else:
    api.use(MemoryFeedPlugin(outbox=kind == "outbox"))
api.use(SocketIOPlugin(anonymous=True, cors={"origin": []}))
api.add_resource(
    "posts",
    schema={
        "title": {"type": "string", "required": True},
        "body": {"type": "text"},
        "status": {"type": "string", "search": True},
    },
)
app = api.asgi()

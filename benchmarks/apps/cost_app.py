"""An api with long texts, policies and filters that look into texts: what attackers like."""

from __future__ import annotations

import os

from tidings import Api, JWTAuthPlugin, RestApiPlugin, SocketIOPlugin, SqlAlchemyPlugin

api = Api(name="cost")
api.use(RestApiPlugin())
api.use(SqlAlchemyPlugin(f"sqlite+aiosqlite:///{os.environ['BENCH_DATABASE']}", create_tables=True))
api.use(JWTAuthPlugin(secret="a secret of the benchmarks, long enough"))
api.use(SocketIOPlugin(anonymous=True))
api.add_resource(
    "authors",
    schema={"name": "string"},
    relationships={"posts": {"type": "hasMany", "target": "posts", "foreign_key": "author_id"}},
)
api.add_resource(
    "posts",
    schema={
        "title": {"type": "string", "search": True},
        "text": {"type": "text", "search": "like"},
        "author_id": {"belongs_to": "authors"},
    },
    search_schema={
        "title": {"type": "string"},
        "text": {"type": "string", "filter_operator": "like"},
        "words": {
            "type": "string",
            "actual_field": "text",
            "filter_operator": "like",
            "split_by": " ",
        },
    },
    row_policy=lambda columns, identity: True,
)
app = api.asgi()

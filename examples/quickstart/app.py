"""A blog that tells its readers. JWT_SECRET has 32 bytes or more."""

import os

from tidings import Api, JWTAuthPlugin, RestApiPlugin, SocketIOPlugin, SqlAlchemyPlugin

api = Api(name="blog", version="1.0.0")
api.use(RestApiPlugin())
api.use(SqlAlchemyPlugin("sqlite+aiosqlite:///blog.db", create_tables=True))
api.use(JWTAuthPlugin(secret=os.environ["JWT_SECRET"]))
api.use(SocketIOPlugin())

api.add_resource("authors", schema={"name": {"type": "string", "required": True}})
api.add_resource(
    "posts",
    schema={
        "title": {"type": "string", "required": True, "search": "like"},
        "body": {"type": "text"},
        "status": {"type": "string", "enum": ["draft", "published"], "default": "draft"},
        "author_id": {"belongs_to": "authors", "search": True},
        "published_at": {"type": "dateTime"},
    },
    search_schema={
        "status": {"type": "string", "filter_operator": "="},
        "since": {"type": "date", "filter_operator": ">=", "actual_field": "published_at"},
    },
    auth={"query": ["public"], "get": ["public"], "*": ["authenticated"]},
)

app = api.asgi()

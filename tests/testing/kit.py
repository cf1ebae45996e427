"""Applications that are tested with ``tidings.testing``."""

from __future__ import annotations

from typing import Any

from tidings import Api, JWTAuthPlugin, RestApiPlugin, SocketIOPlugin, SqlAlchemyPlugin

SECRET = "a-secret-of-thirty-two-bytes-or-more"


def make_api(
    *,
    url: str = "sqlite+aiosqlite:///not-to-be-used.db",
    jwt: bool = True,
    **sockets: Any,
) -> Api:
    """A blog: everybody reads what is published, authors see their own and may change it."""
    api = Api(name="blog")
    api.use(RestApiPlugin())
    api.use(SqlAlchemyPlugin(url))
    if jwt:
        api.use(JWTAuthPlugin(secret=SECRET))
    api.use(SocketIOPlugin(cors={"origin": ["https://example.org"]}, **sockets))
    api.add_resource(
        "posts",
        schema={
            "title": {"type": "string", "required": True},
            "status": {"type": "string", "default": "draft", "search": True},
            "owner_id": {"type": "string"},
        },
        auth={
            "query": ["public"],
            "get": ["public"],
            "post": ["authenticated"],
            "patch": ["is_owner"],
            "delete": ["is_owner", "has_role:editor"],
        },
        owner_field="owner_id",
        row_policy=lambda columns, identity: (
            (columns.status == "published") | (columns.owner_id == (identity.user_id or ""))
        ),
    )
    return api

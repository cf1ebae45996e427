"""A blog for clients that others have written."""

from __future__ import annotations

from tests.http.kit import make_api
from tidings import Api


def declare_blog(*, jwt_auth: bool = False) -> Api:
    """Users, posts with an author, tags of posts, and a profile of each user."""
    api = make_api(jwt_auth=jwt_auth)
    name = {"name": {"type": "string", "required": True}}
    api.add_resource(
        "users",
        name,
        relationships={
            "posts": {"type": "hasMany", "target": "posts", "foreign_key": "author_id"},
            "profile": {"type": "hasOne", "target": "profiles", "foreign_key": "user_id"},
        },
    )
    api.add_resource(
        "profiles", {"city": "string", "user_id": {"belongs_to": "users", "unique": True}}
    )
    api.add_resource("tags", name)
    api.add_resource(
        "posts",
        {
            "title": {"type": "string", "required": True, "search": True},
            "author_id": {"belongs_to": "users"},
        },
        relationships={"tags": {"type": "manyToMany", "target": "tags"}},
    )
    return api

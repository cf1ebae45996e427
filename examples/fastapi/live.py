"""The application with tidings: uvicorn live:app"""

from __future__ import annotations

from typing import Any

from app import SECRET, Membership, Task, Team, app, engine

from tidings import Api, JWTAuthPlugin, RestApiPlugin, SocketIOPlugin, SqlAlchemyPlugin


def of_my_teams(columns: Any, identity: Any) -> Any:
    """Tasks that are not deleted, of teams that one is a member of."""
    return {"team.members.user_id": identity.user_id, "deleted_at": {"is null": True}}


api = Api(name="work")
api.use(RestApiPlugin())
api.use(SqlAlchemyPlugin(engine=engine, capture="triggers"))
api.use(JWTAuthPlugin(secret=SECRET))
api.use(SocketIOPlugin())
api.add_resource("teams", Team, fields=["name", "members"], row_policy=lambda c, i: False)
api.add_resource(
    "memberships", Membership, fields=["team"], hidden=["user_id"], row_policy=lambda c, i: False
)
api.add_resource(
    "tasks",
    Task,
    fields=["title", "status", "labels", "created_at", "team"],
    hidden=["deleted_at"],
    search_schema={"status": {}, "title": {}},
    auth={"query": ["authenticated"], "get": ["authenticated"]},
    row_policy=of_my_teams,
    borrows=["team.members.user_id"],
)
api.install(app, prefix="/api")

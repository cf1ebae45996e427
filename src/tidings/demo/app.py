"""The demo's app: the guide's posts, two workspaces, and two live pages side by side."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from tidings import (
    Api,
    Identity,
    InspectorPlugin,
    JWTAuthPlugin,
    OperationContext,
    PermissionDenied,
    RestApiPlugin,
    SocketIOPlugin,
    SqlAlchemyPlugin,
    SubscriptionContext,
    __version__,
)
from tidings.demo.seed import seed
from tidings.demo.users import ADMIN, DemoTokens

STATIC = Path(__file__).parent / "static"
# @tidings/client as one script, which new applications get, too: there is one copy in the package.
CLIENT = Path(__file__).parent.parent / "starter" / "tidings.min.js"

# Everything comes from this server, so that the board works without a network.
_HEADERS = {
    "content-security-policy": "default-src 'self'; base-uri 'none'; frame-ancestors 'self'",
    "cache-control": "no-cache",
}
ADA = Identity("4", roles=frozenset({ADMIN}))


class Demo(NamedTuple):
    """The app to serve, and the api inside it."""

    app: Starlette
    api: Api


def build_demo(directory: Path) -> Demo:
    """The demo with a new database in ``directory``, which has to outlive the app."""
    tokens = DemoTokens()
    api = build_api(f"sqlite+aiosqlite:///{directory / 'board.db'}", tokens.secret)

    def file(path: Path, media_type: str) -> Callable[[Request], Awaitable[FileResponse]]:
        async def answer(_: Request) -> FileResponse:
            return FileResponse(path, headers=_HEADERS, media_type=media_type)

        return answer

    async def users(_: Request) -> JSONResponse:
        return JSONResponse(tokens.listing(), headers={"cache-control": "no-store"})

    routes = [
        Route("/", file(STATIC / "split.html", "text/html")),
        Route("/board", file(STATIC / "board.html", "text/html")),
        Route("/static/tidings.min.js", file(CLIENT, "text/javascript")),
        Route("/demo/code", file(Path(__file__), "text/plain")),
        Route("/demo/users", users),
        Mount("/static", StaticFiles(directory=STATIC)),
    ]
    app = Starlette(routes=routes)
    api.install(app, prefix="/api")
    return Demo(app, api)


def build_api(database: str, secret: str) -> Api:
    """Users and posts; the tables are made, and filled, when the api opens."""
    api = Api(name="tidings demo", version=__version__)
    api.use(RestApiPlugin())
    api.use(SqlAlchemyPlugin(database, create_tables=True))
    api.use(JWTAuthPlugin(secret=secret))
    api.use(SocketIOPlugin(cors={"origin": []}))  # no pages but the demo's own
    # Nobody has a password here: whoever opens the inspector is taken for the administrator.
    api.use(InspectorPlugin(role=ADMIN, identify=lambda _: ADA, show_values=True))
    api.add_resource(
        "users",
        schema={
            "name": {"type": "string", "required": True},
            "workspace_id": {"type": "string", "required": True},
        },
        check_permissions=may_use_users,
    )
    api.add_resource(
        "posts",
        schema={
            "title": {"type": "string", "required": True, "min": 3, "max": 120},
            "content": {"type": "text", "max": 2000},
            "status": {
                "type": "string",
                "default": "draft",
                "enum": ["draft", "published", "archived"],
            },
            "author_id": {"type": "id", "required": True},
            "workspace_id": {"type": "string", "required": True},
            "published_at": {"type": "dateTime", "nullable": True, "read_only": True},
            "view_count": {"type": "number", "default": 0, "min": 0},
        },
        relationships={
            "author": {"type": "belongsTo", "target": "users", "foreign_key": "author_id"}
        },
        search_schema={
            "status": {"type": "string", "filter_operator": "="},
            "author_id": {"type": "id", "filter_operator": "="},
            "workspace_id": {"type": "string", "filter_operator": "="},
            "published_at": {"type": "dateTime", "filter_operator": ">="},
            "view_count": {"type": "number", "filter_operator": ">"},
            "min_views": {
                "type": "number",
                "filter_operator": ">=",
                "actual_field": "view_count",
            },
            "search": {
                "type": "string",
                "filter_operator": "like",
                "one_of": ["title", "content"],
            },
        },
        check_permissions=may_use_posts,
    )
    api.add_hook("subscription_filters", "workspace-isolation", isolate_workspaces)
    api.add_hook("before_write", "publication-time", note_publication)
    api.add_hook("startup", "seed", seed)
    return api


def may_use_users(context: OperationContext) -> bool:
    """Whoever is signed in may see who there is; nobody changes them here."""
    return context.auth.is_authenticated and context.method in ("query", "get")


def may_use_posts(context: OperationContext) -> bool:
    """Administrators may do everything, others what concerns their own workspace.

    A query is not told which records it will find, so this check cannot narrow it: a list is of
    one workspace only where the client asks with ``filter[workspace_id]``, as the page does.
    """
    identity = context.auth
    if not identity.is_authenticated:
        return False
    if identity.has_role(ADMIN) or context.method == "query":
        return True
    if context.method == "delete" and _is_at_home(context) and not _is_own(context):
        raise PermissionDenied("Only its author may delete a post")
    return _is_at_home(context) and _keeps_its_place(context)


def _is_at_home(context: OperationContext) -> bool:
    """The post is of the caller's workspace. One that does not exist is not: same answer."""
    post = context.values if context.method == "post" else context.record
    workspace = context.auth.workspace_id
    return post is not None and workspace is not None and post.get("workspace_id") == workspace


def _is_own(context: OperationContext) -> bool:
    return context.record is not None and str(context.record["author_id"]) == context.auth.user_id


def _keeps_its_place(context: OperationContext) -> bool:
    """A new post is its author's own, and a post changes neither author nor workspace."""
    values, record = context.values or {}, context.record
    author = context.auth.user_id if record is None else str(record["author_id"])
    workspace = values.get("workspace_id", context.auth.workspace_id)
    return str(values.get("author_id", author)) == author and workspace == context.auth.workspace_id


def isolate_workspaces(context: SubscriptionContext) -> None:
    """Nobody but an administrator hears of what happens in another workspace."""
    if not context.auth.has_role(ADMIN):
        context.subscription.enforce("workspace_id", context.auth.workspace_id)


def note_publication(context: OperationContext) -> None:
    """Keep ``published_at`` in step with ``status``; clients cannot write it themselves."""
    values, before = context.values, context.record
    if context.resource != "posts" or values is None or "status" not in values:
        return
    if before is None and "published_at" in values:  # seeded, with a past of its own
        return
    if before is None or before["status"] != values["status"]:
        values["published_at"] = datetime.now(UTC) if values["status"] == "published" else None

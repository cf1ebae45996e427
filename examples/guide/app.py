"""Every server-side example of the real-time guide, as one running app.

    python examples/guide/app.py

serves resources below ``/api`` and subscriptions at ``/socket.io``. From the environment:

    PORT          3000
    HOST          localhost
    DATABASE_URL  SQLite in memory, so that every start is a fresh one
    JWT_SECRET    guide-secret-guide-secret-guide-secret; tokens are HS256, with the claims
                  sub, roles (a list) and workspace_id
    REDIS_URL     none

Anybody may read posts, users, comments and products; writing needs a token, and so does every
socket. An order, an invoice or a message can be read and changed by those it names and by admins,
a project by its workspace and by admins; ``admin-logs`` and ``secret-documents`` are the admins'.
Collections are limited to the caller's rows by row policies.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

import uvicorn
from filters import (
    available_for_user,
    available_for_user_record,
    complex_search,
    near_location,
    near_location_record,
    search,
    search_record,
)
from plugins import (
    ADMIN,
    MultiTenancyPlugin,
    UserRolesPlugin,
    admins_only,
    members_only,
    owners_only,
)
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from tidings import (
    Api,
    ConfigurationError,
    JWTAuthPlugin,
    NotFound,
    OperationContext,
    RestApiPlugin,
    SocketIOPlugin,
    SqlAlchemyPlugin,
    policies,
)

PREFIX: Final = "/api"
READ_BY_ALL: Final = {"query": "public", "get": "public", "*": "authenticated"}


def build_api(settings: Mapping[str, str]) -> Api:
    """The guide's api, put together from the settings that the module's docstring lists."""
    api = Api(name="my-api", version="1.0.0")
    database = settings.get("DATABASE_URL") or "sqlite+aiosqlite://"
    secret = settings.get("JWT_SECRET") or "guide-secret-guide-secret-guide-secret"
    api.use(RestApiPlugin(PREFIX))
    api.use(SqlAlchemyPlugin(database, create_tables=True))
    api.use(JWTAuthPlugin(secret=secret))
    api.use(SocketIOPlugin())
    api.use(MultiTenancyPlugin(resources=["projects"]))
    api.use(UserRolesPlugin())
    add_blog(api)
    add_products(api)
    add_business(api)
    return api


def add_blog(api: Api) -> None:
    """The guide's posts, and what its clients include with them."""
    api.add_resource(
        "posts",
        schema={
            "title": {"type": "string", "required": True},
            "content": {"type": "text"},
            "status": {"type": "string", "default": "draft"},
            "author_id": {"type": "id", "required": True},
            "published_at": {"type": "dateTime", "nullable": True},
            "view_count": {"type": "number", "default": 0},
            # The guide's clients ask for these two, which its own schema lacks.
            "category_id": {"type": "id"},
            "summary": {"type": "text"},
        },
        search_schema={
            # These filters work for both REST and WebSocket
            "status": {"type": "string", "filter_operator": "="},
            "author_id": {"type": "id", "filter_operator": "="},
            "published_at": {"type": "dateTime", "filter_operator": ">="},
            "view_count": {"type": "number", "filter_operator": ">"},
            "category_id": {"type": "id", "filter_operator": "="},
        },
        relationships={
            # Without a constraint: a post may name an author that nobody has made.
            "author": _belongs_to("users", "author_id"),
            "comments": {"type": "hasMany", "target": "comments", "foreign_key": "post_id"},
        },
        auth=READ_BY_ALL,
        client_ids=True,
    )
    api.add_resource(
        "users",
        schema={
            "name": "string",
            "email": "string",
            "avatar": "string",
            "created_at": _moment(),
            # From the guide's example of what must not leak: never in a document or a filter.
            "ssn": {"type": "string", "hidden": True},
            "salary": {"type": "number", "hidden": True},
            "medical_notes": {"type": "text", "hidden": True},
        },
        relationships={
            "posts": {"type": "hasMany", "target": "posts", "foreign_key": "author_id"},
        },
        auth=READ_BY_ALL,
        id_type="string",
    )
    api.add_resource(
        "comments",
        schema={
            "body": "text",
            "created_at": _moment(),
            "post_id": "id",
            "user_id": "id",
        },
        search_schema={"post_id": "id", "user_id": "id"},
        relationships={
            "post": _belongs_to("posts", "post_id"),
            "user": _belongs_to("users", "user_id"),
        },
        auth=READ_BY_ALL,
        client_ids=True,
    )


def add_products(api: Api) -> None:
    """The guide's filters: one of every kind of operator, and the custom ones."""
    api.add_resource(
        "products",
        schema={
            "title": "string",
            "description": "text",
            "tags": "array",
            "status": "string",
            "price": "number",
            "stock": "number",
            "in_stock": "boolean",
            "category_id": "id",
            "created_at": _moment(),
            "latitude": {"type": "number", "min": -90, "max": 90},
            "longitude": {"type": "number", "min": -180, "max": 180},
            "owner_id": "id",
            "is_public": {"type": "boolean", "default": False},
            "shared_with": "array",
        },
        search_schema={
            # Equality
            "status": {"type": "string", "filter_operator": "="},
            "in_stock": {"type": "boolean", "filter_operator": "="},
            # Comparison
            "price": {"type": "number", "filter_operator": ">="},
            "stock": {"type": "number", "filter_operator": ">"},
            # Pattern matching
            "title": {"type": "string", "filter_operator": "like"},
            # Multiple values
            "category_id": {"type": "array", "filter_operator": "in"},
            # Range: of whole days, the last one included
            "created_at": {"type": "date", "filter_operator": "between"},
            # Custom
            "search": {
                "type": "string",
                "filter_operator": search,
                "filter_record": search_record,
            },
            "near_location": {
                "type": "object",
                "filter_operator": near_location,
                "filter_record": near_location_record,
            },
            "available_for_user": {
                "type": "object",
                "filter_operator": available_for_user,
                "filter_record": available_for_user_record,
            },
            # The guide's mistake, kept to be seen: without filter_record no subscription.
            "complex_search": {"type": "string", "filter_operator": complex_search},
        },
        auth=READ_BY_ALL,
        client_ids=True,
    )

    @api.hook("before_write")
    def words_are_strings(context: OperationContext) -> None:
        """Both sides of the custom filters rely on arrays that hold nothing but strings."""
        for name in ("tags", "shared_with") if context.resource == "products" else ():
            words = (context.values or {}).get(name)
            if context.values is not None and isinstance(words, list | tuple):
                context.values[name] = [
                    word if isinstance(word, str) else json.dumps(word) for word in words
                ]


def add_business(api: Api) -> None:
    """What the guide's two plugins guard, and the documents that only admins may see."""
    api.add_resource(
        "projects",
        schema={
            "name": "string",
            "title": "string",
            "description": "text",
            "status": {"type": "string", "default": "active"},
            "workspace_id": "id",
            "created_at": _moment(),
        },
        search_schema={"status": "string", "workspace_id": "id"},
        check_permissions=members_only,
        row_policy=policies.either(policies.tenant("workspace_id"), policies.role(ADMIN)),
        client_ids=True,
    )
    api.add_resource(
        "orders",
        schema={
            "customer_id": "id",
            "product_id": "id",
            "status": {"type": "string", "default": "pending"},
            "priority": {"type": "string", "default": "normal"},
            "quantity": "number",
            "total": "number",
            "notes": "text",
            "created_at": _moment(),
        },
        search_schema={"status": "string", "priority": "string", "customer_id": "id"},
        check_permissions=owners_only("customer_id"),
        row_policy=policies.either(policies.owner("customer_id"), policies.role(ADMIN)),
        client_ids=True,
    )
    api.add_resource(
        "invoices",
        schema={
            "user_id": "id",
            "order_id": "id",
            "number": "string",
            "status": {"type": "string", "default": "open"},
            "amount": "number",
            "due_at": "dateTime",
            "created_at": _moment(),
        },
        # Not user_id: what the plugin requires needs no filter that clients can name.
        search_schema={"status": "string"},
        check_permissions=owners_only("user_id"),
        row_policy=policies.either(policies.owner("user_id"), policies.role(ADMIN)),
        client_ids=True,
    )
    api.add_resource(
        "messages",
        schema={
            "sender_id": "id",
            "recipient_id": "id",
            "subject": "string",
            "body": "text",
            "status": {"type": "string", "default": "unread"},
            "created_at": _moment(),
        },
        search_schema={"sender_id": "id", "recipient_id": "id", "status": "string"},
        check_permissions=owners_only("sender_id", "recipient_id"),
        row_policy={
            "post": policies.either(policies.owner("sender_id"), policies.role(ADMIN)),
            "*": policies.either(
                policies.owner("sender_id"), policies.owner("recipient_id"), policies.role(ADMIN)
            ),
        },
        client_ids=True,
    )
    api.add_resource(
        "admin-logs",
        schema={
            "message": "text",
            "action": "string",
            "level": {"type": "string", "default": "info"},
            "user_id": "id",
            "created_at": _moment(),
        },
        search_schema={"level": "string", "action": "string"},
        check_permissions=admins_only,
        client_ids=True,
    )

    async def check_permissions(context: OperationContext) -> bool:
        if context.method == "query":
            # Check if user can query/subscribe to this resource
            return "admin" in context.auth.roles
        return admins_only(context)

    api.add_resource(
        "secret-documents",
        schema={"title": "string", "content": "text", "status": "string"},
        search_schema={"status": "string"},
        check_permissions=check_permissions,
        client_ids=True,
    )


def _belongs_to(target: str, foreign_key: str) -> dict[str, Any]:
    return {
        "type": "belongsTo",
        "target": target,
        "foreign_key": foreign_key,
        "constraint": False,
    }


def _moment() -> dict[str, Any]:
    return {"type": "dateTime", "default": lambda: datetime.now(UTC)}


class GuideApp:
    """The api as the guide's clients use it: from pages of other origins too, and not only below
    the prefix, since the guide's own client class fetches ``/posts/1`` where its other examples
    fetch ``/api/posts/1``.
    """

    def __init__(self, app: ASGIApp, api: Api) -> None:
        self._app = app
        self._api = api
        # For HTTP requests to the resources alone: Socket.IO answers for its own.
        self._open_to_all = CORSMiddleware(
            app, allow_origins=["*"], allow_methods=["*"], allow_headers=["*"]
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")
        if scope["type"] != "http" or path.startswith("/socket.io"):
            await self._app(scope, receive, send)
            return
        if self._is_resource(path.strip("/").split("/")[0]):
            raw = PREFIX.encode() + (scope.get("raw_path") or path.encode())
            scope = {**scope, "path": PREFIX + path, "raw_path": raw}
        await self._open_to_all(scope, receive, send)

    def _is_resource(self, name: str) -> bool:
        try:
            return bool(self._api.resources[name])
        except NotFound:
            return False


def build_app(settings: Mapping[str, str]) -> ASGIApp:
    """The ASGI app: resources and sockets."""
    api = build_api(settings)
    app = api.asgi()
    # Start Socket.IO server
    api.start_socket_server(
        app,
        path="/socket.io",
        cors={"origin": "*", "methods": ["GET", "POST"]},
        redis=settings.get("REDIS_URL") or None,
    )
    return GuideApp(app, api)


def listen(host: str, port: int) -> list[socket.socket]:
    """Listening sockets at every address of the host: ``localhost`` has two.

    Raises:
        OSError: an address is in use, or none can be had.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    listeners: list[socket.socket] = []
    for family, kind, protocol, _, address in dict.fromkeys(found):
        try:
            listener = socket.socket(family, kind, protocol)
        except OSError:  # the machine has no IPv6
            continue
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        try:
            listener.bind(address)
        except OSError:
            listener.close()
            if family == socket.AF_INET6 and listeners:
                continue
            raise
        listener.listen(2048)
        listeners.append(listener)
    return listeners


def main() -> None:
    """Serve until a signal comes; what prevents it is one line, and a status other than 0."""
    host, port = os.environ.get("HOST") or "localhost", os.environ.get("PORT") or "3000"
    if not port.isdecimal() or int(port) > 65535:
        sys.exit(f"PORT must be a number from 0 to 65535, not {port!r}")
    try:
        app = build_app(os.environ)
        listeners = listen(host, int(port))
    except ConfigurationError as error:
        sys.exit(f"The settings are wrong: {error}")
    except OSError as error:
        sys.exit(f"Failed to start server on {host}, port {port}: {error.strerror or error}")
    config = uvicorn.Config(
        app,
        log_level="warning",
        # Notifications are too small for compression to be worth its memory per client.
        ws_per_message_deflate=False,
        timeout_graceful_shutdown=3,
    )
    print(f"The guide's app listens on http://{host}:{listeners[0].getsockname()[1]}", flush=True)
    with contextlib.suppress(KeyboardInterrupt):  # uvicorn raises it again once it has ended
        uvicorn.Server(config).run(sockets=listeners)


if __name__ == "__main__":
    main()

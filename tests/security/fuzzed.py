"""The server that is fuzzed: resources of every kind, sockets without a rate limit.

python -m tests.security.fuzzed, with PORT and DATABASE (a file: what is written stays out of the
process's memory). With FAULT it has one, to be found: http, socket or silence.
"""

from __future__ import annotations

import asyncio
import os

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from tests.http.conftest import declare_library
from tests.http.kit import make_api
from tidings import SocketIOPlugin, SocketLimits, SubscriptionContext, policies
from tidings.feed import MemoryFeed

WITHOUT_END = 1_000_000_000


def build() -> ASGIApp:
    api = make_api(os.environ.get("DATABASE"), jwt_auth=True)
    limits = SocketLimits(
        message_rate=WITHOUT_END,
        message_burst=WITHOUT_END,
        subscribe_rate=WITHOUT_END,
        subscribe_burst=WITHOUT_END,
    )
    api.use(SocketIOPlugin(limits=limits, cors={"origin": ["http://localhost"]}))
    declare_library(api)
    api.add_resource(
        "notes",
        {"text": "string", "owner_id": "string", "tenant_id": "integer"},
        search_schema={"text": {"filter_operator": "like"}, "tenant_id": "integer"},
        row_policy=policies.either(policies.owner(), policies.tenant()),
    )
    api.add_resource("secrets", {"name": "string"}, check_permissions=lambda context: False)
    # So short that it is full long before the memory is measured.
    api._feed = MemoryFeed(window=200)
    fault = os.environ.get("FAULT", "")
    if fault == "socket":
        api.add_hook("subscription_filters", "fault", _break)
    return _faulty(api.asgi(), fault) if fault in ("http", "silence") else api.asgi()


def _break(context: SubscriptionContext) -> None:
    if context.subscription.requested_filters:
        raise RuntimeError("a fault")


def _faulty(app: ASGIApp, fault: str) -> ASGIApp:
    async def faulty(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and b"proto" in scope["query_string"]:
            if fault == "http":
                raise RuntimeError("a fault")
            await asyncio.sleep(60)
        await app(scope, receive, send)

    return faulty


if __name__ == "__main__":
    uvicorn.run(
        build(),
        host="127.0.0.1",
        port=int(os.environ["PORT"]),
        log_level="warning",
        access_log=False,
        ws=os.environ.get("WS", "tidings.socketio.uvicorn:UvicornProtocol"),
        ws_per_message_deflate=False,
        timeout_keep_alive=60,
    )

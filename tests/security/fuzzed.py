"""The server that is fuzzed: resources of every kind, sockets without a rate limit.

python -m tests.security.fuzzed, with PORT and DATABASE (a file: what is written stays out of the
process's memory).
"""

from __future__ import annotations

import os

import uvicorn
from starlette.types import ASGIApp

from tests.http.conftest import declare_library
from tests.http.kit import make_api
from tidings import SocketIOPlugin, SocketLimits, policies
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
    return api.asgi()


if __name__ == "__main__":
    uvicorn.run(
        build(),
        host="127.0.0.1",
        port=int(os.environ["PORT"]),
        log_level="warning",
        access_log=False,
        ws_per_message_deflate=False,
        timeout_keep_alive=60,
    )

"""The README's app, as it stands: it serves, and a write is told."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import jwt
import pytest
import socketio

from tests.docs.blocks import REPOSITORY, blocks
from tests.support.server import run_server

pytestmark = pytest.mark.anyio

SECRET = "a secret for tests, of 32 bytes or more"
SERVE = """
import os, sys, uvicorn
sys.path.insert(0, os.getcwd())
uvicorn.run("app:app", port=int(os.environ["PORT"]), log_level="warning",
            ws_per_message_deflate=False, timeout_graceful_shutdown=1)
"""


def app_of_readme() -> str:
    return next(b.code for b in blocks(REPOSITORY / "README.md") if b.language == "python")


def test_the_example_is_what_the_readme_shows():
    shown = app_of_readme()
    assert (REPOSITORY / "examples/quickstart/app.py").read_text() == shown
    assert len(shown.splitlines()) <= 32


async def test_a_write_is_told_to_a_subscriber(tmp_path):
    (tmp_path / "app.py").write_text(app_of_readme())
    script = f"import os; os.chdir({str(tmp_path)!r})\n{SERVE}"
    token = jwt.encode({"sub": "7"}, SECRET, "HS256")
    async with (
        run_server(["-c", script], env={"JWT_SECRET": SECRET}) as server,
        httpx.AsyncClient(base_url=server.url) as http,
    ):
        subscription, update, created = await subscribed_write(server.url, http, token)
        assert created.headers["location"] == "/api/posts/1"
        assert subscription["filters"] == {"status": "published"}
        assert update == {
            "type": "resource.created",
            "resource": "posts",
            "id": "1",
            "action": "post",
            "subscriptionId": subscription["subscriptionId"],
            "meta": {
                "timestamp": update["meta"]["timestamp"],
                "cursor": update["meta"]["cursor"],
                "change": "enter",
            },
        }
        found = await http.get("/api/posts?filter[status]=published&include=author")
        assert [post["id"] for post in found.json()["data"]] == ["1"]
        assert (await http.get("/api/posts/1")).json()["data"]["attributes"]["title"] == "News"


async def subscribed_write(url: str, http: httpx.AsyncClient, token: str) -> Any:
    updates: asyncio.Queue[Any] = asyncio.Queue()
    document = {
        "data": {"type": "posts", "attributes": {"title": "News", "status": "published"}},
    }
    headers = {
        "Authorization": f"Bearer {token}",
        "Content-Type": "application/vnd.api+json",
    }
    async with socketio.AsyncSimpleClient() as socket:
        await socket.connect(url, auth={"token": token}, transports=["websocket"])
        socket.client.on("subscription.update", updates.put_nowait)
        wanted = {"resource": "posts", "filters": {"status": "published"}}
        answer = await socket.call("subscribe", wanted)
        denied = await http.post(
            "/api/posts", json=document, headers={**headers, "Authorization": ""}
        )
        assert denied.status_code == 401
        created = await http.post("/api/posts", json=document, headers=headers)
        assert created.status_code == 201, created.text
        async with asyncio.timeout(5):
            return answer["data"], await updates.get(), created

"""The inspector's page, used in a real browser; the steps are in browser-inspector.mjs."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from tests.http.kit import make_api, token
from tests.sockets.kit import Socket, served
from tests.support.node import JS_DIRECTORY
from tests.support.server import REPOSITORY

from tidings import Api, InspectorPlugin, SocketIOPlugin

pytestmark = [pytest.mark.anyio, pytest.mark.browser]

DRIVER = JS_DIRECTORY / "browser-inspector.mjs"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PATIENCE = 90
PICTURE = REPOSITORY / "docs" / "images" / "inspector.png"
MARKUP = '<img src=x onerror="window.hacked=1">'


def inspected() -> Api:
    api = make_api(jwt_auth=True)
    api.use(SocketIOPlugin(cors={"origin": []}))
    api.use(InspectorPlugin(role="admin", show_values=True))
    schema: dict[str, Any] = {
        "title": {"type": "string", "search": True},
        "status": {"type": "string", "search": True},
    }
    api.add_resource("posts", schema=schema, id_type="string")
    return api


async def test_an_admin_looks(tmp_path: Path) -> None:
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None or shutil.which("node") is None:
        pytest.skip("no Chromium or no Node.js is installed")
    if not (JS_DIRECTORY / "node_modules" / "playwright-core").is_dir():
        pytest.skip("the JavaScript packages are missing: run make setup-js")
    # TIDINGS_SCREENSHOT takes the documentation's picture anew; a folder gets the others, too.
    wanted = os.environ.get("TIDINGS_SCREENSHOT")
    folder = Path(wanted) if wanted and os.path.isdir(wanted) else tmp_path  # noqa: ASYNC240
    api = inspected()
    async with contextlib.AsyncExitStack() as stack:
        url = await stack.enter_async_context(served(api))
        filters: list[tuple[str, dict[str, Any]]] = [
            ("ann", {"status": "open"}),
            ("ben", {"status": "shut"}),
            (MARKUP, {"title": MARKUP}),
            ("cleo", {"status": "open", "title": "A title that is rather long, as titles may be"}),
        ]
        for user, asked in filters:
            socket = await stack.enter_async_context(await Socket.connected(url, user=user))
            done = await socket.call("subscribe", {"resource": "posts", "filters": asked})
            assert done["success"] is True, done
            if user == "ben":
                ben = socket
                await socket.call(
                    "subscribe",
                    {"resource": "posts", "cursor": "another.1", "subscriptionId": "b2"},
                )
        posts = api.resources.posts
        for number in range(12):
            await posts.post({"id": f"{number}", "title": "Plain", "status": "draft"})
        await posts.patch("3", {"status": "shut"})
        await posts.delete("4")
        await posts.post({"id": "<b>7</b>", "title": "A new one", "status": "open"})
        await api.socket_server.settled()
        tokens = {"admin": token("root", roles=["admin"]), "other": token("ann")}
        driver = await asyncio.create_subprocess_exec(
            "node",
            str(DRIVER),
            url,
            json.dumps(tokens),
            *([str(folder / "inspector")] if wanted else []),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env={**os.environ, "CHROMIUM": browser},
        )
        assert driver.stdout is not None
        output = []
        try:
            async with asyncio.timeout(PATIENCE):
                async for line in driver.stdout:
                    output.append(line.decode())
                    if line == b"change\n":
                        await posts.post({"id": "later", "title": "Later", "status": "open"})
                await driver.wait()
        finally:
            with contextlib.suppress(ProcessLookupError):
                driver.terminate()
            await driver.wait()
        assert driver.returncode == 0, "".join(output)
        for _ in range(17):  # a socket that has unread frames closes only after ten seconds
            await ben.event("subscription.update")
    if wanted:
        shutil.copy(folder / "inspector-light.png", PICTURE)

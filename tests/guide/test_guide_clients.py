"""The guide's own client code, word for word; and python-socketio's client in its place."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import socketio

from tests.guide.kit import ADMIN, Rest, summary, token, unique
from tests.support.node import NodeClient, SubscriptionRefused
from tests.support.server import RunningServer

pytestmark = pytest.mark.anyio


# RealtimeResourceManager


async def test_manager_stores_restores_and_invalidates(
    every_node: NodeClient, rest: Rest, server: RunningServer
):
    """Checklist a5 45/46 and the client's side: the whole life of the guide's class."""
    name, author = unique("manager"), unique("author")
    node = every_node
    await node.manager_new(ADMIN, socket=name)
    data = await node.manager_subscribe(
        "posts", {"author_id": author}, {"include": ["author"]}, socket=name
    )
    assert await node.manager_subscriptions(socket=name) == [data]

    post = await rest.create("posts", title="first", author_id=author)
    [created] = await node.wait("resource:updated", socket=name)
    assert set(created.data) == {"resource", "id", "action", "notification"}
    assert (created.data["action"], created.data["id"]) == ("post", post)

    async def title() -> str:
        fetched = await node.manager_fetch("posts", post, {"include": "author"}, socket=name)
        found: str = fetched["data"]["attributes"]["title"]
        return found

    assert await title() == "first"
    await rest.patch("posts", post, title="second")
    await node.wait("resource:updated", count=2, socket=name)
    assert await title() == "second"  # the notification made it drop what it had

    await node.drop(socket=name)
    await node.wait("connected", count=2, socket=name)
    [_, restored] = await node.wait("ack", count=2, socket=name)
    assert restored.args[1]["restored"] == [data["subscriptionId"]]
    await rest.delete("posts", post)
    await node.wait("resource:updated", match={"action": "delete", "id": post}, socket=name)
    await node.disconnect(socket=name)


async def test_manager_rejects_with_the_error(node: NodeClient):
    name = unique("manager")
    await node.manager_new(token(), socket=name)
    with pytest.raises(SubscriptionRefused) as caught:
        await node.manager_subscribe("posts", {"invalid_field": "value"}, socket=name)
    assert caught.value.error["details"]["invalid_field"]["code"] == "UNKNOWN_FIELD"
    assert await node.manager_subscriptions(socket=name) == []
    await node.disconnect(socket=name)


async def test_manager_fetches_below_the_address_it_was_given(node: NodeClient, rest: Rest):
    """The guide's class asks for ``/posts/1`` where its other examples ask for ``/api/posts/1``."""
    name = unique("manager")
    await node.manager_new(ADMIN, socket=name)
    post = await rest.create("posts", title="x", author_id="a")
    found = await node.manager_fetch("posts", post, socket=name)
    assert found["data"]["links"]["self"] == f"/api/posts/{post}"
    await node.disconnect(socket=name)


async def test_fetches_from_pages_of_other_origins_are_allowed(server: RunningServer):
    origin = {"origin": "http://a-page.example"}
    async with httpx.AsyncClient(base_url=server.url, headers=origin) as http:
        for path in ("/api/posts", "/posts", "/socket.io/?EIO=4&transport=polling"):
            answer = await http.get(path)
            allowed = answer.headers.get_list("access-control-allow-origin")
            assert allowed in (["*"], ["http://a-page.example"]), path
        asked = {
            "access-control-request-method": "PATCH",
            "access-control-request-headers": "authorization,content-type",
        }
        answer = await http.options("/api/posts/1", headers=asked)
        assert answer.status_code == 200
        assert "PATCH" in answer.headers["access-control-allow-methods"]


# Snippets


async def run_snippet(server: RunningServer, name: str) -> Any:
    node = shutil.which("node")
    assert node is not None
    script = str(Path(__file__).parent / "snippets.mjs")
    process = await asyncio.create_subprocess_exec(
        node,
        script,
        server.url,
        name,
        ADMIN,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(15):
        output, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    return json.loads(output)


async def test_snippet_batch_fetches_each_record_once(node: NodeClient, server: RunningServer):
    """Checklist a10 103: several notifications of a record in one batch are one fetch of it."""
    result = await run_snippet(server, "batch")
    fetched = [[post for post, _ in batch] for batch in result["batches"]]
    assert {post for batch in fetched for post in batch} == set(result["posts"])
    assert all(len(set(batch)) == len(batch) > 0 for batch in fetched)
    last = dict(one for batch in result["batches"] for one in batch)
    assert last == {post: f"title {post}" for post in result["posts"]}


async def test_snippet_test_helper_gets_its_update(node: NodeClient, server: RunningServer):
    told = await run_snippet(server, "helper")
    assert (told["type"], told["action"]) == ("resource.created", "post")


async def test_snippet_include_and_fields_fetch_what_they_name(
    node: NodeClient, server: RunningServer
):
    """Checklist a10 105 and X23: the declared sample schema has all that the examples name."""
    document = await run_snippet(server, "include")
    assert document["data"]["attributes"] == {
        "title": "x",
        "summary": "short",
        "published_at": None,
    }
    included = {(one["type"], one["id"]): one["attributes"] for one in document["included"]}
    assert included["users", "ada"] == {"name": "Ada", "avatar": None}
    assert included["users", "bob"] == {"name": "Bob", "avatar": None}
    [comment] = [one for kind, one in included.items() if kind[0] == "comments"]
    assert comment["body"] == "hi"


async def test_snippet_limit_rejects_number_101(node: NodeClient, server: RunningServer):
    answers = await run_snippet(server, "limit")
    assert answers == ["ok"] * 100 + ["SUBSCRIPTION_LIMIT_EXCEEDED"]


# python-socketio


class Peer:
    """python-socketio's client, with everything that came in order."""

    def __init__(self) -> None:
        self.client = socketio.AsyncClient(reconnection=False)
        self.events: asyncio.Queue[tuple[str, Any]] = asyncio.Queue()
        self.client.on("*", self._take)

    async def _take(self, event: str, *args: Any) -> None:
        self.events.put_nowait((event, args[0] if args else None))

    async def next(self, event: str) -> Any:
        """The payload of the next event, which must be this one."""
        async with asyncio.timeout(5):
            found, payload = await self.events.get()
        assert found == event, (found, payload)
        return payload

    async def call(self, event: str, payload: Any) -> Any:
        return await self.client.call(event, payload, timeout=5)


@asynccontextmanager
async def connected(url: str, transport: str, given: str = ADMIN) -> AsyncIterator[Peer]:
    peer = Peer()
    await peer.client.connect(url, auth={"token": given}, transports=[transport])
    try:
        yield peer
    finally:
        await peer.client.disconnect()


@pytest.fixture(params=["polling", "websocket"])
def transport(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


async def test_python_client_is_refused_without_a_good_token(server: RunningServer, transport: str):
    for auth, message in (
        (None, "Authentication required"),
        ({"token": "nonsense"}, "Invalid authentication token"),
        ({"token": token(exp=1)}, "Token expired"),
    ):
        peer = Peer()
        refusals: list[Any] = []
        peer.client.on("connect_error", refusals.append)
        with pytest.raises(socketio.exceptions.ConnectionError):
            await peer.client.connect(server.url, auth=auth, transports=[transport])
        assert [one["message"] if isinstance(one, dict) else one for one in refusals] == [message]
        await peer.client.disconnect()


async def test_python_client_subscribes_is_told_and_unsubscribes(
    server: RunningServer, rest: Rest, transport: str
):
    author = unique("author")
    async with connected(server.url, transport) as peer:
        assert set(await peer.next("connected")) == {"socketId", "serverTime", "cursor"}
        answer = await peer.call(
            "subscribe", {"resource": "posts", "filters": {"author_id": author}}
        )
        assert answer["success"] is True
        assert await peer.next("subscription.created") == answer["data"]

        post = await rest.create("posts", title="x", author_id=author)
        await rest.put("posts", post, title="y", author_id=author)
        await rest.patch("posts", post, title="z")
        await rest.delete("posts", post)
        told = [await peer.next("subscription.update") for _ in range(4)]
        assert summary(told) == [
            ("resource.created", "post", "enter", post),
            ("resource.updated", "update", "update", post),
            ("resource.updated", "patch", "update", post),
            ("resource.deleted", "delete", "leave", post),
        ]

        ended = {"subscriptionId": answer["data"]["subscriptionId"]}
        assert await peer.call("unsubscribe", ended) == {"success": True}
        await rest.create("posts", title="x", author_id=author)
        refused = await peer.call("subscribe", {"resource": "nowhere"})
        # The write before it was not told: the next event is the refusal's.
        assert await peer.next("subscription.error") == refused["error"]


async def test_python_client_restores_what_it_stored(
    server: RunningServer, rest: Rest, transport: str
):
    user = unique("u")
    async with connected(server.url, transport, token(user)) as peer:
        await peer.call("subscribe", {"resource": "orders", "filters": {"status": "pending"}})
        await peer.next("connected")
        stored = await peer.next("subscription.created")
    async with connected(server.url, transport, token(user)) as peer:
        await peer.next("connected")
        answer = await peer.call("restore-subscriptions", {"subscriptions": [stored]})
        assert answer == {"success": True, "restored": [stored["subscriptionId"]], "failed": []}
        await peer.next("subscription.created")
        await rest.create("orders", customer_id="somebody-else")
        order = await rest.create("orders", customer_id=user)
        told = await peer.next("subscription.update")
        assert (told["id"], told["subscriptionId"]) == (order, stored["subscriptionId"])


async def test_python_client_without_callbacks_gets_the_events(
    server: RunningServer, rest: Rest, transport: str
):
    author = unique("author")
    async with connected(server.url, transport) as peer:
        await peer.next("connected")
        await peer.client.emit("subscribe", {"resource": "posts", "filters": {"author_id": author}})
        data = await peer.next("subscription.created")
        await peer.client.emit("subscribe", {"resource": "posts", "filters": {"nope": 1}})
        assert (await peer.next("subscription.error"))["code"] == "INVALID_FILTERS"
        await rest.create("posts", title="x", author_id=author)
        assert (await peer.next("subscription.update"))["subscriptionId"] == data["subscriptionId"]

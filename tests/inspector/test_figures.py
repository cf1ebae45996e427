"""What the inspector tells: figures, the last changes, who was told, and why others were not."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.http.kit import bearer
from tests.inspector.kit import ADMIN, explain, hide_drafts, inspected, look
from tests.monitoring import kit as monitoring
from tests.sockets.kit import Socket, eventually, served
from tests.support.memory_log import MemoryLog
from tidings import Api, Identity, InspectorPlugin, OperationContext
from tidings.feed import Change, Cursor
from tidings.inspector.recorder import Recorder

pytestmark = pytest.mark.anyio
KIND = {"content-type": "application/vnd.api+json"}


async def post(http: httpx.AsyncClient, **attributes: Any) -> str:
    body = {"data": {"type": "posts", "attributes": attributes}}
    answer = await http.post("/api/posts", json=body, headers={**KIND, **bearer("ann")})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["data"]["id"])


async def settled(api: Api) -> None:
    await api.socket_server.settled()


async def test_an_api_at_rest():
    async with served(inspected()) as url, httpx.AsyncClient(base_url=url) as http:
        found = await look(http)
        assert found["sockets"]["connections"] == 0
        assert found["changes"] == found["connections"] == found["filters"] == []
        assert found["feed"]["connected"] is True
        assert found["feed"]["outboxAge"] is None
        assert found["state"] == "open"


async def test_connections_subscriptions_and_filters():
    async with (
        served(inspected()) as url,
        httpx.AsyncClient(base_url=url) as http,
        await Socket.connected(url, user="ann") as ann,
        await Socket.connected(url, user="ben") as ben,
    ):
        for socket in (ann, ben):
            await socket.call("subscribe", {"resource": "posts", "filters": {"status": "open"}})
        await ben.call("subscribe", {"resource": "users"})
        found = await look(http)
        sockets = found["sockets"]
        assert (sockets["connections"], sockets["subscriptions"], sockets["filters"]) == (2, 3, 2)
        assert [
            (one["resource"], one["filter"], one["subscriptions"]) for one in found["filters"]
        ] == [
            ("posts", "status = 'open'", 2),
            ("users", "always", 1),
        ]
        assert {one["user"]: one["count"] for one in found["connections"]} == {"ann": 1, "ben": 2}
        only = await look(http, user="ben")
        assert [one["user"] for one in only["connections"]] == ["ben"]
        assert (await look(http, user="nobody"))["connections"] == []


async def test_who_was_told_and_why_others_were_not():
    api = inspected()
    api.add_hook("subscription_filters", "drafts", hide_drafts)
    async with (
        served(api) as url,
        httpx.AsyncClient(base_url=url) as http,
        await Socket.connected(url, user="ann") as ann,
        await Socket.connected(url, user="ben") as ben,
        await Socket.connected(url, user="guest") as guest,
    ):
        await ann.call("subscribe", {"resource": "posts", "filters": {"status": "open"}})
        await ben.call("subscribe", {"resource": "posts", "filters": {"status": "shut"}})
        await guest.call("subscribe", {"resource": "posts"})
        number = await post(http, title="One", status="open")
        await settled(api)
        await ben.call("subscribe", {"resource": "posts", "filters": {"status": "open"}})
        [change] = (await look(http))["changes"]
        assert (change["resource"], change["id"], change["kind"]) == ("posts", number, "post")
        assert change["ways"] == {"enter": 1}

        found = await explain(http, change["cursor"])
        assert [(one["user"], one["way"]) for one in found["change"]["told"]] == [("ann", "enter")]
        assert found["matching"] == 1
        assert {(one["users"][0], one["reason"]) for one in found["groups"]} == {
            ("ben", "the record fails: status = 'shut'"),
            ("ben", "it was made after the change, or knew of it already"),
            ("guest", "the record fails: note = 'public'"),
        }
        one = await explain(http, change["cursor"], user="guest")
        assert [group["reason"] for group in one["groups"]] == ["the record fails: note = 'public'"]
        assert (await explain(http, change["cursor"], user="nobody"))["sockets"] == 0
        refused = await http.get("/inspector/explain", headers=ADMIN, params={"cursor": "other.9"})
        assert refused.status_code == 404


async def test_a_notification_that_waits_for_a_permission_counts_when_it_is_told():
    api = inspected({"permission_seconds": 0})
    answers, is_late = asyncio.Event(), False

    async def check(context: OperationContext) -> bool:
        if is_late and context.method == "query":
            await answers.wait()
        return True

    api.add_resource("notes", schema={"title": "string"}, check_permissions=check)
    async with (
        served(api) as url,
        httpx.AsyncClient(base_url=url) as http,
        await Socket.connected(url, user="ann") as ann,
    ):
        await ann.call("subscribe", {"resource": "notes"})
        is_late = True
        await api.resources.notes.post({"title": "One"})
        await eventually(lambda: len(api.socket_server._dispatcher.lines) == 1)
        assert (await look(http))["changes"][0]["ways"] == {}
        await api.resources.notes.post({"title": "Two"})
        answers.set()
        await settled(api)
        found = await look(http, user="ann")  # which is not kept for half a second
        assert [one["ways"] for one in found["changes"]] == [{"enter": 1}] * 2


async def test_values_are_quoted_only_where_that_is_wanted():
    for wanted in (False, True):
        api = inspected(show_values=wanted)
        async with (
            served(api) as url,
            httpx.AsyncClient(base_url=url) as http,
            await Socket.connected(url) as socket,
        ):
            await socket.call("subscribe", {"resource": "posts", "filters": {"status": "open"}})
            await post(http, title="A title", status="secret")
            await settled(api)
            [change] = (await look(http))["changes"]
            answer = await explain(http, change["cursor"])
            assert ("secret" in str(answer)) is wanted
            assert "A title" not in str(answer)


async def test_resyncs_are_counted_by_reason_and_told_of():
    api = inspected()
    async with (
        served(api) as url,
        httpx.AsyncClient(base_url=url) as http,
        await Socket.connected(url, user="ann") as ann,
    ):
        await ann.call("subscribe", {"resource": "posts", "filters": {}, "cursor": "another.1"})
        assert (await look(http))["sockets"]["resyncs"]["epoch"] == 1


async def test_another_process_says_that_it_is_another():
    async with served(inspected()) as url, httpx.AsyncClient(base_url=url) as http:
        process = (await look(http))["process"]
        assert (await look(http, process=process))["process"] == process
        answer = await http.get("/inspector/data", headers=ADMIN, params={"process": "another"})
        assert answer.status_code == 409
        assert answer.json()["process"] == process
        assert answer.headers["connection"] == "close"


async def test_a_feed_that_is_away_and_an_outbox_that_waits(tmp_path: Path):
    log = MemoryLog()
    plugin = InspectorPlugin(
        role="admin", identify=lambda request: Identity("root", roles=frozenset({"admin"}))
    )
    api = monitoring.make_api(tmp_path / "a.db", plugin, log=log, outbox=True)

    async def feed() -> dict[str, Any]:
        return dict((await look(http, {}, user="nobody"))["feed"])

    async with api, monitoring.client(api.asgi()) as http:
        found = await feed()
        assert (found["shared"], found["connected"]) == (True, True)
        assert (found["outboxRows"], found["behind"]) == (0, 0)
        log.is_there = False
        await eventually(lambda: not api._feed.is_connected)
        await api.resources.posts.post({"title": "a"})
        with sqlite3.connect(tmp_path / "a.db") as other:
            other.execute("UPDATE tidings_outbox SET added = added - 100")
        other.close()
        found = await feed()
        assert (found["connected"], found["outboxRows"]) == (False, 1)
        assert found["outboxAge"] >= 100


async def test_an_api_that_is_closed_says_so():
    api = inspected(allow=lambda who: True)
    async with monitoring.client(api.asgi()) as http:
        found = await look(http)
        assert found["state"] == "closed"
        assert "feed" not in found
        assert (
            await http.get("/inspector/explain", headers=ADMIN, params={"cursor": "e.1"})
        ).status_code == 404


def change(number: int, text: str) -> Change:
    return Change("posts", str(number), "post", None, {"id": number, "title": text})


def test_the_recorder_keeps_a_number_and_a_weight():
    recorder = Recorder(10, 10**9)
    for number in range(1, 100):
        recorder.begin(Cursor("e", number), change(number, "x"))
    assert [one.cursor.offset for one in recorder.latest(3)] == [99, 98, 97]
    assert len(recorder) == 10
    assert recorder.at(Cursor("e", 89)) is None

    recorder = Recorder(10_000, 1_000_000)
    for number in range(1, 100):
        recorder.begin(Cursor("e", number), change(number, "x" * 50_000))
    assert 10 < len(recorder) < 20
    assert recorder.bytes <= 1_000_000


async def test_large_crowds_are_counted_and_not_listed():
    api = inspected()
    async with (
        served(api) as url,
        httpx.AsyncClient(base_url=url) as http,
        await Socket.connected(url, user="u" * 5_000) as socket,
    ):
        for number in range(60):
            answer = await socket.call(
                "subscribe",
                {
                    "resource": "posts",
                    "filters": {"title": f"{number}" + "x" * 900},
                    "subscriptionId": f"{number}",
                },
            )
            assert answer["success"] is True
        for number in range(30):
            await socket.call("subscribe", {"resource": "posts", "subscriptionId": f"all{number}"})
        await post(http, title="One")
        await settled(api)
        for _ in range(30):
            await socket.event("subscription.update")
        answer = await http.get("/inspector/data", headers=ADMIN)
        found = answer.json()
        assert len(found["filters"]) == 50
        assert found["sockets"]["filters"] == 61
        [connection] = found["connections"]
        assert (connection["count"], len(connection["subscriptions"])) == (90, 20)
        assert len(connection["user"]) == 100
        assert len(answer.content) < 60_000
        [seen] = found["changes"]
        assert seen["ways"] == {"enter": 30}
        explained = await explain(http, seen["cursor"])
        assert len(explained["change"]["told"]) == 20

"""Metrics: each figure is that of what has happened, and no client can make the figures grow."""

from __future__ import annotations

import asyncio
import re
import sqlite3
import subprocess
import sys
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.monitoring.kit import MemoryLog, client, eventually, make_api
from tests.sockets.kit import Socket
from tests.support.server import REPOSITORY, serve
from tidings import Api, OperationsPlugin
from tidings.counting import Histogram
from tidings.filters import Atom

pytestmark = pytest.mark.anyio
Key = tuple[str, frozenset[tuple[str, str]]]


class Figures(dict[Key, float]):
    """The samples of a scrape, by name and labels."""

    def of(self, name: str, **labels: str) -> float:
        return self[name, frozenset(labels.items())]

    def has(self, name: str) -> bool:
        return any(found == name for found, _ in self)


async def scrape(http: httpx.AsyncClient) -> Figures:
    answer = await http.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=")
    return Figures(
        ((sample.name, frozenset(sample.labels.items())), sample.value)
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    )


def watched(*arguments: Any, **options: Any) -> Api:
    return make_api(*arguments, OperationsPlugin(metrics="/metrics"), **options)


async def delivered(api: Api) -> None:
    await eventually(lambda: api.socket_server._dispatcher.delivered == api._feed.position)


def body(**attributes: Any) -> dict[str, Any]:
    return {
        "json": {"data": {"type": "posts", "attributes": attributes}},
        "headers": {"content-type": "application/vnd.api+json"},
    }


async def test_sockets_and_deliveries_are_counted() -> None:
    api = watched(None)
    async with serve(api.asgi(), log_config=None) as url, httpx.AsyncClient(base_url=url) as http:
        before = await scrape(http)
        assert before.of("tidings_connections") == before.of("tidings_filters") == 0
        assert before.of("tidings_resyncs_total", reason="overflow") == 0
        sockets = [await Socket.open(url) for _ in range(3)]
        for socket in sockets:
            await socket.connect({})
            for filters in ({}, {"status": "x"}):
                answer = await socket.call("subscribe", {"resource": "posts", "filters": filters})
                assert answer["success"]
        await http.post("/api/posts", **body(title="a", status="x"))
        await http.post("/api/posts", **body(title="a", status="y"))
        for socket in sockets:
            for _ in range(3):
                await socket.event("subscription.update")
        await api.permissions_changed()
        await sockets[0].call(
            "restore-subscriptions",
            {"subscriptions": [{"resource": "posts", "subscriptionId": "r", "cursor": "other.1"}]},
        )
        after = await scrape(http)
        assert after.of("tidings_connections") == 3
        assert after.of("tidings_subscriptions") == 7
        assert after.of("tidings_filters") == 2
        assert after.of("tidings_notifications_total") == 9
        assert after.of("tidings_resyncs_total", reason="epoch") == 1
        assert after.of("tidings_resyncs_total", reason="window") == 0
        assert after.of("tidings_match_seconds_count") == 2
        assert after.of("tidings_delivery_delay_seconds_count") == 2
        assert 0 < after.of("tidings_delivery_delay_seconds_sum") < 20
        assert after.of("tidings_queue_bytes") == 0
        assert after.of("tidings_feed_behind") == after.of("tidings_feed_lag_seconds") == 0
        assert after.of("tidings_feed_offset") == 2
        assert 0 <= after.of("tidings_feed_newest_change_age_seconds") < 20
        for socket in sockets:
            await socket.close()
        await eventually(lambda: not api.socket_server._subscribers)
        assert (await scrape(http)).of("tidings_subscriptions") == 0


async def test_what_waits_for_a_client_is_counted_in_bytes() -> None:
    api = watched(None)
    async with serve(api.asgi(), log_config=None) as url:
        http = httpx.AsyncClient(base_url=url)
        opened = (await http.get("/socket.io/?EIO=4&transport=polling")).text
        sid = opened.partition('"sid":"')[2].partition('"')[0]
        address = f"/socket.io/?EIO=4&transport=polling&sid={sid}"
        assert (await http.post(address, content="40{}")).status_code == 200
        await eventually(lambda: len(api.socket_server._subscribers) == 1)
        waiting = (await scrape(http)).of("tidings_queue_bytes")
        polled = (await http.get(address)).text
        assert '"connected"' in polled
        # What is counted are frames, which have heads of some bytes. And what was polled before
        # has been sent when the client comes again.
        assert 0 <= waiting - len((polled + opened).encode()) < 16
        assert (await scrape(http)).of("tidings_queue_bytes") == len(polled.encode())
        await http.aclose()


async def test_requests_are_counted_by_resource_and_outcome() -> None:
    api = watched(None)
    async with api, client(api.asgi()) as http:
        for _ in range(2):
            await http.post("/api/posts", **body(title="a"))
        await http.post("/api/posts", **body(title=7))
        await http.get("/api/posts/1?include=nothing")
        await http.get("/api/posts/99")
        for number in range(50):
            await http.get(f"/api/made-up-{number}")
            await http.request(f"MADE{number}", "/api/posts")
        found = await scrape(http)

        def count(method: str, resource: str, status: int) -> float:
            labels = {"method": method, "resource": resource, "status": str(status)}
            return found.of("tidings_http_requests_total", **labels)

        assert count("POST", "posts", 201) == 2
        assert count("POST", "posts", 422) == 1
        assert count("GET", "posts", 400) == 1
        assert count("GET", "posts", 404) == 1
        assert count("GET", "other", 404) == 50
        assert count("other", "posts", 405) == 50
        timed = {"method": "POST", "resource": "posts"}
        assert found.of("tidings_http_request_duration_seconds_count", **timed) == 3
        assert found.of("tidings_http_request_duration_seconds_bucket", le="+Inf", **timed) == 3
        assert not any("made-up" in str(key) for key in found)


async def test_a_client_that_goes_before_the_answer_is_counted(tmp_path) -> None:
    api = watched(tmp_path / "a.db")
    async with api, client(api.asgi()) as http:
        async with api.transaction():
            writing = asyncio.create_task(http.post("/api/posts", **body(title="a")))
            database: Any = api.internals.parts.database
            await eventually(lambda: bool(database._write_lock._waiters))
            writing.cancel()
            await asyncio.gather(writing, return_exceptions=True)
        labels = {"method": "POST", "resource": "posts", "status": "none"}
        assert (await scrape(http)).of("tidings_http_requests_total", **labels) == 1


async def test_lag_and_outbox_grow_while_the_feed_is_away_and_shrink_after(tmp_path) -> None:
    log = MemoryLog()
    api = watched(tmp_path / "a.db", log=log, outbox=True)
    async with api, client(api.asgi()) as http:
        assert (await scrape(http)).of("tidings_feed_connected") == 1
        log.is_there = False
        await eventually(lambda: not api._feed.is_connected)
        for _ in range(3):
            await api.resources.posts.post({"title": "a"})
        with sqlite3.connect(tmp_path / "a.db") as other:
            other.execute("UPDATE tidings_outbox SET added = added - 100")
        other.close()
        away = await scrape(http)
        assert away.of("tidings_feed_connected") == 0
        assert away.of("tidings_outbox_rows") == 3
        assert 100 <= away.of("tidings_outbox_oldest_age_seconds") < 200
        assert away.of("tidings_relay_overflows_total") == 0
        assert not away.has("tidings_feed_newest_change_age_seconds")
        log.is_there = True
        await eventually(lambda: len(log.entries) == 3)
        await api._linked.settle()  # the rows are deleted after they have been published
        await delivered(api)
        await eventually(lambda: api.socket_server._dispatcher.delivered.offset == 3)
        back = await scrape(http)
        assert back.of("tidings_feed_connected") == 1
        assert back.of("tidings_outbox_rows") == back.of("tidings_outbox_oldest_age_seconds") == 0
        assert back.of("tidings_feed_offset") == 3


async def test_what_delivery_has_not_come_to_is_lag() -> None:
    api = watched(None)
    async with api, client(api.asgi()) as http:
        await api.socket_server._dispatcher.stop()
        for _ in range(4):
            await api.resources.posts.post({"title": "a"})
        found = await scrape(http)
        assert found.of("tidings_feed_behind") == 4
        assert found.of("tidings_feed_lag_seconds") > 0


async def test_changes_that_wait_in_memory_and_are_dropped_are_counted() -> None:
    log = MemoryLog()
    api = watched(None, log=log)
    async with api, client(api.asgi()) as http:
        log.is_there = False
        relay = api.internals.link.relay
        assert relay is not None
        await api.resources.posts.post({"title": "a"})
        assert (await scrape(http)).of("tidings_relay_waiting_bytes") > 0
        relay._max_waiting = 10
        await api.resources.posts.post({"title": "b"})
        assert (await scrape(http)).of("tidings_relay_overflows_total") >= 1
        log.is_there = True


async def test_a_scrape_waits_for_nobody(tmp_path) -> None:
    """The database does not answer: the figures that need it are left out, and no other."""
    api = make_api(
        tmp_path / "a.db",
        OperationsPlugin(metrics="/metrics", check_seconds=0.1),
        log=MemoryLog(),
        outbox=True,
    )
    async with api, client(api.asgi()) as http:
        database: Any = api.internals.parts.database
        held = [await database._readers.get() for _ in range(database._reader_count)]
        found = await scrape(http)
        assert not found.has("tidings_outbox_rows")
        assert found.has("tidings_connections")
        for reader in held:
            database._readers.put_nowait(reader)
        assert (await scrape(http)).has("tidings_outbox_rows")


async def test_apis_have_figures_of_their_own_and_a_closed_one_says_so() -> None:
    one, other = watched(None), watched(None)
    async with client(one.asgi()) as first, client(other.asgi()) as second:
        async with one:
            await first.get("/api/posts")
            assert (await scrape(first)).has("tidings_http_requests_total")
            assert (await scrape(first)).of("tidings_open") == 1
            found = await scrape(second)
            assert found.of("tidings_open") == 0
            assert not found.has("tidings_http_requests_total")
        assert (await scrape(first)).of("tidings_open") == 0


async def test_every_metric_is_documented(tmp_path) -> None:
    api = watched(tmp_path / "a.db", log=MemoryLog(), outbox=True)
    async with api, client(api.asgi()) as http:
        # Somebody watches: nothing is matched where nobody does.
        api.socket_server._matcher.acquire("posts", Atom("title", "=", "b"))
        await http.post("/api/posts", **body(title="a"))
        await eventually(lambda: api.socket_server._dispatcher.delivered.offset == 1)
        served = set(re.findall(r"^# TYPE (tidings_\w+)", (await http.get("/metrics")).text, re.M))
    page = (REPOSITORY / "docs" / "operations.md").read_text()
    assert len(served) == 22
    assert served == set(re.findall(r"`(tidings_\w+)", page))


async def test_openmetrics_is_spoken_to_those_who_accept_it() -> None:
    api = watched(None)
    async with client(api.asgi()) as http:
        accept = "application/openmetrics-text; version=1.0.0"
        answer = await http.get("/metrics", headers={"accept": accept})
        assert answer.headers["content-type"].startswith("application/openmetrics-text")
        assert answer.text.endswith("# EOF\n")


async def test_an_application_adds_figures_to_the_registry() -> None:
    from prometheus_client import Counter

    plugin = OperationsPlugin(metrics="/metrics")
    api = make_api(None, plugin)
    Counter("orders", "Orders.", registry=plugin.registry).inc()
    async with client(api.asgi()) as http:
        assert (await scrape(http)).of("orders_total") == 1


def test_a_histogram_counts_up_to_and_with_its_bounds() -> None:
    histogram = Histogram((1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 9.0):
        histogram.observe(value)
    assert list(histogram.cumulative()) == [(1.0, 2), (2.0, 3), (float("inf"), 4)]
    assert (histogram.count, histogram.total) == (4, 12.0)


@pytest.mark.parametrize(
    ("missing", "option", "extra"),
    [
        ("prometheus_client", "metrics='/metrics'", "metrics"),
        ("opentelemetry", "tracing=True", "otel"),
    ],
)
def test_what_is_not_installed_is_named(missing, option, extra) -> None:
    """In a Python of its own, whose finder does not find the package."""
    script = f"""
import sys

class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == {missing!r}:
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Hidden())
import tidings
tidings.OperationsPlugin()
try:
    tidings.OperationsPlugin({option})
except tidings.MissingExtraError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=REPOSITORY
    )
    assert f'pip install "tidings[{extra}]"' in done.stdout, done.stderr

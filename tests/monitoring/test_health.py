"""Health: alive is whose loop turns, ready is who can serve; and it says why not, but no more."""

from __future__ import annotations

import asyncio
import sqlite3
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from tests.monitoring.kit import MemoryLog, client, eventually, make_api
from tests.support.server import serve
from tidings import Api, ConfigurationError, OperationsPlugin
from tidings.monitoring.questions import Questions

pytestmark = pytest.mark.anyio


async def ready(api: Api) -> tuple[int, dict[str, Any]]:
    async with client(api.asgi()) as http:
        answer = await http.get("/health/ready")
        return answer.status_code, answer.json()


async def test_a_process_is_alive_before_it_is_ready() -> None:
    api = make_api(None, OperationsPlugin())
    async with client(api.asgi()) as http:
        assert (await http.get("/health/live")).json() == {"status": "alive"}
        before = await http.get("/health/ready")
        assert before.status_code == 503
        assert before.json() == {
            "status": "unavailable",
            "checks": {"api": {"status": "failed", "reason": "it is closed"}},
        }
        async with api:
            for path in ("/health", "/health/ready"):
                answer = await http.get(path)
                assert answer.status_code == 200
                assert answer.headers["cache-control"] == "no-store"
                assert answer.json()["status"] == "ready"
                assert set(answer.json()["checks"]) == {"database", "feed"}
        assert (await http.get("/health")).status_code == 503
        assert (await http.get("/health/live")).status_code == 200


async def test_a_process_that_opens_or_closes_is_not_ready() -> None:
    api = make_api(None, OperationsPlugin())
    seen = []
    for hook in ("startup", "shutdown"):

        @api.hook(hook, name=hook)
        async def look(_context: Any) -> None:
            status, document = await ready(api)
            seen.append((status, document["checks"]["api"]["reason"]))

    async with api:
        pass
    assert seen == [(503, "it is opening"), (503, "it is closing")]


async def test_only_get_and_head_are_possible() -> None:
    api = make_api(None, OperationsPlugin())
    async with api, client(api.asgi()) as http:
        head = await http.head("/health")
        assert (head.status_code, head.content) == (200, b"")
        refused = await http.post("/health")
        assert (refused.status_code, refused.headers["allow"]) == (405, "GET, HEAD")
        assert (await http.get("/health/else")).status_code == 404


async def test_the_database_is_asked_within_a_bound(tmp_path) -> None:
    """In the database file all readers hang; the answer comes all the same, once for everybody."""
    api = make_api(tmp_path / "a.db", OperationsPlugin(check_seconds=0.2))
    async with api, client(api.asgi()) as http:
        database: Any = api.internals.parts.database
        held = [await database._readers.get() for _ in range(database._reader_count)]
        try:
            asking = [asyncio.create_task(http.get("/health")) for _ in range(20)]
            await eventually(lambda: bool(database._readers._getters))
            for _ in range(20):
                await asyncio.sleep(0)
            waiting = len(database._readers._getters)
            answers = await asyncio.gather(*asking)
            assert (await http.get("/health/live")).status_code == 200
        finally:
            for reader in held:
                database._readers.put_nowait(reader)
        assert waiting == 1
        for answer in answers:
            assert answer.status_code == 503
            assert answer.json()["checks"]["database"] == {
                "status": "failed",
                "reason": "no answer in 0.2 s",
            }
        assert (await http.get("/health")).status_code == 200


async def test_what_the_database_says_is_in_the_log_alone(tmp_path, caplog) -> None:
    api = make_api(tmp_path / "a.db", OperationsPlugin())
    async with api:
        database: Any = api.internals.parts.database
        broken = [await database._readers.get() for _ in range(database._reader_count)]
        for reader in broken:
            await reader.close()
            database._readers.put_nowait(reader)
        for _ in range(2):
            status, document = await ready(api)
            assert status == 503
            assert document["checks"]["database"] == {
                "status": "failed",
                "reason": "it cannot be used; the log tells why",
            }
        told = [record for record in caplog.records if record.name == "tidings.health"]
        assert [record.levelname for record in told] == ["WARNING"]
        for _ in broken:
            database._readers.get_nowait()
        for _ in broken:
            database._readers.put_nowait(await database._connect())
        assert (await ready(api))[0] == 200


async def test_a_feed_that_is_away_degrades_or_is_required() -> None:
    log = MemoryLog()
    lenient = make_api(None, OperationsPlugin(), log=log)
    strict = make_api(None, OperationsPlugin(require_feed=True), log=log)
    async with lenient, strict:
        for api in (lenient, strict):
            status, document = await ready(api)
            assert (status, document["status"]) == (200, "ready")
            found = document["checks"]["feed"]
            assert found == {"status": "ok", "shared": True, "waiting_bytes": 0}
        log.is_there = False
        await eventually(lambda: not lenient._feed.is_connected and not strict._feed.is_connected)
        await lenient.resources.posts.post({"title": "kept"})
        status, document = await ready(lenient)
        assert (status, document["status"]) == (200, "degraded")
        feed = document["checks"]["feed"]
        assert feed["status"] == "degraded"
        assert feed["waiting_bytes"] > 0
        status, document = await ready(strict)
        assert (status, document["status"]) == (503, "unavailable")
        assert document["checks"]["feed"]["status"] == "failed"
        log.is_there = True
        await eventually(lambda: lenient._feed.is_connected and strict._feed.is_connected)
        assert (await ready(lenient))[1]["status"] == "ready"
        assert (await ready(strict))[0] == 200


async def test_an_outbox_that_is_not_emptied_degrades(tmp_path) -> None:
    log = MemoryLog()
    api = make_api(tmp_path / "a.db", OperationsPlugin(), log=log, outbox=True)
    async with api:
        assert (await ready(api))[1]["checks"]["outbox"] == {
            "status": "ok",
            "rows": 0,
            "oldest_seconds": 0.0,
        }
        log.is_there = False
        await api.resources.posts.post({"title": "kept"})
        _, document = await ready(api)
        assert document["checks"]["outbox"]["status"] == "ok"
        assert document["checks"]["outbox"]["rows"] == 1
        with sqlite3.connect(tmp_path / "a.db") as other:
            other.execute("UPDATE tidings_outbox SET added = added - 100")
        other.close()
        status, document = await ready(api)
        assert (status, document["checks"]["outbox"]["status"]) == (200, "degraded")
        assert document["checks"]["outbox"]["oldest_seconds"] >= 100
        log.is_there = True


async def test_a_missing_outbox_table_is_no_readiness(tmp_path) -> None:
    api = make_api(tmp_path / "a.db", OperationsPlugin(), log=MemoryLog(), outbox=True)
    async with api:
        with sqlite3.connect(tmp_path / "a.db") as other:
            other.execute("DROP TABLE tidings_outbox")
        other.close()
        status, document = await ready(api)
        assert status == 503
        assert "tidings_outbox" not in str(document["checks"]["outbox"])


async def test_it_is_served_from_within_other_apps() -> None:
    installed, inner = make_api(None, OperationsPlugin(health="/sante")), FastAPI()
    installed.install(inner, "/api")

    @inner.get("/{rest:path}")
    def anything(rest: str) -> str:
        return rest

    beside = make_api(None, OperationsPlugin())
    other = FastAPI()

    @other.get("/else")
    def there() -> str:
        return "there"

    async def plain(scope: Any, receive: Any, send: Any) -> None:
        await other(scope, receive, send)

    apps = [(inner, "/sante"), (beside.start_socket_server(plain), "/health")]
    for app, path in apps:
        async with serve(app, log_config=None) as url, httpx.AsyncClient(base_url=url) as http:
            assert (await http.get(f"{path}/ready")).json()["status"] == "ready"
            assert (await http.get(path)).status_code == 200
            assert (await http.get("/else")).status_code == 200
            assert (await http.get("/socket.io/?EIO=4&transport=polling")).status_code == 200


@pytest.mark.parametrize(
    "options",
    [
        {"health": "health"},
        {"metrics": "/metrics/"},
        {"check_seconds": 0},
        {"check_seconds": 61},
        {"check_seconds": True},
        {"check_seconds": float("nan")},
    ],
)
def test_options_that_make_no_sense_are_refused(options) -> None:
    with pytest.raises(ConfigurationError, match=r"path|check_seconds"):
        OperationsPlugin(**options)


def test_two_endpoints_at_one_path_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="endpoint at '/health' already"):
        make_api(None, OperationsPlugin(health="/health", metrics="/health"))


async def test_a_question_that_ignores_its_cancellation_is_asked_once() -> None:
    questions, asked, let_go = Questions(0.01), 0, asyncio.Event()

    async def stubborn() -> str:
        nonlocal asked
        asked += 1
        while not let_go.is_set():
            try:
                await let_go.wait()
            except asyncio.CancelledError:
                continue
        return "late"

    try:
        for _ in range(3):
            with pytest.raises(TimeoutError, match=r"no answer within 0\.01 s"):
                await questions.ask("it", stubborn)
        assert asked == 1
    finally:
        let_go.set()
    await eventually(lambda: questions._asked["it"].done())
    assert await questions.ask("it", stubborn) == "late"
    assert asked == 2

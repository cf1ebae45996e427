"""The doctor: says what is well, and for every real failure what is wrong and what to do."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jwt
import pytest

from tests.auth.conftest import JwksServer, Keys
from tests.monitoring.kit import MemoryLog, make_api
from tests.support.databases import DatabaseServer, MissingServer, postgresql
from tests.support.server import free_port, run_server, serve
from tidings import (
    Api,
    ConfigurationError,
    Finding,
    JWTAuthPlugin,
    RedisFeedPlugin,
    RestApiPlugin,
    SocketIOPlugin,
    SqlAlchemyPlugin,
    diagnose,
)
from tidings.api import FeedOptions
from tidings.auth.keys import is_guessable

pytestmark = pytest.mark.anyio
GOOD_SECRET = "4f1c9a7e2b5d8036e1f2a3b4c5d6978812ab34cd56ef7890aabbccddeeff0011"

APP = f"""\
import os

from tidings import Api, JWTAuthPlugin, RestApiPlugin, SocketIOPlugin, SqlAlchemyPlugin

api = Api(name="blog")
api.use(RestApiPlugin())
api.use(SqlAlchemyPlugin(
    os.environ.get("DATABASE", "sqlite+aiosqlite:///blog.db"), create_tables=True
))
api.use(JWTAuthPlugin(secret={GOOD_SECRET!r}))
api.use(SocketIOPlugin(cors={{"origin": ["https://example.org"]}}))
api.add_resource("posts", schema={{"title": "string"}})
app = api.asgi()
number = 7
"""


async def found(api: Api, **options: Any) -> dict[str, Finding]:
    findings = [finding async for finding in diagnose(api, **options)]
    assert len({finding.check for finding in findings}) == len(findings)
    return {finding.check: finding for finding in findings}


def outcomes(findings: dict[str, Finding]) -> dict[str, str]:
    """Without that of the machine's own limit."""
    return {name: one.status for name, one in findings.items() if name != "files"}


def declared(url: str, *, create: bool = False, **jwt_options: Any) -> Api:
    api = Api(name="blog")
    api.use(RestApiPlugin())
    api.use(SqlAlchemyPlugin(url, create_tables=create))
    api.use(JWTAuthPlugin(**(jwt_options or {"secret": GOOD_SECRET})))
    api.use(SocketIOPlugin(cors={"origin": ["https://example.org"]}))
    api.add_resource("posts", schema={"title": "string", "body": "text"})
    return api


def token(**claims: Any) -> str:
    return jwt.encode({"sub": "7", **claims}, GOOD_SECRET, "HS256")


# All is well


async def test_all_is_well(tmp_path) -> None:
    api = make_api(tmp_path / "a.db", log=MemoryLog(), outbox=True)
    await api.create_tables()
    findings = await found(api)
    tokens = findings.pop("tokens")
    assert (tokens.status, tokens.advice) == ("warning", None)
    assert set(outcomes(findings).values()) == {"ok"}
    assert set(findings) - {"files"} == {
        *("database", "tables", "write", "outbox", "feed", "http", "websocket")
    }
    assert findings["feed"].message.startswith("memory answers in ")
    assert findings["feed"].message.endswith(".0")
    assert "subscribed to posts" in findings["websocket"].message
    assert api.state == "closed"


async def test_nothing_that_was_written_stays(tmp_path) -> None:
    log = MemoryLog()
    api = make_api(tmp_path / "a.db", log=log, outbox=True)
    await api.create_tables()
    await found(api)
    with sqlite3.connect(tmp_path / "a.db") as other:
        counts = [
            other.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
            for table in ("posts", "tidings_outbox")
        ]
    other.close()
    assert counts == [0, 0]
    assert log.entries == []
    assert log.opened == 0


async def test_with_a_token_the_whole_way_is_gone(tmp_path) -> None:
    api = declared(f"sqlite+aiosqlite:///{tmp_path / 'a.db'}", create=True)
    findings = await found(api, token=token())
    assert set(outcomes(findings).values()) == {"ok"}
    assert "created when the api opens: posts" in findings["tables"].message
    assert "GET /api/posts answers 200" in findings["http"].message
    assert "connected and subscribed to posts" in findings["websocket"].message


async def test_without_a_token_the_handshake_is_answered(tmp_path) -> None:
    api = declared(f"sqlite+aiosqlite:///{tmp_path / 'a.db'}", create=True)
    websocket = (await found(api))["websocket"]
    assert websocket.status == "ok"
    assert "Authentication required" in websocket.message


# The database


async def test_a_database_that_cannot_be_opened(tmp_path) -> None:
    findings = await found(declared(f"sqlite+aiosqlite:///{tmp_path}/nowhere/a.db"))
    assert findings["database"].status == "failed"
    assert "unable to open database file" in findings["database"].message
    assert "websocket" not in findings


async def test_a_table_that_is_missing_and_one_that_lacks_a_column(tmp_path) -> None:
    api = declared(f"sqlite+aiosqlite:///{tmp_path / 'a.db'}")
    findings = await found(api)
    assert findings["tables"].status == "failed"
    assert findings["tables"].message == "posts: missing"
    assert "create_tables" in (findings["tables"].advice or "")
    with sqlite3.connect(tmp_path / "a.db") as other:
        other.execute("CREATE TABLE posts (id INTEGER PRIMARY KEY, title TEXT)")
    other.close()
    findings = await found(declared(f"sqlite+aiosqlite:///{tmp_path / 'a.db'}"))
    assert findings["tables"].status == "failed"
    assert findings["tables"].message == "posts.body: there is no such column"


async def test_a_missing_outbox_is_found_before_the_api_opens(tmp_path) -> None:
    first = declared(f"sqlite+aiosqlite:///{tmp_path / 'a.db'}")
    await first.create_tables()
    api = declared(f"sqlite+aiosqlite:///{tmp_path / 'a.db'}")
    api.set_feed(FeedOptions(log=MemoryLog(), outbox=True))
    findings = await found(api)
    assert findings["tables"].message == "tidings_outbox: missing"
    assert "outbox" not in findings
    assert "create_tables" in (findings["tables"].advice or "")
    assert "websocket" not in findings


async def test_an_outbox_that_nobody_empties_is_warned_of(tmp_path) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path / 'a.db'}"
    log = MemoryLog()
    api = declared(url, create=True)
    api.set_feed(FeedOptions(log=log, outbox=True))
    async with api:
        log.is_there = False
        await api.resources.posts.post({"title": "a"})
    with sqlite3.connect(tmp_path / "a.db") as other:
        other.execute("UPDATE tidings_outbox SET added = added - 100")
    other.close()
    log.is_there = True
    findings = await found(api)
    assert findings["outbox"].status == "warning"
    assert findings["outbox"].message.startswith("1 rows wait, the oldest for 1")


async def test_a_write_lock_that_another_holds(tmp_path) -> None:
    api = declared(f"sqlite+aiosqlite:///{tmp_path / 'a.db'}")
    await api.create_tables()
    database: Any = api.internals.parts.database
    database._busy_timeout = 0.05
    other = sqlite3.connect(tmp_path / "a.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    findings = await found(api)
    other.close()
    assert findings["write"].status == "failed"
    assert "busy" in findings["write"].message


@pytest.fixture(scope="module")
def server() -> Iterator[DatabaseServer]:
    try:
        with postgresql() as started:
            yield started
    except MissingServer as missing:
        pytest.skip(str(missing))


async def test_postgresql_at_a_wrong_port_and_with_a_wrong_password(server) -> None:
    wrong_port = f"postgresql+asyncpg://tidings:hunter2@127.0.0.1:{free_port()}/tidings"
    finding = (await found(declared(wrong_port)))["database"]
    assert finding.status == "failed"
    assert "refused" in finding.message.lower() or "connect" in finding.message.lower()
    wrong = server.url_of("tidings", password="hunter2")
    finding = (await found(declared(wrong)))["database"]
    assert finding.status == "failed"
    assert "password" in finding.message
    assert "hunter2" not in str(finding)


async def test_postgresql_in_which_nothing_may_be_written(server) -> None:
    with server.database() as url:
        api = declared(url)
        await api.create_tables()
        assert outcomes(await found(api, token=token()))["write"] == "ok"
        name = url.rpartition("/")[2]
        server.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
        try:
            finding = (await found(declared(url)))["write"]
        finally:
            server.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only")
        assert finding.status == "failed"
    assert "only be read" in finding.message
    assert "UPDATE posts" not in finding.message


@pytest.mark.parametrize("right", ["INSERT", "UPDATE", "DELETE"])
async def test_postgresql_where_a_right_is_lacking(server, right) -> None:
    with server.database() as url:
        api = declared(url)
        await api.create_tables()
        user = f"no_{right.lower()}"
        server.execute(
            f"CREATE ROLE {user} LOGIN PASSWORD 'right-password'",
            f"GRANT USAGE ON SCHEMA public TO {user}",
            f"GRANT SELECT, INSERT, UPDATE, DELETE ON posts TO {user}",
            f"REVOKE {right} ON posts FROM {user}",
            database=url.rpartition("/")[2],
        )
        finding = (await found(declared(url.replace("//tidings:", f"//{user}:"))))["write"]
        assert finding.status == "failed"
        assert "permission denied for table posts" in finding.message
        assert right in (finding.advice or "")


# The feed


async def test_a_feed_that_is_away(tmp_path) -> None:
    log = MemoryLog()
    log.is_there = False
    api = make_api(tmp_path / "a.db", log=log, outbox=True)
    findings = await found(api)
    assert findings["feed"].status == "failed"
    assert findings["feed"].message == "memory: it was taken away"
    assert findings["websocket"].status == "ok"  # readers and writers are served all the same


async def test_more_workers_than_a_feed_in_memory_can_serve(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("WEB_CONCURRENCY", "4")
    api = make_api(tmp_path / "a.db")
    finding = (await found(api))["workers"]
    assert finding.status == "failed"
    assert "WEB_CONCURRENCY=4" in finding.message


async def test_processes_that_share_no_feed_are_told_by_their_answers(tmp_path) -> None:
    (tmp_path / "blog.py").write_text(APP)
    command = "import os, sys, uvicorn; os.chdir({!r}); sys.path.insert(0, '.'); uvicorn.run("
    command += "'blog:app', port=int(os.environ['PORT']), workers=3, log_level='warning')"
    environment = {"PYTHONPATH": f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"}
    async with run_server(
        ["-c", command.format(str(tmp_path))], env=environment, ready_path="/api/posts"
    ) as running:
        api = declared(f"sqlite+aiosqlite:///{tmp_path / 'blog.db'}")
        told: dict[str, Finding] = {}
        for _ in range(40):  # which worker answers is a matter of chance
            told |= await found(api, url=running.url, token=token())
            if "workers" in told:
                break
        assert told["workers"].status == "failed"
        assert "each with a feed of its own" in told["workers"].message


# Tokens and keys


@pytest.fixture
def published() -> Iterator[JwksServer]:
    started = JwksServer()
    yield started
    started.stop()


async def test_published_keys_that_are_there_and_that_are_not(tmp_path, published) -> None:
    keys, url = Keys(), f"sqlite+aiosqlite:///{tmp_path / 'a.db'}"
    published.serve(keys.jwk(keys.ec, kid="e"))
    findings = await found(declared(url, create=True, jwks_url=published.url))
    assert findings["jwks"].status == "ok"
    assert findings["jwks"].message.endswith("has 1 usable keys")
    published.serve()
    finding = (await found(declared(url, create=True, jwks_url=published.url)))["jwks"]
    assert (finding.status, "no key" in finding.message) == ("failed", True)
    published.status = 503
    finding = (await found(declared(url, create=True, jwks_url=published.url)))["jwks"]
    assert (finding.status, "status 503" in finding.message) == ("failed", True)
    published.stop()
    finding = (await found(declared(url, create=True, jwks_url=f"{published.url}?key=hidden")))[
        "jwks"
    ]
    assert (finding.status, "refused" in finding.message) == ("failed", True)
    assert "hidden" not in str(finding)


async def test_a_secret_that_was_thought_up_is_warned_of_and_not_shown(tmp_path) -> None:
    secret = "correct horse battery staple and so on"
    api = declared(f"sqlite+aiosqlite:///{tmp_path / 'a.db'}", create=True, secret=secret)
    finding = (await found(api))["tokens"]
    assert finding.status == "warning"
    assert "horse" not in str(finding)


@pytest.mark.parametrize(
    ("secret", "is_weak"),
    [
        (b"a" * 40, True),
        (b"my-super-Secret-key-0123456789abcdef", True),
        (b"correct horse battery staple and so on", True),
        (GOOD_SECRET.encode(), False),
        (bytes(range(0, 256, 5)), False),
        (b"Qk3v9ZxW1pT7mLr8sYd2Hf6uJc4bNgEa", False),
    ],
)
def test_what_looks_thought_up(secret, is_weak) -> None:
    assert is_guessable(secret) is is_weak


async def test_a_token_that_is_refused(tmp_path) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path / 'a.db'}"
    expired = token(exp=1)
    finding = (await found(declared(url, create=True), token=expired))["websocket"]
    assert (finding.status, "Token expired" in finding.message) == ("failed", True)
    finding = (await found(declared(url, create=True), token=expired, is_made=True))["websocket"]
    assert (finding.status, "--token" in (finding.advice or "")) == ("warning", True)


async def test_a_token_that_may_do_nothing(tmp_path) -> None:
    api = Api(name="blog")
    api.use(RestApiPlugin())
    api.use(SqlAlchemyPlugin(f"sqlite+aiosqlite:///{tmp_path / 'a.db'}", create_tables=True))
    api.use(JWTAuthPlugin(secret=GOOD_SECRET))
    api.use(SocketIOPlugin(cors={"origin": ["https://example.org"]}))
    api.add_resource("posts", schema={"title": "string"}, auth={"*": ["admin"]})
    findings = await found(api, token=token())
    assert findings["websocket"].status == "warning"
    assert "posts: PERMISSION_DENIED" in findings["websocket"].message
    assert "answers 403" in findings["http"].message


# Sockets


async def test_an_origin_that_is_refused(tmp_path) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path / 'a.db'}"
    findings = await found(declared(url, create=True), origin="https://evil.example")
    assert findings["origin"].status == "failed"
    assert "https://evil.example" in findings["origin"].message
    findings = await found(declared(url, create=True), origin="https://example.org")
    assert "origin" not in findings


async def test_any_origin_is_warned_of(tmp_path) -> None:
    api = Api(name="blog")
    api.use(RestApiPlugin())
    api.use(SqlAlchemyPlugin(f"sqlite+aiosqlite:///{tmp_path / 'a.db'}", create_tables=True))
    api.use(SocketIOPlugin(anonymous=True))
    api.add_resource("posts", schema={"title": "string"})
    finding = (await found(api))["origin"]
    assert (finding.status, "SocketIOPlugin(cors=" in (finding.advice or "")) == ("warning", True)


async def test_a_server_elsewhere_is_asked_and_its_compression_seen(tmp_path) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path / 'a.db'}"
    there = declared(url, create=True)
    async with serve(there.asgi(), log_config=None, ws="auto") as address:
        findings = await found(declared(url), url=address, token=token())
        assert findings["websocket"].status == "ok"
        assert findings["deflate"].status == "warning"
        assert "--ws-per-message-deflate false" in (findings["deflate"].advice or "")
    for config in ({"ws": "auto", "ws_per_message_deflate": False}, {}):
        async with serve(there.asgi(), log_config=None, **config) as address:
            assert "deflate" not in await found(declared(url), url=address, token=token())


async def test_nobody_at_the_url_and_somebody_else(tmp_path) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path / 'a.db'}"
    findings = await found(declared(url), url=f"http://127.0.0.1:{free_port()}")
    assert (findings["http"].status, findings["websocket"].status) == ("failed", "failed")

    async def other(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1000})
            return
        await send({"type": "http.response.start", "status": 404, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async with serve(other, log_config=None, lifespan="off") as address:
        findings = await found(declared(url), url=address)
        assert findings["http"].status == "warning"
        assert findings["websocket"].status == "failed"
        assert "403" in findings["websocket"].message


async def test_a_server_that_says_nothing_is_not_waited_for(tmp_path) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path / 'a.db'}"
    let_go = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await let_go.wait()
        writer.close()

    listening = await asyncio.start_server(silent, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    findings = await found(declared(url), url=f"http://127.0.0.1:{port}", seconds=0.1)
    let_go.set()
    listening.close()
    await listening.wait_closed()
    for check in ("http", "websocket"):
        assert findings[check].status == "failed"
        assert "no answer within" in findings[check].message or "timed out" in (
            findings[check].message
        )


# The api


async def test_an_api_that_is_not_complete_or_does_not_open(tmp_path) -> None:
    api = Api(name="blog")
    findings = await found(api)
    assert findings["api"].status == "failed"
    assert "SqlAlchemyPlugin" in findings["api"].message
    api = declared(f"sqlite+aiosqlite:///{tmp_path / 'a.db'}", create=True)

    @api.hook("startup")
    def fail(context: object) -> None:
        raise ZeroDivisionError("no luck")

    findings = await found(api)
    assert findings["start"].status == "failed"
    assert "no luck" in findings["start"].message


async def test_an_api_that_is_open_is_left_alone(tmp_path) -> None:
    api = declared(f"sqlite+aiosqlite:///{tmp_path / 'a.db'}", create=True)
    async with api:
        with pytest.raises(ConfigurationError, match="must not be open"):
            await found(api)
    with pytest.raises(ConfigurationError, match="https://"):
        await found(api, url="example.org")


# The command


async def execute(folder: Path, *arguments: str, **environment: str) -> tuple[int, list[str]]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "error", "-m", "tidings", "doctor", *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        cwd=folder,
        env={**os.environ, **environment},
    )
    async with asyncio.timeout(60):
        output, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, output.decode().splitlines()


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "blog.py").write_text(APP)
    return tmp_path


async def test_the_command_prints_a_line_a_check(project) -> None:
    code, lines = await execute(project, "blog:app", JWT_SECRET=GOOD_SECRET)
    assert code == 0, lines
    assert [line.split()[:2] for line in lines if "files" not in line] == [
        ["ok", "database"],
        ["ok", "tables"],
        ["ok", "write"],
        ["ok", "feed"],
        ["ok", "http"],
        ["ok", "websocket"],
    ]
    assert lines[-1].endswith(" ms")
    assert "subscribed to posts" in lines[-1]


async def test_the_command_fails_where_something_has(project) -> None:
    code, lines = await execute(project, "blog:api", DATABASE="sqlite+aiosqlite:////nowhere/a.db")
    assert code == 1
    assert lines[0].startswith("FAILED   database     cannot open the database '/nowhere/a.db'")
    assert "; see that the server runs" in lines[0]


async def test_the_command_wants_an_api(project) -> None:
    code, lines = await execute(project, "blog:number")
    assert (code, lines) == (1, ["Error: 'blog:number' is no Api, but a int: name the Api itself"])


# Redis


def with_redis(path: Path, options: dict[str, Any]) -> Api:
    api = Api(name="blog")
    api.use(RestApiPlugin())
    api.use(SqlAlchemyPlugin(f"sqlite+aiosqlite:///{path / 'blog.db'}", create_tables=True))
    api.use(RedisFeedPlugin(options))
    api.use(JWTAuthPlugin(secret=GOOD_SECRET))
    api.use(SocketIOPlugin(cors={"origin": ["https://example.org"]}))
    api.add_resource("posts", schema={"title": "string"})
    return api


async def test_redis_that_answers_and_that_does_not(tmp_path, own_redis) -> None:
    api = with_redis(tmp_path, own_redis.redis())
    async with api:
        pass  # which makes the tables
    told = await found(with_redis(tmp_path, own_redis.redis()), token=token())
    assert told["feed"].status == "ok"
    assert f"redis://127.0.0.1:{own_redis.port}/0 answers in" in told["feed"].message

    wrong = own_redis.redis(password="no such password")
    told = await found(with_redis(tmp_path, wrong), token=token())
    assert told["feed"].status == "failed"
    assert "no such password" not in str(told)

    own_redis.kill()
    told = await found(with_redis(tmp_path, own_redis.redis()), token=token())
    assert told["feed"].status == "failed"
    assert f"redis://127.0.0.1:{own_redis.port}/0: " in told["feed"].message
    assert "host, port and password" in str(told["feed"].advice)

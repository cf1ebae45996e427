"""PostgresLog: what every log must do, its configuration, and trimming."""

from __future__ import annotations

import asyncio
import importlib.util
import logging
import traceback
from collections.abc import Iterator
from secrets import token_hex

import pytest
from sqlalchemy import make_url

from tests.feed.conformance import (
    PATIENCE,
    LogConformance,
    MakeLog,
    batch,
    follow_until,
    opened,
    texts,
)
from tests.feed.writers import connected, execute
from tests.support.databases import DatabaseServer
from tests.support.server import free_port
from tidings import ConfigurationError
from tidings.errors import MissingExtraError
from tidings.feed import Batch, Cursor, FeedUnavailable
from tidings.feed.postgres import PostgresLog, log

SECRET = "very-secret"


class TestPostgresLog(LogConformance):
    @pytest.fixture
    def make_log(self, postgres_url: str) -> MakeLog:
        def make(*, max_length: int = 100_000) -> PostgresLog:
            return PostgresLog(postgres_url, max_length=max_length)

        return make


@pytest.fixture
def role(postgres_server: DatabaseServer, postgres_url: str) -> Iterator[str]:
    """The URL of the same database, for a role that may do nothing there."""
    database = str(make_url(postgres_url).database)
    postgres_server.execute(
        f"CREATE ROLE clerk LOGIN PASSWORD '{SECRET}'",
        "GRANT USAGE ON SCHEMA public TO clerk",
        database=database,
    )
    yield with_user(postgres_url, "clerk")
    postgres_server.execute("DROP OWNED BY clerk", "DROP ROLE clerk", database=database)


def with_user(url: str, user: str, password: str = SECRET) -> str:
    changed = make_url(url).set(username=user, password=password)
    return changed.render_as_string(hide_password=False)


async def refused(url: str) -> str:
    """Why the log cannot be opened, with all that a log would hold about it."""
    log = PostgresLog(url)
    with pytest.raises(ConfigurationError) as caught:
        await log.open()
    for text in (str(log), repr(log), log.where, *traceback.format_exception(caught.value)):
        assert SECRET not in text
    assert len(asyncio.all_tasks()) <= 2
    return str(caught.value)


async def test_feeds_share_a_database(postgres_url: str) -> None:
    one, two = PostgresLog(postgres_url, "one"), PostgresLog(postgres_url, 'it\'s "two"; ä')
    async with opened(one, two):
        heads = await one.head(), await two.head()
        assert heads[0].epoch != heads[1].epoch
        reader = asyncio.ensure_future(follow_until(two, heads[1], 1))
        await one.append([batch("a", 2)])
        await two.append([batch("a", 1)])
        await one.append([batch("b", 1)])
        assert texts(await reader) == ["a/0"]
        assert texts(await follow_until(one, heads[0], 3)) == ["a/0", "a/1", "b/0"]
        await execute(postgres_url, "DELETE FROM tidings_feed_state WHERE name = 'one'")
        assert (await one.head()).epoch != heads[0].epoch
        assert await two.head() == Cursor(heads[1].epoch, 1)
        assert texts(await two.between(heads[1], 1, 10)) == ["a/0"]


async def test_settings_of_the_database_do_not_change_the_log(postgres_url: str) -> None:
    database = make_url(postgres_url).database
    await execute(
        postgres_url,
        f"ALTER DATABASE {database} SET default_transaction_isolation = 'serializable'",
        f"ALTER DATABASE {database} SET bytea_output = 'escape'",
        f"ALTER DATABASE {database} SET intervalstyle = 'sql_standard'",
    )
    try:
        logs = [PostgresLog(postgres_url) for _ in range(4)]
        async with opened(*logs):
            start = await logs[0].head()
            calls = [
                log.append([batch(f"{n}-{i}", 2)]) for n, log in enumerate(logs) for i in range(9)
            ]
            await asyncio.gather(*calls)
            assert len(await follow_until(logs[0], start, 72)) == 72
    finally:
        await execute(postgres_url, f"ALTER DATABASE {database} RESET ALL")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"password": SECRET}, "password authentication failed"),
        ({"username": "nobody", "password": SECRET}, "password authentication failed"),
        ({"database": "nowhere"}, 'database "nowhere" does not exist'),
        ({"query": {"ssl": "require"}}, "rejected SSL upgrade"),
        ({"query": {"sslmode": "perhaps"}}, "`sslmode` parameter must be one of"),
    ],
)
async def test_a_server_that_refuses_stops_the_start(
    postgres_url: str, change: dict[str, str], reason: str
) -> None:
    url = make_url(postgres_url).set(**change).render_as_string(hide_password=False)
    message = await refused(url)
    assert reason in message
    assert "cannot be used" in message


async def test_rights_that_are_missing_stop_the_start(role: str, postgres_url: str) -> None:
    assert "permission denied for schema public" in await refused(role)
    mine = PostgresLog(postgres_url)
    async with opened(mine):
        assert "permission denied for table" in await refused(role)
        await execute(
            postgres_url,
            "GRANT SELECT, INSERT, UPDATE, DELETE "
            "ON tidings_feed, tidings_feed_state, tidings_feed_keys TO clerk",
        )
        # The tables are there: nobody else needs to be able to create any.
        its = PostgresLog(role)
        async with opened(its):
            start = await its.head()
            await its.append([batch("a")])
            assert texts(await mine.follow(start, 10)) == ["a/0"]


async def test_other_tables_of_these_names_stop_the_start(postgres_url: str) -> None:
    await execute(postgres_url, "CREATE TABLE tidings_feed_state (name text)")
    assert "epoch" in await refused(postgres_url)


@pytest.mark.parametrize(
    ("before", "after", "reason"),
    [
        ("ALTER ROLE clerk CONNECTION LIMIT 1", "ALTER ROLE clerk CONNECTION LIMIT -1", "too many"),
        (
            "ALTER ROLE clerk SET default_transaction_read_only = on",
            "ALTER ROLE clerk RESET default_transaction_read_only",
            "read-only",
        ),
    ],
)
async def test_what_may_pass_is_tried_again(
    role: str, postgres_url: str, before: str, after: str, reason: str
) -> None:
    await execute(postgres_url, "GRANT CREATE ON SCHEMA public TO clerk", before)
    its = PostgresLog(role)
    async with connected(role):
        with pytest.raises(FeedUnavailable, match=reason):
            await its.open()
    await execute(postgres_url, after)
    assert (await its.head()).offset == 0
    await its.close()


async def test_a_server_that_is_not_there_is_told_of() -> None:
    url = f"postgresql://me:{SECRET}@127.0.0.1:{free_port()}/db"
    log = PostgresLog(url)
    for call in (log.open, log.head):
        with pytest.raises(FeedUnavailable, match="Connect call failed") as caught:
            await call()
        assert SECRET not in "".join(traceback.format_exception(caught.value))
    await log.close()


@pytest.mark.parametrize(
    ("url", "message"),
    [
        (f"sqlite:///{SECRET}", "begins with sqlite://"),
        (f"postgresql+psycopg://me:{SECRET}@host/db", "begins with postgresql\\+psycopg://"),
        (f"me:{SECRET}@host", "cannot be read"),
        (f"postgresql://me:{SECRET}@host:port/db", "cannot be read"),
        (f"postgresql://me@host/db?password={SECRET}", "unknown option 'password'"),
        (
            f"postgresql://me:{SECRET}@host/db?sslrootcert=/nowhere",
            "sslrootcert=/nowhere is no file",
        ),
        (f"postgresql://me:{SECRET}@host/db?sslmod=require", "unknown option 'sslmod'"),
    ],
)
def test_a_url_that_cannot_be_used_is_refused(url: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message) as caught:
        PostgresLog(url)
    assert SECRET not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    "options",
    [
        {"name": ""},
        {"name": "a\0b"},
        {"name": "x" * 201},
        {"max_length": 0},
        {"max_age": -1.0},
        {"max_age": float("nan")},
        {"timeout": True},
        {"timeout": "5"},
    ],
)
def test_options_that_cannot_be_used_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError):
        PostgresLog("postgresql://host/db", **options)  # type: ignore[arg-type]


def test_the_driver_is_an_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match=r"tidings\[postgres\]"):
        PostgresLog("postgresql://host/db")
    assert importlib.util.find_spec("asyncpg") is not None


@pytest.mark.parametrize(
    ("url", "where"),
    [
        (
            f"postgresql://me:{SECRET}@db.example.org:6000/app",
            "postgresql://db.example.org:6000/app",
        ),
        ("postgresql+asyncpg:///app", "postgresql://local/app"),
        (f"postgresql://me:{SECRET}@/app?host=a:1&host=b:2", "postgresql://a:1,b:2/app"),
    ],
)
def test_a_log_says_where_it_is_without_secrets(url: str, where: str) -> None:
    log = PostgresLog(url, "news")
    assert log.where == f"{where} (feed 'news')"
    assert repr(log) == f"<PostgresLog {log.where}>"


async def test_several_hosts_and_options_of_libpq_are_understood(postgres_url: str) -> None:
    url = make_url(postgres_url)
    there, free = f"127.0.0.1:{url.port}", f"127.0.0.1:{free_port()}"
    query = {"host": (free, there), "ssl": "prefer", "prepared_statement_cache_size": "0"}
    log = PostgresLog(url.set(host=None, port=None, query=query))
    async with opened(log):
        assert (await log.head()).offset == 0


async def test_old_entries_and_keys_are_trimmed(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log, "_TRIM_ROWS", 7)
    mine = PostgresLog(postgres_url, max_age=3600.0)
    async with opened(mine):
        start = await mine.head()
        await mine.append([batch("old", 40), batch("older", 5)])
        age = "SET at = at - interval '2 hours'"
        await execute(postgres_url, f"UPDATE tidings_feed {age}", f"UPDATE tidings_feed_keys {age}")
        await mine.append([batch("new", 10)])
        monkeypatch.setattr(log, "_TRIM_SECONDS", 0.0)
        monkeypatch.setattr(log, "_KEY_SECONDS", 0.0001)
        # Nothing is appended any more: who waits trims.
        assert await mine.follow(Cursor(start.epoch, 55), 10) == []
        async with connected(postgres_url) as connection:
            counted = 'SELECT count(*), min("offset") FROM tidings_feed'
            assert tuple(await connection.fetchrow(counted)) == (10, 46)
            assert await connection.fetchval("SELECT count(*) FROM tidings_feed_keys") == 0


async def test_trimming_that_somebody_else_does_is_left_to_them(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = PostgresLog(postgres_url, max_length=10)
    async with opened(mine), connected(postgres_url) as connection:
        start = await mine.head()
        async with connection.transaction():
            lock = "SELECT pg_advisory_xact_lock($1)"
            await connection.execute(lock, mine._lock_of_trimming)
            await mine.append([batch("a", 50)])
            assert len(await mine.between(start, 50, 100)) == 50
        await mine.append([batch("b")])
        assert await connection.fetchval("SELECT count(*) FROM tidings_feed") == 10


@pytest.mark.parametrize(("poll", "is_notified"), [(10 * PATIENCE, True), (0.1, False)])
async def test_a_reader_is_woken_by_a_notification_and_looks_without_one(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch, poll: float, is_notified: bool
) -> None:
    monkeypatch.setattr(log, "_POLL_SECONDS", poll)
    writer, reader = PostgresLog(postgres_url), PostgresLog(postgres_url)
    if not is_notified:
        writer._channel = "another"
    async with opened(writer, reader), asyncio.timeout(PATIENCE):
        start = await writer.head()
        for number in range(5):
            after = Cursor(start.epoch, number)
            reading = asyncio.ensure_future(follow_until(reader, after, number + 1))
            await asyncio.sleep(0.05)
            await writer.append([batch(f"b{number}")])
            assert texts(await reading) == [f"b{number}/0"]


async def test_a_connection_that_hears_nothing_is_noticed_and_replaced(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("tidings.feed.postgres.log._POLL_SECONDS", 0.05)
    caplog.set_level(logging.INFO, "tidings.feed")
    mine, other = PostgresLog(postgres_url), PostgresLog(postgres_url)
    await mine.open()
    await other.open()
    try:
        place = await mine.head()
        await mine.follow(place, 10)  # it listens now
        await mine._follows.run(lambda connection: connection.execute("UNLISTEN *"))
        while "do not arrive" not in caplog.text:
            await other.append([Batch(token_hex(8), [b"entry"])])
            found = await mine.follow(place, 10)
            if found:
                place = Cursor(place.epoch, found[-1][0])
        # It listens by another connection now, and hears.
        while "arrive again" not in caplog.text:
            await other.append([Batch(token_hex(8), [b"entry"])])
            found = await mine.follow(place, 10)
            if found:
                place = Cursor(place.epoch, found[-1][0])
    finally:
        await mine.close()
        await other.close()

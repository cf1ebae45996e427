"""PostgreSQL behind PgBouncer: what works in which mode is what docs/deploying.md says."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine
from tests.storage.recording import make_api
from tests.support.databases import MissingServer
from tests.support.pgbouncer import pgbouncer

from tidings import Api, ConfigurationError, PostgresFeedPlugin, SqlAlchemyPlugin

_IGNORED = "lock_timeout,statement_timeout,jit"
_IGNORED_BY_THE_FEED = (
    f"{_IGNORED},default_transaction_isolation,synchronous_commit,"
    "idle_in_transaction_session_timeout,search_path"
)


@contextmanager
def behind(url: str, mode: str, **settings: str) -> Iterator[str]:
    try:
        with pgbouncer(url, mode, **settings) as its_url:
            yield its_url
    except MissingServer as missing:
        pytest.skip(str(missing))


async def test_session_mode_works(postgres_url: str) -> None:
    with behind(postgres_url, "session", ignore_startup_parameters=_IGNORED) as url:
        api, feed = make_api(SqlAlchemyPlugin(url, create_tables=True))
        async with api:
            notes = api.resources.notes
            await asyncio.gather(*(notes.post({"title": "a"}) for _ in range(20)))
            pages = [notes.query(page=2, size=5) for _ in range(20)]
            assert [len(page) for page in await asyncio.gather(*pages)] == [5] * 20
            async with api.transaction() as uow:
                await notes.patch(1, {"title": "b"}, transaction=uow)
        assert feed.words == ["post a"] * 20 + ["patch b"]


async def test_parameters_that_it_does_not_know_are_named(postgres_url: str) -> None:
    with behind(postgres_url, "session") as url:
        api, _ = make_api(SqlAlchemyPlugin(url))
        with pytest.raises(ConfigurationError, match=r"ignore_startup_parameters = lock_timeout"):
            await api.open()


async def test_transaction_mode_with_prepared_statements_is_refused(postgres_url: str) -> None:
    with behind(postgres_url, "transaction", ignore_startup_parameters=_IGNORED) as url:
        engine = create_async_engine(url)
        api, _ = make_api(SqlAlchemyPlugin(engine=engine, create_tables=True))
        with pytest.raises(ConfigurationError, match="a pooler in session mode"):
            await api.open()
        await engine.dispose()


@pytest.mark.parametrize("more", [{}, {"prepared_statement_cache_size": 0}])
async def test_transaction_mode_works_without_prepared_statements(
    postgres_url: str, more: dict[str, Any]
) -> None:
    settings = {"ignore_startup_parameters": _IGNORED, "default_pool_size": "3"}
    with behind(postgres_url, "transaction", **settings) as url:
        engine = create_async_engine(
            url,
            connect_args={
                "statement_cache_size": 0,
                **more,
                "prepared_statement_name_func": lambda: "",
            },
        )
        api, feed = make_api(SqlAlchemyPlugin(engine=engine, create_tables=True))
        async with api:
            notes = api.resources.notes
            made = [await notes.post({"title": f"{number}"}) for number in range(30)]

            async def use(note: dict[str, Any]) -> None:
                """Statements of several kinds, which must not be taken for one another."""
                for _ in range(5):
                    assert (await notes.get(note["id"]))["title"] == note["title"]
                    (page,) = await notes.query({"title": note["title"]})
                    assert page["id"] == note["id"]
                    assert len(await notes.query(page=2, size=10)) == 10
                    patched = await notes.patch(note["id"], {"body": note["title"]})
                    assert (patched["id"], patched["body"]) == (note["id"], note["title"])

            await asyncio.gather(*(use(note) for note in made))
        assert len(feed.words) == 30 + 150
        await engine.dispose()


async def test_statement_mode_is_refused(postgres_url: str) -> None:
    with behind(postgres_url, "statement", ignore_startup_parameters=_IGNORED) as url:
        api, _ = make_api(SqlAlchemyPlugin(url, create_tables=True))
        with pytest.raises(ConfigurationError, match="pool_mode = session"):
            await api.open()


async def test_a_pool_of_one_connection_is_enough_to_start(postgres_url: str) -> None:
    engine = create_async_engine(postgres_url, pool_size=1, max_overflow=0, pool_timeout=0.2)
    api, _ = make_api(SqlAlchemyPlugin(engine=engine, create_tables=True))
    async with api:
        await api.resources.notes.post({"title": "a"})
    await engine.dispose()


@pytest.mark.parametrize(("mode", "works"), [("session", True), ("transaction", False)])
async def test_the_feed_by_way_of_it(postgres_url: str, mode: str, works: bool) -> None:
    with behind(postgres_url, mode, ignore_startup_parameters=_IGNORED_BY_THE_FEED) as url:
        api = Api()
        api.use(SqlAlchemyPlugin(postgres_url, create_tables=True))
        api.use(PostgresFeedPlugin(url))
        api.add_resource("notes", schema={"title": "string"})
        if not works:
            with pytest.raises(ConfigurationError, match="not shared with others"):
                for _ in range(50):
                    async with api:
                        await api.resources.notes.post({"title": "a"})
            return
        async with api:
            before = api._feed.position
            await api.resources.notes.post({"title": "a"})
            while api._feed.position == before:
                await asyncio.sleep(0.01)


async def test_the_settings_of_a_role_take_the_place_of_startup_parameters(
    postgres_url: str,
) -> None:
    with behind(postgres_url, "session", ignore_startup_parameters=_IGNORED) as url:
        engine = create_async_engine(url)
        async with engine.connect() as connection:
            database = (await connection.execute(text("SELECT current_database()"))).scalar()
            await connection.execute(
                text(f"ALTER ROLE tidings IN DATABASE {database} SET statement_timeout = '7s'")
            )
            await connection.commit()
        await engine.dispose()
    with behind(postgres_url, "session", ignore_startup_parameters=_IGNORED) as url:
        engine = create_async_engine(url)
        async with engine.connect() as connection:
            assert (await connection.execute(text("SHOW statement_timeout"))).scalar() == "7s"
            await connection.execute(
                text(f"ALTER ROLE tidings IN DATABASE {database} RESET statement_timeout")
            )
            await connection.commit()
        await engine.dispose()

"""Connections to PostgreSQL and MariaDB that cannot be made, break, or are all in use."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from sqlalchemy import make_url
from sqlalchemy.ext.asyncio import create_async_engine
from tests.storage.conftest import server_url
from tests.storage.recording import make_api

from tidings import ConfigurationError, SqlAlchemyPlugin
from tidings.errors import DatabaseBusy
from tidings.feed import Invalidation


@pytest.fixture(params=["postgresql", "mariadb"])
def served_url(request: pytest.FixtureRequest) -> str:
    return server_url(request, request.param)


class Line:
    """A TCP line to a server, which can be cut."""

    def __init__(self, port: int) -> None:
        self._to = port
        self.port = 0
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: list[asyncio.StreamWriter] = []

    async def mend(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def cut(self) -> None:
        """Nobody gets through any more, and those who are through are thrown out."""
        if self._server is not None:
            self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._writers.clear()
        await asyncio.sleep(0.02)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self._to)
        self._writers += [writer, back]
        for source, sink in ((reader, back), (there, writer)):
            task = asyncio.ensure_future(self._copy(source, sink))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _copy(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(65536):
                sink.write(data)
        except ConnectionError:
            pass
        finally:
            sink.close()


@asynccontextmanager
async def line_to(url: str) -> AsyncIterator[tuple[Line, str]]:
    parts = make_url(url)
    assert parts.port is not None
    line = Line(parts.port)
    await line.mend()
    try:
        yield line, parts.set(port=line.port).render_as_string(hide_password=False)
    finally:
        await line.cut()


async def test_the_servers_name_whatever_the_url_says(mariadb_url: str, postgres_url: str) -> None:
    names = []
    for url in (mariadb_url, mariadb_url.replace("mariadb+", "mysql+"), postgres_url):
        api, _ = make_api(SqlAlchemyPlugin(url, create_tables=True))
        async with api:
            await api.resources.notes.post({"title": "a"})
            names.append(api._database.dialect_name)
    assert names == ["mariadb", "mariadb", "postgresql"]


async def test_what_is_wrong_shows_at_start_without_the_password(served_url: str) -> None:
    wrong = {
        "password": served_url.replace("right-password", "wrong-password"),
        "database": served_url.rpartition("/")[0] + "/nowhere",
        "refused": str(make_url(served_url).set(port=1).render_as_string(hide_password=False)),
    }
    where = r"cannot connect to .*tidings:\*\*\*@"
    for url in wrong.values():
        api, _ = make_api(SqlAlchemyPlugin(url))
        with pytest.raises(ConfigurationError, match=where) as caught:
            await api.open()
        assert "-password" not in str(caught.value)


@pytest.mark.parametrize("owned", [True, False])
async def test_a_server_that_goes_away_and_comes_back(
    served_url: str, owned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, "sqlalchemy.pool")
    async with line_to(served_url) as (line, url):
        engine = None if owned else create_async_engine(url)
        plugin = SqlAlchemyPlugin(url if owned else None, engine=engine, create_tables=True)
        api, feed = make_api(plugin)
        async with api:
            notes = api.resources.notes
            await asyncio.gather(*(notes.post({"title": "a"}) for _ in range(4)))
            await line.cut()
            for work in (notes.query(), notes.get(1), notes.post({"title": "b"})):
                with pytest.raises(DatabaseBusy, match="cannot be reached"):
                    await work
            await line.mend()
            assert len(await notes.query()) == 4
            await notes.post({"title": "c"})
            assert feed.words == ["post a"] * 4 + ["post c"]

            # Cut and mended between two requests, as by a restart: who has noticed, connects anew.
            await asyncio.gather(*(notes.query() for _ in range(4)))
            await line.cut()
            await line.mend()
            if not owned:
                with pytest.raises(DatabaseBusy):
                    await notes.query()
            for _ in range(6):
                assert len(await notes.query()) == 5
        if engine is not None:
            await engine.dispose()


async def test_a_line_that_breaks_within_a_transaction(served_url: str) -> None:
    async with line_to(served_url) as (line, url):
        api, feed = make_api(SqlAlchemyPlugin(url, create_tables=True))
        async with api:
            notes = api.resources.notes

            async def broken(at: str) -> None:
                async with api.transaction() as uow:
                    await notes.post({"title": "a"}, transaction=uow)
                    if at == "swallowed":
                        await line.cut()
                        with pytest.raises(DatabaseBusy):
                            await notes.post({"title": "b"}, transaction=uow)
                    elif at == "savepoint":
                        async with uow.savepoint():
                            await line.cut()
                            await notes.post({"title": "b"}, transaction=uow)
                    else:
                        await line.cut()

            for at in ("commit", "savepoint", "swallowed"):
                with pytest.raises(DatabaseBusy):
                    await broken(at)
                await line.mend()
                assert len(await notes.query()) == 0
            # Whether the first was committed nobody knew: who watches was told to look.
            assert feed.published == [[Invalidation("notes")]]
            feed.published.clear()
            await notes.post({"title": "c"})


async def test_all_connections_in_use(served_url: str) -> None:
    engine = create_async_engine(served_url, pool_size=1, max_overflow=0, pool_timeout=0.05)
    api, _ = make_api(SqlAlchemyPlugin(engine=engine, create_tables=True))
    async with api:
        async with api.transaction():
            with pytest.raises(DatabaseBusy):
                await api.resources.notes.query()
        assert len(await api.resources.notes.query()) == 0
    await engine.dispose()


async def test_processes_that_start_together_create_the_tables_once(served_url: str) -> None:
    apis: list[Any] = [
        make_api(SqlAlchemyPlugin(served_url, create_tables=True))[0] for _ in "1234"
    ]
    await asyncio.gather(*(api.open() for api in apis))
    await apis[0].resources.notes.post({"title": "a"})
    await asyncio.gather(*(api.close() for api in apis))


async def test_a_database_that_cannot_hold_all_texts_is_refused(
    postgres_server: Any, postgres_url: str
) -> None:
    postgres_server.execute(
        "CREATE DATABASE latin TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C' LOCALE_PROVIDER libc"
    )
    api, _ = make_api(SqlAlchemyPlugin(postgres_server.url_of("latin")))
    with pytest.raises(ConfigurationError, match="encoding LATIN1"):
        await api.open()
    postgres_server.execute("DROP DATABASE latin WITH (FORCE)")

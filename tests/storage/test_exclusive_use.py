"""A unit of work that two tasks use at once, or that ends behind everybody's back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool
from tests.storage.conftest import server_url
from tests.storage.recording import RecordingFeed, make_api

from tidings import Api, ConfigurationError, SqlAlchemyPlugin
from tidings.feed import Invalidation

KINDS = ["file", "memory", "engine", "postgresql", "mariadb"]
_SHARED = "used by two tasks at once"
_ENDED = "has ended"
_BY_SQL = "ended by somebody else"


class Made:
    """An api, what it has published, and the tasks that hooks have leaked."""

    def __init__(self, api: Api, feed: RecordingFeed) -> None:
        self.api = api
        self.feed = feed
        self.leaked: list[asyncio.Task[Any]] = []

    @property
    def notes(self) -> Any:
        return self.api.resources.notes

    def leak(self, work: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        self.leaked.append(asyncio.ensure_future(work()))

    async def refusals(self) -> list[str]:
        """What the leaked tasks were told; those that went well are left out."""
        outcomes = await asyncio.gather(*self.leaked, return_exceptions=True)
        self.leaked.clear()
        return [str(outcome) for outcome in outcomes if isinstance(outcome, BaseException)]

    async def titles(self) -> list[str]:
        return [note["title"] for note in await self.notes.query(sort="id", size=100)]

    async def works(self) -> None:
        """Every connection of the pool serves, and shows what was committed, and nothing else."""
        self.feed.published.clear()
        before = await self.titles()
        await asyncio.gather(*(self.notes.post({"title": "next"}) for _ in range(12)))
        assert await self.titles() == before + ["next"] * 12
        assert self.feed.words == ["post next"] * 12
        for note in await self.notes.query(size=100):
            await self.notes.delete(note["id"])
        assert await self.titles() == []
        self.feed.published.clear()


@pytest.fixture(params=KINDS)
async def made(request: pytest.FixtureRequest, url: str) -> AsyncIterator[Made]:
    engine: AsyncEngine | None = None
    if request.param in ("postgresql", "mariadb"):
        url = server_url(request, request.param)
    if request.param == "engine":
        engine = create_async_engine(url)
    where = {"memory": "sqlite+aiosqlite://"}.get(request.param, url if engine is None else None)
    api, feed = make_api(SqlAlchemyPlugin(where, engine=engine, create_tables=True))
    async with api:
        yield Made(api, feed)
    if engine is not None:
        await engine.dispose()


@pytest.mark.parametrize("work", ["post", "query", "savepoint"])
async def test_a_task_that_a_hook_leaks_spoils_no_connection(made: Made, work: str) -> None:
    is_leaking = True

    async def leak(uow: Any) -> None:
        if work == "post":
            await made.notes.post({"title": "leaked"}, transaction=uow)
        elif work == "query":
            for _ in range(20):
                await made.notes.query(transaction=uow)
        else:
            async with uow.savepoint():
                await made.notes.post({"title": "leaked"}, transaction=uow)

    @_before_write(made.api)
    async def forget(context: Any) -> None:
        nonlocal is_leaking
        if is_leaking and context.values["title"] == "a":
            is_leaking = False
            made.leak(lambda: leak(context.transaction))

    for _ in range(6):
        is_leaking = True
        outcomes = await asyncio.gather(made.notes.post({"title": "a"}), return_exceptions=True)
        is_leaking = False
        told = [str(outcome) for outcome in outcomes if isinstance(outcome, ConfigurationError)]
        told += await made.refusals()
        assert told, "nobody was refused"
        assert all(_SHARED in one or _ENDED in one for one in told), told
        # Either all of it is there and was told, or nothing.
        assert made.feed.words == [f"post {title}" for title in await made.titles()]
        await made.works()


def _before_write(api: Api) -> Callable[[Any], Any]:
    def add(handler: Any) -> Any:
        api._hooks.add("before_write", "forget", handler)
        return handler

    return add


async def test_two_tasks_in_one_transaction_are_refused_and_undone(made: Made) -> None:
    async def both() -> None:
        async with made.api.transaction() as uow:
            await made.notes.post({"title": "a"}, transaction=uow)
            made.leak(lambda: made.notes.post({"title": "b"}, transaction=uow))
            made.leak(lambda: made.notes.post({"title": "c"}, transaction=uow))
            await made.refusals()

    with pytest.raises(ConfigurationError, match=_SHARED):
        await both()
    assert made.feed.published == []
    await made.works()


async def test_a_task_outside_of_a_savepoint_is_refused_within_it(made: Made) -> None:
    go, gone = asyncio.Event(), asyncio.Event()

    async def other(uow: Any) -> None:
        await go.wait()
        try:
            await made.notes.post({"title": "b"}, transaction=uow)
        finally:
            gone.set()

    async def work() -> None:
        async with made.api.transaction() as uow:
            made.leak(lambda: other(uow))
            async with uow.savepoint():
                await made.notes.post({"title": "a"}, transaction=uow)
                go.set()
                await gone.wait()

    with pytest.raises(ConfigurationError, match=_SHARED):
        await work()
    assert all(_SHARED in told for told in await made.refusals())
    assert made.feed.published == []
    await made.works()


async def test_tasks_that_are_awaited_may_take_turns(made: Made) -> None:
    async with made.api.transaction() as uow:
        for title in "ab":
            work = made.notes.post({"title": title}, transaction=uow)
            await asyncio.wait_for(asyncio.ensure_future(work), 60)
        async with uow.savepoint():
            await asyncio.create_task(made.notes.post({"title": "c"}, transaction=uow))
    assert made.feed.words == ["post a", "post b", "post c"]


async def test_a_connection_kept_beyond_the_end_is_refused(made: Made) -> None:
    async with made.api.transaction() as uow:
        connection: Any = uow.connection
        async with uow.savepoint():
            await made.notes.post({"title": "a"}, transaction=uow)
    with pytest.raises(ConfigurationError, match=_ENDED):
        await connection.run("DELETE FROM notes")
    with pytest.raises(ConfigurationError, match=_ENDED):
        uow.record(Invalidation("notes"))
    assert await made.titles() == ["a"]


@pytest.mark.parametrize("sql", ["COMMIT", "ROLLBACK"])
@pytest.mark.parametrize("then", ["commit", "go on", "fail"])
async def test_a_transaction_that_is_ended_by_sql_is_refused(
    made: Made, sql: str, then: str
) -> None:
    class Boom(Exception):
        pass

    async def work() -> None:
        async with made.api.transaction() as uow:
            await made.notes.post({"title": "a"}, transaction=uow)
            connection: Any = uow.connection
            await connection.run(sql)
            if then == "go on":
                await made.notes.post({"title": "b"}, transaction=uow)
            if then == "fail":
                raise Boom

    with pytest.raises(Boom if then == "fail" else ConfigurationError) as caught:
        await work()
    assert then == "fail" or _BY_SQL in str(caught.value)
    # What there was of it may stand: whoever watches is told to look.
    assert made.feed.published == [[Invalidation("notes")]]
    assert await made.titles() == (["a"] if sql == "COMMIT" else [])
    await made.works()


async def test_a_statement_that_commits_by_itself_is_noticed(mariadb_url: str) -> None:
    api, feed = make_api(SqlAlchemyPlugin(mariadb_url, create_tables=True))

    async def work() -> None:
        async with api.transaction() as uow:
            await api.resources.notes.post({"title": "a"}, transaction=uow)
            connection: Any = uow.connection
            await connection.run("CREATE TABLE more (id INT)")

    async with api:
        with pytest.raises(ConfigurationError, match=_BY_SQL):
            await work()
        assert feed.published == [[Invalidation("notes")]]


# In the application's own transaction


@pytest.mark.parametrize("kind", ["sqlite", "postgresql", "mariadb"])
@pytest.mark.parametrize("end", ["commit", "rollback"])
async def test_the_applications_transaction_ended_by_sql(
    request: pytest.FixtureRequest, url: str, kind: str, end: str
) -> None:
    url = url if kind == "sqlite" else server_url(request, kind)
    engine = create_async_engine(url, poolclass=AsyncAdaptedQueuePool)
    api, feed = make_api(SqlAlchemyPlugin(engine=engine, create_tables=True))
    async with api:
        session = AsyncSession(engine)
        await api.resources.notes.post({"title": "a"}, transaction=session)
        await session.execute(text("COMMIT"))
        if end == "commit":
            with pytest.raises(ConfigurationError, match=_BY_SQL):
                await session.commit()
        else:
            await session.rollback()
        await session.close()
        assert feed.published == [[Invalidation("notes")]]
        await Made(api, feed).works()
    await engine.dispose()


@pytest.mark.parametrize("kind", ["sqlite", "postgresql", "mariadb"])
@pytest.mark.parametrize("end", ["commit", "rollback"])
async def test_the_applications_transaction_with_a_leaked_task(
    request: pytest.FixtureRequest, url: str, kind: str, end: str
) -> None:
    url = url if kind == "sqlite" else server_url(request, kind)
    engine = create_async_engine(url, poolclass=AsyncAdaptedQueuePool)
    api, feed = make_api(SqlAlchemyPlugin(engine=engine, create_tables=True))
    async with api:
        made = Made(api, feed)
        for _ in range(6):
            session = AsyncSession(engine)
            await made.notes.post({"title": "a"}, transaction=session)
            connection = await session.connection()
            made.leak(lambda c=connection: made.notes.query(transaction=c))
            made.leak(lambda c=connection: made.notes.post({"title": "b"}, transaction=c))
            await asyncio.sleep(0)
            await asyncio.gather(getattr(session, end)(), return_exceptions=True)
            await asyncio.gather(session.close(), return_exceptions=True)
            await made.refusals()
            made.feed.published.clear()
            await made.works()
    await engine.dispose()

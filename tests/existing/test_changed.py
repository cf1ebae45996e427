"""Without triggers: what an application says itself, and what is heard of its statements."""

from __future__ import annotations

import threading
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, event, insert, text, update
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import Session

from tests.existing.kit import declare, existing, make_api
from tests.existing.models import Project, Status, Task
from tests.existing.test_capture import notices, shown, told
from tidings import Api, ConfigurationError, NotFound
from tidings.feed import Change, Invalidation


@pytest.fixture
async def api(engine: AsyncEngine) -> AsyncIterator[Api]:
    api = make_api(engine, capture="events", create_tables=True)
    declare(api)
    async with api:
        yield api


@pytest.fixture
async def quiet(engine: AsyncEngine, database_url: str) -> AsyncIterator[Api]:
    """One that hears of nothing by itself, but has an outbox."""
    api = make_api(database_url, create_tables=True, capture="triggers")
    declare(api, capture=False)
    async with api:
        yield api


async def test_a_session_says_what_it_has_written(quiet: Api, engine: AsyncEngine) -> None:
    async with AsyncSession(engine) as session, session.begin():
        task = Task(title="a", uid=uuid.UUID(int=1))
        session.add(task)
        await session.flush()
        await session.refresh(task)
        await quiet.changed("tasks", after=task, transaction=session)
    (made,) = await told(quiet)
    assert isinstance(made, Change)
    record = dict(await quiet.resources.tasks.get(str(uuid.UUID(int=1))))
    assert made.after is not None
    assert made.after.items() >= {n: record[n] for n in ("id", "title", "status", "price")}.items()
    async with AsyncSession(engine) as session, session.begin():
        await quiet.changed(
            "tasks",
            before={"id": made.id, "title": "a", "status": "open"},
            after={"id": made.id, "title": "b", "status": Status.DONE},
            transaction=session,
        )
        savepoint = await session.begin_nested()
        await quiet.changed("tasks", before={"id": made.id}, transaction=session)
        await savepoint.rollback()
    (_, changed) = await told(quiet, 2)
    assert isinstance(changed, Change)
    assert (changed.action, changed.after) == (
        "patch",
        {"id": made.id, "title": "b", "status": "done"},
    )
    assert {"price", "project.title"} <= changed.unknown


async def test_what_is_rolled_back_is_not_told(quiet: Api, engine: AsyncEngine) -> None:
    async with engine.connect() as connection:
        await connection.begin()
        await quiet.changed("tasks", after={"id": str(uuid.UUID(int=1))}, transaction=connection)
        await connection.rollback()
    async with engine.begin() as connection:
        await quiet.changed("tasks", transaction=connection)
    assert await told(quiet) == [Invalidation("tasks")]


async def test_related_records_are_told_to_refetch(quiet: Api, engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        await quiet.changed(
            "projects",
            before={"id": 1, "title": "a"},
            after={"id": 1, "title": "b"},
            transaction=connection,
        )
    found = await told(quiet, 2)
    assert Invalidation("tasks", frozenset({"project.title"})) in found


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"after": {"title": "a"}}, "give the record's id as well"),
        ({"after": {"id": "7"}}, "'id' expected a UUID"),
        ({"after": {"id": str(uuid.UUID(int=1)), "priority": "x"}}, "'priority' expected an"),
    ],
)
async def test_what_is_said_wrongly_is_an_error(
    quiet: Api, engine: AsyncEngine, options: Any, said: str
) -> None:
    async with engine.connect() as connection:
        with pytest.raises(ConfigurationError, match=said):
            await quiet.changed("tasks", **options, transaction=connection)
        with pytest.raises(NotFound):
            await quiet.changed("nothing", transaction=connection)
        with pytest.raises(ConfigurationError, match="takes a Session"):
            quiet.changed("tasks", transaction=engine)  # type: ignore[call-overload]


async def test_without_an_outbox_it_says_what_is_needed(engine: AsyncEngine) -> None:
    api = make_api(engine)
    declare(api)
    async with engine.connect() as connection:
        with pytest.raises(ConfigurationError, match="needs an outbox"):
            api.changed("tasks", transaction=connection)


def _lock_at_begin(engine: Any) -> None:
    @event.listens_for(engine, "connect")
    def connect(connection: Any, _: object) -> None:
        connection.isolation_level = None

    @event.listens_for(engine, "begin")
    def begin(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")


async def test_a_synchronous_session_in_a_thread(tmp_path: Path) -> None:
    """As in a worker: no event loop, another engine, its own commit."""
    url = f"{tmp_path}/worker.db"
    async with existing(f"sqlite+aiosqlite:///{url}"):
        pass
    api = make_api(f"sqlite+aiosqlite:///{url}", create_tables=True, capture="triggers")
    declare(api, capture=False)

    def work() -> None:
        engine = create_engine(f"sqlite:///{url}")
        _lock_at_begin(engine)
        with Session(engine) as session:
            task = Task(title="a", uid=uuid.UUID(int=7))
            session.add(task)
            api.changed("tasks", after=task, transaction=session)
            session.commit()
        with engine.begin() as connection:
            connection.execute(insert(Project).values(title="p"))  # which its triggers tell of
            api.changed("tasks", before={"id": uuid.UUID(int=7)}, transaction=connection)
        engine.dispose()

    async with api:
        thread = threading.Thread(target=work)
        thread.start()
        found = await told(api, 3)
        thread.join()
    assert [getattr(one, "action", None) for one in found] == ["post", "post", "delete"]


async def test_statements_are_heard_of(api: Api, engine: AsyncEngine) -> None:
    async with AsyncSession(engine) as session, session.begin():
        session.add_all([Task(title="a"), Task(title="b")])
    assert await told(api) == [Invalidation("tasks")], "once for the transaction"
    async with AsyncSession(engine) as session:
        session.add(Task(title="c"))
        await session.flush()
        await session.rollback()
    async with engine.begin() as connection:
        await connection.execute(update(Project).values(title="x"))
    found = (await told(api, 3))[1:]
    assert found == [Invalidation("projects"), Invalidation("tasks", frozenset({"project.title"}))]
    async with engine.begin() as connection:
        await connection.execute(text("DELETE FROM task_items"))
    made = await api.resources.tasks.post({"title": "own"})
    (last,) = (await told(api, 4))[3:]
    assert shown([last]) == [("tasks", "post", None, "own")]
    assert isinstance(last, Change)
    assert last.id == made["id"]
    assert len(notices(api)) == 4


async def test_a_savepoint_that_is_undone_does_not_undo_what_comes_after(
    api: Api, engine: AsyncEngine
) -> None:
    async with AsyncSession(engine) as session, session.begin():
        savepoint = await session.begin_nested()
        session.add(Task(title="a"))
        await session.flush()
        await savepoint.rollback()
        session.add(Task(title="b"))
    assert await told(api) == [Invalidation("tasks")]


async def test_events_need_an_engine_to_listen_to(database_url: str) -> None:
    api = make_api(database_url, capture="events", create_tables=True)
    declare(api)
    with pytest.raises(ConfigurationError, match=r"api\.watch"):
        await api.open()


async def test_what_nobody_hears_of_is_said_once(
    engine: AsyncEngine, caplog: pytest.LogCaptureFixture
) -> None:
    api = make_api(engine)
    declare(api)
    async with api:
        pass
    (said,) = [one.getMessage() for one in caplog.records if "written through" in one.getMessage()]
    assert said.startswith("projects, tasks: only what is written through tidings is told")

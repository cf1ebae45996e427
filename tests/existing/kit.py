"""An existing application's database, and an api over it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy import MetaData, event
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from tests.existing.models import TASK_FIELDS, Base, Project, Task
from tests.http.kit import SECRET
from tidings import Api, JWTAuthPlugin, RestApiPlugin, SocketIOPlugin, SqlAlchemyPlugin


@asynccontextmanager
async def existing(url: str, metadata: MetaData = Base.metadata) -> AsyncIterator[AsyncEngine]:
    """The application's engine, with its tables made by itself."""
    engine = create_async_engine(url)
    if engine.dialect.name == "sqlite":
        _begin_with_the_lock(engine)
    try:
        async with engine.begin() as connection:
            await connection.run_sync(metadata.create_all)
        yield engine
    finally:
        await engine.dispose()


def _begin_with_the_lock(engine: AsyncEngine) -> None:
    """SQLAlchemy's recipe. A transaction that has read cannot write any more, once another has."""

    @event.listens_for(engine.sync_engine, "connect")
    def connect(connection: Any, _: object) -> None:
        connection.isolation_level = None

    @event.listens_for(engine.sync_engine, "begin")
    def begin(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")


def make_api(database: str | AsyncEngine, **options: Any) -> Api:
    """An api over a database that has its tables."""
    api = Api(name="existing")
    api.use(RestApiPlugin())
    if isinstance(database, str):
        api.use(SqlAlchemyPlugin(database, **options))
    else:
        api.use(SqlAlchemyPlugin(engine=database, **options))
    api.use(JWTAuthPlugin(secret=SECRET))
    api.use(SocketIOPlugin())
    return api


def declare(api: Api, **options: Any) -> None:
    """The application's models as resources."""
    api.add_resource("projects", Project, fields={"title": {"search": True}, "tasks": {}})
    api.add_resource(
        "tasks",
        Task,
        fields=TASK_FIELDS,
        search_schema={
            "title": {"type": "string"},
            "text": {"type": "string", "actual_field": "title", "filter_operator": "like"},
            "status": {},
            "statuses": {"actual_field": "status", "filter_operator": "in"},
            "reviewer": {},
            "price": {},
            "price_from": {"actual_field": "price", "filter_operator": ">="},
            "seen_before": {"actual_field": "seen_at", "filter_operator": "<"},
            "due_before": {"actual_field": "due_at", "filter_operator": "<"},
            "priority": {},
            "project": {},
            "project.title": {},
        },
        **options,
    )

"""What attacks have found in applications that exist: each with what is right."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import Computed, ForeignKey, String, create_engine, func, text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from tests.existing.test_capture_paths import Watching
from tidings import (
    Api,
    ConfigurationError,
    JWTAuthPlugin,
    RestApiPlugin,
    SocketIOPlugin,
    SqlAlchemyPlugin,
    ValidationFailed,
)


class Base(DeclarativeBase):
    pass


class Project(Base):
    __tablename__ = "f_projects"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str] = mapped_column(String(50))
    slug: Mapped[str] = mapped_column(String(50), Computed("lower(title)", persisted=True))
    state: Mapped[str] = mapped_column(String(50), default="new", onupdate=lambda: "changed")
    rev: Mapped[str] = mapped_column(String(50), default="a", onupdate=func.lower("B"))


class Task(Base):
    __tablename__ = "f_tasks"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str] = mapped_column(String(50))
    project_id: Mapped[int] = mapped_column(ForeignKey("f_projects.id", ondelete="CASCADE"))
    project: Mapped[Project] = relationship()


class Note(Base):
    __tablename__ = "f_notes"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str] = mapped_column(String(50))
    project_id: Mapped[int | None] = mapped_column(ForeignKey("f_projects.id", ondelete="SET NULL"))


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[AsyncEngine]:
    engine = create_async_engine(database_url)
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    yield engine
    await engine.dispose()


def make(url: str, **options: Any) -> Api:
    api = Api(name="found")
    api.use(RestApiPlugin())
    api.use(SqlAlchemyPlugin(url, create_tables=True, **options))
    api.use(JWTAuthPlugin(secret="a secret of the tests, which is long enough"))
    api.use(SocketIOPlugin())
    return api


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("filters", ["slug", "state", "rev"])
async def test_what_the_model_computes_is_seen_through_relationships(
    database_url: str, filters: str
) -> None:
    api = make(database_url)
    api.add_resource("projects", Project, fields=["title", "slug", "state", "rev"])
    api.add_resource(
        "tasks",
        Task,
        fields=["title", "project"],
        search_schema={f"project.{name}": {} for name in ("slug", "state", "rev")},
    )
    async with api:
        await api.resources.projects.post({"title": "A"})
        await api.resources.tasks.post({"title": "t", "project": 1})
        watching = Watching(api)
        wanted = {"slug": "b", "state": "changed", "rev": "b"}[filters]
        await watching.add("it", "ann", **{f"project.{filters}": wanted})
        await api.resources.projects.patch("1", {"title": "B"})
        assert len(await api.resources.tasks.query({f"project.{filters}": wanted})) == 1
        assert await watching.told() == {"it": [("enter", "1")]}


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("how", ["field", "hidden", "unnamed"])
async def test_what_a_database_takes_along_by_a_key_that_is_no_relationship(
    database_url: str, how: str
) -> None:
    api = make(database_url)
    api.add_resource("projects", Project, fields=["title"])
    fields = ["title", "project_id"] if how == "field" else ["title"]
    hidden = ["project_id"] if how == "hidden" else []
    model: Any = Note if how == "unnamed" else Task
    api.add_resource("tasks", model, fields=fields, hidden=hidden)
    async with api:
        await api.resources.projects.post({"title": "A"})
        values = {"title": "t"} | ({} if how == "unnamed" else {"project_id": 1})
        await api.resources.tasks.post(values)
        watching = Watching(api)
        await watching.add("all", "ann")
        await api.resources.projects.delete("1")
        assert await watching.told() == {"all": [("resync", "bulk")]}


async def test_a_row_that_is_no_text_stops_nobody(tmp_path: Any) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path}/x.db"
    api = make(url, capture="triggers")
    api.add_resource("tasks", {"title": {"type": "string", "search": True}})
    engine = create_async_engine(url)
    async with api:
        watching = Watching(api)
        await watching.add("all", "ann")
        async with engine.begin() as connection:
            await connection.execute(text("INSERT INTO tasks (title) VALUES (CAST(X'c3' AS TEXT))"))
        assert await watching.told() == {"all": [("resync", "bulk")]}
        made = await api.resources.tasks.post({"title": "after it"})
        assert await watching.told() == {"all": [("enter", made["id"])]}
    await engine.dispose()


# Mistakes at the declaration


def test_a_hook_without_its_name() -> None:
    api = Api(name="x")
    with pytest.raises(ConfigurationError, match="name the hook"):

        @api.hook  # type: ignore[arg-type]
        async def narrow(context: Any) -> None:
            pass


def test_a_class_without_annotations() -> None:
    class Posts:
        title = "x"

    with pytest.raises(ConfigurationError, match="has no fields: annotate them"):
        Api(name="x").add_resource("posts", schema=Posts)


def test_bounds_that_nothing_satisfies() -> None:
    with pytest.raises(ConfigurationError, match="min is above max"):
        Api(name="x").add_resource("posts", {"n": {"type": "integer", "min": 5, "max": 1}})


def test_an_owner_field_that_is_none() -> None:
    with pytest.raises(ConfigurationError, match="'nope' is no field"):
        Api(name="x").add_resource("posts", {"n": "integer"}, owner_field="nope")


def test_engines_that_are_none() -> None:
    with pytest.raises(ConfigurationError, match="pass an engine by name, as engine="):
        SqlAlchemyPlugin(create_async_engine("sqlite+aiosqlite://"))  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match=r"an AsyncEngine .*, not a Engine"):
        SqlAlchemyPlugin(engine=create_engine("sqlite://"))  # type: ignore[arg-type]


def test_an_error_that_is_given_a_text() -> None:
    with pytest.raises(TypeError, match="takes problems"):
        ValidationFailed("the title is too odd")  # type: ignore[arg-type]

"""What attacks have found in applications that exist: each with what is right."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, ClassVar

import pytest
from sqlalchemy import Computed, ForeignKey, String, create_engine, func, select, text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from tests.existing.test_capture_paths import Watching
from tidings import (
    Api,
    ConfigurationError,
    Identity,
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


class Member(Base):
    __tablename__ = "f_members"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(50))
    kind: Mapped[str] = mapped_column(String(20))
    __mapper_args__: ClassVar[Any] = {"polymorphic_on": "kind", "polymorphic_identity": "member"}


class Guest(Member):
    __mapper_args__: ClassVar[Any] = {"polymorphic_identity": "guest"}


class Admin(Member):
    __tablename__ = "f_admins"
    id: Mapped[int] = mapped_column(ForeignKey("f_members.id"), primary_key=True)
    __mapper_args__: ClassVar[Any] = {"polymorphic_identity": "admin"}


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


@pytest.mark.parametrize("how", ["unnamed", "named", "hidden"])
async def test_a_record_of_a_class_that_others_inherit_from_is_one_of_the_class(
    database_url: str, engine: AsyncEngine, how: str
) -> None:
    api = make(database_url)
    fields = ["name", "kind"] if how == "named" else ["name"]
    hidden = ["kind"] if how == "hidden" else []
    api.add_resource("members", Member, fields=fields, hidden=hidden)
    api.add_resource(
        "guests",
        Member,
        fields=["name"],
        row_policy=lambda row, _: row.kind == "guest",
        hidden=["kind"],
    )
    async with api:
        await api.resources.members.post({"name": "ann"})
        async with AsyncSession(engine) as session, session.begin():
            session.add_all([Guest(name="bob"), Admin(name="cem")])
        found = await api.resources.members.query(sort="name")
        assert [one["name"] for one in found] == ["ann", "bob", "cem"]
        only = await api.resources.guests.query(auth=Identity())
        assert [one["name"] for one in only] == ["bob"]
        async with AsyncSession(engine) as session:
            classes = {type(one) for one in await session.scalars(select(Member))}
        assert classes == {Member, Guest, Admin}


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

"""What of a model cannot be served is said where it is declared, and what to do."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
from sqlalchemy import (
    ARRAY,
    JSON,
    Column,
    ForeignKey,
    Integer,
    Interval,
    LargeBinary,
    MetaData,
    String,
    Table,
    UniqueConstraint,
)
from sqlalchemy.dialects import mysql
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship
from sqlalchemy.types import TypeDecorator

from tests.existing.models import Project, Task
from tidings import Api, ConfigurationError, SqlAlchemyPlugin


class Shout(TypeDecorator[str]):
    impl = String
    cache_ok = True


class Base(DeclarativeBase):
    metadata = MetaData()


tags_of_posts = Table(
    "tags_of_posts",
    Base.metadata,
    Column("post", ForeignKey("posts.id"), primary_key=True),
    Column("tag", ForeignKey("tags.id"), primary_key=True),
)


class Tag(Base):
    __tablename__ = "tags"
    id: Mapped[int] = mapped_column(primary_key=True)


class Post(Base):
    __tablename__ = "posts"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    length: Mapped[Any] = mapped_column(Interval)
    photo: Mapped[bytes | None] = mapped_column(LargeBinary)
    loud: Mapped[str | None] = mapped_column(Shout)
    tags: Mapped[list[Tag]] = relationship(secondary=tags_of_posts)


class Article(Post):
    __tablename__ = "articles"
    id: Mapped[int] = mapped_column(ForeignKey("posts.id"), primary_key=True)


class Note(Base):
    __tablename__ = "notes"
    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(String(10))
    __mapper_args__: ClassVar[Any] = {"polymorphic_on": "kind", "polymorphic_identity": "note"}


class Report(Note):
    __mapper_args__: ClassVar[Any] = {"polymorphic_identity": "report"}


def table(*columns: Any) -> Table:
    return Table("things", MetaData(), *columns)


ID = Column("id", Integer, primary_key=True)
NAMED: dict[str, Any] = {"fields": ["title"]}


@pytest.mark.parametrize(
    ("model", "options", "said"),
    [
        (Task, {}, "fields=[...] with the names of columns and relationships"),
        (Task, {"fields": "title"}, 'or fields="*" for every column'),
        (Task, {"fields": ["titel"]}, "'task_items' has no column 'titel' (it has"),
        (Task, {"fields": ["title"], "hidden": ["owner"]}, "hidden: 'task_items' has no column"),
        (Task, {**NAMED, "id_type": "uuid"}, "table and id_type are the model's"),
        (Task, {**NAMED, "table": "tasks"}, "table and id_type are the model's"),
        (
            table(Column("id", Integer, primary_key=True), Column("a", mysql.SET("x"))),
            {"fields": ["a"]},
            "things.a has the type SET('x')",
        ),
        (
            table(Column("id", Integer, primary_key=True), Column("a", Interval(native=False))),
            {"fields": ["a"]},
            "things.a has the type Interval",
        ),
        (Post, {"fields": ["loud"], "hidden": ["title"]}, "posts.loud has the type Shout"),
        (Post, NAMED, "posts.length is NOT NULL and has no default"),
        (Post, {"fields": ["tags"]}, "'tags' goes through the table tags_of_posts"),
        (
            Article,
            {"fields": "*"},
            "Article inherits from Post by joining the tables posts and articles, and a record is "
            "a row of one table: declare a resource of Post, of mapper.local_table, or of a view",
        ),
        (
            Report,
            {"fields": "*"},
            "Report inherits from Note and is a part of the table notes: declare a resource of "
            "Note, where a row_policy may leave out the others by notes.kind",
        ),
        ({"state": "enum"}, {}, "an enum needs its values"),
        ({"state": {"type": "array", "items": "date"}}, {}, "items is for an array"),
        (tags_of_posts, {"fields": "*"}, "has a primary key of several columns"),
        (table(Column("a", Integer)), {"fields": "*"}, "'things' has no primary key"),
        (table(Column("a", JSON, primary_key=True)), {"fields": "*"}, "things.a is JSON()"),
        (
            table(Column("id", Integer, primary_key=True), Column("a", ARRAY(JSON))),
            {"fields": ["a"]},
            "things.a has the type ARRAY(JSON())",
        ),
        (
            table(Column("id", Integer, primary_key=True), Column("type", String)),
            {"fields": "*"},
            "field 'type': a field name",
        ),
        ({"title": "string"}, NAMED, "fields= and hidden= choose from a model or table"),
    ],
)
def test_it_is_refused_by_name(model: Any, options: dict[str, Any], said: str) -> None:
    api = Api()
    with pytest.raises(ConfigurationError) as caught:
        api.add_resource("things", model, **options)
    assert said in str(caught.value)
    assert "resource 'things'" in str(caught.value)


@pytest.mark.parametrize("others", [[], ["a", "b"]])
async def test_a_relationship_leads_to_one_resource(others: list[str]) -> None:
    api = Api()
    api.use(SqlAlchemyPlugin("sqlite+aiosqlite://"))
    api.add_resource("tasks", Task, fields=["title", "project"])
    for name in others:
        api.add_resource(name, Project, fields=["title"])
    with pytest.raises(ConfigurationError) as caught:
        await api.open()
    why = "a, b serve it" if others else "none serves it"
    assert f"resource 'tasks', 'project': it leads to the table 'projects', and {why}" in str(
        caught.value
    ) or f"resource 'tasks', 'project_no': it leads to the table 'projects', and {why}" in str(
        caught.value
    )


async def test_a_table_that_is_missing_or_otherwise_is_said_by_its_own_names() -> None:
    metadata = MetaData()
    things = Table(
        "things",
        metadata,
        Column("no", Integer, key="number", primary_key=True),
        Column("text", String(10), key="title"),
        UniqueConstraint("title"),
    )
    api = Api()
    api.use(SqlAlchemyPlugin("sqlite+aiosqlite://", create_tables=True))
    api.add_resource("things", things, fields=["title"])
    async with api:
        pass  # nobody else's tables are created, and it may come later
    from tidings.storage.comparison import differences

    await api.internals.parts.database.open()
    (found,) = await differences(api.internals.parts.database, api.internals.tables[:1])
    await api.internals.parts.database.close()
    assert str(found) == "things: missing; create it with your own migrations: it is a model's"

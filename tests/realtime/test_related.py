"""What is told where a filter looks at related records, and what that costs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

from tests.realtime.following import Follower, check_all, make_blog
from tests.realtime.kit import delivered
from tidings import Api

pytestmark = pytest.mark.anyio

Statements = Callable[[], list[str]]


@pytest.fixture
async def blog() -> AsyncIterator[Api]:
    """Two categories, a post in the first, its author of a company, a comment and a tag."""
    async with make_blog("sqlite+aiosqlite://") as api:
        await fill(api)
        yield api


async def fill(api: Api) -> None:
    found = api.resources
    await found.companies.post({"name": "a"})
    await found.authors.post({"name": "a", "company_id": 1})
    await found.categories.post({"name": "a"})
    await found.categories.post({"name": "b", "parent_id": 1})
    await found.posts.post({"title": "t", "status": "x", "author_id": 1, "category_id": 1})
    await found.comments.post({"state": "a", "post_id": 1, "author_id": 1})
    await found.tags.post({"name": "a", "post_id": 1})


async def watch(api: Api, resource: str = "posts", /, **filters: Any) -> Follower:
    return await Follower(api, resource, filters).start()


async def packets(follower: Follower) -> list[tuple[str, str, str, str]]:
    """Type, id, action and way of what has come."""
    await delivered(follower.api)
    return [
        (found["type"], found["id"], found["action"], found["meta"]["change"])
        for event, found in follower.events()
        if event == "subscription.update"
    ]


async def reasons(follower: Follower) -> list[str]:
    await delivered(follower.api)
    return [found["reason"] for event, found in follower.events() if event == "subscription.resync"]


# What is told


async def test_a_related_change_is_told_to_those_whom_it_brings_or_takes_a_record(
    blog: Api,
) -> None:
    entered, left = await watch(blog, category="new"), await watch(blog, category="a")
    stays, other = await watch(blog, not_category="z"), await watch(blog, status="x")
    await blog.resources.categories.patch(1, {"name": "new"})
    assert await packets(entered) == [("resource.updated", "1", "patch", "enter")]
    assert await packets(left) == [("resource.updated", "1", "patch", "leave")]
    assert await packets(stays) == await packets(other) == []


async def test_a_change_that_no_path_goes_by_is_not_looked_at(blog: Api) -> None:
    follower = await watch(blog, beside="x")
    position = blog._feed.position.offset
    await blog.resources.authors.patch(1, {"age": 3, "company_id": 1})
    await blog.resources.posts.patch(1, {"title": "u"})
    assert blog._feed.position.offset == position + 4  # with author.age, posts.title of authors
    await blog.resources.categories.patch(2, {"name": "b"})
    assert blog._feed.position.offset == position + 5
    assert await packets(follower) == [("resource.updated", "1", "patch", "update")]


async def test_values_that_stay_the_same_are_no_change(blog: Api) -> None:
    for name in ("b", "c", "d", "e"):
        await blog.resources.tags.post({"post_id": 1, "name": name})
    position = blog._feed.position.offset
    for name in ("b", "c", "d", "e"):
        await blog.resources.tags.post({"post_id": 1, "name": name})
    assert blog._feed.position.offset == position + 4


async def test_what_is_told_is_told_over_http_as_well(blog: Api) -> None:
    follower = await watch(blog, category="new")
    transport = httpx.ASGITransport(app=blog.asgi())
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        document = {"data": {"type": "categories", "id": "1", "attributes": {"name": "new"}}}
        headers = {"content-type": "application/vnd.api+json"}
        answer = await client.patch("/api/categories/1", json=document, headers=headers)
    assert answer.status_code == 200
    assert await packets(follower) == [("resource.updated", "1", "patch", "enter")]


async def test_a_record_that_is_deleted_with_what_it_refers_to_leaves(blog: Api) -> None:
    follower = await watch(blog, category="a")
    async with blog.transaction() as uow:
        for resource, key in (("comments", 1), ("tags", 1), ("posts", 1), ("categories", 2)):
            await blog.resources[resource].delete(key, transaction=uow)
        await blog.resources.categories.delete(1, transaction=uow)
    assert await packets(follower) == [("resource.deleted", "1", "delete", "leave")]


async def test_what_is_rolled_back_is_not_told(blog: Api) -> None:
    follower = await watch(blog, category="new")
    with pytest.raises(ZeroDivisionError):
        async with blog.transaction() as uow:
            await blog.resources.categories.patch(1, {"name": "new"}, transaction=uow)
            1 / 0  # noqa: B018
    async with blog.transaction() as uow:
        with pytest.raises(ZeroDivisionError):
            async with uow.savepoint():
                await blog.resources.categories.patch(1, {"name": "new"}, transaction=uow)
                1 / 0  # noqa: B018
    await follower.check()
    assert not follower.told


async def test_the_applications_own_transaction_is_followed(tmp_path: Path) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path}/blog.db"
    engine = create_async_engine(url)
    async with make_blog(url) as api:
        await fill(api)
        follower = await watch(api, category="new")
        categories = api.resources.categories
        async with AsyncSession(engine) as session, session.begin():
            await session.execute(text("UPDATE posts SET category_id = 2"))
            nested = await session.begin_nested()
            await categories.patch(2, {"name": "new"}, transaction=session)
            await nested.rollback()
            await categories.patch(2, {"name": "new"}, transaction=session)
            assert await packets(follower) == []
        assert await packets(follower) == [("resource.updated", "1", "patch", "enter")]
    await engine.dispose()


async def test_what_the_database_does_to_those_who_refer_to_a_deleted_row_is_seen(
    tmp_path: Path,
) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path}/blog.db"
    engine = create_async_engine(url)
    async with engine.begin() as connection:
        await connection.execute(text("CREATE TABLE categories (id INTEGER PRIMARY KEY)"))
        for column in ("name TEXT", "parent_id BIGINT"):
            await connection.execute(text(f"ALTER TABLE categories ADD COLUMN {column}"))
        await connection.execute(
            text(
                "CREATE TABLE posts (id INTEGER PRIMARY KEY, title TEXT, status TEXT, "
                "author_id BIGINT REFERENCES authors (id) ON DELETE CASCADE, "
                "category_id BIGINT REFERENCES categories (id) ON DELETE SET NULL)"
            )
        )
    await engine.dispose()
    async with make_blog(url) as api:
        await api.resources.categories.post({"name": "a"})
        await api.resources.authors.post({"name": "a"})
        await api.resources.posts.post({"author_id": 1, "category_id": 1})
        category, author = await watch(api, category="a"), await watch(api, author="a")
        none = await watch(api, category=None)
        await api.resources.categories.delete(1)
        assert await packets(category) == [("resource.updated", "1", "patch", "leave")]
        assert await packets(none) == [("resource.updated", "1", "patch", "enter")]
        await api.resources.authors.delete(1)
        assert await packets(author) == [("resource.deleted", "1", "delete", "leave")]
        await check_all([category, author, none])


# Beyond the bounds


async def test_too_many_touched_records_are_one_resync_for_those_who_use_the_path(
    blog: Api,
) -> None:
    for _ in range(5):
        await blog.resources.posts.post({"category_id": 1})
    blog._assembled.operations.effects.max_touched = 5
    uses, other = await watch(blog, category="a"), await watch(blog, author="a")
    every = await watch(blog)
    async with blog.transaction() as uow:
        for name in ("b", "c", "d"):
            await blog.resources.categories.patch(1, {"name": name}, transaction=uow)
    assert (await packets(uses), await reasons(uses)) == ([], ["bulk"])
    assert await reasons(other) == await packets(other) == []
    assert await reasons(every) == await packets(every) == []
    await check_all([uses, other, every])


async def test_as_many_as_may_be_are_told_one_by_one(blog: Api) -> None:
    for _ in range(4):
        await blog.resources.posts.post({"category_id": 1})
    blog._assembled.operations.effects.max_touched = 5
    follower = await watch(blog, category="a")
    await blog.resources.categories.patch(1, {"name": "b"})
    assert len(await packets(follower)) == 5


async def test_a_record_with_too_many_related_rows_is_told_to_those_who_do_not_look_at_them(
    blog: Api,
) -> None:
    for _ in range(6):
        await blog.resources.comments.post({"post_id": 1, "state": "b"})
    blog._assembled.operations.effects.max_values = 5
    uses, never = await watch(blog, comment="a"), await watch(blog, comment="z", status="x")
    other = await watch(blog, category="a")
    await blog.resources.posts.patch(1, {"title": "u"})
    assert (await packets(uses), await reasons(uses)) == ([], ["bulk"])
    assert (await packets(never), await reasons(never)) == ([], ["bulk"])
    assert await packets(other) == [("resource.updated", "1", "patch", "update")]
    assert await reasons(other) == []


async def test_the_resync_of_a_transaction_comes_last(blog: Api) -> None:
    """After it is told what has been before it, so the client's list is that of the end."""
    blog._assembled.operations.effects.max_touched = 0
    follower = await watch(blog, category="new")
    async with blog.transaction() as uow:
        categories, posts = blog.resources.categories, blog.resources.posts
        await categories.patch(1, {"name": "new"}, transaction=uow)
        await posts.patch(1, {"category_id": 2}, transaction=uow)
        await categories.patch(2, {"name": "new"}, transaction=uow)
    await check_all([follower])
    assert follower.ids == {"1"}
    assert follower.resyncs == 1


async def test_a_reference_may_be_there_before_what_it_refers_to() -> None:
    async with make_blog("sqlite+aiosqlite://", constraint=False) as api:
        for category in (1, 9):
            await api.resources.posts.post({"category_id": category})
        follower = await watch(api, category="a")
        await api.resources.categories.post({"id": 9, "name": "a"})
        assert await packets(follower) == [("resource.updated", "2", "patch", "enter")]
        await check_all([follower])
    async with make_blog("sqlite+aiosqlite://", constraint=False) as api:
        await api.resources.posts.post({"category_id": 1})
        follower = await watch(api, category="a")
        await api.resources.categories.post({"name": "a"})  # its id is known too late
        assert (await packets(follower), await reasons(follower)) == ([], ["bulk"])
        await check_all([follower])


# What it costs


@pytest.fixture
def statements(caplog: pytest.LogCaptureFixture) -> Iterator[Statements]:
    """The SQL that has been run since last asked."""
    caplog.set_level(logging.DEBUG, logger="tidings.storage")

    def taken() -> list[str]:
        said = [record.getMessage() for record in caplog.records]
        caplog.clear()
        return [
            line for line in said if line.split()[0] in ("SELECT", "INSERT", "UPDATE", "DELETE")
        ]

    yield taken
    caplog.set_level(logging.WARNING, logger="tidings.storage")


async def watch_many(api: Api) -> None:
    for number in range(20):
        await watch(api, "categories")
        await watch(api, category=str(number))
        await watch(api, not_category=str(number), comment="b")


@pytest.mark.parametrize("many", [False, True])
async def test_resources_without_paths_cost_nothing(
    blog: Api, statements: Statements, many: bool
) -> None:
    if many:
        await watch_many(blog)
    statements()
    categories = blog.resources.categories
    await categories.post({"name": "c"})  # nothing can refer to it yet
    assert len(statements()) == 1
    await categories.patch(1, {"name": "a", "parent_id": None})  # as it was
    assert len(statements()) == 2
    await blog.resources.comments.patch(1, {"author_id": 1})
    assert len(statements()) == 3  # its own paths, as they are before


@pytest.mark.parametrize("many", [False, True])
async def test_paths_cost_at_most_two_reads_more(statements: Statements, many: bool) -> None:
    """And three for the change of a related record, however many watch whatever."""
    async with make_library("sqlite+aiosqlite://") as api:
        books = api.resources.books
        await api.resources.shelves.post({"name": "a"})
        await api.resources.shelves.post({"name": "b"})
        if many:
            for number in range(20):
                await watch(api, "books", shelf=str(number))
        statements()
        await books.post({"title": "t", "shelf_id": 1})
        assert len(statements()) == 1 + 1
        await books.patch(1, {"title": "u"})
        assert len(statements()) == 2 + 1
        await books.patch(1, {"shelf_id": 2})
        assert len(statements()) == 2 + 2
        await api.resources.shelves.patch(2, {"name": "c"})
        assert len(statements()) == 2 + 3  # find and lock the books, read before, read after
        await api.resources.shelves.patch(1, {"name": "c"})
        assert len(statements()) == 2 + 1  # no book is there
        await books.delete(1)
        assert len(statements()) == 2 + 1


def make_library(url: str) -> Api:
    api = make_blog(url)
    api.add_resource("shelves", schema={"name": "string"})
    api.add_resource(
        "books",
        schema={"title": "string", "shelf_id": {"belongs_to": "shelves"}},
        search_schema={"shelf": {"actual_field": "shelf.name"}},
    )
    return api


# Transactions side by side


@pytest.fixture(params=["postgres_url", "mariadb_url"])
async def served(request: pytest.FixtureRequest) -> AsyncIterator[Api]:
    async with make_blog(request.getfixturevalue(request.param)) as api:
        await fill(api)
        yield api


async def held_up(write: Any) -> asyncio.Task[Any]:
    """A write that another transaction is to hold up."""
    task = asyncio.ensure_future(write)
    await asyncio.wait({task}, timeout=0.3)
    return task


@pytest.mark.parametrize("bound", [1000, 0])
async def test_a_record_that_changes_while_its_category_is_renamed(served: Api, bound: int) -> None:
    found = served.resources
    await found.posts.post({"category_id": 1})
    served._assembled.operations.effects.max_touched = bound
    follower = await watch(served, category="new", status="y")
    async with served.transaction() as second:
        async with served.transaction() as first:
            await found.categories.patch(1, {"name": "new"}, transaction=first)
            patch = await held_up(found.posts.patch(2, {"status": "y"}, transaction=second))
        await check_all([follower])
        await patch
    await check_all([follower])
    assert follower.ids == {"2"}


async def test_a_category_that_is_renamed_while_a_record_comes_into_it(served: Api) -> None:
    found = served.resources
    follower = await watch(served, category="new")
    async with served.transaction() as second:
        async with served.transaction() as first:
            await found.posts.patch(1, {"category_id": 2}, transaction=first)
            patch = await held_up(found.categories.patch(2, {"name": "new"}, transaction=second))
        await check_all([follower])
        await patch
    await check_all([follower])
    assert follower.ids == {"1"}


async def test_a_record_that_comes_into_a_category_while_it_is_renamed(served: Api) -> None:
    found = served.resources
    follower = await watch(served, category="new")
    async with served.transaction() as second:
        async with served.transaction() as first:
            await found.categories.patch(2, {"name": "new"}, transaction=first)
            patch = await held_up(found.posts.patch(1, {"category_id": 2}, transaction=second))
        await check_all([follower])
        await patch
    await check_all([follower])
    assert follower.ids == {"1"}


@pytest.mark.parametrize("bound", [1000, 0])
async def test_a_record_that_comes_to_a_category_while_its_parent_is_renamed(
    served: Api, bound: int
) -> None:
    """The new post refers to the category only, whose row the other transaction leaves alone."""
    found = served.resources
    await found.categories.post({"parent_id": 1})
    served._assembled.operations.effects.max_touched = bound
    follower = await watch(served, parent="new")
    async with served.transaction() as second:
        async with served.transaction() as first:
            await found.categories.patch(1, {"name": "new"}, transaction=first)
            post = await held_up(found.posts.post({"category_id": 3}, transaction=second))
        await check_all([follower])
        await post
    await check_all([follower])
    assert follower.ids == {"2"}


async def test_two_related_records_that_change_at_the_same_time(served: Api) -> None:
    """Each of them alone does not bring the post in."""
    found = served.resources
    follower = await watch(served, category="new", author="new")
    async with served.transaction() as second:
        async with served.transaction() as first:
            await found.categories.patch(1, {"name": "new"}, transaction=first)
            patch = await held_up(found.authors.patch(1, {"name": "new"}, transaction=second))
        await check_all([follower])
        await patch
    await check_all([follower])
    assert follower.ids == {"1"}


async def test_two_comments_that_come_at_the_same_time(served: Api) -> None:
    found = served.resources
    follower = await watch(served, comments=["b", "c"])
    async with served.transaction() as second:
        async with served.transaction() as first:
            await found.comments.post({"state": "b", "post_id": 1}, transaction=first)
            post = await held_up(
                found.comments.post({"state": "c", "post_id": 1}, transaction=second)
            )
        await check_all([follower])
        await post
    await check_all([follower])
    assert follower.ids == {"1"}

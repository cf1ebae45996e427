"""Entity tags, conditional requests, and the cursor of a write."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from tests.http.kit import Client, document, error, serving_quietly
from tests.security.test_statements import counted

from tidings import Api, RestApiPlugin, SqlAlchemyPlugin


@pytest.fixture
async def library(database_url: str) -> AsyncIterator[Api]:
    api = Api(name="test")
    api.use(RestApiPlugin())
    api.use(SqlAlchemyPlugin(database_url, create_tables=True))
    api.add_resource(
        "users",
        {"name": "string", "secret": {"type": "string", "hidden": True}},
        relationships={"posts": {"type": "hasMany", "target": "posts", "foreign_key": "author_id"}},
        client_ids=True,
    )
    api.add_resource(
        "posts", {"title": "string", "author_id": {"belongs_to": "users"}}, max_page_size=1_000
    )
    async with api:
        await api.resources.users.post({"name": "Ada"})
        await api.resources.posts.post({"title": "one", "author_id": "1"})
        yield api


@pytest.fixture
async def http(library: Api) -> AsyncIterator[Client]:
    async with serving_quietly(library) as client:
        yield client


async def patch(http: Client, name: str, url: str = "/users/1", **headers: str) -> httpx.Response:
    resource = url.split("/")[1]
    key = "title" if resource == "posts" else "name"
    body = document(resource, {key: name}, "1")
    sent = {header.replace("_", "-"): value for header, value in headers.items()}
    return await http.write("PATCH", url, body, headers=sent)


def numbers(response: httpx.Response) -> tuple[str, int]:
    epoch, _, number = response.headers["tidings-cursor"].partition(".")
    return epoch, int(number)


@pytest.mark.parametrize(
    "url",
    [
        "/users/1",
        "/users/1?include=posts",
        "/users",
        "/users?fields[users]=name",
        "/users/1/posts",
        "/users/1/relationships/posts",
        "/posts/1/author",
        "/posts/1/relationships/author",
    ],
)
async def test_what_has_not_changed_is_not_sent_again(http: Client, url: str) -> None:
    first = await http.get(url)
    tag = first.headers["etag"]
    assert tag.startswith('"')
    await http.made("posts", {"title": "of nobody"})  # moves the cursor on, and nothing of these
    for known in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        again = await http.get(url, headers={"if-none-match": known})
        assert (again.status_code, again.content) == (304, b""), known
        assert again.headers["etag"] == tag
        assert again.headers["vary"] == first.headers["vary"]
        assert numbers(again) > numbers(first)
    head = await http.head(url, headers={"if-none-match": tag})
    assert head.status_code == 304
    assert (await http.get(url, headers={"if-none-match": '"other"'})).status_code == 200


@pytest.mark.parametrize("url", ["/users/1", "/users", "/users?page[size]=1", "/users?sort=-name"])
async def test_what_has_not_changed_costs_one_statement(
    library: Api, http: Client, url: str
) -> None:
    await library.resources.users.post({"name": "Grace"})
    tag = (await http.get(url)).headers["etag"]
    with counted() as statements:
        again = await http.get(url, headers={"if-none-match": tag})
    assert again.status_code == 304
    assert len(statements) == 1, statements


async def test_a_page_beyond_the_end_still_has_its_total(http: Client) -> None:
    body = (await http.get("/users?page[size]=1&page[number]=3")).json()
    assert (body["data"], body["meta"]["page"]["total"]) == ([], 1)


async def test_a_list_with_includes_costs_as_many_statements_however_long_it_is(
    library: Api, http: Client
) -> None:
    async with library.transaction() as uow:
        for number in range(999):
            user = await library.resources.users.post({"name": str(number)}, transaction=uow)
            post = {"title": str(number), "author_id": user["id"]}
            await library.resources.posts.post(post, transaction=uow)
    taken = []
    for size in (10, 1_000):
        with counted() as statements:
            url = f"/posts?page[size]={size}&include=author.posts"
            body = (await http.get(url)).json()
        assert len(body["data"]) == size
        taken.append(len(statements))
    assert taken == [3, 3]


@pytest.mark.parametrize(
    "url", ["/users/1", "/users", "/posts/1/author", "/posts?include=author", "/users?page[size]=1"]
)
async def test_what_has_changed_has_another_tag(library: Api, http: Client, url: str) -> None:
    tag = (await http.get(url)).headers["etag"]
    await library.resources.users.patch("1", {"secret": "kept from clients"})
    assert (await http.get(url)).headers["etag"] == tag
    await patch(http, "Grace")
    now = await http.get(url, headers={"if-none-match": tag})
    assert now.status_code == 200
    assert now.headers["etag"] != tag


async def test_a_total_that_has_changed_is_a_change(http: Client) -> None:
    url = "/users?page[size]=1&sort=id"
    tag = (await http.get(url)).headers["etag"]
    await http.made("users", {"name": "Grace"})
    assert (await http.get(url, headers={"if-none-match": tag})).status_code == 200


@pytest.mark.parametrize("query", ["", "?include=posts", "?fields[users]=name"])
async def test_a_write_is_held_against_the_record_alone(http: Client, query: str) -> None:
    tag = (await http.get(f"/users/1{query}")).headers["etag"]
    await patch(http, "changed meanwhile", "/posts/1")
    answer = await patch(http, "Grace", if_match=tag)
    assert answer.status_code == 200, "what came along has changed, the record has not"
    late = await patch(http, "Mary", if_match=tag)
    error(late, 412, "PRECONDITION_FAILED", header="If-Match")
    assert (await http.data("/users/1"))["attributes"]["name"] == "Grace"
    again = await patch(http, "Mary", if_match=f'"x", {answer.headers["etag"]}')
    assert again.status_code == 200, "the answer to a write has the tag of what it has made"


async def test_weak_tags_are_no_ground_to_write(http: Client) -> None:
    tag = (await http.get("/users/1")).headers["etag"]
    error(await patch(http, "Grace", if_match=f"W/{tag}"), 412, "PRECONDITION_FAILED")
    assert (await patch(http, "Grace", if_match="*")).status_code == 200


async def test_delete_and_put_are_held_against_it_too(http: Client) -> None:
    tag = (await http.get("/users/1")).headers["etag"]
    await patch(http, "Grace")
    gone = await http.delete("/users/1", headers={"if-match": tag})
    error(gone, 412, "PRECONDITION_FAILED", header="If-Match")
    body = document("users", {"name": "Mary"}, "1")
    put = await http.write("PUT", "/users/1", body, headers={"if-match": tag})
    error(put, 412, "PRECONDITION_FAILED", header="If-Match")
    tag = (await http.get("/users/1")).headers["etag"]
    put = await http.write("PUT", "/users/1", body, headers={"if-match": tag})
    assert put.status_code == 200


async def test_put_makes_only_or_replaces_only(http: Client) -> None:
    body = document("users", {"name": "Mary"}, "7")
    replaced = await http.write("PUT", "/users/7", body, headers={"if-match": "*"})
    error(replaced, 412, "PRECONDITION_FAILED", header="If-Match")
    made = await http.write("PUT", "/users/7", body, headers={"if-none-match": "*"})
    assert made.status_code == 201
    again = await http.write("PUT", "/users/7", body, headers={"if-none-match": "*"})
    error(again, 412, "PRECONDITION_FAILED", header="If-None-Match")


async def test_of_writers_at_once_one_succeeds(http: Client) -> None:
    tag = (await http.get("/users/1")).headers["etag"]
    answers = await asyncio.gather(*(patch(http, f"name {n}", if_match=tag) for n in range(8)))
    assert sorted(answer.status_code for answer in answers) == [200] + [412] * 7


async def test_relationships(http: Client) -> None:
    await http.made("users", {"name": "Grace"})
    url = "/posts/1/relationships/author"
    tag = (await http.get(url)).headers["etag"]
    await patch(http, "another title", "/posts/1")
    body: Any = {"data": {"type": "users", "id": "2"}}
    done = await http.write("PATCH", url, body, headers={"if-match": tag})
    assert done.status_code == 204
    late = await http.write("PATCH", url, body, headers={"if-match": tag})
    error(late, 412, "PRECONDITION_FAILED", header="If-Match")

    url = "/users/1/relationships/posts"
    tag = (await http.get(url)).headers["etag"]
    many = await http.write("POST", url, {"data": []}, headers={"if-match": tag})
    error(many, 412, "PRECONDITION_FAILED", header="If-Match")
    one = await http.write("POST", "/users", document("users"), headers={"if-match": tag})
    error(one, 412, "PRECONDITION_FAILED")


@pytest.mark.parametrize("header", ["if-match", "if-none-match"])
@pytest.mark.parametrize("value", ["abc", '"a" "b"', '"a', "*, *", ", ".join(['"x"'] * 102), "w/x"])
async def test_what_is_no_list_of_tags_is_refused(http: Client, header: str, value: str) -> None:
    method = "GET" if header == "if-none-match" else "DELETE"
    answer = await http.request(method, "/users/1", headers={header: value})
    error(answer, 400, "INVALID_HEADER", header=header.title())


async def test_a_write_names_its_own_place(library: Api, http: Client) -> None:
    before = numbers(await http.get("/users/1"))
    made = await http.create("users", {"name": "Grace"})
    assert numbers(made) == (before[0], before[1] + 1)
    assert made.json()["meta"]["cursor"] == made.headers["tidings-cursor"]
    changed = await patch(http, "Mary")
    assert numbers(changed) == (before[0], before[1] + 2)
    url = "/users/1/relationships/posts"
    linked = await http.write("PATCH", url, {"data": []})
    assert linked.status_code == 204
    assert numbers(linked)[1] >= before[1] + 3
    gone = await http.delete("/posts/1")
    assert numbers(gone)[1] == numbers(linked)[1] + 1
    assert numbers(await http.get("/users/1")) == numbers(gone)


async def test_each_of_many_writes_at_once_names_its_own_place_or_one_before(
    library: Api, http: Client
) -> None:
    start = library._feed.position
    answers = await asyncio.gather(*(http.create("users", {"name": str(n)}) for n in range(20)))
    told = {change.id: place for place, change in await library._feed.read(start, 50)}  # type: ignore[union-attr]
    for answer in answers:
        assert numbers(answer)[1] <= told[answer.json()["data"]["id"]]
    is_alone = library.internals.parts.database.dialect_name == "sqlite"  # one writer at a time
    places = {numbers(answer)[1] for answer in answers}
    assert len(places) == 20 or not is_alone


async def test_a_star_in_quotes_is_a_tag(http: Client) -> None:
    error(await patch(http, "Grace", if_match='"*"'), 412, "PRECONDITION_FAILED")


@pytest.mark.parametrize("value", ['""', '".x"', "*"])
async def test_members_cannot_be_required(http: Client, value: str) -> None:
    url = "/users/1/relationships/posts"
    answer = await http.write("POST", url, {"data": []}, headers={"if-match": value})
    error(answer, 412, "PRECONDITION_FAILED", header="If-Match")


async def test_if_none_match_is_compared_weakly(http: Client) -> None:
    tag = (await http.get("/users/1")).headers["etag"]
    for known in (tag, f"W/{tag}"):
        answer = await patch(http, "Grace", if_none_match=known)
        error(answer, 412, "PRECONDITION_FAILED", header="If-None-Match")


async def test_pages_beyond_any_number(http: Client) -> None:
    for query in ("page[offset]=2147483648", "page[number]=107374184", "page[offset]=2000000000"):
        answer = await http.get(f"/users?{query}")
        assert answer.status_code == 200, query
        assert answer.json()["data"] == []


@pytest.mark.parametrize("key", ["007", "%2B1", " 1"])
async def test_one_spelling_of_an_id_in_filters(http: Client, key: str) -> None:
    error(await http.get(f"/users?filter[id]={key}"), 400, "INVALID_VALUE")


@pytest.mark.parametrize("key", [".", ".."])
async def test_an_id_that_no_url_can_have(key: str) -> None:
    api = Api(name="test")
    api.use(RestApiPlugin())
    api.use(SqlAlchemyPlugin("sqlite+aiosqlite://", create_tables=True))
    api.add_resource("things", {"name": "string"}, id_type="string")
    async with api, serving_quietly(api) as client:
        error(await client.create("things", {"name": "x"}, record_id=key), 400, "INVALID_ID")


async def test_long_documents_are_read_as_short_ones(http: Client) -> None:
    """Beside the event loop, with the same errors in the same order."""
    long = "x" * 40_000
    made = await http.create("users", {"name": long})
    assert made.json()["data"]["attributes"]["name"] == long
    error(await http.write("POST", "/users", f'{{"data": "{long}'), 400, "INVALID_JSON")
    error(await http.write("POST", "/users", f'["{long}"]'), 400, "INVALID_DOCUMENT")
    error(await http.write("POST", "/nothing", f'["{long}"]'), 404, "RESOURCE_NOT_FOUND")

"""Member names in camelCase and with dashes: one mapping, wherever a client meets a name."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from openapi_spec_validator import validate
from tests.http.kit import SECRET, Client, bearer, document, error, errors, serving_quietly
from tests.realtime.kit import delivered, subscriber

from tidings import (
    Api,
    ConfigurationError,
    JWTAuthPlugin,
    OperationContext,
    RestApiPlugin,
    SocketIOPlugin,
    SqlAlchemyPlugin,
)
from tidings.errors import FilterError, InvalidRequest

seen: list[dict[str, Any]] = []


def declare(url: str) -> Api:
    api = Api(name="test")
    api.use(RestApiPlugin())
    api.use(SqlAlchemyPlugin(url, create_tables=True))
    api.use(JWTAuthPlugin(secret=SECRET))
    api.use(SocketIOPlugin())
    api.add_resource(
        "users",
        {"full_name": {"type": "string", "search": True}},
        relationships={
            "written_posts": {"type": "hasMany", "target": "posts", "foreign_key": "co_author_id"}
        },
        member_names="dasherized",
    )
    api.add_resource(
        "posts",
        {
            "main_title": {"type": "string", "required": True, "max": 9, "search": True},
            "short_slug": {"type": "string", "unique": True},
            "secret_code": {"type": "string", "readable_by": "staff"},
            "view_count": {"type": "integer", "read_only": True, "default": 0},
            "long_title": {
                "type": "string",
                "computed": lambda record: record["main_title"] * 2,
                "depends_on": ["main_title"],
            },
            "co_author_id": {"belongs_to": "users"},
        },
        search_schema={"main_title": {}, "co_author.full_name": {}, "views_over": VIEWS},
        member_names="camelCase",
    )

    @api.hook("before_write")
    def note(context: OperationContext) -> None:
        seen.append(dict(context.values or {}))

    return api


VIEWS = {"actual_field": "view_count", "filter_operator": ">"}


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    async with declare("sqlite+aiosqlite://") as api:
        await api.resources.users.post({"full_name": "Ada"})
        yield api


@pytest.fixture
async def http(api: Api) -> AsyncIterator[Client]:
    async with serving_quietly(api) as client:
        yield client


async def test_documents_are_in_the_clients_names_both_ways(http: Client) -> None:
    seen.clear()
    made = await http.made("posts", {"mainTitle": "a", "shortSlug": "s"}, coAuthor=("users", 1))
    assert seen == [{"main_title": "a", "short_slug": "s", "co_author_id": 1}]
    assert made["attributes"] == {
        "mainTitle": "a",
        "shortSlug": "s",
        "viewCount": 0,
        "longTitle": "aa",
    }
    place = made["links"]["self"]
    assert made["relationships"] == {
        "coAuthor": {
            "links": {"self": f"{place}/relationships/coAuthor", "related": f"{place}/coAuthor"},
            "data": {"type": "users", "id": "1"},
        }
    }
    for method in ("PATCH", "PUT"):
        response = await http.write(method, f"/posts/{made['id']}", {"data": made})
        assert response.status_code == 200, response.text
        assert response.json()["data"] == made
    for url in ("coAuthor", "relationships/coAuthor"):
        found = (await http.get(f"/posts/{made['id']}/{url}")).json()
        assert (found["data"]["id"], found["links"]["self"]) == ("1", f"{place}/{url}")
    for url in ("co_author", "relationships/co_author"):
        error(await http.get(f"/posts/{made['id']}/{url}"), 404, "RELATIONSHIP_NOT_FOUND")
    user = await http.data("/users/1?include=written-posts.coAuthor")
    assert user["attributes"] == {"full-name": "Ada"}
    assert user["relationships"]["written-posts"]["data"] == [{"type": "posts", "id": made["id"]}]
    found = (await http.get("/users/1/relationships/written-posts?page[size]=1")).json()
    assert found["links"]["self"].startswith("/api/users/1/relationships/written-posts?")
    body = {"data": []}
    assert (await http.write("PATCH", "/users/1/relationships/written-posts", body)).is_success


async def test_parameters_take_the_clients_names_only(http: Client) -> None:
    await http.made("posts", {"mainTitle": "b"})
    await http.made("posts", {"mainTitle": "a"}, coAuthor=("users", 1))
    assert await http.ids("/posts?sort=mainTitle") == ["2", "1"]
    assert await http.ids("/posts?sort=-coAuthor.fullName,mainTitle") == ["2", "1"]
    assert await http.ids("/posts?filter[mainTitle]=b") == ["1"]
    assert await http.ids("/posts?filter[coAuthor.fullName]=Ada&filter[viewsOver]=-1") == ["2"]
    shown = await http.data("/posts?fields[posts]=mainTitle,coAuthor&page[size]=1&sort=-mainTitle")
    assert (shown[0]["attributes"], [*shown[0]["relationships"]]) == (
        {"mainTitle": "b"},
        ["coAuthor"],
    )
    shown = (await http.get("/posts/2?include=coAuthor&fields[users]=full-name")).json()
    assert shown["included"][0]["attributes"] == {"full-name": "Ada"}
    wrong = {
        "sort=main_title": "INVALID_SORT",
        "sort=-co_author.full_name": "INVALID_SORT",
        "filter[main_title]=b": "INVALID_FILTERS",
        "filter[views_over]=1": "INVALID_FILTERS",
        "fields[posts]=main_title": "INVALID_FIELDS",
        "fields[users]=fullName": "INVALID_FIELDS",
        "include=co_author": "INVALID_INCLUDE",
        "include=coAuthor.writtenPosts": "INVALID_INCLUDE",
        "include=coAuthor.written_posts": "INVALID_INCLUDE",
    }
    for query, code in wrong.items():
        (found,) = errors(await http.get(f"/posts?{query}"), 400)
        assert found["code"] in (code, "UNKNOWN_FIELD"), query
        assert found["source"]["parameter"] == query.split("=")[0]


async def test_errors_name_what_the_client_has_sent(http: Client) -> None:
    found = errors(await http.create("posts", {"shortSlug": 7, "mainTitle": "x" * 10}), 422)
    assert {one["source"]["pointer"] for one in found} == {
        "/data/attributes/shortSlug",
        "/data/attributes/mainTitle",
    }
    response = await http.create("posts", {})
    found = error(response, 422, "REQUIRED", pointer="/data/attributes/mainTitle")
    assert found["detail"] == "mainTitle: is required"
    response = await http.create("posts", {"mainTitle": "a", "mainTitel": "b"})
    found = error(response, 422, "UNKNOWN_FIELD", pointer="/data/attributes/mainTitel")
    assert "'mainTitle'" in found["detail"]
    response = await http.create("posts", {"mainTitle": "a", "viewCount": 7})
    error(response, 422, "READ_ONLY", pointer="/data/attributes/viewCount")
    response = await http.create("posts", {"main_title": "a"})
    error(response, 400, "INVALID_DOCUMENT", pointer="/data/attributes/main_title")
    response = await http.create("posts", {"mainTitle": "a"}, co_author=("users", 1))
    error(response, 400, "INVALID_DOCUMENT", pointer="/data/relationships/co_author")
    response = await http.create("posts", {"mainTitle": "a"}, coAuthor=("users", 9))
    pointer = "/data/relationships/coAuthor/data"
    error(response, 404, "RELATED_NOT_FOUND", pointer=pointer)
    await http.made("posts", {"mainTitle": "a", "shortSlug": "s"})
    response = await http.create("posts", {"mainTitle": "a", "shortSlug": "s"})
    found = error(response, 409, "NOT_UNIQUE", pointer="/data/attributes/shortSlug")
    assert found["meta"] == {"fields": ["shortSlug"]}
    media_type = 'application/vnd.api+json;ext="https://jsonapi.org/ext/atomic"'
    headers = {"content-type": media_type, "accept": media_type}
    data = document("posts", {"shortSlug": "new"})["data"]
    body = {"atomic:operations": [{"op": "add", "data": data}]}
    async with Client(str(http.base_url), checked=False) as raw:
        response = await raw.write("POST", "/operations", body, headers=headers)
    found = error(response, 422, "REQUIRED")
    assert found["source"]["pointer"] == "/atomic:operations/0/data/attributes/mainTitle"


async def test_a_name_that_may_not_be_known_is_as_unknown_as_any(http: Client) -> None:
    details = []
    for name in ("secretCode", "secretNode", "secret_code", "secret_node"):
        (found,) = [
            one
            for status in (400, 422)
            if (response := await http.create("posts", {"mainTitle": "a", name: "x"})).status_code
            == status
            for one in errors(response, status)
        ]
        details.append({**found, "source": None, "detail": found["detail"].replace("Node", "Code")})
    assert details[0] == details[1] | {"detail": details[0]["detail"]}
    assert details[2] == details[3]
    staff = {"headers": bearer(roles=["staff"])}
    body = document("posts", {"mainTitle": "a", "secretCode": "x"})
    made = (await http.write("POST", "/posts", body, **staff)).json()["data"]
    assert made["attributes"]["secretCode"] == "x"


async def test_sockets_speak_the_same_names(http: Client, api: Api) -> None:
    who, wire = subscriber("s1")
    service = api.socket_server._service
    asked = {
        "resource": "posts",
        "filters": {"mainTitle": "a", "coAuthor.fullName": "Ada"},
        "include": ["coAuthor.written-posts"],
        "fields": {"posts": ["mainTitle"], "users": ["full-name"]},
    }
    subscribed = await service.subscribe(who, asked)
    assert {name: subscribed.data[name] for name in asked} == asked
    await http.made("posts", {"mainTitle": "a"}, coAuthor=("users", 1))
    await api.resources.users.patch("1", {"full_name": "Bea"})
    await delivered(api)
    assert [one["meta"]["change"] for one in wire.events()] == ["enter", "leave"]
    for name in ("main_title", "mainTitel", "secretCode", "secret_code"):
        with pytest.raises(FilterError) as refused:
            await service.subscribe(who, {"resource": "posts", "filters": {name: "a"}})
        assert list(refused.value.details or {}) == [name]
    with pytest.raises(FilterError) as refused:
        await service.subscribe(who, {"resource": "posts", "filters": {"mainTitle": 7}})
    assert list(refused.value.details or {}) == ["mainTitle"]
    for wrong in ({"include": ["co_author"]}, {"fields": {"posts": ["main_title"]}}):
        with pytest.raises(InvalidRequest):
            await service.subscribe(who, {"resource": "posts", **wrong})


def test_the_description_has_the_clients_names() -> None:
    found = declare("sqlite+aiosqlite://").openapi()
    validate(found)
    schemas = found["components"]["schemas"]
    assert {"mainTitle", "longTitle"} <= schemas["PostAttributes"]["properties"].keys()
    assert schemas["PostCreate"]["properties"]["attributes"]["required"] == ["mainTitle"]
    assert set(schemas["UserRelationships"]["properties"]) == {"written-posts"}
    assert "/api/users/{id}/relationships/written-posts" in found["paths"]
    names = {
        one["name"] for one in found["paths"]["/api/posts"]["get"]["parameters"] if "name" in one
    }
    assert {"filter[mainTitle]", "filter[coAuthor.fullName]", "filter[viewsOver]"} <= names
    assert "_" not in str(schemas["PostAttributes"])


def test_names_that_would_be_one_are_refused() -> None:
    api = Api(name="test")
    with pytest.raises(ConfigurationError, match="both would be 'aB' to clients"):
        api.add_resource("posts", {"a_b": "string", "aB": "string"}, member_names="camelCase")
    with pytest.raises(ConfigurationError, match="not 'kebab'"):
        api.add_resource("posts", {"a": "string"}, member_names="kebab")  # type: ignore[arg-type]

"""The OpenAPI document: valid, true of what is answered, and no more than its reader may know."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner
from fastapi import FastAPI
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate
from pydantic import BaseModel
from tests.http.conftest import declare_library
from tests.http.kit import SECRET, Client, bearer, make_api, serving
from tests.support.server import serve

from tidings import Api, JWTAuthPlugin, RestApiPlugin, SqlAlchemyPlugin
from tidings.cli import main
from tidings.description.names import component_names

Document = dict[str, Any]


class Post(BaseModel):
    own: int


async def described(http: Client, **headers: str) -> Document:
    async with httpx.AsyncClient(base_url=http.base_url, headers=headers) as plain:
        response = await plain.get("/openapi.json")
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/json"
    found: Document = response.json()
    validate(found)
    return found


@pytest.fixture
async def http() -> AsyncIterator[Client]:
    api = make_api()
    declare_library(api)
    async with api, serving(api) as client:
        yield client


async def test_every_answer_is_as_described(http: Client) -> None:
    """Each operation is called, and its answer held against the schema of its status."""
    document = await described(http)
    # References to what is used go along with each schema.
    root = {"components": document["components"]}
    called: set[tuple[str, str]] = set()

    async def call(method: str, path: str, body: Any = None, query: str = "", **ids: str) -> Any:
        place = document["paths"][path]
        operation = place[method.lower()]
        called.add((method, path))
        if body is not None:
            (content,) = operation["requestBody"]["content"].values()
            Draft202012Validator(content["schema"] | root).validate(body)
            response = await http.write(method, path.format(**ids) + query, body)
        else:
            response = await http.request(method, path.format(**ids) + query)
        found = operation["responses"].get(str(response.status_code))
        assert found is not None, (method, path, response.text)
        if "content" not in found:
            assert response.content == b""
            return None
        (content,) = found["content"].values()
        Draft202012Validator(content["schema"] | root).validate(response.json())
        return response.json()["data"]

    ada = (await call("POST", "/users", {"data": new("users", name="Ada")}))["id"]
    values: Document = {
        "title": "T",
        "status": "published",
        "rating": 1.5,
        "price": "9.90",
        "published_at": "2026-01-15T23:30:00Z",
        "day": "2026-01-15",
        "opens": "08:30:00",
        "tags": ["a", 1],
        "place": {"a": [1]},
    }
    author = {"author": {"data": {"type": "users", "id": ada}}}
    post = await call(
        "POST", "/posts", {"data": new("posts", **values) | {"relationships": author}}
    )
    comment = new("comments", text="c")
    comment["relationships"] = {"post": {"data": {"type": "posts", "id": post["id"]}}}
    made = (await call("POST", "/comments", {"data": comment}))["id"]
    await call("GET", "/posts", query="?include=author,comments.user&sort=-title&filter[id]=1,2")
    await call("GET", "/posts", query="?page[size]=1&filter[status]=published")
    one = {"id": post["id"]}
    await call("GET", "/posts/{id}", **one, query="?include=author")
    update = {"data": new("posts", title="U") | one}
    await call("PATCH", "/posts/{id}", update, **one)
    await call("PUT", "/posts/{id}", update, **one)
    await call("GET", "/posts/{id}/author", **one)  # which PUT has taken away
    linkage = {"data": {"type": "users", "id": ada}}
    await call("PATCH", "/posts/{id}/relationships/author", linkage, **one)
    await call("GET", "/posts/{id}/relationships/author", **one)
    await call("GET", "/posts/{id}/author", **one)
    await call("GET", "/posts/{id}/comments", **one, query="?include=post")
    members = {"data": [{"type": "comments", "id": made}]}
    place = "/posts/{id}/relationships/comments"
    for method in ("POST", "PATCH"):
        await call(method, place, members, **one)
    await call("DELETE", place, {"data": []}, **one)
    await call("GET", place, **one)
    await call("DELETE", "/comments/{id}", id=made)
    await call("DELETE", "/posts/{id}", **one)
    for kind in ("tokens", "pages", "plain", "categories"):
        await call("POST", f"/{kind}", {"data": new(kind, name="n")})
        await call("GET", f"/{kind}")
    wrong = await http.get("/posts?sort=nothing")
    Draft202012Validator({"$ref": "#/components/schemas/ErrorDocument"} | root).validate(
        wrong.json()
    )
    of_posts = {
        (method.upper(), path)
        for path, item in document["paths"].items()
        for method in item
        if path.startswith("/posts") and method != "parameters"
    }
    assert of_posts - called == {
        ("PATCH", "/posts/{id}/relationships/category"),
        ("GET", "/posts/{id}/relationships/category"),
        ("GET", "/posts/{id}/category"),
    }


def new(resource: str, **attributes: Any) -> Document:
    return {"type": resource, "attributes": attributes}


async def test_what_writes_refuse_the_description_refuses(http: Client) -> None:
    document = await described(http)
    root = {"components": document["components"]}
    schema = Draft202012Validator({"$ref": "#/components/schemas/PostCreateDocument"} | root)
    for wrong in (
        {"title": ""},
        {"title": "x" * 81},
        {},
        {"title": "a", "status": "unknown"},
        {"title": "a", "view_count": -1},
        {"title": "a", "note": "hidden"},
        {"title": "a", "score": 1},
        {"title": "a", "published_at": 7},
    ):
        body = {"data": new("posts", **wrong)}
        assert not schema.is_valid(body), wrong
        assert (await http.write("POST", "/posts", body)).status_code == 422, wrong


async def test_a_default_is_said_in_words(http: Client) -> None:
    schemas = (await described(http))["components"]["schemas"]
    create, update = (
        schemas[name]["properties"]["attributes"]["properties"]["status"]
        for name in ("PostCreate", "PostUpdate")
    )
    assert create["description"] == 'Default: "draft"'
    assert "default" not in create  # of which openapi-typescript makes a member that must be given
    assert "description" not in update  # PATCH leaves what is not given


async def test_names_are_pleasant(http: Client) -> None:
    document = await described(http)
    names = document["components"]["schemas"].keys()
    parts = ("", "Attributes", "Relationships", "Create", "Update", "Document", "List", "Included")
    assert names >= {*(f"Post{part}" for part in parts), "ErrorDocument"}
    parameters = document["paths"]["/posts"]["get"]["parameters"]
    listed = {one["name"]: one for one in parameters if "name" in one}
    assert listed.keys() >= {"filter[status]", "filter[id]", "page[size]", "sort", "include"}
    statuses = listed["filter[statuses]"]
    assert (statuses["style"], statuses["explode"]) == ("form", False)
    operations = [
        operation["operationId"]
        for item in document["paths"].values()
        for key, operation in item.items()
        if key != "parameters"
    ]
    assert len(operations) == len(set(operations))
    assert {"listPosts", "getPost", "createPost", "updatePost", "replacePost"} <= set(operations)
    included = document["components"]["schemas"]["PostIncluded"]
    assert included["discriminator"]["mapping"]["users"] == "#/components/schemas/User"


def test_plurals() -> None:
    assert component_names(["posts", "categories", "boxes", "addresses", "blog-posts"]) == {
        "posts": "Post",
        "categories": "Category",
        "boxes": "Box",
        "addresses": "Address",
        "blog-posts": "BlogPost",
    }
    named = component_names(["status", "people", "children"])
    assert list(named.values()) == ["Status", "Person", "Child"]
    assert component_names(["item", "items"]) == {"item": "Item", "items": "Items"}


def guarded() -> Api:
    api = Api(name="guarded", version="7")
    api.use(RestApiPlugin())
    api.use(SqlAlchemyPlugin("sqlite+aiosqlite://", create_tables=True))
    api.use(JWTAuthPlugin(secret=SECRET))
    api.add_resource(
        "people",
        {
            "name": "string",
            "pin": {"type": "string", "hidden": True},
            "salary": {
                "type": "integer",
                "search": True,
                "readable_by": lambda identity: identity.user_id == "boss",
            },
        },
        auth={"query": ["public"], "get": ["public"]},
    )
    api.add_resource(
        "secrets",
        {"text": "string", "person_id": {"type": "id", "belongs_to": "people"}},
        check_permissions=lambda context: context.auth.user_id == "boss",
    )
    return api


async def test_nobody_reads_of_what_they_may_not_see() -> None:
    async with guarded() as api, serving(api) as http:
        boss = await described(http, **bearer("boss"))
        for headers in ({}, bearer("ann")):
            found = await described(http, **headers)
            text = json.dumps(found)
            assert "salary" not in text
            assert "secret" not in text.lower()
            assert found["info"] == {"title": "guarded", "version": "7"}
            assert found["servers"] == [{"url": "/api"}]
        attributes = boss["components"]["schemas"]["PersonAttributes"]
        assert "salary" in attributes["properties"]
        assert "/secrets" in boss["paths"]
        assert '"pin"' not in json.dumps(boss)
        assert (await described(http, **bearer("ann"))) == (await described(http, **bearer("ben")))


async def test_it_can_be_left_out() -> None:
    api = Api(name="silent")
    api.use(RestApiPlugin(openapi=False))
    api.use(SqlAlchemyPlugin("sqlite+aiosqlite://", create_tables=True))
    api.add_resource("posts", {"title": "string"})
    async with api, serving(api) as http:
        assert (await http.get("/openapi.json")).status_code == 404


async def test_a_fastapi_app_describes_the_resources_with_its_own_routes() -> None:
    app = FastAPI(title="Host")

    @app.get("/own")
    async def own() -> Post:
        return Post(own=1)

    guarded_api = guarded()
    guarded_api.add_resource("posts", {"title": "string"})
    guarded_api.install(app, "/v1")
    async with serve(app) as url, httpx.AsyncClient(base_url=url) as plain:
        document = (await plain.get("/openapi.json")).json()
        assert (await plain.get("/docs")).status_code == 200
        assert (await plain.get("/v1/openapi.json")).json()["servers"] == [{"url": "/v1"}]
    validate(document)
    assert {"/own", "/v1/posts", "/v1/posts/{id}", "/v1/people"} <= document["paths"].keys()
    schemas = document["components"]["schemas"]
    assert "own" in schemas["Post"]["properties"]
    assert schemas["ResourcePost"]["properties"]["type"] == {"const": "posts"}
    assert "salary" not in json.dumps(document)
    before = deepcopy(document)
    assert app.openapi() == before  # however often it is asked


def test_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "described_blog.py").write_text(
        "from tidings import Api, RestApiPlugin, SqlAlchemyPlugin\n"
        "api = Api(name='blog')\n"
        "api.use(RestApiPlugin('/v2'))\n"
        "api.use(SqlAlchemyPlugin('sqlite+aiosqlite://'))\n"
        "api.add_resource('posts', {'title': 'string'})\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    printed = CliRunner().invoke(main, ["openapi", "described_blog:api"])
    assert printed.exit_code == 0, printed.output
    document = json.loads(printed.output)
    validate(document)
    assert "/v2/posts" in document["paths"]
    printed = CliRunner().invoke(main, ["routes", "described_blog:api"])
    assert [line.split() for line in printed.output.splitlines()] == [
        ["GET", "POST", "/v2/posts"],
        ["GET", "PATCH", "PUT", "DELETE", "/v2/posts/{id}"],
        ["POST", "/v2/operations"],
    ]


def test_what_nobody_may_do_is_not_described() -> None:
    api = make_api()
    parent = {"type": "id", "belongs_to": "entries"}
    api.add_resource(
        "entries",
        {"text": "string", "parent_id": parent},
        auth={"query": "public", "get": "public"},
    )
    api.add_resource("letters", {"text": "string"}, auth={"post": "authenticated"})
    found = {
        path: {method for method in item if method != "parameters"}
        for path, item in api.openapi()["paths"].items()
    }
    assert found == {
        "/api/entries": {"get"},
        "/api/entries/{id}": {"get"},
        "/api/entries/{id}/parent": {"get"},
        "/api/entries/{id}/relationships/parent": {"get"},
        "/api/letters": {"post"},
        "/api/operations": {"post"},
    }

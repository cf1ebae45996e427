"""Requests that no decent client would send: each gets an error document, none does harm.

What must never be: a 5xx, a traceback, the name of a library or SQL in an answer, a server that
does not answer the next one.
"""

from __future__ import annotations

import json
import os
import random
import re
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from tests.http.conftest import declare_library
from tests.http.kit import (
    MEDIA_TYPE,
    Client,
    bearer,
    check_document,
    document,
    error,
    errors,
    make_api,
    serving,
    tracebacks,
    watched_logs,
)
from tests.http.raw import Answer, Connection, connected, head

LEAKS = re.compile(
    r"Traceback|\.py\b|sqlite|sqlalchemy|msgspec|starlette|uvicorn|SELECT |INSERT |UPDATE |"
    r"no such column|syntax error|Exception\b|object at 0x|NoneType|JSONDecode",
    re.IGNORECASE,
)
JSON_TYPE = f"Content-Type: {MEDIA_TYPE}"
INJECTIONS = [
    "'; DROP TABLE posts; --",
    '" OR 1=1 --',
    "1) OR (1=1",
    "1 UNION SELECT secret FROM users",
    "title; DELETE FROM posts",
    "posts.title",
    "%27%20OR%201=1",
    "${7*7}{{7*7}}",
    "../../etc/passwd",
    "\\x00",
    "f0",
    ":f0",
    "?",
]
NAMES = ["__proto__", "constructor", "toString", "__class__", "prototype", "$or", "", " ", "."]


@pytest.fixture(scope="module")
async def posts(http: Client) -> AsyncIterator[list[str]]:
    made = [(await http.made("posts", {"title": f"post {number}"}))["id"] for number in range(3)]
    yield made
    assert sorted(await http.ids("/posts?filter[title]=post&page[size]=50")) == sorted(made)


def root(http: Client) -> str:
    return str(http.base_url).removesuffix("/api/")


def check_error(answer: Answer, *statuses: int) -> list[dict[str, Any]]:
    """An error document with a detail that gives nothing away."""
    assert answer.status in (statuses or range(400, 500)), answer
    assert answer.headers["content-type"] == MEDIA_TYPE
    found = json.loads(answer.body)["errors"]
    assert all(entry["detail"] for entry in found)
    assert_no_leak(answer.body.decode())
    return found


def assert_no_leak(text: str) -> None:
    leak = LEAKS.search(text)
    assert leak is None, text[:500]


async def still_in_step(connection: Connection) -> None:
    answer = await connection.request("GET", "/api/posts?page[size]=1")
    assert answer is not None
    assert answer.status == 200


# Bodies

DEEP = 100_000
BAD_JSON = [
    b"",
    b" ",
    b"{",
    b"}",
    b"nonsense",
    b"'single'",
    b"{'data': 1}",
    b'{"data": }',
    b'{"data": {"type": "posts"}} trailing',
    b'{"data": {"type": "posts",}}',
    b'{"data": NaN}',
    b'{"data": {"type": "posts", "attributes": {"title": "a", "rating": NaN}}}',
    b'{"data": {"type": "posts", "attributes": {"title": "a", "rating": Infinity}}}',
    b'{"data": {"type": "posts", "attributes": {"title": "a", "rating": -Infinity}}}',
    b'{"data": {"type": "posts", "attributes": {"title": "a", "rating": 01}}}',
    b'{"data": {"type": "posts", "attributes": {"title": "\\ud800"}}}',
    b'{"data": {"type": "posts", "attributes": {"title": "\\udc00\\ud800"}}}',
    b'{"data": {"type": "posts", "attributes": {"\\ud800": 1}}}',
    b'{"data": {"type": "posts", "attributes": {"title": "\xff\xfe"}}}',
    b'{"data": {"type": "posts", "attributes": {"title": "\xed\xa0\x80"}}}',
    b'{"data": {"type": "posts", "attributes": {"title": "\x00"}}}',
    b'{"data": {"type": "posts", "attributes": {"title": "\\x41"}}}',
    b"\xef\xbb\xbf{}",
    '{"data": 1}'.encode("utf-16"),
    b"\x00" * 100,
    b"[" * DEEP + b"]" * DEEP,
    b'{"data":' * DEEP + b"1" + b"}" * DEEP,
    b'{"data": {"type": "posts", "attributes": {"tags": ' + b"[" * DEEP + b"]" * DEEP + b"}}}",
    b'{"data": {"type": "posts", "attributes": {"place": {"n": ' + b"9" * 50_000 + b"}}}}",
]


@pytest.mark.parametrize("body", BAD_JSON, ids=range(len(BAD_JSON)))
async def test_bodies_that_are_no_json(http: Client, posts: list[str], body: bytes) -> None:
    for method, url in (
        ("POST", "/posts"),
        ("PATCH", f"/posts/{posts[0]}"),
        ("PUT", f"/posts/{posts[0]}"),
        ("PUT", "/pages/new"),
    ):
        response = await http.write(method, url, body)
        error(response, 400, "INVALID_JSON")
        assert_no_leak(response.text)


SHAPES: list[Any] = [None, True, False, 0, 1.5, -1, 10**30, "text", "", [], [[]], [None], {}]
SHAPES += [[{}], {"a": 1}, {"": {}}, [1, 2], "posts", ["posts"], {"type": "posts"}]


def places(record: str) -> dict[str, Any]:
    """For each member of a document, the document with a given value in place of it."""
    good = {"title": "a"}
    identifier = {"type": "users", "id": "1"}

    def data(**members: Any) -> Any:
        return {"data": {"type": "posts", "id": record, "attributes": good, **members}}

    def author(value: Any) -> Any:
        return data(relationships={"author": value})

    return {
        "document": lambda value: value,
        "data": lambda value: {"data": value},
        "type": lambda value: data(type=value),
        "id": lambda value: data(id=value),
        "attributes": lambda value: data(attributes=value),
        "relationships": lambda value: data(relationships=value),
        "relationship": author,
        "linkage": lambda value: author({"data": value}),
        "linkage type": lambda value: author({"data": {**identifier, "type": value}}),
        "linkage id": lambda value: author({"data": {**identifier, "id": value}}),
        "to-many": lambda value: data(relationships={"comments": value}),
        "unknown relationship": lambda value: data(relationships={"nothing": value}),
        "relationship as attribute": lambda value: data(attributes={**good, "author": value}),
        "foreign key": lambda value: data(attributes={**good, "author_id": value}),
        "links": lambda value: data(links=value),
        "meta": lambda value: data(meta=value),
        "lid": lambda value: data(lid=value),
        "included": lambda value: {**data(), "included": value},
        "top level": lambda value: {**data(), "jsonapi": value, "meta": value, "links": value},
        "@member": lambda value: {**data(), "@x": value},
    }


@pytest.mark.parametrize("place", list(places("1")))
async def test_every_json_type_in_place_of_every_member(
    http: Client, posts: list[str], place: str
) -> None:
    for method in ("POST", "PATCH", "PUT"):
        for value in SHAPES:
            record = posts[0]
            url = "/posts" if method == "POST" else f"/posts/{record}"
            body = places(record)[place](value)
            if method == "POST" and place != "id" and isinstance(body, dict):
                data = body.get("data")
                if isinstance(data, dict):
                    data.pop("id", None)
            response = await http.write(method, url, json.dumps(body))
            assert_no_leak(response.text)
            if response.status_code == 201:
                made = response.json()["data"]["id"]
                assert (await http.delete(f"/posts/{made}")).status_code == 204
            elif response.status_code != 200:
                for entry in errors(response, response.status_code):
                    assert response.status_code in (400, 403, 404, 409, 422), response.text
                    pointer = entry["source"]["pointer"]
                    assert pointer == "" or pointer.startswith("/data")
    response = await http.change("posts", posts[0], {"title": "post 0"}, "PUT")
    assert response.status_code == 200


async def test_pointers_lead_to_places_of_the_document(http: Client, posts: list[str]) -> None:
    cases = [
        ([], ""),
        ({}, ""),
        ({"data": []}, "/data"),
        ({"data": {}}, "/data/type"),
        ({"data": {"type": 1}}, "/data/type"),
        ({"data": {"type": "posts", "attributes": []}}, "/data/attributes"),
        ({"data": {"type": "posts", "relationships": 1}}, "/data/relationships"),
        (
            {"data": {"type": "posts", "relationships": {"author": 1}}},
            "/data/relationships/author",
        ),
        (
            {"data": {"type": "posts", "relationships": {"author": {"data": 1}}}},
            "/data/relationships/author/data",
        ),
        (
            {"data": {"type": "posts", "relationships": {"a/b": {"data": 1}}}},
            "/data/relationships/a~1b",
        ),
        ({"data": {"type": "posts", "attributes": {"author": 1}}}, "/data/attributes/author"),
    ]
    for body, pointer in cases:
        response = await http.write("POST", "/posts", body)
        error(response, 400, "INVALID_DOCUMENT", pointer=pointer)


async def test_of_a_name_given_twice_the_last_value_counts(http: Client) -> None:
    body = '{"data": {"type": "users", "type": "posts", "attributes": {"title": 1, "title": "a"}}}'
    response = await http.write("POST", "/posts", body)
    assert response.status_code == 201
    made = response.json()["data"]
    assert made["attributes"]["title"] == "a"
    await http.delete(f"/posts/{made['id']}")


async def test_names_from_other_worlds_are_unknown_fields(http: Client) -> None:
    for name in [*NAMES, "a" * 100_000, "\u0000", "🦆", "id", "type", "posts.title", "title'--"]:
        response = await http.create("posts", {"title": "a", name: {"polluted": True}})
        found = errors(response, 422)
        assert [entry["code"] for entry in found] == ["UNKNOWN_FIELD"]
        assert len(response.content) < 2000


async def test_an_answer_is_not_much_longer_than_its_request(http: Client) -> None:
    many = {f"k{number}": 1 for number in range(60_000)}
    response = await http.create("posts", many)
    assert response.status_code == 422
    assert len(response.content) < 50_000
    body = document("posts", {"title": "a"})
    body["data"]["relationships"] = many
    response = await http.write("POST", "/posts", body)
    assert len(response.content) < 50_000
    for values in ({"k" * 1_000_000: 1}, {"status": "k" * 1_000_000}, {"place": "k" * 1_000_000}):
        response = await http.create("posts", {"title": "a", **values})
        assert response.status_code == 422
        assert len(response.content) < 5_000


# Size, chunks, connections


async def test_a_body_over_the_limit_leaves_the_connection_usable(http: Client) -> None:
    too_long = b'{"data": "' + b"x" * 1_048_576 + b'"}'
    async with connected(root(http)) as connection:
        for _ in range(3):
            answer = await connection.request("POST", "/api/posts", too_long, JSON_TYPE)
            assert answer is not None
            (found,) = check_error(answer, 413)
            assert found["code"] == "PAYLOAD_TOO_LARGE"
            await still_in_step(connection)
        just_right = b'{"data": "' + b"x" * (1_048_576 - 12) + b'"}'
        assert len(just_right) == 1_048_576
        answer = await connection.request("POST", "/api/posts", just_right, JSON_TYPE)
        assert answer is not None
        check_error(answer, 400)


async def test_a_chunked_body_over_the_limit(http: Client) -> None:
    async with connected(root(http)) as connection:
        start = head("POST", "/api/posts", b"", JSON_TYPE, "Transfer-Encoding: chunked")
        chunk = b"10000\r\n" + b"x" * 65536 + b"\r\n"
        await connection.send(start + chunk * 17)
        answer = await connection.answer()
        assert answer is not None
        check_error(answer, 413)
        await connection.send(chunk + b"0\r\n\r\n")
        await still_in_step(connection)


async def test_chunked_bodies(http: Client) -> None:
    good = json.dumps(document("plain", {"name": "in chunks"})).encode()
    start = head("POST", "/api/plain", b"", JSON_TYPE, "Transfer-Encoding: chunked")
    async with connected(root(http)) as connection:
        pieces = [b"%x\r\n%s\r\n" % (1, good[index : index + 1]) for index in range(len(good))]
        await connection.send(start + b"".join(pieces) + b"0\r\n\r\n")
        answer = await connection.answer()
        assert answer is not None
        assert answer.status == 201
        await connection.send(start + b"0\r\n\r\n")
        answer = await connection.answer()
        assert answer is not None
        check_error(answer, 400)
        await still_in_step(connection)
    async with connected(root(http)) as connection:
        await connection.send(start + b"zz\r\nnonsense")
        answer = await connection.answer()
        assert answer is None or answer.status == 400


async def test_bodies_that_end_too_soon_write_nothing(http: Client) -> None:
    before = await http.ids("/plain")
    good = json.dumps(document("plain", {"name": "never"})).encode()
    for half in (True, False):
        async with connected(root(http)) as connection:
            start = f"Content-Length: {len(good) + 5}"
            await connection.send(head("POST", "/api/plain", None, JSON_TYPE, start) + good)
            if half:
                connection.half_close()
                answer = await connection.answer()
                assert answer is None or answer.status >= 400
    assert await http.ids("/plain") == before


async def test_methods_without_a_body_ignore_one(http: Client, posts: list[str]) -> None:
    async with connected(root(http)) as connection:
        for method in ("GET", "HEAD", "DELETE"):
            target = f"/api/posts/{posts[0]}" if method != "DELETE" else "/api/posts/999999"
            answer = await connection.request(method, target, b"x" * 200_000, JSON_TYPE)
            assert answer is not None
            assert answer.status == (404 if method == "DELETE" else 200)
        await still_in_step(connection)


BAD_HEADERS = [
    "Accept: " + "x" * 10_000,
    "Accept: ,;,;q=,;=",
    "Accept: \xff\xfe",
    "Accept: application/vnd.api+json;" + "a=b;" * 2000,
    "Authorization: \xff\xfe",
    "Authorization: Bearer \xff.\xff.\xff",
    "Authorization: " + "Bearer " * 1000,
    "Content-Type: \xff",
    "Content-Type: " + ";" * 5000,
    "Content-Length: 10000000000000000000000",
    "Content-Length: -1",
    "Content-Length: 1, 2",
    "Content-Length: \xb2",
    "Transfer-Encoding: gzip",
    "Host: [::",
    "X-Forwarded-Host: \xff",
    "Expect: 200-ok",
    "Upgrade: websocket",
    "Connection: upgrade",
    "Cookie: " + "a=b; " * 3000,
    "No colon here",
    ": no name",
    "Bad name: x",
]


@pytest.mark.parametrize("header", BAD_HEADERS, ids=range(len(BAD_HEADERS)))
async def test_headers_of_nonsense(http: Client, header: str) -> None:
    for method, body in (("GET", None), ("POST", b"{}")):
        async with connected(root(http)) as connection:
            answer = await connection.request(method, "/api/posts", body, header)
            if answer is not None:
                assert answer.status < 500
                assert_no_leak(answer.body.decode())
    assert (await http.get("/posts")).status_code == 200


async def test_direct_asgi_with_a_length_of_strange_digits(library: Any) -> None:
    """Servers differ in what they let through: ``isdigit`` is true of "\u00b2"."""
    messages: list[dict[str, Any]] = []
    headers = [(b"content-type", MEDIA_TYPE.encode()), (b"content-length", b"\xb2")]
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/posts",
        "raw_path": b"/posts",
        "query_string": b"",
        "headers": headers,
    }

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"{}", "more_body": False}

    async def send(message: Any) -> None:
        messages.append(message)

    await library.rest_app(scope, receive, send)
    assert messages[0]["status"] == 400


# URLs

BAD_TARGETS = [
    "/api/posts/..",
    "/api/posts/../users",
    "/api/../api/posts/9",
    "/api/posts/%2e%2e%2fusers",
    "/api/posts/..%2f..%2f..%2fetc%2fpasswd",
    "/api/%2e%2e/api/posts/9",
    "/api//posts//1",
    "/api/posts/1%2Fcomments",
    "/api/posts/%2F",
    "/api/posts/%00",
    "/api/posts%00",
    "/api/posts/%",
    "/api/posts/%zz",
    "/api/posts/%ff%fe",
    "/api/posts/%ed%a0%80",
    "/api/posts/%C0%AF",
    "/api/posts/" + "9" * 20_000,
    "/api/posts/" + "%41" * 5_000,
    "/api/posts/1;DROP TABLE posts",
    "/api/posts/1'--",
    "/api/posts/1%20OR%201=1",
    "/api/posts/1 OR 1=1",
    "/api/posts/0x1",
    "/api/posts/1e0",
    "/api/posts/\u0661",
    "/api/posts/__proto__",
    "/api/__proto__",
    "/api/constructor/1",
    "/api/posts/1/2/3/4/5",
    "/api/" + "a/" * 5_000,
    "/api/sqlite_master",
    "/api/%70osts/%6eothing",
    "/api/pages/%2e%2e",
    "/api/pages/" + "x" * 300,
    "/api/tokens/{00000000-0000-0000-0000-000000000000}",
    "*",
    "http://elsewhere/api/posts/9",
    "//api/posts",
]


@pytest.mark.parametrize("target", BAD_TARGETS, ids=range(len(BAD_TARGETS)))
async def test_urls_of_nonsense(http: Client, posts: list[str], target: str) -> None:
    for method in ("GET", "DELETE", "PATCH", "PUT"):
        async with connected(root(http)) as connection:
            body = b"{}" if method in ("PATCH", "PUT") else None
            raw = target.encode()
            answer = await connection.request(method, raw, body, JSON_TYPE)
            if answer is None:
                continue
            assert 400 <= answer.status < 500, (method, answer)
            assert_no_leak(answer.body.decode())
            assert len(answer.body) < 5_000
    assert (await http.get(f"/posts/{posts[0]}")).status_code == 200


async def test_an_encoded_slash_is_part_of_an_id(http: Client) -> None:
    names = ["a/b", "a", "b", "../a", "a%2Fb", "a?b", "a#b", "a b", "'", "漢/字", "%", "..."]
    for name in names:
        response = await http.create("pages", {"name": name}, record_id=name)
        assert response.status_code == 201, name
        link = response.json()["data"]["links"]["self"]
        async with connected(root(http)) as connection:
            answer = await connection.request("GET", link)
            assert answer is not None
            assert json.loads(answer.body)["data"]["id"] == name
            answer = await connection.request("DELETE", link)
            assert answer is not None
            assert answer.status == 204
    assert await http.ids("/pages") == []


BAD_QUERIES = [
    "%",
    "%zz=1",
    "filter[title]=%ff",
    "filter[title]=%ed%a0%80",
    "filter[%ff]=1",
    "sort=%C3%28",
    "\xff=1",
    "filter[title]=\xe4",
    "filter",
    "filter[",
    "filter]",
    "filter[]=1",
    "filter[][]=1",
    "filter[[title]]=1",
    "filter[title]x=1",
    "[filter]=1",
    "filter[title]" + "[a]" * 8 + "=1",
    "filter[title]" + "[a]" * 5000 + "=1",
    "filter[near]=" + "[" * 20_000,
    "filter[near]=" + '{"a":' * 5_000 + "1" + "}" * 5_000,
    'filter[near]={"at":NaN}',
    'filter[near]={"at":1e999}',
    "filter[near][at]=nan",
    "filter[near][at]=" + "9" * 400,
    "filter[near][at][deep]=1",
    "filter[any_status]=[[[]]]",
    'filter[any_status]=[{"a":1}]',
    "filter[any_status]=[null]",
    "filter[views]=" + "9" * 5_000,
    "filter[price]=1e9999",
    "filter[price]=-1e-9999",
    "filter[price]=" + "0." + "0" * 60 + "1",
    "filter[statuses]=" + "a," * 3_000,
    "filter[title]=%00",
    "fields[posts]=" + "title," * 5_000,
    "fields=title",
    "fields[]=title",
    "fields[__proto__]=title",
    "include=" + "author," * 5_000,
    "include=" + "author." * 5_000,
    "include=__proto__.x",
    "sort=" + "title," * 5_000,
    "sort=-",
    "sort=--",
    "page[number]=1e9",
    "page[number]=" + "9" * 5_000,
    "page[size]=%00",
    "page[number]=-0",
    "__proto__[x]=1",
    "constructor[prototype][x]=1",
    "a" * 30_000,
    "a=" + "b" * 30_000,
]


@pytest.mark.parametrize("query", BAD_QUERIES, ids=range(len(BAD_QUERIES)))
async def test_queries_of_nonsense(http: Client, posts: list[str], query: str) -> None:
    async with connected(root(http)) as connection:
        for path in ("/api/posts", f"/api/posts/{posts[0]}"):
            answer = await connection.request("GET", f"{path}?{query}")
            if answer is None:
                break  # the server does not take it for HTTP
            assert answer.status < 500, answer
            assert_no_leak(answer.body.decode().replace(query, ""))
            if answer.status >= 400 and answer.headers["content-type"] == MEDIA_TYPE:
                assert len(answer.body) < 5_000
                check_error(answer)


async def test_query_strings_that_are_not_utf_8(http: Client) -> None:
    for query in ("filter[title]=%ff", "filter[%ff]=1", "sort=%ed%a0%80", "%ff", "include=%C3%28"):
        response = await http.get(f"/posts?{query}")
        assert "UTF-8" in error(response, 400, "INVALID_PARAMETER")["detail"]


async def test_thousands_of_parameters(http: Client) -> None:
    for name in (
        "x",
        "filter[title]",
        "filter[statuses]",
        "fields[posts]",
        "sort",
        "filter[near][a]",
    ):
        query = "&".join(f"{name}={number}" for number in range(3_000))
        async with connected(root(http)) as connection:
            answer = await connection.request("GET", f"/api/posts?{query}")
            assert answer is not None
            check_error(answer, 400)
    response = await http.get("/posts?" + "&".join(f"filter[x{n}]=1" for n in range(500)))
    assert response.status_code == 400
    assert len(response.content) < 50_000


@pytest.mark.parametrize("text", INJECTIONS)
async def test_sql_as_a_value_is_only_a_value(http: Client, posts: list[str], text: str) -> None:
    params = {"filter[title]": text, "filter[exact_title]": text}
    assert await http.data("/posts", params=params) == []
    for name in ("sort", "include", "fields[posts]", "filter[views]", f"filter[{text}]"):
        if name == "filter[?]":
            continue
        response = await http.get("/posts", params={name: text})
        assert response.status_code == 400, (name, response.text)
        for entry in response.json()["errors"]:
            assert_no_leak(entry["detail"].replace(text, "").replace(repr(text), ""))
    made = await http.made("posts", {"title": text[:80]})
    assert made["attributes"]["title"] == text[:80]
    assert await http.ids("/posts", params={"filter[exact_title]": text}) == [made["id"]]
    await http.delete(f"/posts/{made['id']}")
    response = await http.create("pages", {"name": "a"}, record_id=text)
    assert response.status_code == 201
    assert (await http.delete(response.json()["data"]["links"]["self"][4:])).status_code == 204


async def test_hidden_values_cannot_be_asked_out(http: Client, library: Any) -> None:
    await library.resources.users.post({"name": "Mallory", "secret": "xyzzy"})
    for query in (
        "filter[secret]=xyzzy",
        "sort=secret",
        "fields[users]=secret",
        "include=secret",
        "filter[name][secret]=x",
    ):
        response = await http.get(f"/users?{query}")
        assert response.status_code == 400
        assert "xyzzy" not in response.text.replace(query, "").replace("filter[secret]=xyzzy", "")
    for response in (
        await http.get("/users"),
        await http.get("/posts?include=author"),
        await http.create("users", {"name": "x", "email": "e", "secret": "plugh"}),
    ):
        assert "xyzzy" not in response.text
        assert "plugh" not in response.text


# Fuzzing

SEED = int(os.environ.get("TIDINGS_FUZZ_SEED", "20260115"))
COUNT = int(os.environ.get("TIDINGS_FUZZ", "3000"))
METHODS = ["GET"] * 6 + ["POST"] * 6 + ["PUT", "PATCH"] * 4 + ["DELETE", "HEAD", "OPTIONS", "TRACE"]
RESOURCES = ["posts", "users", "comments", "categories", "plain", "tokens", "pages", "nothing", ""]
FIELDS = {
    "posts": "title body status view_count rating price is_public published_at day opens tags slug",
    "users": "name email secret",
    "comments": "text post_id user_id",
    "categories": "name parent_id",
}
LINKS = {
    "posts": ["author", "category", "comments"],
    "users": ["posts"],
    "comments": ["post", "user"],
    "categories": ["parent", "children"],
}
GOOD_PARAMETERS = [
    ("include", "author,comments.user"),
    ("fields[posts]", "title,author"),
    ("filter[title]", "fuzz"),
    ("filter[status]", "draft"),
    ("filter[statuses]", "draft,published"),
    ("filter[views]", "1"),
    ("filter[views_between]", "-1,5"),
    ("filter[price]", "1.25"),
    ("filter[near]", '{"at":1}'),
    ("filter[near][at]", "4"),
    ("filter[day]", "2026-01-15"),
    ("filter[published_on]", "2026-01-15"),
    ("filter[published_at]", "2026-01-15T10:00:00Z"),
    ("filter[authors][]", "1"),
    ("filter[any_status]", "draft"),
    ("filter[words]", "a b"),
    ("filter[ids]", "1,2,3"),
    ("filter[opens]", "09:30"),
    ("sort", "-title,view_count"),
    ("page[number]", "2"),
    ("page[size]", "3"),
]
TEXTS = [*INJECTIONS, *NAMES, "a", "published", "1", "0", "-1", "9" * 20, "1.5", "true", "null"]
TEXTS += ["2026-01-15", "2026-01-15T10:00:00Z", "9999-12-31T23:59:59Z", "09:30", "x" * 300, "\0"]
TEXTS += ["1,2", "a,b,c", "[1]", '{"at":1}', "é", "🦆", "%", "\u202e", "1e999", "NaN", "-0"]


BEARER = bearer()


class Fuzzer:
    """Makes requests that are nearly right."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.fields = ["name"]
        self.links = ["author"]

    def chance(self, share: float) -> bool:
        return self.random.random() < share

    def pick(self, *options: Any) -> Any:
        return self.random.choice(options)

    def value(self, depth: int = 0) -> Any:
        kinds: list[Any] = [
            lambda: self.random.choice(TEXTS),
            lambda: self.random.choice(TEXTS),
            lambda: self.random.randint(-10, 10),
            lambda: self.pick(2**31, 2**53, 2**63, -(2**63) - 1, 10**40, 1e308, 5e-324, 0.1),
            lambda: self.pick(None, True, False),
        ]
        if depth < 4:
            kinds += [
                lambda: [self.value(depth + 1) for _ in range(self.random.randint(0, 3))],
                lambda: {self.name(): self.value(depth + 1) for _ in range(self.pick(0, 1, 2, 3))},
            ]
        return self.random.choice(kinds)()

    def name(self) -> str:
        return self.text() if self.chance(0.03) else self.random.choice(self.fields)

    def text(self) -> str:
        return self.random.choice(TEXTS)

    def identifier(self) -> Any:
        if self.chance(0.1):
            return self.value()
        return {"type": self.random.choice(RESOURCES[:4]), "id": self.pick("1", "1", "99", "x")}

    def document(self, resource: str, record: str | None) -> Any:
        if self.chance(0.03):
            return self.value()
        data: Any = {"type": resource, "attributes": {}}
        if record is not None or self.chance(0.05):
            data["id"] = record if record is not None else self.text()
        for _ in range(self.pick(0, 0, 1, 1, 2, 6)):
            data["attributes"][self.name()] = self.value()
        if self.random.random() < 0.6:
            data["attributes"]["title" if resource == "posts" else "name"] = "fuzz"
        if self.chance(0.3):
            link = self.random.choice(self.links)
            data["relationships"] = {link: {"data": self.identifier()}}
        whole = {"data": data}
        for _ in range(self.pick(0, 0, 0, 0, 1, 2)):
            self.spoil(whole)
        return whole

    def spoil(self, value: Any) -> None:
        """Put a wrong value somewhere."""
        while isinstance(value, dict) and value:
            key = self.random.choice(list(value))
            if not isinstance(value[key], dict) or self.random.random() < 0.3:
                match self.random.randint(0, 2):
                    case 0:
                        value[key] = self.value()
                    case 1:
                        del value[key]
                    case _:
                        value[self.text()] = value.pop(key)
                return
            value = value[key]

    def body(self, resource: str, record: str | None) -> bytes:
        text = json.dumps(self.document(resource, record)).encode()
        if self.chance(0.07) and text:
            place = self.random.randrange(len(text))
            noise = bytes(self.random.randrange(256) for _ in range(self.pick(0, 1, 3)))
            text = text[:place] + noise + text[place + self.pick(0, 1, 5) :]
        return text

    def parameter(self, *, of_item: bool) -> tuple[str, str]:
        if self.chance(0.6):
            return self.pick(*GOOD_PARAMETERS[:2]) if of_item else self.pick(*GOOD_PARAMETERS)
        filters = [name for name, _ in GOOD_PARAMETERS]
        name = self.pick(
            self.random.choice(filters),
            self.random.choice(filters),
            f"{self.random.choice(filters)}[{self.pick('', 'at', 'within', 'x')}]",
            f"filter[{self.text()}]",
            f"fields[{self.random.choice(RESOURCES)}]",
            self.text(),
        )
        names = ",".join(self.name() for _ in range(self.pick(1, 1, 2)))
        return name, self.pick(names, self.text(), self.text(), "1", f"-{names}", f"{names}.author")

    def request(self) -> httpx.Request:
        resource = (
            self.text() if self.chance(0.03) else self.random.choice(["posts"] * 9 + RESOURCES)
        )
        self.fields = FIELDS.get(resource, "name").split()
        self.links = LINKS.get(resource, ["nothing"])
        method = self.random.choice(METHODS)
        of_item = self.chance(
            0.5 if method in ("GET", "HEAD") else 0.05 if method == "POST" else 0.95
        )
        record = self.pick("1", "1", "1", "2", "999", self.text()) if of_item else None
        path = f"/api/{quote(resource, safe='')}"
        path += "" if record is None else f"/{quote(record, safe='')}"
        if method == "DELETE" and record == "1":
            record = "3"  # the first ones stay for the others
        number = self.pick(1, 1, 2, 3) if method == "GET" else self.pick(0, 0, 0, 0, 0, 0, 1)
        params = [self.parameter(of_item=of_item) for _ in range(number)]
        query = str(httpx.QueryParams(params))
        if self.chance(0.03):
            query += self.pick("%", "&&", "%ff", "=", "[", "&filter[title]=%ed%a0%80")
        headers = {"host": "test"}
        headers["accept"] = self.pick(*[MEDIA_TYPE] * 60, "*/*", f"{MEDIA_TYPE};x=y", "a/b")
        headers["content-type"] = self.pick(*[MEDIA_TYPE] * 40, "application/json", "", ";")
        if self.chance(0.05):
            headers["authorization"] = self.pick("Bearer x", "Basic y", "Bearer a.b.c", "")
        elif self.chance(0.3):
            headers |= BEARER
        content = None
        if method in ("POST", "PUT", "PATCH") or self.chance(0.05):
            content = self.body(resource, record)
        url = f"http://test{path}?{query}"
        return httpx.Request(method, url, headers=headers, content=content)


async def test_fuzz() -> None:
    api = make_api(jwt_auth=True)
    declare_library(api)
    statuses: dict[int, int] = {}
    with watched_logs() as records:
        async with serving(api, checked=False) as http:
            await http.made("users", {"name": "Ada"})
            await http.made("posts", {"title": "a"}, author=("users", "1"))
            fuzzer = Fuzzer(SEED)
            base = str(http.base_url).removesuffix("/api/")
            for number in range(COUNT):
                request = fuzzer.request()
                request.url = httpx.URL(base + request.url.raw_path.decode())
                response = await http.send(request)
                statuses[response.status_code] = statuses.get(response.status_code, 0) + 1
                check_fuzzed(request, response, number)
                assert tracebacks(records) == [], (SEED, number)
            assert (await http.get("/posts")).status_code == 200
    # The fuzzer must come near enough to the mark to mean something.
    assert statuses.keys() >= {200, 201, 400, 401, 404, 405, 406, 409, 415, 422}
    assert statuses[200] + statuses[201] > COUNT / 15, statuses


def check_fuzzed(request: httpx.Request, response: httpx.Response, number: int) -> None:
    place = f"seed {SEED}, number {number}: {request.method} {request.url} {request.content!r}"
    assert response.status_code < 500, f"{place}\n{response.text}"
    if request.method == "HEAD" or response.status_code == 204:
        assert not response.content, place
        return
    try:
        if number % 5 == 0:
            check_document(response)
        body = response.json()
        for entry in body.get("errors", ()):
            assert entry["detail"], place
            assert not re.search(r"Traceback|sqlite3|INSERT INTO|SELECT \"", entry["detail"]), place
        assert ("errors" in body) == (response.status_code >= 400)
    except AssertionError as failure:
        raise AssertionError(f"{place}\n{response.status_code} {response.text[:2000]}") from failure

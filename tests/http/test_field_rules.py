"""What filters, versions and checks have to hold of special fields, over HTTP and sockets."""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import create_async_engine
from tests.http.kit import Client, error, make_api, serving_quietly
from tests.realtime.kit import subscriber

from tidings import Api, RestApiPlugin, SocketIOPlugin, SqlAlchemyPlugin

ATOMIC = 'application/vnd.api+json;ext="https://jsonapi.org/ext/atomic"'
BIG = 2**53 + 1


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    api = make_api(tmp_path / "rules.db", jwt_auth=True)
    api.use(SocketIOPlugin(cors={"origin": ["https://example.org"]}))
    api.add_resource("tags", {"name": "string"})
    api.add_resource(
        "notes",
        {
            "state": {"type": "string", "enum": ["new", "old"]},
            "level": {"type": "integer", "enum": [1, 2]},
            "balance": {"type": "integer", "as_string": True},
            "revision": {"type": "integer", "version": True},
        },
        search_schema={
            "state": {"operators": ["gt", "in"]},
            "level": {"filter_operator": "!="},
            "balance": {"operators": ["in"]},
        },
        relationships={"tags": {"type": "manyToMany", "target": "tags"}},
    )
    async with api:
        yield api


@pytest.fixture
async def http(api: Api) -> AsyncIterator[Client]:
    async with serving_quietly(api) as client:
        yield client


async def test_filter_of_what_no_record_can_be(http: Client) -> None:
    for name, value in (("state", "lost"), ("level", "3"), ("state][in", "new,lost")):
        response = await http.get(f"/notes?filter[{name}]={value}")
        error(response, 400, "INVALID_VALUE")
    # A bound is no value of a record.
    assert await http.ids("/notes?filter[state][gt]=m") == []
    assert await http.ids("/notes?filter[state]=new&filter[level]=2") == []


async def test_long_numbers_come_back_to_subscribers_as_texts(api: Api) -> None:
    who, _ = subscriber()
    service: Any = api.socket_server._service  # type: ignore[union-attr]
    for filters, shown in (
        ({"balance": BIG}, {"balance": str(BIG)}),
        ({"balance": 7}, {"balance": 7}),
        ({"balance": {"in": [1, -BIG]}}, {"balance": {"in": [1, str(-BIG)]}}),
    ):
        admitted = await service._admission.admit(
            who.identity, {"resource": "notes", "filters": filters}
        )
        assert admitted.filters == shown
        # It is restored as it was shown.
        again = await service._admission.admit(
            who.identity, {"resource": "notes", "filters": shown}
        )
        assert again.expression == admitted.expression


async def test_version_counts_what_only_relationships_change(http: Client) -> None:
    tags = [await http.made("tags", {"name": name}) for name in "ab"]
    note = await http.made("notes", {"state": "new"})

    async def give(tag: Any) -> httpx.Response:
        link = {"tags": {"data": [{"type": "tags", "id": tag["id"]}]}}
        data = {
            "type": "notes",
            "id": note["id"],
            "attributes": {"revision": 1},
            "relationships": link,
        }
        return await http.write("PATCH", f"/notes/{note['id']}", {"data": data})

    given = await give(tags[0])
    assert given.json()["data"]["attributes"]["revision"] == 2
    error(await give(tags[1]), 409, "STALE_VERSION")
    assert (await http.data(f"/notes/{note['id']}?include=tags"))["relationships"]["tags"][
        "data"
    ] == [{"type": "tags", "id": tags[0]["id"]}]


async def test_checks_of_what_is_referred_to_keep_locks_no_longer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tidings.jsonapi.atomic.PATIENCE", 0.05)
    api = make_api(tmp_path / "patience.db")

    async def look(context: Any) -> bool:
        if context.method == "get":
            await asyncio.sleep(0.06)
        return True

    api.add_resource("users", {"name": "string"}, check_permissions=look)
    api.add_resource("posts", {"author_id": {"belongs_to": "users"}})
    author = {"author": {"data": {"type": "users", "id": "1"}}}
    entry = {"op": "add", "data": {"type": "posts", "relationships": author}}
    async with api, serving_quietly(api) as http:
        await http.made("users", {"name": "Ada"})
        response = await http.post(
            "/operations",
            content=json.dumps({"atomic:operations": [entry, entry]}),
            headers={"content-type": ATOMIC, "accept": ATOMIC},
        )
        assert response.status_code == 503, response.text
        assert response.json()["errors"][0]["code"] == "CHECKS_TOO_SLOW"
        assert len(await api.resources.posts.query()) == 0


async def test_hints_tell_hidden_fields_from_unknown_ones_in_no_spelling() -> None:
    api = make_api()
    api.add_resource(
        "notes",
        {"a_b": "string", "a_c": {"type": "string", "hidden": True}},
        member_names="camelCase",
    )
    async with api, serving_quietly(api) as http:
        details = [
            error(await http.create("notes", {name: "x"}), 422, "UNKNOWN_FIELD")["detail"]
            for name in ("aC", "aD")
        ]
        assert details[0].replace("aC", "aD") == details[1]


async def test_stored_json_is_read_without_the_collector(monkeypatch: pytest.MonkeyPatch) -> None:
    """A small request about a record with a long array costs no look through all objects."""
    seen: list[bool] = []
    loads = json.loads

    def watched(text: str) -> Any:
        if len(text) > 32_768:
            seen.append(gc.isenabled())
        return loads(text)

    plain = make_api()
    plain.add_resource("lists", {"items": "array", "name": "string"})
    async with plain:
        await plain.resources.lists.post({"items": [[]] * 20_000})
        monkeypatch.setattr("tidings.numbers.json.loads", watched)
        await plain.resources.lists.get(1)
    assert seen == [False]


async def test_text_that_is_no_utf8_in_an_engine_of_the_application(tmp_path: Path) -> None:
    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path / 'bad.db'}")
    api = Api(name="test")
    api.use(RestApiPlugin())
    api.use(SqlAlchemyPlugin(engine=engine, create_tables=True))
    api.add_resource("notes", {"title": "string"})
    async with api, serving_quietly(api) as http:
        for title in ("good", "bad"):
            await http.made("notes", {"title": title})
        async with engine.begin() as connection:
            await connection.exec_driver_sql(
                "UPDATE notes SET title = CAST(x'62ff' AS TEXT) WHERE id = 2"
            )
        titles = [one["attributes"]["title"] for one in await http.data("/notes?sort=id")]
        assert titles == ["good", "b\ufffd"]
        async with engine.connect() as connection:
            with pytest.raises(OperationalError):
                await connection.exec_driver_sql("SELECT title FROM notes")
    await engine.dispose()

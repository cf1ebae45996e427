"""Fields of a special kind: write-only, computed, virtual, versions, setters, big integers."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from openapi_spec_validator import validate
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
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
from tidings.errors import Conflict, FilterError
from tidings.errors import ValidationFailed as Failed
from tidings.schema import declare_resource

BIG = 2**53 + 1


async def digest(value: str) -> str:
    return await asyncio.to_thread(lambda: hashlib.sha256(value.encode()).hexdigest())


def has_password(record: Any) -> bool:
    return record["password"] is not None


ACCOUNTS: dict[str, Any] = {
    "first": {"type": "string", "required": True, "search": True},
    "last": {"type": "string", "required": True, "readable_by": "staff"},
    "full": {
        "type": "string",
        "computed": lambda record: f"{record['first']} {record['last']}",
        "depends_on": ["first", "last"],
    },
    "email": {"type": "string", "setter": str.lower, "unique": True},
    "password": {"type": "string", "min": 4, "max": 12, "write_only": True, "setter": digest},
    "is_safe": {"type": "boolean", "computed": has_password, "depends_on": ["password"]},
    "repeated": {"type": "string", "virtual": True},
    "stars": {"type": "integer", "as_string": True, "min": 0, "search": True},
    "score": {"type": "decimal", "scale": 2, "read_only": True, "default": "7.50"},
    "lock": {"type": "integer", "version": True},
    "boss_id": {"belongs_to": "accounts", "on_delete": "set_null"},
}


def repeat(context: OperationContext) -> None:
    values = context.values
    if context.resource != "accounts" or not values or "repeated" not in values:
        return
    if values["repeated"] != values.get("password"):
        raise Conflict("the two passwords differ", code="DIFFERENT", field="repeated")


def declare(url: str) -> Api:
    api = Api(name="test")
    api.use(RestApiPlugin())
    api.use(SqlAlchemyPlugin(url, create_tables=True))
    api.use(JWTAuthPlugin(secret=SECRET))
    api.use(SocketIOPlugin())
    reports = {"type": "hasMany", "target": "accounts", "foreign_key": "boss_id"}
    api.add_resource("accounts", ACCOUNTS, relationships={"reports": reports})
    api.add_hook("before_write", "repeat", repeat)
    return api


@pytest.fixture
async def api(database_url: str) -> AsyncIterator[Api]:
    async with declare(database_url) as api:
        yield api


@pytest.fixture
async def http(api: Api) -> AsyncIterator[Client]:
    async with serving_quietly(api) as client:
        client.headers.update(bearer(roles=["staff"]))
        yield client


ADA = {"first": "Ada", "last": "L", "email": "Ada@X.org", "password": "secret", "stars": str(BIG)}


async def test_what_is_only_written_never_leaves(http: Client, api: Api) -> None:
    body = document("accounts", {**ADA, "repeated": "secret"})
    response = await http.write("POST", "/accounts", body)
    made = response.json()["data"]
    assert made["attributes"] == {
        "first": "Ada",
        "last": "L",
        "full": "Ada L",
        "email": "ada@x.org",
        "is_safe": True,
        "stars": str(BIG),
        "score": "7.50",
        "lock": 1,
    }
    key, stored = made["id"], await digest("secret")
    assert stored not in response.text
    assert (await api.resources.accounts.get(key))["password"] == stored
    tag = response.headers["etag"]
    response = await http.change("accounts", key, {"password": "other"})
    assert response.status_code == 200
    stored = await digest("other")
    assert stored not in response.text
    # A tag of a secret could be guessed at; the version is in it.
    assert response.headers["etag"] != tag

    # Whoever replaces a record cannot send what nobody shows: it stays, and is not set anew.
    shown = response.json()["data"]["attributes"]
    response = await http.change("accounts", key, {**shown, "stars": 5}, "PUT")
    assert response.json()["data"]["attributes"] == {**shown, "stars": "5", "lock": 3}
    assert (await api.resources.accounts.get(key))["password"] == stored

    error(await http.get("/accounts?sort=password"), 400, "INVALID_SORT")
    error(await http.get("/accounts?fields[accounts]=password"), 400, "INVALID_FIELDS")
    error(await http.get("/accounts?fields[accounts]=repeated"), 400, "INVALID_FIELDS")
    error(await http.get("/accounts?filter[password]=x"), 400, "UNKNOWN_FIELD")
    for wrong in ("abc", "a" * 13, 7):
        response = await http.change("accounts", key, {"password": wrong})
        (found,) = errors(response, 422)
        assert found["source"] == {"pointer": "/data/attributes/password"}
        assert "abc" not in response.text
        assert "aaa" not in response.text
    await http.change("accounts", key, {"password": None})
    assert (await http.data(f"/accounts/{key}"))["attributes"]["is_safe"] is False


async def test_virtual_fields_reach_hooks_and_no_column(http: Client) -> None:
    response = await http.create("accounts", {**ADA, "repeated": "another"})
    error(response, 409, "DIFFERENT", pointer="/data/attributes/repeated")
    response = await http.create("accounts", {**ADA, "repeated": 7})
    error(response, 422, "INVALID_VALUE", pointer="/data/attributes/repeated")
    made = await http.made("accounts", {**ADA, "repeated": "secret"})
    response = await http.change("accounts", made["id"], {"repeated": None})
    assert response.status_code == 200


async def test_computed_fields_tell_nothing_that_their_reader_may_not_know(
    http: Client, api: Api
) -> None:
    key = (await http.made("accounts", ADA))["id"]
    assert (await api.resources.accounts.get(key))["full"] == "Ada L"
    shown = (await http.data(f"/accounts/{key}?fields[accounts]=full"))["attributes"]
    assert shown == {"full": "Ada L"}
    url, stranger = f"/accounts/{key}", bearer()
    shown = (await http.data(url, headers=stranger))["attributes"]
    assert {"last", "full"}.isdisjoint(shown)
    response = await http.get(f"{url}?fields[accounts]=full", headers=stranger)
    error(response, 400, "INVALID_FIELDS")
    body = document("accounts", {"full": "Ada L"}, key)
    response = await http.write("PATCH", url, body, headers=stranger)
    error(response, 422, "UNKNOWN_FIELD")
    error(await http.get("/accounts?sort=full"), 400, "INVALID_SORT")
    error(await http.get("/accounts?filter[full]=x"), 400, "UNKNOWN_FIELD")


async def test_what_cannot_be_set_may_be_sent_back_as_it_is(http: Client, api: Api) -> None:
    made = await http.made("accounts", ADA)
    key, url = made["id"], f"/accounts/{made['id']}"
    for method in ("PATCH", "PUT"):
        response = await http.write(method, url, {"data": made})
        assert response.status_code == 200, response.text
        made = response.json()["data"]
    for name, value in (("score", "8"), ("score", None), ("score", []), ("full", "Ada M")):
        for method in ("PATCH", "PUT"):
            body = document("accounts", {"first": "A", "last": "L", name: value}, key)
            response = await http.write(method, url, body)
            error(response, 422, "READ_ONLY", pointer=f"/data/attributes/{name}")
    # The same number, however it is spelled.
    response = await http.change("accounts", key, {"score": "7.5"})
    assert response.json()["data"]["attributes"]["lock"] == made["attributes"]["lock"]
    for name, value in (("score", "7.50"), ("full", "Ada L"), ("lock", 1)):
        response = await http.create("accounts", {**ADA, "email": None, name: value})
        error(response, 422, "READ_ONLY", pointer=f"/data/attributes/{name}")
    response = await http.change("accounts", 999, {"score": "7.50", "lock": 1})
    error(response, 404, "RECORD_NOT_FOUND")
    record = await api.resources.accounts.get(key)
    del record["id"], record["password"]
    changed = await api.resources.accounts.patch(key, record)
    assert record | {"lock": record["lock"] + 1} == {name: changed[name] for name in record}
    with pytest.raises(Failed, match="read only"):
        await api.resources.accounts.patch(key, {"full": "no"})


async def test_a_version_that_is_stale_is_refused(http: Client, api: Api) -> None:
    key = (await http.made("accounts", ADA))["id"]

    async def change(version: Any, method: str = "PATCH") -> Any:
        values = {"first": "A", "last": "L", "lock": version}
        return await http.change("accounts", key, values, method)

    assert (await change(1)).json()["data"]["attributes"]["lock"] == 2
    for method in ("PATCH", "PUT"):
        error(await change(1, method), 409, "STALE_VERSION", pointer="/data/attributes/lock")
    error(await change("x"), 422, "INVALID_VALUE", pointer="/data/attributes/lock")
    assert (await change(2, "PUT")).json()["data"]["attributes"]["lock"] == 3
    # Nothing to write is no write, and trusted code is counted like everybody.
    assert (await http.change("accounts", key, {})).json()["data"]["attributes"]["lock"] == 3
    await api.resources.accounts.patch(key, {"first": "B"})
    with pytest.raises(Conflict):
        await api.resources.accounts.patch(key, {"first": "C", "lock": 3})
    # Two who have read the same: one of them wins.
    answers = await asyncio.gather(*(change(4) for _ in range(4)))
    assert sorted(one.status_code for one in answers) == [200, 409, 409, 409]


async def test_relationships_and_deletions_count_up_what_they_write(http: Client) -> None:
    boss = (await http.made("accounts", ADA))["id"]
    report = (await http.made("accounts", {**ADA, "email": None}))["id"]

    async def version(key: str) -> int:
        found: int = (await http.data(f"/accounts/{key}"))["attributes"]["lock"]
        return found

    members = {"data": [{"type": "accounts", "id": report}]}
    url = f"/accounts/{boss}/relationships/reports"
    assert (await http.write("POST", url, members)).status_code == 204
    assert (await version(boss), await version(report)) == (2, 2)
    assert (await http.delete(f"/accounts/{boss}")).status_code == 204
    assert await version(report) == 3


async def test_atomic_operations_know_the_kinds_too(http: Client) -> None:
    made = await http.made("accounts", ADA)
    media_type = 'application/vnd.api+json;ext="https://jsonapi.org/ext/atomic"'
    headers = {"content-type": media_type, "accept": media_type}

    async def update(attributes: Any) -> Any:
        data = {"type": "accounts", "id": made["id"], "attributes": attributes}
        body = {"atomic:operations": [{"op": "update", "data": data}] * 2}
        async with serving_raw(http) as raw:
            return await raw.write("POST", "/operations", body, headers=headers)

    found = error(await update({"last": "M", "lock": 1}), 409, "STALE_VERSION")
    assert found["source"]["pointer"] == "/atomic:operations/1/data/attributes/lock"
    assert (await http.data(f"/accounts/{made['id']}"))["attributes"]["lock"] == 1
    answer = await update({"score": "7.5", "password": "another"})
    shown = answer.json()["atomic:results"][1]["data"]["attributes"]
    assert (shown["lock"], "password" in shown) == (3, False)


async def test_big_integers_are_texts_and_filter_as_numbers(http: Client) -> None:
    await http.made("accounts", ADA)
    await http.made("accounts", {**ADA, "email": None, "stars": BIG - 1})
    await http.made("accounts", {**ADA, "email": "none", "stars": None})
    shown = await http.data("/accounts?sort=-stars")
    assert [one["attributes"]["stars"] for one in shown] == [str(BIG), str(BIG - 1), None]
    assert len(await http.ids(f"/accounts?filter[stars]={BIG}")) == 1
    error(await http.create("accounts", {**ADA, "stars": str(2**63)}), 422, "INVALID_VALUE")
    error(await http.create("accounts", {**ADA, "stars": "-1"}), 422, "TOO_SMALL")


async def test_subscribers_learn_that_it_changed_and_no_value(http: Client, api: Api) -> None:
    who, wire = subscriber("s1")
    request = {"resource": "accounts", "filters": {"stars": str(BIG)}}
    await api.socket_server._service.subscribe(who, request)
    key = (await http.made("accounts", ADA))["id"]
    await http.change("accounts", key, {"password": "hidden!"})
    await delivered(api)
    told = wire.events()
    assert [(one["resource"], one["id"]) for one in told] == [("accounts", key)] * 2
    assert "hidden" not in str(told)
    assert await digest("hidden!") not in str(told)
    for name in ("password", "full", "repeated"):
        request = {"resource": "accounts", "filters": {name: "x"}}
        with pytest.raises(FilterError):
            await api.socket_server._service.subscribe(who, request)


def test_the_description_knows_the_kinds() -> None:
    found = declare("sqlite+aiosqlite://").openapi()
    validate(found)
    schemas = found["components"]["schemas"]
    names = {one.removeprefix("Accounts").removeprefix("Account"): one for one in schemas}
    shown = schemas[names["Attributes"]]["properties"]
    assert {"password", "repeated"}.isdisjoint(shown)
    assert shown["full"]["readOnly"] is True
    assert shown["stars"]["type"] == ["string", "null"]
    made = schemas[names["Create"]]["properties"]["attributes"]["properties"]
    changed = schemas[names["Update"]]["properties"]["attributes"]["properties"]
    assert made["password"]["writeOnly"] is made["repeated"]["writeOnly"] is True
    assert ("lock" in made, "lock" in changed, "full" in changed) == (False, True, False)


def serving_raw(http: Client) -> Client:
    """The same server, for what is no plain JSON:API document."""
    return Client(str(http.base_url), checked=False, headers=dict(http.headers))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"type": "string", "write_only": True, "read_only": True}, "exclude each other"),
        ({"type": "string", "write_only": True, "unique": True}, "give it away"),
        ({"belongs_to": "notes", "write_only": True}, "would show it"),
        ({"type": "string", "write_only": True, "readable_by": "a"}, "nobody reads"),
        ({"type": "string", "write_only": True, "search": True}, "give it away"),
        ({"type": "string", "version": True}, "for an integer"),
        ({"type": "number", "as_string": True}, "for an integer"),
        ({"type": "string", "virtual": True, "default": "x"}, "needs a column"),
        ({"type": "string", "computed": len}, "depends_on"),
        ({"type": "string", "computed": len, "depends_on": ["no"]}, "no field"),
        ({"type": "string", "computed": digest, "depends_on": ["id"]}, "ordinary function"),
        ({"type": "string", "computed": len, "depends_on": ["id"], "search": True}, "needs a"),
        ({"type": "string", "depends_on": ["id"]}, "belongs to a computed"),
        ({"type": "string", "setter": "lower"}, "function"),
        ({"belongs_to": "notes", "setter": str}, "no setter"),
    ],
)
def test_kinds_that_cannot_be_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        declare_resource("notes", {"text": options})


def test_a_record_has_one_version() -> None:
    version = {"type": "integer", "version": True}
    with pytest.raises(ConfigurationError, match="both are versions"):
        declare_resource("notes", {"one": version, "two": version})


async def test_a_function_that_gives_nonsense_is_named() -> None:
    api = Api(name="test")
    api.use(RestApiPlugin())
    api.use(SqlAlchemyPlugin("sqlite+aiosqlite://", create_tables=True))
    schema = {
        "name": {"type": "string", "setter": lambda value: value if value == "fine" else 7},
        "size": {"type": "integer", "computed": lambda _record: "big", "depends_on": ["name"]},
    }
    api.add_resource("notes", schema)
    async with api:
        with pytest.raises(ValueError, match=r"the setter of notes\.name"):
            await api.resources.notes.post({"name": "other"})
        with pytest.raises(ValueError, match="the computed field 'size' expected an integer"):
            await api.resources.notes.post({"name": "fine"})


class Base(DeclarativeBase):
    pass


class Note(Base):
    __tablename__ = "notes"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    lock: Mapped[int | None] = mapped_column(server_default="0")
    code: Mapped[str | None]


async def test_models_have_the_kinds_too(tmp_path: Path) -> None:
    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path}/notes.db")
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    api = Api(name="test")
    api.use(RestApiPlugin())
    api.use(SqlAlchemyPlugin(engine=engine))
    loud = {
        "type": "string",
        "computed": lambda record: record["name"].upper(),
        "depends_on": ["name"],
    }
    fields = {
        "name": {},
        "loud": loud,
        "lock": {"version": True},
        "code": {"write_only": True, "setter": str.lower},
        "repeated": {"type": "string", "virtual": True},
    }
    api.add_resource("notes", Note, fields=fields)
    async with api, serving_quietly(api) as http:
        made = await http.made("notes", {"name": "a", "code": "X", "repeated": "X"})
        assert made["attributes"] == {"name": "a", "lock": 0, "loud": "A"}
        assert (await api.resources.notes.get(made["id"]))["code"] == "x"
        response = await http.change("notes", made["id"], {"name": "b", "lock": 0})
        assert response.json()["data"]["attributes"] == {"name": "b", "lock": 1, "loud": "B"}
        error(await http.change("notes", made["id"], {"lock": 0}), 409, "STALE_VERSION")
    await engine.dispose()

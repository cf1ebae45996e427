"""To-one relationships whose key the other record holds, on each of the databases."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from openapi_spec_validator import validate
from sqlalchemy import ForeignKey
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship
from tests.http.kit import SECRET, Client, bearer, document, error, serving_quietly
from tests.realtime.kit import delivered, subscriber

from tidings import (
    Api,
    ConfigurationError,
    JWTAuthPlugin,
    RestApiPlugin,
    SocketIOPlugin,
    SqlAlchemyPlugin,
    belongs_to,
    field,
    has_one,
)

PROFILE = {"type": "hasOne", "target": "profiles", "foreign_key": "user_id"}


def make(url: str) -> Api:
    api = Api(name="test")
    api.use(RestApiPlugin())
    api.use(SqlAlchemyPlugin(url, create_tables=True))
    api.use(JWTAuthPlugin(secret=SECRET))
    api.use(SocketIOPlugin())
    return api


def declare(url: str) -> Api:
    api = make(url)
    api.add_resource(
        "users",
        {"name": "string"},
        relationships={"profile": PROFILE},
        search_schema={"profile.city": {}},
    )
    api.add_resource(
        "profiles",
        {
            "city": {"type": "string", "search": True},
            "user_id": {"belongs_to": "users", "unique": True},
        },
        auth={
            "query": ["public"],
            "get": ["public"],
            "patch": ["authenticated"],
            "post": ["public"],
        },
    )
    return api


@pytest.fixture
async def api(database_url: str) -> AsyncIterator[Api]:
    async with declare(database_url) as api:
        for name in ("Ada", "Grace", "Alan"):
            await api.resources.users.post({"name": name})
        for city, user in (("London", 1), ("New York", 2), ("Paris", None)):
            await api.resources.profiles.post({"city": city, "user_id": user})
        yield api


@pytest.fixture
async def http(api: Api) -> AsyncIterator[Client]:
    async with serving_quietly(api) as client:
        client.headers.update(bearer())
        yield client


def one(key: Any) -> dict[str, Any]:
    return {"data": None if key is None else {"type": "profiles", "id": str(key)}}


async def profile(http: Client, user: int) -> str | None:
    found = await http.data(f"/users/{user}/relationships/profile")
    return None if found is None else found["id"]


async def test_it_is_shown_with_links_and_loaded_by_include(http: Client) -> None:
    links = {"self": "/api/users/1/relationships/profile", "related": "/api/users/1/profile"}
    assert (await http.data("/users/1"))["relationships"] == {"profile": {"links": links}}
    found = (await http.get("/users?include=profile.user&sort=id")).json()
    shown = [user["relationships"]["profile"]["data"] for user in found["data"]]
    assert shown == [one(1)["data"], one(2)["data"], None]
    assert [(it["type"], it["id"]) for it in found["included"]] == [
        ("profiles", "1"),
        ("profiles", "2"),
    ]
    found = (await http.get("/users/1/profile?include=user")).json()
    assert found["data"]["attributes"] == {"city": "London"}
    assert found["links"]["self"] == "/api/users/1/profile?include=user"
    assert [it["id"] for it in found["included"]] == ["1"]
    found = (await http.get("/users/3/profile")).json()
    assert (found["data"], found["links"]["self"]) == (None, "/api/users/3/profile")
    found = (await http.get("/users/1/relationships/profile?include=profile")).json()
    assert (found["data"], found["links"]) == (
        one(1)["data"],
        links | {"self": found["links"]["self"]},
    )
    assert found["included"][0]["attributes"] == {"city": "London"}
    assert await profile(http, 3) is None
    assert await http.ids("/users?filter[profile.city]=London") == ["1"]
    for url in ("/users/1/profile", "/users/1/relationships/profile"):
        error(await http.get(f"{url}?sort=city"), 400, "INVALID_PARAMETER", parameter="sort")
        error(await http.get(f"{url}?page[size]=1"), 400, "INVALID_PARAMETER")


async def test_it_is_written_from_either_side(http: Client) -> None:
    url = "/users/1/relationships/profile"
    # Another one in its place: the first lets go before the second is taken up.
    for key in (2, 1, 3):
        assert (await http.write("PATCH", url, one(key))).status_code == 204
        assert await profile(http, 1) == str(key)
    assert (await profile(http, 2), await profile(http, 3)) == (None, None)
    assert (await http.write("PATCH", url, one(None))).status_code == 204
    assert await profile(http, 1) is None

    for method in ("PATCH", "PUT"):
        response = await http.change("users", 3, {"name": "x"}, method, profile=("profiles", 2))
        assert response.status_code == 200
        assert await profile(http, 3) == "2"
        body = document("users", {"name": "x"}, 3) | {}
        body["data"]["relationships"] = {"profile": one(None)}
        assert (await http.write(method, "/users/3", body)).status_code == 200
        assert await profile(http, 3) is None
    made = await http.made("users", {"name": "new"}, profile=("profiles", 2))
    assert await profile(http, made["id"]) == "2"
    shown = (await http.get(f"/users/{made['id']}?include=profile")).json()["data"]
    response = await http.write("PATCH", f"/users/{made['id']}", {"data": shown})
    assert response.status_code == 200

    pointer = "/data"
    error(await http.write("PATCH", url, one(99)), 404, "RELATED_NOT_FOUND", pointer=pointer)
    for wrong in ([], [one(1)["data"]], "1", {"type": "profiles"}):
        response = await http.write("PATCH", url, {"data": wrong})
        assert response.status_code == 400
    for method in ("POST", "DELETE"):
        assert (await http.write(method, url, one(1))).status_code == 405
    response = await http.create("profiles", {"city": "x"}, user=("users", made["id"]))
    error(response, 409, "NOT_UNIQUE")


async def test_it_needs_the_permission_to_write_the_other_record(http: Client) -> None:
    http.headers.pop("authorization")
    response = await http.write("PATCH", "/users/1/relationships/profile", one(3))
    assert response.status_code == 401
    assert await profile(http, 1) == "1"


async def test_python_writes_it_by_id(api: Api) -> None:
    made = await api.resources.users.post({"name": "x", "profile": "3"})
    assert (await api.resources.profiles.get("3"))["user_id"] == int(made["id"])
    await api.resources.users.patch(made["id"], {"profile": None})
    assert (await api.resources.profiles.get("3"))["user_id"] is None


async def test_both_sides_are_told_once(http: Client, api: Api) -> None:
    wires = {}
    for name, include in (("users", ["profile"]), ("profiles", [])):
        who, wire = subscriber(name)
        request = {"resource": name, "include": include}
        await api.socket_server._service.subscribe(who, request)
        wires[name] = wire
    await http.write("PATCH", "/users/1/relationships/profile", one(2))
    await delivered(api)
    assert sorted(it["id"] for it in wires["users"].events()) == ["1", "2"]
    assert sorted(it["id"] for it in wires["profiles"].events()) == ["1", "2"]


async def test_two_who_want_the_same(http: Client) -> None:
    async def take(user: int) -> int:
        answer = await http.write("PATCH", f"/users/{user}/relationships/profile", one(3))
        return answer.status_code

    codes = await asyncio.gather(*(take(user) for user in (1, 2, 3)))
    assert set(codes) <= {204, 409, 503}
    assert 204 in codes
    assert [await profile(http, user) for user in (1, 2, 3)].count("3") == 1


def test_the_description_has_one_record_or_none() -> None:
    found = declare("sqlite+aiosqlite://").openapi()
    validate(found)
    assert set(found["paths"]["/api/users/{id}/relationships/profile"]) == {
        "parameters",
        "get",
        "patch",
    }
    shown = found["components"]["schemas"]["UserRelationships"]["properties"]["profile"]
    assert (shown["required"], "oneOf" in shown["properties"]["data"]) == (["links"], True)


def test_the_key_must_be_unique() -> None:
    api = make("sqlite+aiosqlite://")
    api.add_resource("users", {"name": "string"}, relationships={"profile": PROFILE})
    api.add_resource("profiles", {"user_id": {"belongs_to": "users"}})
    with pytest.raises(ConfigurationError, match=r"profiles\.user_id is not unique"):
        api.openapi()


async def test_classes_and_models_have_it_too() -> None:
    class User:
        name: str
        profile = has_one("profiles", foreign_key="user_id")

    class Profile:
        city: str = field(max=40)
        user = belongs_to("users", unique=True)

    class Base(DeclarativeBase):
        pass

    class Car(Base):
        __tablename__ = "cars"
        id: Mapped[int] = mapped_column(primary_key=True)
        engine: Mapped[Engine | None] = relationship(back_populates="car")

    class Engine(Base):
        __tablename__ = "engines"
        id: Mapped[int] = mapped_column(primary_key=True)
        car_id: Mapped[int | None] = mapped_column(ForeignKey("cars.id"), unique=True)
        car: Mapped[Car | None] = relationship(back_populates="engine")

    api = make("sqlite+aiosqlite://")
    api.add_resource("users", User)
    api.add_resource("profiles", Profile)
    api.add_resource("cars", Car, fields=["engine"])
    api.add_resource("engines", Engine, fields=["car"])
    paths = api.openapi()["paths"]
    assert {"/api/users/{id}/profile", "/api/cars/{id}/engine"} <= paths.keys()

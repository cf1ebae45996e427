"""readable_by: a field that some may not read is to them as if it were not declared."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import jwt
import pytest
from tests.realtime.kit import SECRET, Wire

from tidings import (
    Api,
    ConfigurationError,
    FilterError,
    Identity,
    InvalidRequest,
    JWTAuthPlugin,
    RestApiPlugin,
    SocketIOPlugin,
    SqlAlchemyPlugin,
)
from tidings.realtime.subscriptions import Subscriber

pytestmark = pytest.mark.anyio
HR = Identity(user_id="h", roles=frozenset({"hr"}))
STAFF = Identity(user_id="s")


def make_api() -> Api:
    api = Api(name="staff")
    api.use(RestApiPlugin())
    api.use(SqlAlchemyPlugin("sqlite+aiosqlite://", create_tables=True))
    api.use(JWTAuthPlugin(secret=SECRET))
    api.use(SocketIOPlugin())
    api.add_resource(
        "people",
        {
            "name": {"type": "string", "search": True},
            "salary": {"type": "integer", "search": ">", "readable_by": "hr"},
            "boss_id": {"belongs_to": "people", "readable_by": lambda who: who.has_role("hr")},
        },
        search_schema={
            "boss_pay": {"actual_field": "boss.salary"},
            "boss_name": {"actual_field": "boss.name"},
            "leads": {"actual_field": "staff.name"},
            "any": {"one_of": ["salary"], "filter_operator": "in"},
        },
        relationships={"staff": {"type": "hasMany", "target": "people", "foreign_key": "boss_id"}},
    )
    return api


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    async with make_api() as api:
        boss = await api.resources.people.post({"name": "Ann", "salary": 9000})
        await api.resources.people.post({"name": "Ben", "salary": 5000, "boss": boss["id"]})
        yield api


async def get(api: Api, path: str, *roles: str) -> Any:
    token = jwt.encode({"sub": "u", "roles": list(roles)}, SECRET, "HS256")
    transport = httpx.ASGITransport(app=api.asgi())
    async with httpx.AsyncClient(transport=transport, base_url="http://t") as client:
        answer = await client.get(f"/api/{path}", headers={"authorization": f"Bearer {token}"})
    return answer.status_code, answer.json()


async def test_documents_show_it_to_readers_only(api: Api) -> None:
    _, shown = await get(api, "people/2", "hr")
    assert shown["data"]["attributes"] == {"name": "Ben", "salary": 5000}
    assert shown["data"]["relationships"]["boss"]["data"]["id"] == "1"
    status, hidden = await get(api, "people/2")
    assert status == 200
    assert hidden["data"]["attributes"] == {"name": "Ben"}
    assert "relationships" not in hidden["data"]
    _, listed = await get(api, "people")
    assert all("salary" not in one["attributes"] for one in listed["data"])


@pytest.mark.parametrize(
    "query",
    [
        "filter[salary]=1",
        "filter[any]=1",
        "filter[boss_pay]=9000",
        "filter[boss_name]=Ann",
        "filter[leads]=Ben",
        "sort=salary",
        "sort=-salary",
        "include=boss",
        "include=staff",
        "include=staff.boss",
        "fields[people]=salary",
        "fields[people]=boss",
        "filter[boss.salary]=9000",
        "filter[salary][0]=1",
        "filter[s\uff41lary]=1",
        "filter[salary%00]=1",
    ],
)
async def test_it_cannot_be_asked_about(api: Api, query: str) -> None:
    status, document = await get(api, f"people?{query}")
    assert status == 400, document
    assert "5000" not in str(document)


@pytest.mark.parametrize(
    "query", ["filter[salary]=1", "filter[boss_pay]=9000", "sort=-salary", "include=boss"]
)
async def test_readers_can_ask(api: Api, query: str) -> None:
    assert (await get(api, f"people?{query}", "hr"))[0] == 200


async def test_a_hidden_field_and_an_unknown_one_are_refused_alike(api: Api) -> None:
    for name in ("salary", "nonsense"):
        status, document = await get(api, f"people?filter[{name}]=1")
        (error,) = document["errors"]
        assert (status, error["code"]) == (400, "UNKNOWN_FIELD"), document


async def test_subscriptions_are_refused_as_well(api: Api) -> None:
    async def subscribe(who: Identity, **options: Any) -> None:
        person = Subscriber("s", who, Wire())  # type: ignore[arg-type]
        service = api.socket_server._service
        await service.subscribe(person, {"resource": "people", **options})

    for filters in ({"salary": 1}, {"boss_name": "Ann"}, {"leads": "Ben"}):
        with pytest.raises(FilterError) as refused:
            await subscribe(STAFF, filters=filters)
        assert refused.value.problems[0].code == "UNKNOWN_FIELD"
        await subscribe(HR, filters=filters)
    for options in ({"include": ["boss"]}, {"fields": {"people": ["salary"]}}):
        with pytest.raises(InvalidRequest):
            await subscribe(STAFF, **options)


async def test_python_asks_as_the_identity(api: Api) -> None:
    people = api.resources.people
    with pytest.raises(FilterError):
        await people.query({"salary": 1}, auth=STAFF)
    assert len(await people.query({"salary": 6000}, auth=HR)) == 1
    assert len(await people.query({"salary": 6000})) == 1


async def test_a_check_that_fails_denies() -> None:
    api = Api()
    api.use(RestApiPlugin())
    api.use(SqlAlchemyPlugin("sqlite+aiosqlite://", create_tables=True))

    def broken(identity: Identity) -> bool:
        raise RuntimeError("broken")

    api.add_resource("notes", {"text": {"type": "string", "readable_by": broken}})
    async with api:
        await api.resources.notes.post({"text": "x"})
        transport = httpx.ASGITransport(app=api.asgi())
        async with httpx.AsyncClient(transport=transport, base_url="http://t") as client:
            answer = (await client.get("/api/notes/1")).json()
        assert answer["data"]["attributes"] == {}


@pytest.mark.parametrize("wrong", [7, [7], [""], {"hr": 1}])
def test_wrong_readers_are_named(wrong: Any) -> None:
    with pytest.raises(ConfigurationError, match="field 'text', readable_by"):
        Api().add_resource("notes", {"text": {"type": "string", "readable_by": wrong}})


def test_a_permission_check_is_no_role() -> None:
    api = Api()
    with pytest.raises(ConfigurationError, match="readable_by='editor'"):
        api.add_resource("people", {"salary": {"type": "number", "readable_by": "has_role:hr"}})

"""Tenants: reads, writes, includes, references and subscriptions stay within the token's tenant."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.realtime.kit import SECRET, Wire, delivered

from tidings import (
    Api,
    Identity,
    JWTAuthPlugin,
    NotFound,
    PermissionDenied,
    RelatedNotFound,
    RestApiPlugin,
    SocketIOPlugin,
    SqlAlchemyPlugin,
    TenancyPlugin,
    policies,
)
from tidings.realtime.subscriptions import Subscriber

pytestmark = pytest.mark.anyio

RED = Identity(user_id="ann", claims={"workspace_id": 1})
BLUE = Identity(user_id="ben", claims={"workspace_id": 2})
NOBODY = Identity(user_id="eve")


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    api = Api(name="tenants")
    api.use(RestApiPlugin())
    api.use(SqlAlchemyPlugin("sqlite+aiosqlite://", create_tables=True))
    api.use(JWTAuthPlugin(secret=SECRET))
    api.use(SocketIOPlugin())
    api.use(TenancyPlugin("workspace_id", exempt=["plans"]))
    workspace = {"type": "integer", "search": True}
    api.add_resource("lists", {"name": "string", "workspace_id": workspace})
    api.add_resource(
        "tasks",
        {
            "title": {"type": "string", "search": True},
            "done": {"type": "boolean", "default": False},
            "workspace_id": workspace,
            "list_id": {"belongs_to": "lists"},
        },
        search_schema={
            "list": {"actual_field": "list.name"},
            "spaces": {"filter_operator": "in", "actual_field": "workspace_id"},
        },
        row_policy={"*": lambda columns, identity: True, "delete": policies.role("admin")},
    )
    api.add_resource("plans", {"name": "string", "workspace_id": "integer"})
    api.add_resource("words", {"text": "string"})
    async with api:
        yield api


async def two_tenants(api: Api) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for name, who in (("red", RED), ("blue", BLUE)):
        kept = await api.resources.lists.post({"name": "todo"}, auth=who)
        made[f"{name} list"] = kept
        made[name] = await api.resources.tasks.post({"title": name, "list": kept["id"]}, auth=who)
    return made


async def test_a_new_record_belongs_to_the_tenant_of_its_maker(api: Api) -> None:
    made = await two_tenants(api)
    assert (made["red"]["workspace_id"], made["blue"]["workspace_id"]) == (1, 2)
    with pytest.raises(PermissionDenied):
        await api.resources.tasks.post({"title": "x", "workspace_id": 2}, auth=RED)
    with pytest.raises(PermissionDenied):
        await api.resources.tasks.post({"title": "x"}, auth=NOBODY)
    trusted = await api.resources.tasks.post({"title": "x", "workspace_id": 3})
    assert trusted["workspace_id"] == 3


async def test_reads_see_the_tenant_only(api: Api) -> None:
    made, tasks = await two_tenants(api), api.resources.tasks
    assert [task["title"] for task in await tasks.query(auth=RED)] == ["red"]
    assert (await tasks.query(auth=RED)).total == 1
    assert [task["title"] for task in await tasks.query({"list": "todo"}, auth=RED)] == ["red"]
    assert len(await tasks.query(auth=NOBODY)) == 0
    assert len(await tasks.query()) == 2
    for call in (tasks.get, tasks.delete):
        with pytest.raises(NotFound):
            await call(made["blue"]["id"], auth=RED)


async def test_writes_stay_in_the_tenant(api: Api) -> None:
    made, tasks = await two_tenants(api), api.resources.tasks
    for values in ({"title": "stolen"}, {}):
        with pytest.raises(NotFound):
            await tasks.patch(made["blue"]["id"], values, auth=RED)
    with pytest.raises(NotFound):
        await tasks.put(made["blue"]["id"], {"title": "stolen"}, auth=RED)
    with pytest.raises(PermissionDenied):
        await tasks.patch(made["red"]["id"], {"workspace_id": 2}, auth=RED)
    assert (await tasks.get(made["red"]["id"]))["workspace_id"] == 1
    with pytest.raises(RelatedNotFound):
        await tasks.patch(made["red"]["id"], {"list": made["blue list"]["id"]}, auth=RED)
    with pytest.raises(RelatedNotFound):
        await tasks.patch(made["red"]["id"], {"list": 404}, auth=RED)


async def test_the_policy_of_the_resource_holds_beside_the_tenant(api: Api) -> None:
    made, tasks = await two_tenants(api), api.resources.tasks
    with pytest.raises(PermissionDenied):
        await tasks.delete(made["red"]["id"], auth=RED)
    admin = Identity(user_id="ann", roles=frozenset({"admin"}), claims={"workspace_id": 1})
    with pytest.raises(NotFound):
        await tasks.delete(made["blue"]["id"], auth=admin)
    await tasks.delete(made["red"]["id"], auth=admin)


async def test_includes_leave_out_what_is_anothers(api: Api) -> None:
    made = await two_tenants(api)
    await api.resources.tasks.patch(made["red"]["id"], {"list": made["blue list"]["id"]})
    found = await api.resources.tasks.query(include=["list"], auth=RED)
    assert found.included == {}
    assert len((await api.resources.tasks.query(include=["list"])).included["lists"]) == 1


@pytest.mark.parametrize("filters", [{"workspace_id": 2}, {"spaces": [1, 2]}])
async def test_asking_for_another_tenant_is_refused(api: Api, filters: dict[str, Any]) -> None:
    with pytest.raises(PermissionDenied, match="another"):
        await api.resources.tasks.query(filters, auth=RED)
    payload = {"resource": "tasks", "filters": filters}
    person = Subscriber("s", RED, Wire())  # type: ignore[arg-type]
    with pytest.raises(PermissionDenied, match="another"):
        await api.socket_server._service.subscribe(person, payload)
    assert len(await api.resources.tasks.query({"workspace_id": 1}, auth=RED)) == 0


async def test_what_is_exempt_or_has_no_such_column_is_everybodys(api: Api) -> None:
    await api.resources.plans.post({"name": "a", "workspace_id": 2}, auth=RED)
    await api.resources.words.post({"text": "a"}, auth=NOBODY)
    assert len(await api.resources.plans.query(auth=RED)) == 1
    assert len(await api.resources.words.query(auth=NOBODY)) == 1


async def test_subscriptions_hear_of_the_tenant_only(api: Api) -> None:
    wires = {}
    for who in (RED, BLUE, NOBODY):
        wires[who.user_id] = wire = Wire()
        person = Subscriber(str(who.user_id), who, wire)  # type: ignore[arg-type]
        await api.socket_server._service.subscribe(person, {"resource": "tasks"})
    made = await two_tenants(api)
    await api.resources.tasks.patch(made["red"]["id"], {"workspace_id": 2})
    await delivered(api)

    def heard(name: str) -> list[tuple[str, str]]:
        return [(one["id"], one["meta"]["change"]) for one in wires[name].events()]

    red, blue = made["red"]["id"], made["blue"]["id"]
    assert heard("ann") == [(red, "enter"), (red, "leave")]
    assert heard("ben") == [(blue, "enter"), (red, "enter")]
    assert heard("eve") == []

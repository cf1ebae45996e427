"""Models of an application as resources, on each of the databases."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from tests.existing.kit import declare, make_api
from tests.existing.models import Project, Status, Task
from tests.http.kit import Client, error, serving, tracebacks, watched_logs
from tidings import Api
from tidings.filters import Atom
from tidings.filters.reading import read, stub_columns
from tidings.schema import declare_resource


@pytest.fixture(params=["url", "engine"])
async def api(
    engine: AsyncEngine, database_url: str, request: pytest.FixtureRequest
) -> AsyncIterator[Api]:
    api = make_api(engine if request.param == "engine" else database_url)
    declare(api)
    async with api:
        yield api


@pytest.fixture
async def http(api: Api) -> AsyncIterator[Client]:
    with watched_logs() as records:
        async with serving(api) as client:
            yield client
    assert tracebacks(records) == []


VALUES: dict[str, Any] = {
    "title": "Ünï \U0001f600",
    "notes": "n" * 10_000,
    "status": "in progress",
    "priority": 7,
    "price": "12345678.90",
    "rating": 0.1,
    "is_private": True,
    "due_at": "2024-02-29T23:59:59Z",
    "seen_at": "2024-03-01T10:00:00Z",
    "on_day": "2024-03-02",
    "at_time": "08:30:00",
    "extra": {"a": [1, {"b": None}]},
    "reviewer": "6f1c1c1e-0000-4000-8000-00000000000a",
}


async def test_what_is_written_is_what_the_application_reads(
    http: Client, engine: AsyncEngine
) -> None:
    project = (await http.made("projects", {"title": "House"}))["id"]
    values = {**VALUES}
    if engine.dialect.name in ("mariadb", "mysql"):
        values["title"] = "Ünï"  # its tables are in latin1, as they used to be
    made = await http.made("tasks", values, project=("projects", project))
    for name, value in values.items():
        assert made["attributes"][name] == value, name
    assert made["relationships"]["project"]["data"] == {"type": "projects", "id": project}
    assert str(uuid.UUID(made["id"])) == made["id"]
    assert await http.data(f"/tasks/{made['id']}") == made
    async with AsyncSession(engine) as session:
        task = (await session.execute(select(Task))).scalar_one()
    assert task.uid == uuid.UUID(made["id"])
    assert (task.status, task.priority) == (Status.IN_PROGRESS, 7)
    assert task.price == Decimal("12345678.90")
    assert (task.on_day, task.at_time) == (date(2024, 3, 2), time(8, 30))
    assert task.seen_at == datetime(2024, 3, 1, 10)
    assert task.due_at is not None
    assert task.due_at.replace(tzinfo=UTC) == datetime(2024, 2, 29, 23, 59, 59, tzinfo=UTC)
    assert (task.reviewer, task.extra) == (uuid.UUID(VALUES["reviewer"]), VALUES["extra"])
    assert (task.secret, task.blob, task.project_no) == ("x", None, int(project))


async def test_what_the_application_writes_is_what_clients_read(
    http: Client, engine: AsyncEngine
) -> None:
    async with AsyncSession(engine) as session, session.begin():
        project = Project(title="Garden")
        task = Task(
            title="Dig",
            status=Status.DONE,
            price=Decimal("0.30"),
            due_at=datetime(2025, 1, 1, 12, tzinfo=UTC),
            seen_at=datetime(2025, 1, 2),
            reviewer=uuid.UUID(int=5),
            secret="unseen",
            blob=b"\x00\xff",
            project=project,
        )
        session.add(task)
    (found,) = await http.data("/tasks?include=project")
    attributes = found["attributes"]
    assert attributes["status"] == "done"
    assert attributes["price"] == "0.30"
    assert attributes["priority"] == 3
    assert attributes["due_at"] == "2025-01-01T12:00:00Z"
    assert attributes["seen_at"] == "2025-01-02T00:00:00Z"
    assert attributes["reviewer"] == str(uuid.UUID(int=5))
    assert not {"secret", "blob", "deleted_at", "created_at", "project_no"} & attributes.keys()
    (project_found,) = await http.data("/projects?include=tasks")
    assert project_found["attributes"] == {"title": "Garden"}
    assert [one["id"] for one in project_found["relationships"]["tasks"]["data"]] == [found["id"]]


async def test_defaults_and_updates_are_the_models(http: Client, engine: AsyncEngine) -> None:
    made = await http.made("tasks", {"title": "a"})
    assert (made["attributes"]["status"], made["attributes"]["priority"]) == ("open", 3)
    changed = await http.change("tasks", made["id"], {"title": "b", "priority": 32767})
    assert changed.json()["data"]["attributes"]["changed_at"] == "2026-01-01T00:00:00Z"
    async with AsyncSession(engine) as session:
        task = (await session.execute(select(Task))).scalar_one()
    assert (task.title, task.priority, task.secret) == ("b", 32767, "x")
    assert task.created_at is not None


FILTERS = [
    ("title", "Dig", ["Dig"]),
    ("title", "dig", []),
    ("text", "IG", ["Dig"]),
    ("status", "done", ["Dig"]),
    ("statuses", "open,in progress", ["Sow", "Water"]),
    ("reviewer", str(uuid.UUID(int=5)), ["Dig"]),
    ("price", "0.3", ["Dig"]),
    ("price", "0.301", []),
    ("price_from", "0.299", ["Dig", "Sow"]),
    ("price_from", "0.301", ["Sow"]),
    ("seen_before", "2025-01-02T00:00:01Z", ["Dig"]),
    ("due_before", "2025-01-01T12:00:00Z", []),
    ("priority", "3", ["Dig", "Sow", "Water"]),
    ("priority", "99999999999", []),
    ("project.title", "Garden", ["Dig"]),
]


@pytest.mark.parametrize(("name", "value", "expected"), FILTERS)
async def test_filters_see_native_columns_alike_over_sql_and_in_memory(
    http: Client, api: Api, engine: AsyncEngine, name: str, value: str, expected: list[str]
) -> None:
    async with AsyncSession(engine) as session, session.begin():
        reviewer, moment = uuid.UUID(int=5), datetime(2025, 1, 1, 12, tzinfo=UTC)
        dig = Task(title="Dig", status=Status.DONE, price=Decimal("0.30"), reviewer=reviewer)
        dig.due_at, dig.seen_at = moment, datetime(2025, 1, 2)
        dig.project = Project(title="Garden")
        sow = Task(title="Sow", price=Decimal("7"), status=Status.OPEN)
        session.add_all([dig, sow, Task(title="Water", status=Status.IN_PROGRESS)])
    response = await http.get("/tasks", params={f"filter[{name}]": value, "sort": "title"})
    assert response.status_code == 200, response.text
    assert [one["attributes"]["title"] for one in response.json()["data"]] == expected
    for task in await http.data("/tasks"):
        given = value.split(",") if name == "statuses" else value
        explained = await api.explain("tasks", task["id"], {name: given})
        assert explained.matches == (task["attributes"]["title"] in expected), explained


@pytest.mark.parametrize(
    ("values", "pointer"),
    [
        ({"status": "OPEN"}, "/data/attributes/status"),
        ({"priority": 32768}, "/data/attributes/priority"),
        ({"price": "123456789.00"}, "/data/attributes/price"),
        ({"title": "x" * 201}, "/data/attributes/title"),
        ({"reviewer": "no uuid"}, "/data/attributes/reviewer"),
        ({"secret": "y"}, "/data/attributes/secret"),
    ],
)
async def test_what_a_column_cannot_hold_is_said(
    http: Client, values: dict[str, Any], pointer: str
) -> None:
    response = await http.create("tasks", {"title": "a", **values})
    assert response.status_code == 422, response.text
    assert [one["source"]["pointer"] for one in response.json()["errors"]] == [pointer]


async def test_a_unique_column_by_another_name_is_named(http: Client) -> None:
    await http.made("projects", {"title": "House"})
    error(await http.create("projects", {"title": "House"}), 409, "NOT_UNIQUE")


@pytest.mark.parametrize("record", ["nonsense", "7", str(uuid.UUID(int=9)).upper()])
async def test_an_id_that_none_can_have_is_not_found(http: Client, record: str) -> None:
    assert (await http.get(f"/tasks/{record}")).status_code == 404
    response = await http.get("/tasks", params={"filter[status]": "nonsense"})
    assert error(response, 400, "INVALID_VALUE", parameter="filter[status]")


async def test_members_of_an_enumeration_are_taken(api: Api) -> None:
    made = await api.resources.tasks.post({"title": "a", "status": Status.IN_PROGRESS})
    assert made["status"] == "in progress"
    assert len(await api.resources.tasks.query({"statuses": [Status.IN_PROGRESS]})) == 1
    assert len(await api.resources.tasks.query(where={"status": Status.DONE})) == 0


def test_a_policy_compares_with_members_of_an_enumeration() -> None:
    resource = declare_resource("tasks", {"status": {"type": "enum", "enum": ["open", "done"]}})
    columns = stub_columns(resource)
    assert read(resource, columns.status == Status.DONE) == Atom("status", "=", "done")
    assert read(resource, columns.status.in_([Status.OPEN])) == Atom("status", "in", ("open",))

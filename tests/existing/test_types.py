"""Bytes, durations and addresses of an application's tables, on each database that has them."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Column, Integer, Interval, LargeBinary, MetaData, String, Table, select, text
from sqlalchemy.dialects.postgresql import INET
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.existing.kit import existing, make_api
from tests.existing.test_capture_paths import Watching
from tests.http.kit import Client, serving, tracebacks, watched_logs
from tidings import Api

PHOTO = b"\x00\xff\\x41 'a"


def shots(*more: Any) -> Table:
    return Table(
        "tasks",
        MetaData(),
        Column("id", Integer, primary_key=True),
        Column("title", String(20), nullable=False),
        Column("photo", LargeBinary),
        Column("span", Interval(second_precision=6)),
        *more,
    )


@pytest.fixture
def table(database_url: str) -> Table:
    return shots(*([Column("host", INET)] if database_url.startswith("postgresql") else []))


@pytest.fixture
async def engine(database_url: str, table: Table) -> AsyncIterator[AsyncEngine]:
    async with existing(database_url, table.metadata) as engine:
        yield engine


def declared(url: str, table: Table, **options: Any) -> Api:
    api = make_api(url, **options)
    columns = [str(column.name) for column in table.c if column.name != "id"]
    search: dict[str, Any] = {name: {} for name in columns if name != "span"}
    search["span"] = {"operators": ["eq", "lt", "gte", "between"]}
    api.add_resource("tasks", table, fields=columns, search_schema=search)
    return api


@pytest.fixture
async def api(engine: AsyncEngine, database_url: str, table: Table) -> AsyncIterator[Api]:
    async with declared(database_url, table, capture="triggers", create_tables=True) as api:
        yield api


@pytest.fixture
async def http(api: Api) -> AsyncIterator[Client]:
    with watched_logs() as records:
        async with serving(api) as client:
            yield client
    assert tracebacks(records) == []


async def test_they_are_written_and_read(http: Client, engine: AsyncEngine, table: Table) -> None:
    values = {"title": "a", "photo": b64encode(PHOTO).decode(), "span": "P1DT2H0.5S"}
    if "host" in table.c:
        values["host"] = "10.0.0.1/32"
    made = (await http.made("tasks", values))["attributes"]
    assert made["photo"] == values["photo"]
    assert made["span"].startswith("P1DT7200")  # whole seconds, where the column has them only
    assert made.get("host") in (None, "10.0.0.1")
    async with engine.connect() as connection:
        row = (await connection.execute(select(table))).one()
    assert row.photo == PHOTO
    assert abs(row.span - timedelta(days=1, hours=2)) <= timedelta(seconds=1)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("photo", "no base64"),
        ("photo", 7),
        ("span", "P1M"),
        ("span", "P"),
        ("span", 5),
        ("span", "P999999D"),
    ],
)
async def test_what_is_none_is_said(http: Client, name: str, value: Any) -> None:
    response = await http.create("tasks", {"title": "a", name: value})
    assert response.status_code == 422, response.text
    assert response.json()["errors"][0]["source"]["pointer"] == f"/data/attributes/{name}"


FILTERS = [
    ({"photo": b64encode(PHOTO).decode()}, ["a"]),
    ({"photo": b64encode(PHOTO + b" ").decode()}, []),
    ({"span": "PT36H"}, ["a"]),
    ({"span": {"lt": "P1DT12H"}}, ["b"]),
    ({"span": {"gte": "P1D"}}, ["a"]),
    ({"span": {"between": ["-P2D", "PT0S"]}}, ["b"]),
]


async def test_filters_and_policies_see_them_alike_over_sql_and_in_memory(
    api: Api, engine: AsyncEngine, table: Table
) -> None:
    rows = [
        {"title": "a", "photo": PHOTO, "span": timedelta(days=1, hours=12)},
        {"title": "b", "photo": b"", "span": timedelta(seconds=-1)},
        {"title": "c", "photo": None, "span": None},
    ]
    filters = [*FILTERS]
    if "host" in table.c:
        for row, host in zip(rows, ["10.0.0.1", "::ffff:1.2.3.4", "10.0.0.1/8"], strict=True):
            row["host"] = host
        filters += [({"host": "10.0.0.1/32"}, ["a"]), ({"host": "::FFFF:102:304"}, ["b"])]
    async with engine.begin() as connection:
        for row in rows:
            await connection.execute(table.insert().values(row))
    for given, expected in filters:
        found = await api.resources.tasks.query(given, sort="-span")
        assert [row["title"] for row in found] == expected, given
        for number, row in enumerate(rows, 1):
            explained = await api.explain("tasks", str(number), given)
            assert explained.matches == (row["title"] in expected), (given, explained)


async def test_foreign_writes_of_them_are_told(api: Api, engine: AsyncEngine, table: Table) -> None:
    watching = Watching(api)
    await watching.add("photo", "ann", photo=b64encode(PHOTO).decode())
    await watching.add("span", "ann", span={"gte": "P1DT12H"})
    if "host" in table.c:
        await watching.add("host", "ann", host="10.0.0.1")
    values: dict[str, Any] = {"photo": PHOTO, "span": timedelta(days=1, hours=12)}
    values |= {"host": "10.0.0.1"} if "host" in table.c else {}
    async with engine.begin() as connection:
        await connection.execute(table.insert().values(title="a", **values))
    assert await watching.told() == {name: [("enter", "1")] for name in values}
    gone = {"photo": b"", "span": timedelta(hours=-1)} | (
        {"host": None} if "host" in values else {}
    )
    async with engine.begin() as connection:
        await connection.execute(table.update().values(**gone))
    assert await watching.told() == {name: [("leave", "1")] for name in values}


async def test_months_of_postgresql_are_days_as_it_compares_them(
    postgres_url: str,
) -> None:
    table = shots()
    async with existing(postgres_url, table.metadata) as engine:
        async with engine.begin() as connection:
            for span in ("1 year 2 mons 3 days", "-1 mon 1 sec", "3000000 years"):
                sql = f"INSERT INTO tasks (title, span) VALUES ('x', '{span}')"
                await connection.execute(text(sql))
        for where in (postgres_url, engine):
            async with declared(where, table) as api:
                found = await api.resources.tasks.query(sort="id")
                days, less, none = [row["span"] for row in found]
                assert days == timedelta(days=14 * 30 + 3)
                assert less == timedelta(days=-30, seconds=1)
                assert none is None  # longer than Python's longest; it hides no other
                (same,) = await api.resources.tasks.query({"span": "P423D"})
                assert same["id"] == "1"

"""What only PostgreSQL has, and its triggers hear of."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import (
    ARRAY,
    Column,
    DateTime,
    Double,
    Enum,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import CITEXT, JSONB
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.existing.kit import existing, make_api
from tests.existing.test_capture import told
from tests.http.kit import serving
from tidings import Api
from tidings.feed import Change, Invalidation

METADATA = MetaData()
THINGS = Table(
    "things",
    METADATA,
    Column("no", Integer, primary_key=True),
    Column("name", CITEXT, unique=True),
    Column("mood", Enum("happy", "sad", name="mood")),
    Column("tags", ARRAY(Text)),
    Column("counts", ARRAY(Integer)),
    Column("extra", JSONB),
    Column("ratio", Double),
    Column("at", DateTime(timezone=True)),
    Column("seen", DateTime()),
    Column("code", String(8)),
    schema="inventory",
)
LOGS = Table(
    "logs",
    METADATA,
    Column("no", Integer, primary_key=True),
    Column("line", Text),
    postgresql_partition_by="RANGE (no)",
    schema="inventory",
)


@pytest.fixture
async def engine(postgres_url: str) -> AsyncIterator[AsyncEngine]:
    async with existing(postgres_url, MetaData()) as engine:
        async with engine.begin() as connection:
            await connection.execute(text("CREATE EXTENSION IF NOT EXISTS citext"))
            await connection.execute(text("DROP SCHEMA IF EXISTS inventory CASCADE"))
            await connection.execute(text("CREATE SCHEMA inventory"))
            await connection.run_sync(METADATA.create_all)
            await connection.execute(
                text(
                    "CREATE TABLE inventory.l1 PARTITION OF inventory.logs "
                    "FOR VALUES FROM (0) TO (9)"
                )
            )
        yield engine


@pytest.fixture
async def api(engine: AsyncEngine) -> AsyncIterator[Api]:
    api = make_api(engine, capture="triggers", create_tables=True)
    api.add_resource(
        "things",
        THINGS,
        fields="*",
        search_schema={
            "name": {},
            "part": {"actual_field": "name", "filter_operator": "like"},
            "mood": {},
            "tags": {},
            "counts": {"type": "integer"},
            "seen": {},
            "ratio": {},
        },
        row_policy=lambda columns, identity: True,
    )
    api.add_resource("logs", LOGS, fields="*")
    async with api:
        yield api


ROW: dict[str, Any] = {
    "name": "Ünï",
    "mood": "happy",
    "tags": ["a", 'b "c"', None],
    "counts": [1, 2],
    "extra": {"a": [0.1, None, "\u2603"]},
    "ratio": 0.1 + 0.2,
    "at": datetime(2024, 2, 29, 12, 0, 0, 123456, tzinfo=UTC),
    "seen": datetime(2024, 2, 29, 12),
}


async def test_types_of_its_own_are_read_alike_however_a_session_is_set(
    api: Api, engine: AsyncEngine
) -> None:
    async with engine.begin() as connection:
        await connection.execute(text("SET timezone = 'Asia/Tokyo'"))
        await connection.execute(text("SET extra_float_digits = -10"))
        await connection.execute(text("SET datestyle = 'German'"))
        await connection.execute(THINGS.insert().values(no=1, **ROW))
    (made,) = await told(api)
    assert isinstance(made, Change)
    record = dict(await api.resources.things.get(1))
    assert made.after == {**record, "id": 1}
    assert record["at"] == ROW["at"]
    assert record["seen"] == ROW["seen"].replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("name", "value", "matches"),
    [
        ("name", "Ünï", True),
        ("name", "ünï", False),
        ("part", "NÏ", True),
        ("mood", "happy", True),
        ("mood", "sad", False),
        ("tags", 'b "c"', True),
        ("tags", "b", False),
        ("counts", "2", True),
        ("counts", "3", False),
        ("seen", "2024-02-29T12:00:00Z", True),
        ("ratio", repr(0.1 + 0.2), True),
        ("ratio", "0.3", False),
    ],
)
async def test_filters_on_them_agree(
    api: Api, engine: AsyncEngine, name: str, value: str, matches: bool
) -> None:
    async with engine.begin() as connection:
        await connection.execute(THINGS.insert().values(no=1, **ROW))
    async with serving(api) as http:
        response = await http.get("/things", params={f"filter[{name}]": value})
        assert response.status_code == 200, response.text
        assert len(response.json()["data"]) == matches
    (made,) = await told(api)
    assert isinstance(made, Change)
    assert made.after is not None
    explained = await api.explain("things", made.after, {name: value})
    assert explained.matches == matches


async def test_copy_and_truncate(api: Api, engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        raw = await connection.get_raw_connection()
        driver: Any = raw.driver_connection
        await driver.copy_records_to_table(
            "things", schema_name="inventory", columns=["no", "code"], records=[(1, "a"), (2, "b")]
        )
    assert len(await told(api, 2)) == 2
    async with engine.begin() as connection:
        await connection.execute(text("TRUNCATE inventory.things"))
    assert (await told(api, 3))[2:] == [Invalidation("things")]


async def test_a_partitioned_table(api: Api, engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        await connection.execute(text("INSERT INTO inventory.l1 (no, line) VALUES (1, 'a')"))
        await connection.execute(text("UPDATE inventory.logs SET line = 'b'"))
    (made,) = await told(api)
    assert isinstance(made, Change)
    assert (made.resource, made.id, made.action) == ("logs", "1", "post")
    assert await api.triggers.missing() == []


async def test_a_trigger_of_the_applications_own_writes_the_same_row(
    api: Api, engine: AsyncEngine
) -> None:
    async with engine.begin() as connection:
        await connection.execute(
            text(
                "CREATE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
                "UPDATE inventory.things SET code = 'stamped' WHERE no = NEW.no "
                "AND code IS DISTINCT FROM 'stamped'; RETURN NULL; END $$"
            )
        )
        await connection.execute(
            text(
                'CREATE TRIGGER "a stamp" AFTER INSERT OR UPDATE ON inventory.things '
                "FOR EACH ROW EXECUTE FUNCTION stamp()"
            )
        )
    # Triggers that look at whole statements would note the second write before the first.
    assert [one.source for one in await api.triggers.missing()] == ["inventory.things"]
    await api.triggers.install()
    assert await api.triggers.missing() == []
    async with engine.begin() as connection:
        await connection.execute(THINGS.insert().values(no=1, code="new"))
    (made,) = await told(api)
    assert isinstance(made, Change)
    assert made.before is None
    assert made.after is not None
    assert made.after["code"] == "stamped"


async def test_a_writer_needs_no_rights_of_tidings(api: Api, engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        for sql in (
            "CREATE ROLE clerk",
            "GRANT USAGE ON SCHEMA inventory TO clerk",
            "GRANT ALL ON inventory.things TO clerk",
            "SET LOCAL ROLE clerk",
            "SET LOCAL search_path = inventory",
            "INSERT INTO things (no, code) VALUES (5, 'clerk')",
        ):
            await connection.execute(text(sql))
    (made,) = await told(api)
    assert isinstance(made, Change)
    assert made.id == "5"
    async with engine.begin() as connection:
        await connection.execute(text("DROP OWNED BY clerk"))
        await connection.execute(text("DROP ROLE clerk"))

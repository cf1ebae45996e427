"""Tables that are not as declared: refused at open and named by the doctor, each by its name."""

from __future__ import annotations

from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import make_url, text
from sqlalchemy.ext.asyncio import create_async_engine

from tidings import Api, ConfigurationError, SqlAlchemyPlugin, diagnose

_SCHEMA: dict[str, Any] = {
    "name": {"type": "string", "max": 20},
    "body": "text",
    "count": "integer",
    "price": {"type": "decimal", "precision": 10, "scale": 2},
    "weight": "number",
    "done": "boolean",
    "born": "date",
    "at": "dateTime",
    "opens": "time",
    "tags": "array",
    "data": "object",
}
_SAMPLES: dict[str, Any] = {
    "name": "0012",
    "count": 7,
    "price": Decimal("19.99"),
    "weight": 0.1,
    "done": True,
    "born": date(2024, 2, 29),
    "at": datetime(2024, 2, 29, 23, 59, 59, 123456, UTC),
    "opens": time(23, 59, 59, 123456),
    "tags": ["1", 2],
    "data": {"a": [1, {"b": None}]},
}
# By dialect and field: types of SQL that hold the field's values, and types that do not.
_FITTING: dict[str, dict[str, str]] = {
    "sqlite": {
        "name": "TEXT|VARCHAR(20)|NCHAR(20)|",
        "count": "INTEGER|BIGINT|INT",
        "price": "BIGINT|INTEGER|",
        "weight": "REAL|DOUBLE PRECISION|FLOAT",
        "done": "BOOLEAN|INTEGER",
        "born": "DATE|TEXT",
        "at": "DATETIME|TIMESTAMP|TEXT|VARCHAR(40)",
        "opens": "TIME|TEXT",
        "tags": "JSON|TEXT",
        "data": "JSON|TEXT",
    },
    "postgresql": {
        "name": 'TEXT|VARCHAR(20)|VARCHAR(200)|TEXT COLLATE "C"',
        "count": "BIGINT|INTEGER|SMALLINT",
        "price": "NUMERIC(10, 2)|NUMERIC|NUMERIC(20, 4)",
        "weight": "DOUBLE PRECISION",
        "done": "BOOLEAN",
        "born": "DATE",
        "at": "TIMESTAMPTZ",
        "opens": "TIME",
        "tags": "JSON|JSONB",
        "data": "JSON|JSONB",
    },
    "mariadb": {
        "name": "VARCHAR(20)|TEXT|LONGTEXT",
        "count": "BIGINT|INT|SMALLINT",
        "price": "DECIMAL(10, 2)|DECIMAL(20, 4)",
        "weight": "DOUBLE",
        "done": "BOOLEAN|TINYINT",
        "born": "DATE",
        "at": "DATETIME(6)",
        "opens": "TIME(6)",
        "tags": "LONGTEXT|JSON",
        "data": "LONGTEXT",
    },
}
_UNFITTING: dict[str, dict[str, str]] = {
    "sqlite": {
        "name": "INTEGER|NUMERIC|UUID",
        "count": "TEXT|REAL",
        "price": "NUMERIC(10, 2)|REAL|DECIMAL(10, 2)|TEXT",
        "weight": "TEXT",
        "done": "TEXT",
        "born": "INTEGER|REAL",
        "at": "INTEGER|REAL",
        "opens": "REAL",
        "data": "INTEGER",
    },
    "postgresql": {
        "name": "UUID|CHAR(20)|mood|INTEGER|BYTEA",
        "count": "NUMERIC|TEXT|REAL",
        "price": "NUMERIC(10, 1)|NUMERIC(9, 2)|REAL|DOUBLE PRECISION|MONEY",
        "weight": "REAL|NUMERIC",
        "done": "INTEGER|TEXT",
        "born": "TIMESTAMP|TEXT",
        "at": "TIMESTAMP|DATE|TEXT|TIMESTAMPTZ(0)",
        "opens": "TIMETZ|TIME(0)",
        "tags": "TEXT[]|TEXT",
        "data": "TEXT|HSTORE",
    },
    "mariadb": {
        "name": "CHAR(20)|ENUM('a', 'b')|INT|UUID|VARBINARY(20)",
        "count": "DECIMAL(10, 0)|DOUBLE|VARCHAR(20)",
        "price": "DECIMAL(10, 1)|DECIMAL(9, 2)|DOUBLE|FLOAT",
        "weight": "FLOAT|DECIMAL(10, 2)",
        "done": "VARCHAR(5)|INT",
        "born": "DATETIME",
        "at": "TIMESTAMP(6)|DATETIME|DATETIME(3)|DATE",
        "opens": "TIME|TIME(3)",
        "tags": "BLOB",
    },
}


def declared(url: str, *names: str) -> Api:
    api = Api()
    api.use(SqlAlchemyPlugin(url))
    api.add_resource("things", schema={name: _SCHEMA[name] for name in names})
    return api


async def run(url: str, *statements: str) -> None:
    engine = create_async_engine(url)
    try:
        async with engine.begin() as connection:
            for sql in statements:
                await connection.execute(text(sql))
    finally:
        await engine.dispose()


def dialect_of(url: str) -> str:
    return make_url(url).get_backend_name()


def created(url: str, columns: dict[str, str], table: str = "things") -> str:
    key = {"sqlite": "INTEGER", "postgresql": "BIGSERIAL", "mariadb": "BIGINT AUTO_INCREMENT"}
    mark = "`" if dialect_of(url) == "mariadb" else '"'
    listed = ", ".join(f"{mark}{name}{mark} {kind}" for name, kind in columns.items())
    return f"CREATE TABLE {table} (id {key[dialect_of(url)]} PRIMARY KEY, {listed})"


async def findings(api: Api) -> list[str]:
    return [
        f"{one.message}; {one.advice}"
        async for one in diagnose(api)
        if (one.check, one.status) == ("tables", "failed")
    ]


async def test_what_tidings_creates_is_as_declared(database_url: str) -> None:
    api = Api()
    api.use(SqlAlchemyPlugin(database_url, create_tables=True))
    api.add_resource("things", schema=_SCHEMA)
    key = {"belongs_to": "things", "as_": "thing"}
    api.add_resource("named", schema={"thing_id": key}, id_type="uuid")
    async with api:
        await api.resources.things.post({"name": "a"})
    assert await findings(api) == []
    async with api:
        assert len(await api.resources.things.query()) == 1


async def test_types_that_fit_are_accepted(database_url: str) -> None:
    fitting = _FITTING[dialect_of(database_url)]
    for name, kinds in fitting.items():
        for kind in kinds.split("|"):
            await run(database_url, created(database_url, {name: kind}))
            api = declared(database_url, name)
            async with api:
                await api.resources.things.post({name: _SAMPLES[name]})
                (found,) = await api.resources.things.query()
                assert found[name] == _SAMPLES[name], (name, kind)
            await run(database_url, "DROP TABLE things")


async def test_types_that_do_not_fit_are_refused_by_name(database_url: str) -> None:
    if dialect_of(database_url) == "postgresql":
        await run(database_url, "CREATE TYPE mood AS ENUM ('a', 'b')")
    for name, kinds in _UNFITTING[dialect_of(database_url)].items():
        for kind in kinds.split("|"):
            try:
                await run(database_url, created(database_url, {name: kind}))
            except Exception:
                continue
            api = declared(database_url, name)
            with pytest.raises(ConfigurationError) as caught:
                await api.open()
            said = f"things.{name}: its type"
            assert said in str(caught.value), (name, kind)
            assert "does not fit; it takes" in str(caught.value)
            (told,) = await findings(api)
            assert told.startswith(said)
            assert "it takes" in told
            await run(database_url, "DROP TABLE things")


async def test_every_difference_is_named(database_url: str) -> None:
    await run(database_url, created(database_url, {"name": "INTEGER"}))
    api = declared(database_url, "name", "body", "count")
    with pytest.raises(ConfigurationError) as caught:
        await api.open()
    lines = str(caught.value).splitlines()
    assert len(lines) == 4
    assert "things.name: its type" in lines[1]
    assert "things.body: there is no such column" in lines[2]
    assert "things.count: there is no such column" in lines[3]
    assert len(await findings(api)) == 3


async def test_an_id_of_another_type_is_refused(database_url: str) -> None:
    await run(database_url, created(database_url, {"name": "VARCHAR(20)"}))
    api = Api()
    api.use(SqlAlchemyPlugin(database_url))
    api.add_resource("things", schema={"name": "string"}, id_type="uuid")
    with pytest.raises(ConfigurationError, match=r"things\.id: its type"):
        await api.open()


async def test_a_missing_table_is_warned_of(
    database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    api = declared(database_url, "name")
    async with api:
        assert "tables that are missing: things; create it with" in caplog.text
        await api.create_tables()
        await api.resources.things.post({"name": "a"})

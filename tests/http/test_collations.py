"""A collation that ignores case opens nothing: texts are equal code point for code point."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine
from tests.realtime.kit import SECRET, delivered, subscriber

from tidings import Api, Identity, JWTAuthPlugin, RestApiPlugin, SocketIOPlugin, SqlAlchemyPlugin

pytestmark = pytest.mark.anyio
LOOSE = {
    "sqlite": ["owner VARCHAR(255) COLLATE NOCASE", "id INTEGER PRIMARY KEY"],
    "postgresql": ["owner VARCHAR(255) COLLATE loose", "id BIGSERIAL PRIMARY KEY"],
    "mariadb": [
        "owner VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci",
        "id BIGINT AUTO_INCREMENT PRIMARY KEY",
    ],
}
NAMES = ["ann", "ANN", "Ann ", "ánn"]


@pytest.fixture
async def api(database_url: str) -> AsyncIterator[Api]:
    """Notes in a table that somebody else has made."""
    kind = next(name for name in ("sqlite", "postgresql", "mariadb") if name in database_url)
    engine = create_async_engine(database_url.replace("mariadb+", "mysql+"))
    async with engine.begin() as connection:
        if kind == "postgresql":
            await connection.execute(
                text(
                    "CREATE COLLATION IF NOT EXISTS loose "
                    "(provider = icu, locale = 'und-u-ks-level1', deterministic = false)"
                )
            )
        await connection.execute(text(f"CREATE TABLE notes ({', '.join(LOOSE[kind])})"))
        await connection.execute(text("CREATE INDEX notes_owner ON notes (owner)"))
    await engine.dispose()
    api = Api(name="loose")
    api.use(RestApiPlugin())
    api.use(SqlAlchemyPlugin(database_url, create_tables=True))
    api.use(JWTAuthPlugin(secret=SECRET))
    api.use(SocketIOPlugin())
    api.add_resource(
        "notes",
        {"owner": "string"},
        search_schema={
            "owner": "string",
            "owners": {"filter_operator": "in", "actual_field": "owner"},
            "not_owner": {"filter_operator": "!=", "actual_field": "owner"},
            "has": {"filter_operator": "like", "actual_field": "owner"},
            "from": {"filter_operator": ">=", "actual_field": "owner"},
        },
        row_policy=lambda columns, identity: (
            columns.owner == identity.owner if identity.claims.get("owner") else True
        ),
    )
    async with api:
        for name in NAMES:
            await api.resources.notes.post({"owner": name})
        yield api


async def owners(api: Api, filters: dict[str, Any], auth: Any = None) -> list[str]:
    options = {} if auth is None else {"auth": auth}
    page = await api.resources.notes.query(filters, sort=["id"], **options)
    return [record["owner"] for record in page]


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({"owner": "ann"}, ["ann"]),
        ({"owners": ["ann", "x"]}, ["ann"]),
        ({"not_owner": "ann"}, NAMES[1:]),
        ({"has": "ANN"}, NAMES[:3]),
        ({"from": "ann"}, ["ann", "ánn"]),
    ],
)
async def test_filters_are_exact(api: Api, filters: dict[str, Any], expected: list[str]) -> None:
    assert await owners(api, filters) == expected
    person, wire = subscriber()
    await api.socket_server._service.subscribe(person, {"resource": "notes", "filters": filters})
    for name in NAMES:
        await api.resources.notes.post({"owner": name})
    await delivered(api)
    assert len(wire.events()) == len(expected), "sockets and HTTP agree"


async def test_a_policy_opens_nothing_of_somebody_who_is_called_alike(api: Api) -> None:
    for name in NAMES:
        auth = Identity(user_id="1", claims={"owner": name})
        assert await owners(api, {}, auth) == [name]

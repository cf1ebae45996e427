"""``Depends(api.session)``: a request's own session, in which ORM and operations are one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from fastapi import Depends, FastAPI, HTTPException
from httpx import ASGITransport, AsyncClient
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from tests.existing.kit import declare, make_api
from tests.existing.models import Project
from tests.existing.test_capture import notices, shown, told
from tidings import Api, ConfigurationError


@pytest.fixture
async def api(engine: AsyncEngine) -> AsyncIterator[Api]:
    api = make_api(engine)
    declare(api)
    async with api:
        yield api


@pytest.fixture
def app(api: Api) -> FastAPI:
    app = FastAPI()

    @app.post("/made/{title}")
    async def make(title: str, session: Any = Depends(api.session)) -> str:  # noqa: B008
        session.add(Project(title="by the ORM"))
        await session.flush()
        made = await api.resources.projects.post({"title": title}, transaction=session)
        if title == "refused":
            raise HTTPException(418)
        await session.commit()
        return str(made["id"])

    return app


async def count(engine: AsyncEngine) -> int | None:
    async with AsyncSession(engine) as session:
        return await session.scalar(select(func.count()).select_from(Project))


async def test_orm_and_operations_of_a_request_are_one_transaction(
    api: Api, app: FastAPI, engine: AsyncEngine
) -> None:
    async with AsyncClient(transport=ASGITransport(app), base_url="http://test") as client:
        assert (await client.post("/made/refused")).status_code == 418
        assert await count(engine) == 0
        assert notices(api) == []
        assert (await client.post("/made/kept")).status_code == 200
    assert await count(engine) == 2
    assert shown(await told(api)) == [("projects", "post", None, "kept")]


async def test_a_test_of_the_application_rolls_back_what_its_routes_commit(
    api: Api, app: FastAPI, engine: AsyncEngine
) -> None:
    async with engine.connect() as connection:
        await connection.begin()

        async def session() -> AsyncIterator[AsyncSession]:
            bound = AsyncSession(connection, join_transaction_mode="create_savepoint")
            async with bound as opened:
                yield opened

        app.dependency_overrides[api.session] = session
        async with AsyncClient(transport=ASGITransport(app), base_url="http://test") as client:
            assert (await client.post("/made/kept")).status_code == 200
        assert len((await connection.execute(select(Project.title))).all()) == 2
        await connection.rollback()
    assert await count(engine) == 0
    assert notices(api) == []


async def test_without_an_engine_of_the_applications_it_says_what_to_do() -> None:
    api = make_api("sqlite+aiosqlite://")
    with pytest.raises(ConfigurationError, match=r"SqlAlchemyPlugin\(engine=\.\.\.\)"):
        await anext(api.session())

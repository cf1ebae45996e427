"""An existing application's database, and an api that its triggers tell of every change."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.existing.kit import declare, existing, make_api
from tidings import Api


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[AsyncEngine]:
    async with existing(database_url) as engine:
        yield engine


@pytest.fixture
async def api(engine: AsyncEngine, database_url: str) -> AsyncIterator[Api]:
    api = make_api(database_url, capture="triggers", create_tables=True)
    declare(api)
    async with api:
        yield api

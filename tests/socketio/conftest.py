"""Every test of a served app runs both ways; nothing may be logged unless a test expects it."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest
from tests.http.kit import watched_logs
from tests.socketio.kit import FAST, PORTABLE, echo_server, eventually, leftovers, polling, served

from tidings.socketio import Options, Server

EXPECTED = ("it reads too slowly", "sessions are refused")


@pytest.fixture(params=["fast", "portable"])
def way(request: pytest.FixtureRequest) -> dict[str, Any]:
    return FAST if request.param == "fast" else PORTABLE


@pytest.fixture
def options() -> Options:
    return Options()


@pytest.fixture
def server(options: Options) -> Server:
    return echo_server(options)


@pytest.fixture
async def url(server: Server, way: dict[str, Any]) -> AsyncIterator[str]:
    """An `echo_server`, of which nothing is left when its clients have gone."""
    with watched_logs() as records:
        async with served(server, **way) as address:
            yield address
            await eventually(lambda: leftovers(server) == 0)
    told = [one.getMessage() for one in records if one.levelno >= logging.WARNING]
    assert [line for line in told if not any(word in line for word in EXPECTED)] == []


@pytest.fixture
async def http(url: str) -> AsyncIterator[httpx.AsyncClient]:
    async with polling(url) as client:
        yield client


@pytest.fixture
def no_logs() -> Iterator[None]:
    with watched_logs() as records:
        yield
    assert records == []

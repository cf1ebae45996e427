"""Settings that every test shares."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.security.tap import no_values_in_frames
from tests.support.databases import DatabaseServer, MissingServer, mariadb, postgresql
from tests.support.redis import RedisServer, redis_server

__all__ = ["no_values_in_frames"]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "browser: drives a real browser; skipped where none is")
    config.addinivalue_line("markers", "leaks: tries out the tap; frames may hold values")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def _quiet_logger() -> Iterator[None]:
    """What one test asks of the logger ``tidings`` is not the next one's."""
    yield
    logger = logging.getLogger("tidings")
    logger.setLevel(logging.NOTSET)
    logger.handlers.clear()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[DatabaseServer]:
    """A private PostgreSQL, started for the first test that asks."""
    try:
        with postgresql() as server:
            yield server
    except MissingServer as missing:
        pytest.skip(str(missing))


@pytest.fixture(scope="session")
def mariadb_server() -> Iterator[DatabaseServer]:
    """A private MariaDB, started for the first test that asks."""
    try:
        with mariadb() as server:
            yield server
    except MissingServer as missing:
        pytest.skip(str(missing))


@pytest.fixture
def postgres_url(postgres_server: DatabaseServer) -> Iterator[str]:
    """An empty PostgreSQL database of the test's own."""
    with postgres_server.database() as url:
        yield url


@pytest.fixture
def mariadb_url(mariadb_server: DatabaseServer) -> Iterator[str]:
    """An empty MariaDB database of the test's own."""
    with mariadb_server.database() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql", "mariadb"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of the test's own, on each of the databases in turn."""
    if request.param == "sqlite":
        return f"sqlite+aiosqlite:///{tmp_path}/test.db"
    name = {"postgresql": "postgres_url", "mariadb": "mariadb_url"}[request.param]
    url: str = request.getfixturevalue(name)
    return url


@pytest.fixture(scope="session")
def lasting_redis() -> Iterator[RedisServer]:
    """A server that all tests share."""
    try:
        with redis_server() as server:
            yield server
    except MissingServer as missing:
        pytest.skip(str(missing))


@pytest.fixture
def redis(lasting_redis: RedisServer) -> RedisServer:
    """A server that is empty, and not to be killed."""
    lasting_redis.execute("FLUSHALL")
    return lasting_redis


@pytest.fixture
def own_redis(lasting_redis: RedisServer) -> Iterator[RedisServer]:
    """A server of the test's own, empty, to be hurt."""
    with redis_server() as server:
        yield server

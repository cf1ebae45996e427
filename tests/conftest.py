"""Settings that every test shares."""

import logging
from collections.abc import Iterator

import pytest


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "browser: drives a real browser; skipped where none is")


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

"""Settings that every test shares."""

import pytest


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "browser: drives a real browser; skipped where none is")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"

"""The fixtures of ``tidings.testing`` for pytest.

A module of its own, outside the package: pytest imports it in every run, also of projects that have
tidings installed and do not test with it, and they should not wait for SQLAlchemy.
"""

from __future__ import annotations

import importlib
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tidings import Api
    from tidings.testing import Live


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the settings of ``pyproject.toml`` (``[tool.pytest.ini_options]``)."""
    parser.addini("tidings_api", "where the Api is: 'blog.app:api'", default="")
    parser.addini("tidings_app", "where the ASGI app is, if not api.asgi(): 'blog.app:app'")


@pytest.fixture(scope="session")
def tidings_api(pytestconfig: pytest.Config) -> Api:
    """The api under test: the one that the setting ``tidings_api`` names.

    Define a fixture of this name to make it otherwise.
    """
    found: Api = _load(pytestconfig.getini("tidings_api"), "tidings_api")
    return found


@pytest.fixture(scope="session")
def tidings_app(pytestconfig: pytest.Config) -> Any:
    """The ASGI app under test: the one that the setting ``tidings_app`` names, or None, which is
    ``api.asgi()``.
    """
    where = pytestconfig.getini("tidings_app")
    return _load(where, "tidings_app") if where else None


@pytest.fixture
async def live(tidings_api: Api, tidings_app: Any) -> AsyncIterator[Live]:
    """The application, open on an empty database in memory; see `tidings.testing.running`."""
    from tidings.testing import running

    async with running(tidings_api, tidings_app, database="memory") as found:
        yield found


def _load(where: str, setting: str) -> Any:
    module, _, name = where.partition(":")
    if not module or not name:
        raise pytest.UsageError(
            f"say where it is: {setting} = 'package.module:name' in the settings of pytest, or "
            f"define a fixture {setting}"
        )
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise pytest.UsageError(f"{setting} = {where!r} cannot be loaded: {error}") from error

"""The databases that the proof is held against."""

import asyncio
import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.proof.bench import Bench

URLS = {"postgresql": "postgres_server", "mariadb": "mariadb_server"}


class Benched:
    """A bench with an event loop of its own, since hypothesis knows none."""

    def __init__(self, url: str) -> None:
        self.bench = Bench(url)
        self._runner = asyncio.Runner()
        self.run(self.bench.open())

    def run(self, work: Any) -> Any:
        return self._runner.run(work)

    def close(self) -> None:
        self.run(self.bench.close())
        self._runner.close()


@contextmanager
def on_database(request: pytest.FixtureRequest, name: str) -> Iterator[Benched]:
    if name == "sqlite":
        benched = Benched("sqlite+aiosqlite://")
        yield benched
        benched.close()
        return
    # What other tests have left suspended must not end while hypothesis compiles: Python 3.11
    # then counts its recursion wrongly.
    gc.collect()
    with request.getfixturevalue(URLS[name]).database() as url:
        benched = Benched(url)
        yield benched
        benched.close()


@pytest.fixture(params=["sqlite", *URLS], scope="module")
def benched(request: pytest.FixtureRequest) -> Iterator[Benched]:
    """Each of the databases in turn."""
    with on_database(request, request.param) as benched:
        yield benched


@pytest.fixture(scope="module")
def database(request: pytest.FixtureRequest) -> Iterator[Callable[[str], Benched]]:
    """The database of a name, opened when it is asked for."""
    opened: dict[str, Any] = {}

    def get(name: str) -> Benched:
        if name not in opened:
            manager = on_database(request, name)
            opened[name] = manager, manager.__enter__()
        benched: Benched = opened[name][1]
        return benched

    yield get
    for manager, _ in opened.values():
        manager.__exit__(None, None, None)

"""A client that folds what it is told over its first list always has what SQL has.

Random transactions, by writers of every kind, on each database. ``python -m tests.existing`` runs
many more of them.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from random import Random
from typing import Any

import pytest

from tests.existing.kit import existing, make_api
from tests.existing.writers import Base, Client, Writers, true_views, world
from tidings.resources import capturing
from tidings.storage.capture import outbox


async def run(database_url: str, seed: int, transactions: int) -> Client:
    async with existing(database_url, Base.metadata) as engine:
        api = make_api(database_url, capture="triggers", create_tables=True)
        async with world(database_url, api, engine, seed) as writers:
            client = Client(api)
            for number in range(transactions):
                await writers.transaction()
                if writers.chance.random() < 0.5:
                    await client.catch_up(writers.rows)
                    assert client.views == await true_views(writers.rows), (seed, number)
            await client.catch_up(writers.rows)
            assert client.views == await true_views(writers.rows), seed
            return client


@pytest.mark.parametrize("seed", range(6))
async def test_folding_what_is_told_gives_what_there_is(database_url: str, seed: int) -> None:
    client = await run(database_url, seed, 60)
    assert client.changes > 50
    assert client.resyncs == 0


async def run_side_by_side(url: str, seed: int, transactions: int, count: int = 4) -> Client:
    """Several writers at once, on rows that they share; what deadlocks is tried again."""
    async with existing(url, Base.metadata) as engine:
        api = make_api(url, capture="triggers", create_tables=True)
        async with world(url, api, engine, seed) as first:
            several = [first, *(replace(first, chance=Random(seed * 10 + n)) for n in range(count))]
            for number, writers in enumerate(several):
                writers.moved = -1_000_000 * (number + 1)

            async def write(writers: Writers) -> None:
                for _ in range(transactions):
                    with suppress(Exception):  # a deadlock, in its many forms, or gone meanwhile
                        await writers.transaction()
                    await asyncio.sleep(0)

            client = Client(api)
            async with asyncio.TaskGroup() as group:
                for writers in several:
                    group.create_task(write(writers))
            await client.catch_up(first.rows)
            assert client.views == await true_views(first.rows), seed
            return client


# SQLAlchemy and asyncmy lose a connection or two to deadlocks, without tidings as well.
DEADLOCKS = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(autouse=True)
def _collected() -> Iterator[None]:
    """What a test has lost is found in it, and not in the next one."""
    yield
    gc.collect()


@DEADLOCKS
@pytest.mark.parametrize("server", ["postgres_url", "mariadb_url"])
@pytest.mark.parametrize("seed", range(2))
async def test_writers_side_by_side(server: str, seed: int, request: pytest.FixtureRequest) -> None:
    client = await run_side_by_side(request.getfixturevalue(server), seed, 15)
    assert client.changes > 50
    assert client.resyncs == 0


def _by_lowest_id(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(outbox, "_last", lambda unit: -int(unit[0]["id"]))


def _own_account_only(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("tidings.resources.capturing._says_the_same", lambda own, captured: True)


def _intermediate_images(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(
        "tidings.resources.capturing._folded", lambda known, change, *, is_one: known or change
    )


def _updates_unseen(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("tidings.resources.capturing._ACTIONS", {"i": "post", "d": "delete"})
    original = capturing._changes
    patch.setattr(
        capturing, "_changes", lambda face, row: original(face, row) if row.op != "u" else ()
    )


@DEADLOCKS
@pytest.mark.parametrize(
    "mutant", [_by_lowest_id, _own_account_only, _intermediate_images, _updates_unseen]
)
async def test_the_model_finds_what_is_broken(
    postgres_server: Any, mutant: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    mutant(monkeypatch)
    runs = run_side_by_side if mutant is _by_lowest_id else run
    with pytest.raises(AssertionError):
        for seed in range(8):
            with postgres_server.database() as url:
                await runs(url, seed, 20 if mutant is _by_lowest_id else 40)


async def test_a_trigger_that_is_dropped_is_found(postgres_url: str) -> None:
    async with existing(postgres_url, Base.metadata) as engine:
        api = make_api(postgres_url, capture="triggers", create_tables=True)
        async with world(postgres_url, api, engine, 1) as writers:
            await api.triggers.remove()
            client = Client(api)
            for _ in range(10):
                await writers.transaction()
            await client.catch_up(writers.rows)
            assert client.views != await true_views(writers.rows)

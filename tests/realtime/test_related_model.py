"""Filters through relationships: whoever follows them has what the same filter gives as SQL."""

from __future__ import annotations

import asyncio
import os
import random
from typing import Any

import pytest

from tests.realtime.following import Follower, check_all, make_blog, watch_all
from tidings import Api, Conflict, RequestError

SEEDS = int(os.environ.get("TIDINGS_PROVE_MODEL", "1"))
pytestmark = pytest.mark.anyio

NAMES = ("a", "b", "c", "A", None)
STATES = ("a", "b", None)
KEYS: dict[str, dict[str, str]] = {
    "companies": {},
    "authors": {"company_id": "companies"},
    "categories": {"parent_id": "categories"},
    "posts": {"author_id": "authors", "category_id": "categories"},
    "comments": {"post_id": "posts", "author_id": "authors"},
    "tags": {"post_id": "posts"},
}
COLUMNS: dict[str, dict[str, tuple[Any, ...]]] = {
    "companies": {"name": NAMES},
    "authors": {"name": NAMES, "age": (1, 2, None)},
    "categories": {"name": NAMES},
    "posts": {"title": NAMES, "status": ("x", "y", None)},
    "comments": {"state": STATES},
    "tags": {"name": NAMES},
}


class Undone(Exception):
    pass


class Writers:
    """Random writes, some of them together in transactions and savepoints."""

    def __init__(self, api: Api, seed: int) -> None:
        self.api = api
        self.random = random.Random(seed)

    async def ids(self, name: str, uow: Any) -> list[str]:
        found = await self.api.resources[name].query(transaction=uow, size=10_000)
        return [record["id"] for record in found]

    async def values(self, name: str, uow: Any) -> dict[str, Any]:
        given = {column: self.random.choice(of) for column, of in COLUMNS[name].items()}
        for column, target in KEYS[name].items():
            given[column] = self.random.choice([*await self.ids(target, uow), None])
        return given

    async def write(self, uow: Any = None) -> None:
        name = self.random.choice(list(KEYS))
        handle, known = self.api.resources[name], await self.ids(name, uow)
        action = self.random.choice(["post", "patch", "patch", "patch", "put", "delete"])
        if action == "post" or len(known) < 2:
            await handle.post(await self.values(name, uow), transaction=uow)
            return
        key = self.random.choice(known)
        if action == "delete":
            try:
                await handle.delete(key, transaction=uow)
            except Conflict:
                await self.clear(name, key, uow)
        elif action == "put":
            await handle.put(key, await self.values(name, uow), transaction=uow)
        else:
            given = await self.values(name, uow)
            chosen = self.random.sample(sorted(given), self.random.randint(1, len(given)))
            await handle.patch(key, {column: given[column] for column in chosen}, transaction=uow)

    async def clear(self, name: str, key: str, uow: Any) -> None:
        """Delete a record and what refers to it, or have that refer to nothing."""
        if uow is None:
            async with self.api.transaction() as opened:
                await self.clear(name, key, opened)
            return
        for holder, keys in KEYS.items():
            for column, target in keys.items():
                if target != name:
                    continue
                handle = self.api.resources[holder]
                found = await handle.query(where={column: key}, transaction=uow, size=10_000)
                for record in found:
                    if record["id"] not in await self.ids(holder, uow):
                        continue
                    if self.random.random() < 0.5:
                        await handle.patch(record["id"], {column: None}, transaction=uow)
                    else:
                        await self.clear(holder, record["id"], uow)
        if key in await self.ids(name, uow):
            await self.api.resources[name].delete(key, transaction=uow)

    async def commit(self) -> None:
        """One transaction: a single write, or several with some that are undone."""
        if self.random.random() < 0.5:
            await self.write()
            return
        try:
            async with self.api.transaction() as uow:
                for _ in range(self.random.randint(2, 5)):
                    if self.random.random() < 0.3:
                        await self.savepoint(uow)
                    else:
                        await self.write(uow)
                if self.random.random() < 0.1:
                    raise Undone
        except Undone:
            pass

    async def savepoint(self, uow: Any) -> None:
        try:
            async with uow.savepoint():
                await self.write(uow)
                await self.write(uow)
                if self.random.random() < 0.5:
                    raise Undone
        except Undone:
            pass

    async def fill(self) -> None:
        for name in KEYS:
            for _ in range(5):
                await self.api.resources[name].post(await self.values(name, None))


async def run_model(api: Api, seed: int, commits: int) -> list[Follower]:
    writers = Writers(api, seed)
    await writers.fill()
    followers = await watch_all(api)
    for _ in range(commits):
        await writers.commit()
        await check_all(followers)
    assert sum(follower.told for follower in followers) > 2 * commits
    return followers


@pytest.mark.parametrize("seed", range(2 * SEEDS))
async def test_who_follows_has_what_sql_gives(seed: int) -> None:
    async with make_blog("sqlite+aiosqlite://") as api:
        followers = await run_model(api, seed, 40)
        assert not any(follower.resyncs for follower in followers)


@pytest.mark.parametrize("seed", range(SEEDS))
async def test_so_it_is_where_references_may_dangle(seed: int) -> None:
    async with make_blog("sqlite+aiosqlite://", constraint=False) as api:
        await run_model(api, seed, 40)


@pytest.mark.parametrize("seed", range(SEEDS))
@pytest.mark.parametrize(("touched", "values"), [(2, 1000), (1000, 0), (1, 0)])
async def test_so_it_is_beyond_the_bounds(seed: int, touched: int, values: int) -> None:
    async with make_blog("sqlite+aiosqlite://") as api:
        effects = api._assembled.operations.effects
        effects.max_touched, effects.max_values = touched, values
        followers = await run_model(api, seed, 30)
        assert any(follower.resyncs for follower in followers)
        for follower in followers[:2]:  # their filters look at no related record
            assert not follower.resyncs


async def test_so_it_is_on_every_database(database_url: str) -> None:
    async with make_blog(database_url) as api:
        await run_model(api, 1, 30)


@pytest.fixture(params=["postgres_url", "mariadb_url"])
def server_url(request: pytest.FixtureRequest) -> str:
    """An empty database of a server, where transactions run side by side."""
    url: str = request.getfixturevalue(request.param)
    return url


@pytest.mark.parametrize(("seed", "touched"), [(0, 1000), (3, 1), (1, 1000)][: 1 + SEEDS])
async def test_so_it_is_where_transactions_run_side_by_side(
    server_url: str, seed: int, touched: int
) -> None:
    async with make_blog(server_url) as api:
        api._assembled.operations.effects.max_touched = touched
        writers = [Writers(api, 100 * seed + number) for number in range(4)]
        await writers[0].fill()
        followers = await watch_all(api)
        committed = 0

        async def commit(writer: Writers) -> int:
            try:
                await writer.commit()
            except RequestError:
                return 0  # deadlocks, and records that another has deleted
            return 1

        for _ in range(25):
            committed += sum(await asyncio.gather(*(commit(writer) for writer in writers)))
            await check_all(followers)
        assert committed > 30

"""Answers are bounded by what they weigh, not by how many records they have alone."""

from __future__ import annotations

import asyncio
import threading
import tracemalloc
from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.http.kit import Client, error, make_api, serving

from tidings import Api
from tidings.errors import Unavailable
from tidings.jsonapi import answers
from tidings.jsonapi.answers import Room
from tidings.resources import budget
from tidings.schema import types
from tidings.storage import RecordStore


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    api = make_api()
    api.add_resource(
        "authors",
        schema={"name": "string"},
        relationships={"posts": {"type": "hasMany", "target": "posts", "foreign_key": "author_id"}},
    )
    api.add_resource(
        "posts", schema={"text": "text", "author_id": {"belongs_to": "authors"}}, max_page_size=1000
    )
    async with api:
        yield api


@pytest.fixture
async def http(api: Api) -> AsyncIterator[Client]:
    async with serving(api) as client:
        yield client


async def _fill(api: Api, count: int, size: int) -> None:
    await api.resources.authors.post({"name": "a"})
    async with api.transaction() as uow:
        for number in range(count):
            values = {"text": f"{number} " + "x" * size, "author_id": 1}
            await api.resources.posts.post(values, transaction=uow)


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[int | None]:
    """How many records were asked for, in each statement that reads some."""
    found: list[int | None] = []
    original = RecordStore.find_counted

    async def find(self: RecordStore, *arguments: Any, **options: Any) -> Any:
        found.append(options.get("limit"))
        return await original(self, *arguments, **options)

    monkeypatch.setattr(RecordStore, "find_counted", find)
    return found


async def test_a_page_of_long_records_is_read_in_steps_and_refused_beyond_the_budget(
    api: Api, http: Client, steps: list[int | None]
) -> None:
    await _fill(api, 60, 400_000)
    steps.clear()
    error(await http.get("/posts?page[size]=60"), 400, "ANSWER_TOO_LARGE", parameter="page[size]")
    assert steps
    assert max(size or 0 for size in steps) <= 5
    assert sum(size or 0 for size in steps) <= 25, "no more is read than the budget has"
    response = await http.get("/posts?page[size]=10&page[number]=3&sort=id")
    assert [one["id"] for one in response.json()["data"]] == [str(n) for n in range(21, 31)]


async def test_short_records_are_read_at_once(
    api: Api, http: Client, steps: list[int | None]
) -> None:
    await _fill(api, 300, 10)
    steps.clear()
    assert len((await http.get("/posts?page[size]=300")).json()["data"]) == 300
    assert steps == [300]


async def test_of_what_nothing_is_known_a_little_is_read_first(
    api: Api, http: Client, steps: list[int | None]
) -> None:
    await _fill(api, 50, 10)
    api.internals.parts.operations.weights._longest.clear()
    steps.clear()
    assert len((await http.get("/posts?page[size]=50")).json()["data"]) == 50
    assert steps == [32, 18]


async def test_what_is_brought_in_counts_too(api: Api, http: Client) -> None:
    await _fill(api, 40, 400_000)
    error(await http.get("/authors?include=posts"), 400, "ANSWER_TOO_LARGE", parameter="include")
    error(await http.get("/authors/1?include=posts"), 400, "ANSWER_TOO_LARGE", parameter="include")


async def test_each_path_counts_what_it_reads(api: Api, http: Client) -> None:
    """Several paths to the same records are several times the work."""
    await _fill(api, 1_900, 10)
    assert (await http.get("/authors?include=posts.author.posts")).status_code == 200
    again = await http.get("/authors?include=posts.author.posts.author.posts")
    error(again, 400, "INCLUDE_TOO_LARGE", parameter="include")


async def test_all_records_come_once_in_many_steps(
    api: Api, http: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budget, "_UNKNOWN", 3)
    monkeypatch.setattr(budget, "_LONG", 1)
    monkeypatch.setattr(budget, "_STEP_BYTES", 100)
    await _fill(api, 50, 10)
    found = (await http.get("/authors?include=posts")).json()
    assert sorted(int(one["id"]) for one in found["included"]) == list(range(1, 51))
    response = await http.get("/posts?page[size]=50&sort=-id")
    assert [one["id"] for one in response.json()["data"]] == [str(n) for n in range(50, 0, -1)]


async def test_many_objects_are_encoded_in_many_turns(
    api: Api, http: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    await _fill(api, 500, 10)
    turns = 0
    original = answers.encoded

    async def counting(encoder: Any, objects: Any) -> Any:
        nonlocal turns

        async def tick() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        task = asyncio.create_task(tick())
        try:
            return await original(encoder, objects)
        finally:
            task.cancel()

    monkeypatch.setattr("tidings.jsonapi.answers.encoded", counting)
    body = (await http.get("/posts?page[size]=500")).json()
    assert [one["id"] for one in body["data"]] == [str(n) for n in range(1, 501)]
    assert turns >= 5


async def test_there_is_room_for_so_many_bytes_of_large_answers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(answers, "LARGE", 10)
    room = Room(100)
    held: list[int] = []

    async def answer(size: int) -> None:
        async with room.hold(size):
            held.append(room.held)
            await asyncio.sleep(0.01)

    await asyncio.gather(*(answer(40) for _ in range(7)), answer(5), answer(500))
    assert max(held[:-1]) <= 100 or 500 in held
    assert len(held) == 9
    assert room.held == 0
    monkeypatch.setattr(answers, "_PATIENCE", 0.01)
    async with room.hold(90):
        with pytest.raises(Unavailable) as caught:
            async with room.hold(90):
                pass
    assert caught.value.code == "SERVER_BUSY"
    assert room.held == 0


async def test_memory_of_refused_pages_does_not_add_up(api: Api, http: Client) -> None:
    await _fill(api, 100, 300_000)
    await http.get("/posts?page[size]=100")
    tracemalloc.start()
    try:
        answers_ = await asyncio.gather(*(http.get("/posts?page[size]=100") for _ in range(30)))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert {one.status_code for one in answers_} == {400}
    # Four at once, of 8 MB and a step each, whoever asks; all of it would be 900 MB.
    assert peak < 100_000_000


async def test_a_long_document_is_cast_beside_the_event_loop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A megabyte of brackets takes 200 ms to look through: nobody else waits for that."""
    threads: list[int] = []
    cast_object = types._CASTS["object"]

    def noting(value: object) -> Any:
        threads.append(threading.get_ident())
        return cast_object(value)

    monkeypatch.setitem(types._CASTS, "object", noting)
    api = make_api()
    api.add_resource("things", {"value": "object"})
    async with serving(api) as http:
        for value in ({"a": 1}, {"a": [[]] * 50_000}):
            body = {"data": {"type": "things", "attributes": {"value": value}}}
            response = await http.write("POST", "/things", body)
            assert response.status_code == 201, response.text
            assert response.json()["data"]["attributes"]["value"] == value
    here = threading.get_ident()
    assert [one == here for one in threads] == [True, True, False, False]

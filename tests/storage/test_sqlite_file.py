"""URLs of SQLite databases keep their options."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from tests.storage.recording import make_api

from tidings import ConfigurationError, SqlAlchemyPlugin
from tidings.errors import DatabaseBusy
from tidings.storage.sqlite_file import SqliteFile

_AT = "sqlite+aiosqlite:///"


@pytest.mark.parametrize(
    ("url", "name", "is_uri", "in_memory", "is_read_only"),
    [
        ("sqlite+aiosqlite://", ":memory:", False, True, False),
        (_AT, ":memory:", False, True, False),
        (f"{_AT}:memory:", ":memory:", False, True, False),
        (f"{_AT}app.db", "app.db", False, False, False),
        (f"{_AT}app.db?timeout=30", "app.db", False, False, False),
        (f"{_AT}app.db?uri=true", "file:app.db", True, False, False),
        (f"{_AT}app.db?mode=ro&uri=true", "file:app.db?mode=ro", True, False, True),
        (f"{_AT}file:app.db?mode=ro&uri=true", "file:app.db?mode=ro", True, False, True),
        (f"{_AT}file:a.db?immutable=1&uri=true", "file:a.db?immutable=1", True, False, True),
        (f"{_AT}file:a.db?mode=rw&uri=true", "file:a.db?mode=rw", True, False, False),
        (
            f"{_AT}file::memory:?cache=shared&uri=true",
            "file::memory:?cache=shared",
            True,
            True,
            False,
        ),
        (
            f"{_AT}file:x?mode=memory&cache=shared&uri=true",
            "file:x?mode=memory&cache=shared",
            True,
            True,
            False,
        ),
    ],
)
def test_what_a_url_means(
    url: str, name: str, is_uri: bool, in_memory: bool, is_read_only: bool
) -> None:
    found = SqliteFile.of_url(url)
    assert (found.name, found.is_uri) == (name, is_uri)
    assert (found.in_memory, found.is_read_only) == (in_memory, is_read_only)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("mode=ro", "add uri=true"),
        ("mod=ro&uri=true", "'mod'"),
        ("detect_types=1", "pass an engine="),
        ("isolation_level=IMMEDIATE", "pass an engine="),
        ("uri=perhaps", "true or false"),
        ("timeout=long", "in seconds"),
        ("mode=ro&mode=rw&uri=true", "more than once"),
    ],
)
def test_options_that_cannot_be_followed_are_refused(options: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        SqlAlchemyPlugin(f"{_AT}app.db?{options}")


async def test_a_database_that_is_only_read(tmp_path: Path) -> None:
    url = f"{_AT}{tmp_path}/notes.db"
    api, _ = make_api(SqlAlchemyPlugin(url, create_tables=True))
    async with api:
        await api.resources.notes.post({"title": "a"})
    for form in (f"{url}?mode=ro&uri=true", f"{_AT}file:{tmp_path}/notes.db?mode=ro&uri=true"):
        api, feed = make_api(SqlAlchemyPlugin(form))
        async with api:
            assert [note["title"] for note in await api.resources.notes.query()] == ["a"]
            with pytest.raises(DatabaseBusy, match="only be read"):
                await api.resources.notes.post({"title": "b"})
            assert feed.published == []
    assert [name for name in os.listdir(tmp_path) if "?" in name] == []


async def test_a_file_that_must_be_there(tmp_path: Path) -> None:
    url = f"{_AT}{tmp_path}/missing.db?mode=rw&uri=true"
    api, _ = make_api(SqlAlchemyPlugin(url))
    with pytest.raises(ConfigurationError, match="cannot open"):
        await api.open()
    assert os.listdir(tmp_path) == []


async def test_a_database_in_memory_that_is_shared_within_the_process() -> None:
    url = f"{_AT}file:tidings_test?mode=memory&cache=shared&uri=true"
    api, _ = make_api(SqlAlchemyPlugin(url, create_tables=True))
    async with api:
        await api.resources.notes.post({"title": "a"})
        other = sqlite3.connect("file:tidings_test?mode=memory&cache=shared", uri=True)
        assert other.execute("SELECT title FROM notes").fetchall() == [("a",)]
        other.close()


def test_the_timeout_of_the_url_counts() -> None:
    database: Any = SqlAlchemyPlugin(f"{_AT}app.db?timeout=0.5")._database
    assert database._busy_timeout == 0.5

"""SqliteThread: one after the other, whatever becomes of those who wait."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from pathlib import Path

import pytest

from tidings.storage.sqlite import SqliteDatabase
from tidings.storage.sqlite_thread import SqliteThread


def connect() -> sqlite3.Connection:
    return sqlite3.connect(":memory:", isolation_level=None)


async def test_what_nobody_waits_for_any_more_is_done_in_its_turn() -> None:
    thread = SqliteThread()
    await thread.open(connect)
    entered, go_on = threading.Event(), threading.Event()

    def slow(_: sqlite3.Connection) -> None:
        entered.set()
        go_on.wait()

    first = asyncio.create_task(thread.call(slow))
    while not entered.is_set():
        await asyncio.sleep(0)
    second = asyncio.create_task(thread.call(lambda raw: raw.execute("CREATE TABLE made (id)")))
    await asyncio.sleep(0)
    second.cancel()
    await asyncio.wait([second])
    go_on.set()
    await first
    rows = await thread.call(lambda raw: raw.execute("SELECT name FROM sqlite_master").fetchall())
    assert rows == [("made",)]
    await thread.close()


async def test_closing_comes_after_all_that_was_asked_and_ends_the_thread() -> None:
    before = set(threading.enumerate())
    thread = SqliteThread()
    await thread.open(connect)
    asked = asyncio.create_task(thread.call(lambda raw: raw.execute("SELECT 1").fetchall()))
    await asyncio.sleep(0)
    await thread.close()
    assert await asked == [(1,)]
    assert set(threading.enumerate()) == before
    await thread.close()
    thread.interrupt()
    assert not thread.in_transaction
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        await thread.call(lambda raw: raw.execute("SELECT 1"))


async def test_an_opening_that_is_cancelled_leaves_no_thread() -> None:
    before = set(threading.enumerate())
    may_connect = threading.Event()

    def slow() -> sqlite3.Connection:
        may_connect.wait()
        return connect()

    opening = asyncio.create_task(SqliteThread().open(slow))
    await asyncio.sleep(0)
    opening.cancel()
    await asyncio.wait([opening])
    (left,) = set(threading.enumerate()) - before
    may_connect.set()
    left.join(5)
    assert not left.is_alive()


async def test_a_transaction_that_could_not_begin_does_nothing_later(tmp_path: Path) -> None:
    database = SqliteDatabase(f"sqlite+aiosqlite:///{tmp_path}/a.db", busy_timeout=0.01)
    await database.open()
    held = sqlite3.connect(tmp_path / "a.db", isolation_level=None)
    held.execute("BEGIN IMMEDIATE")
    async with database.writing() as connection:
        with pytest.raises(Exception, match="busy"):
            await connection.run("CREATE TABLE made (id)")
        held.execute("ROLLBACK")
        with pytest.raises(Exception, match="undone"):
            await connection.run("CREATE TABLE made (id)")
        await connection.rollback()
    assert held.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,)
    held.close()
    await database.close()


async def test_nor_where_nobody_waited_for_its_beginning(tmp_path: Path) -> None:
    database = SqliteDatabase(f"sqlite+aiosqlite:///{tmp_path}/a.db", busy_timeout=0.2)
    await database.open()
    held = sqlite3.connect(tmp_path / "a.db", isolation_level=None)
    held.execute("BEGIN IMMEDIATE")
    async with database.writing() as connection:
        begins = asyncio.create_task(connection.run("CREATE TABLE made (id)"))
        await asyncio.sleep(0)
        begins.cancel()
        await asyncio.wait([begins])
        with pytest.raises(Exception, match=r"no transaction|not shown"):
            await connection.run("CREATE TABLE made (id)")
        await connection.rollback()
    held.execute("ROLLBACK")
    assert held.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,)
    held.close()
    await database.close()

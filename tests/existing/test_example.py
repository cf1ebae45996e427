"""The FastAPI application with tidings: its writers are told, to members of the team alone."""

from __future__ import annotations

import asyncio
import importlib
import json
import sys
import uuid
from collections.abc import AsyncIterator
from types import ModuleType
from typing import Any

import httpx
import pytest
from sqlalchemy import text, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from tests.sockets.kit import Socket
from tests.support.server import REPOSITORY, serve

FOLDER = REPOSITORY / "examples" / "fastapi"


@pytest.fixture
async def live(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[ModuleType, ModuleType, str]]:
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.syspath_prepend(FOLDER)
    for name in ("app", "live"):
        sys.modules.pop(name, None)
    try:
        app = importlib.import_module("app")
        live = importlib.import_module("live")
        async with app.engine.begin() as connection:
            await connection.run_sync(app.Base.metadata.create_all)
        await live.api.triggers.install()
        async with app.make_session() as session:
            ann, ben = (app.User(name=name, password="x") for name in ("ann", "ben"))
            red, blue = app.Team(name="red"), app.Team(name="blue")
            session.add_all([ann, ben, red, blue])
            await session.flush()
            session.add(app.Membership(team_id=red.id, user_id=ann.id))
            session.add(app.Membership(team_id=blue.id, user_id=ben.id))
            await session.commit()
        async with serve(live.app) as url:
            yield app, live, url
        await app.engine.dispose()
    finally:
        for name in ("app", "live"):
            sys.modules.pop(name, None)


class Person:
    """Somebody with a token, a subscription and requests of their own."""

    def __init__(self, name: str, http: httpx.AsyncClient, socket: Socket) -> None:
        self.name, self.http, self.socket = name, http, socket
        self.seen = 0

    @classmethod
    async def log_in(cls, url: str, name: str) -> Person:
        http = httpx.AsyncClient(base_url=url, timeout=20)
        answer = await http.post("/login", json={"name": name, "password": "x"})
        http.headers["authorization"] = f"Bearer {answer.json()['access_token']}"
        socket = await Socket.open(url)
        await socket.connect({"token": answer.json()["access_token"]})
        done = await socket.call("subscribe", {"resource": "tasks", "filters": {"status": "open"}})
        assert done["success"], done
        return cls(name, http, socket)

    async def hears(self) -> Any:
        """The next event about the tasks."""
        while True:
            while self.seen < len(self.socket.events):
                name, data = self.socket.events[self.seen]
                self.seen += 1
                if name in ("subscription.update", "subscription.resync"):
                    return data.get("reason") or (data["id"], data["meta"]["change"])
            self.socket.take(await self.socket.receive())

    async def all_heard(self) -> list[str]:
        """The events so far, those on their way included."""
        await asyncio.sleep(0.3)
        await self.socket.call("unsubscribe", {"subscriptionId": "none"})
        return [name for name, _ in self.socket.events]

    async def sees(self) -> list[str]:
        found = (await self.http.get("/api/tasks?filter[status]=open&sort=title")).json()
        return [one["attributes"]["title"] for one in found["data"]]

    async def leave(self) -> None:
        await self.http.aclose()
        await self.socket.wire.close()


def test_tidings_is_added_in_forty_lines() -> None:
    lines = (FOLDER / "live.py").read_text().splitlines()
    assert len([line for line in lines if line.strip()]) <= 40


async def test_its_writers_are_told_to_members_alone(
    live: tuple[ModuleType, ModuleType, str], database_url: str
) -> None:
    app, _, url = live
    ann, ben = await Person.log_in(url, "ann"), await Person.log_in(url, "ben")
    try:
        made = await ann.http.post("/tasks", json={"title": "dig", "team_id": 1})
        task = made.json()["id"]
        told = await ann.hears()
        assert told in ((task, "enter"), "bulk")
        assert await ann.sees() == ["dig"]
        assert await ben.sees() == []

        async def orm() -> None:
            await ann.http.patch(f"/tasks/{task}", json={"title": "dig deep"})

        async def bulk_text() -> None:
            await ann.http.post("/teams/1/shout")

        async def core() -> None:
            async with app.engine.begin() as connection:
                await connection.execute(update(app.Task).values(labels={"a": 1}))

        async def synchronous() -> None:
            def work(session: Session) -> None:
                session.get_one(app.Task, uuid.UUID(task)).title = "sync"
                session.commit()

            async with AsyncSession(app.engine) as session:
                await session.run_sync(work)

        async def another_program() -> None:
            async with app.engine.begin() as connection:
                await connection.execute(text("UPDATE tasks SET title = 'by hand'"))

        async def finish() -> None:
            await ann.http.post("/teams/1/finish")

        for write, expected in (
            (orm, ["dig deep"]),
            (bulk_text, ["DIG DEEP"]),
            (core, ["DIG DEEP"]),
            (synchronous, ["sync"]),
            (another_program, ["by hand"]),
            (finish, []),
        ):
            await write()
            await ann.hears()
            assert await ann.sees() == expected, write.__name__
        again = await ann.http.post("/tasks", json={"title": "sow", "team_id": 1})
        await ann.hears()
        assert await ann.sees() == ["sow"]
        await ann.http.delete(f"/tasks/{again.json()['id']}")
        await ann.hears()
        assert await ann.sees() == [], "it is only marked, and gone"
        # Ben has heard nothing that he could read: at most that he should look again.
        assert await ben.sees() == []
        assert "subscription.update" not in await ben.all_heard()
    finally:
        await ann.leave()
        await ben.leave()


async def test_a_member_who_is_removed_hears_nothing_more(
    live: tuple[ModuleType, ModuleType, str],
) -> None:
    app, _, url = live
    ann = await Person.log_in(url, "ann")
    try:
        await ann.http.post("/tasks", json={"title": "dig", "team_id": 1})
        await ann.hears()
        async with app.engine.begin() as connection:
            await connection.execute(text("DELETE FROM memberships"))
        assert await ann.hears() == "bulk"
        assert await ann.sees() == []
        seen = len(ann.socket.events)
        async with app.engine.begin() as connection:
            await connection.execute(update(app.Task).values(title="secret"))
        async with app.engine.begin() as connection:
            await connection.execute(text("UPDATE memberships SET team_id = 2"))
        assert "subscription.update" not in (await ann.all_heard())[seen:]
        assert "secret" not in json.dumps(ann.socket.events)
    finally:
        await ann.leave()

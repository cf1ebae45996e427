"""Writers of all kinds, and what of their tables is true: for the model test of capture."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ForeignKey, MetaData, String, delete, insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from tidings import Api
from tidings.feed import Change, Cursor, Invalidation


class Base(DeclarativeBase):
    metadata = MetaData()


class Owner(Base):
    __tablename__ = "owners"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(20))


class Box(Base):
    __tablename__ = "boxes"
    id: Mapped[int] = mapped_column(primary_key=True)
    owner_id: Mapped[int] = mapped_column(ForeignKey("owners.id", ondelete="CASCADE"))
    state: Mapped[str] = mapped_column(String(20), default="new")


class Item(Base):
    __tablename__ = "items"
    id: Mapped[int] = mapped_column(primary_key=True)
    box_id: Mapped[int | None] = mapped_column(ForeignKey("boxes.id", ondelete="CASCADE"))
    lender_id: Mapped[int | None] = mapped_column(ForeignKey("owners.id", ondelete="SET NULL"))
    state: Mapped[str] = mapped_column(String(20), default="new")
    size: Mapped[int] = mapped_column(default=0)
    code: Mapped[str | None] = mapped_column(String(20), unique=True)


STATES = ("new", "open", "done")
VIEWS: Mapping[str, Callable[[Mapping[str, Any]], bool]] = {
    "open": lambda row: row["state"] == "open",
    "small": lambda row: row["size"] < 5,
    "lent": lambda row: row["lender_id"] is not None,
    "all": lambda row: True,
}


def declare(api: Api) -> None:
    """The items as a resource; their boxes and owners are none."""
    api.add_resource(
        "items",
        Item,
        fields=["box_id", "lender_id", "state", "size", "code"],
        search_schema={"state": {}, "size": {}, "lender_id": {}, "box_id": {}},
    )


@dataclass
class Client:
    """Folds what is told into views of the items; told that nobody knows, it refetches."""

    api: Api
    views: dict[str, set[str]] = field(default_factory=lambda: {name: set() for name in VIEWS})
    changes: int = 0
    resyncs: int = 0
    _cursor: Cursor | None = None

    async def catch_up(self, rows: Callable[[], Any]) -> None:
        """Wait until nothing is on its way any more, and take it in."""
        await self.api._linked.settle()
        feed = self.api._feed
        after = self._cursor or Cursor(feed.position.epoch, 0)
        for offset, notice in feed.recent(after):
            self._cursor = Cursor(after.epoch, offset)
            if isinstance(notice, Change):
                self.changes += 1
                for name, sees in VIEWS.items():
                    was = notice.before is not None and sees(notice.before)
                    now = notice.after is not None and sees(notice.after)
                    if was and not now:
                        self.views[name].discard(notice.id)
                    elif now:
                        self.views[name].add(notice.id)
            elif isinstance(notice, Invalidation):
                self.resyncs += 1
                self.views = await true_views(rows)


async def true_views(rows: Callable[[], Any]) -> dict[str, set[str]]:
    """The views as SQL has them."""
    found = await rows()
    return {name: {str(r["id"]) for r in found if sees(r)} for name, sees in VIEWS.items()}


@dataclass
class Writers:
    """Writes at random, in every way there is."""

    engine: AsyncEngine
    api: Api
    chance: random.Random
    moved: int = 0

    async def rows(self) -> list[Mapping[str, Any]]:
        async with self.engine.connect() as connection:
            found = await connection.execute(select(Item.__table__))
            return list(found.mappings())

    async def transaction(self) -> None:
        """One transaction of one to four writes, some of which are undone."""
        chance = self.chance
        async with AsyncSession(self.engine) as session:
            for _ in range(chance.randint(1, 4)):
                if chance.random() < 0.2:
                    await self._undone(session)
                await self._write(session)
            if chance.random() < 0.15:
                await session.rollback()
            else:
                await session.commit()

    async def _undone(self, session: AsyncSession) -> None:
        savepoint = await session.begin_nested()
        await self._write(session)
        await savepoint.rollback()

    async def _write(self, session: AsyncSession) -> None:
        ways = [
            self._add,
            self._change,
            self._remove,
            self._bulk_update,
            self._bulk_insert,
            self._raw,
            self._own_post,
            self._own_patch,
            self._own_delete,
            self._cascade,
            self._move_key,
        ]
        if self.engine.dialect.name == "sqlite":
            ways += [self._replace, self._upsert]
        await self.chance.choice(ways)(session)

    def _values(self) -> dict[str, Any]:
        return {"state": self.chance.choice(STATES), "size": self.chance.randint(0, 9)}

    async def _some(self, session: AsyncSession) -> int | None:
        ids = list(await session.scalars(select(Item.id)))
        return self.chance.choice(ids) if ids else None

    async def _add(self, session: AsyncSession) -> None:
        owner = Owner(name="o")
        session.add(owner)
        await session.flush()
        box = Box(owner_id=owner.id)
        session.add(box)
        await session.flush()
        lender = owner.id if self.chance.random() < 0.5 else None
        session.add(Item(box_id=box.id, lender_id=lender, **self._values()))
        await session.flush()

    async def _change(self, session: AsyncSession) -> None:
        found = await session.get(Item, await self._some(session) or 0)
        if found is not None:
            found.state = self.chance.choice(STATES)
            await session.flush()

    async def _remove(self, session: AsyncSession) -> None:
        found = await session.get(Item, await self._some(session) or 0)
        if found is not None:
            await session.delete(found)
            await session.flush()

    async def _bulk_update(self, session: AsyncSession) -> None:
        state = self.chance.choice(STATES)
        clause = update(Item).where(Item.size < self.chance.randint(0, 9)).values(state=state)
        await session.execute(clause.execution_options(synchronize_session=False))
        session.expire_all()

    async def _bulk_insert(self, session: AsyncSession) -> None:
        await session.execute(insert(Item), [self._values() for _ in range(3)])

    async def _raw(self, session: AsyncSession) -> None:
        await session.execute(
            text("UPDATE items SET size = :size WHERE id % 3 = :rest"),
            {"size": self.chance.randint(0, 9), "rest": self.chance.randint(0, 2)},
        )
        session.expire_all()

    async def _own_post(self, session: AsyncSession) -> None:
        await self.api.resources.items.post(self._values(), transaction=session)

    async def _own_patch(self, session: AsyncSession) -> None:
        key = await self._some(session)
        if key is not None:
            await self.api.resources.items.patch(key, self._values(), transaction=session)
            session.expire_all()

    async def _own_delete(self, session: AsyncSession) -> None:
        key = await self._some(session)
        if key is not None:
            await self.api.resources.items.delete(key, transaction=session)
            session.expunge_all()

    async def _cascade(self, session: AsyncSession) -> None:
        owners = list(await session.scalars(select(Owner.id)))
        if owners:
            await session.execute(delete(Owner).where(Owner.id == self.chance.choice(owners)))
            session.expunge_all()

    async def _move_key(self, session: AsyncSession) -> None:
        key = await self._some(session)
        if key is not None:
            self.moved -= 1
            values = {"to": self.moved, "key": key}
            await session.execute(text("UPDATE items SET id = :to WHERE id = :key"), values)
            session.expunge_all()

    async def _replace(self, session: AsyncSession) -> None:
        code = self.chance.choice("abc")
        key = await self._some(session) or 1
        values = {"id": key + self.chance.choice([0, 77_777]), "code": code, **self._values()}
        await session.execute(
            text("REPLACE INTO items (id, code, state, size) VALUES (:id, :code, :state, :size)"),
            values,
        )
        session.expunge_all()

    async def _upsert(self, session: AsyncSession) -> None:
        values = {"code": self.chance.choice("abc"), **self._values()}
        await session.execute(
            text(
                "INSERT INTO items (code, state, size) VALUES (:code, :state, :size) "
                "ON CONFLICT (code) DO UPDATE SET state = :state"
            ),
            values,
        )
        session.expire_all()


@asynccontextmanager
async def world(url: str, api: Api, engine: AsyncEngine, seed: int) -> AsyncIterator[Writers]:
    """An open api over the items, and those who write them."""
    declare(api)
    async with api:
        yield Writers(engine, api, random.Random(seed))

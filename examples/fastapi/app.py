"""An ordinary FastAPI application: models, sessions, its own tokens; it knows nothing of tidings.

`live.py` beside it adds tidings.
"""

from __future__ import annotations

import enum
import os
import time
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Annotated, Any, Final

import jwt
from fastapi import Depends, FastAPI, HTTPException
from fastapi.security import OAuth2PasswordBearer
from pydantic import BaseModel
from sqlalchemy import JSON, DateTime, Enum, ForeignKey, String, func, select, text, update
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

SECRET: Final = os.environ.get("JWT_SECRET", "a secret of the example, long enough")
engine = create_async_engine(os.environ.get("DATABASE_URL", "sqlite+aiosqlite:///work.db"))
make_session = async_sessionmaker(engine, expire_on_commit=False)


class Base(DeclarativeBase):
    """All models."""


class Status(enum.Enum):
    """How far a task is."""

    OPEN = "open"
    DONE = "done"


class User(Base):
    """Somebody who can log in."""

    __tablename__ = "users"
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=uuid.uuid4)
    name: Mapped[str] = mapped_column(String(80), unique=True)
    password: Mapped[str] = mapped_column(String(80))


class Team(Base):
    """Those who share projects."""

    __tablename__ = "teams"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(80))
    members: Mapped[list[Membership]] = relationship(back_populates="team")


class Membership(Base):
    """That a user is in a team."""

    __tablename__ = "memberships"
    id: Mapped[int] = mapped_column(primary_key=True)
    team_id: Mapped[int] = mapped_column(ForeignKey("teams.id"))
    user_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("users.id"))
    team: Mapped[Team] = relationship(back_populates="members")


class Task(Base):
    """Something to do, of a team."""

    __tablename__ = "tasks"
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=uuid.uuid4)
    title: Mapped[str] = mapped_column(String(200))
    status: Mapped[Status] = mapped_column(Enum(Status), default=Status.OPEN)
    labels: Mapped[dict[str, Any] | None] = mapped_column(
        JSON().with_variant(JSONB(), "postgresql")
    )
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
    deleted_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    team_id: Mapped[int] = mapped_column(ForeignKey("teams.id"))
    team: Mapped[Team] = relationship()


class Credentials(BaseModel):
    """What somebody logs in with."""

    name: str
    password: str


class NewTask(BaseModel):
    """A task that is to be made."""

    title: str
    team_id: int


class Changes(BaseModel):
    """What is to change of a task."""

    title: str | None = None
    status: Status | None = None


app = FastAPI(title="Work")


async def session() -> AsyncIterator[AsyncSession]:
    """A session for one request."""
    async with make_session() as opened:
        yield opened


Session = Annotated[AsyncSession, Depends(session)]
Token = Annotated[str, Depends(OAuth2PasswordBearer(tokenUrl="login"))]


async def current_user(token: Token, session: Session) -> User:
    """Who asks."""
    try:
        claims = jwt.decode(token, SECRET, algorithms=["HS256"])
    except jwt.PyJWTError:
        raise HTTPException(401, "log in") from None
    user = await session.get(User, uuid.UUID(claims["sub"]))
    if user is None:
        raise HTTPException(401, "log in")
    return user


CurrentUser = Annotated[User, Depends(current_user)]


@app.post("/login")
async def login(credentials: Credentials, session: Session) -> dict[str, str]:
    """A token for an hour."""
    found = await session.scalar(select(User).where(User.name == credentials.name))
    if found is None or found.password != credentials.password:
        raise HTTPException(401, "wrong name or password")
    claims = {"sub": str(found.id), "iat": int(time.time()), "exp": int(time.time()) + 3600}
    return {"access_token": jwt.encode(claims, SECRET, "HS256"), "token_type": "bearer"}


@app.get("/teams")
async def my_teams(session: Session, user: CurrentUser) -> list[dict[str, Any]]:
    """Those that one is a member of."""
    found = await session.scalars(
        select(Team).join(Membership).where(Membership.user_id == user.id)
    )
    return [{"id": team.id, "name": team.name} for team in found]


@app.post("/tasks", status_code=201)
async def add_task(new: NewTask, session: Session, user: CurrentUser) -> dict[str, str]:
    """By the ORM."""
    task = Task(title=new.title, team_id=new.team_id)
    session.add(task)
    await session.commit()
    return {"id": str(task.id)}


@app.patch("/tasks/{task_id}", status_code=204)
async def change_task(
    task_id: uuid.UUID, changes: Changes, session: Session, user: CurrentUser
) -> None:
    """By the ORM."""
    task = await session.get_one(Task, task_id)
    for name, value in changes.model_dump(exclude_unset=True).items():
        setattr(task, name, value)
    await session.commit()


@app.delete("/tasks/{task_id}", status_code=204)
async def delete_task(task_id: uuid.UUID, session: Session, user: CurrentUser) -> None:
    """It is only marked."""
    task = await session.get_one(Task, task_id)
    task.deleted_at = datetime.now(UTC)
    await session.commit()


@app.post("/teams/{team_id}/finish", status_code=204)
async def finish_all(team_id: int, session: Session, user: CurrentUser) -> None:
    """By one statement."""
    await session.execute(update(Task).where(Task.team_id == team_id).values(status=Status.DONE))
    await session.commit()


@app.post("/teams/{team_id}/shout", status_code=204)
async def shout(team_id: int, session: Session, user: CurrentUser) -> None:
    """By a statement in text."""
    statement = text("UPDATE tasks SET title = upper(title) WHERE team_id = :team")
    await session.execute(statement, {"team": team_id})
    await session.commit()

"""An ordinary application's models, as they are before anybody thinks of tidings."""

from __future__ import annotations

import enum
import uuid
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

from sqlalchemy import (
    JSON,
    Date,
    DateTime,
    Double,
    Enum,
    ForeignKey,
    LargeBinary,
    MetaData,
    Numeric,
    SmallInteger,
    String,
    Text,
    Time,
    Uuid,
    func,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship


class Base(DeclarativeBase):
    metadata = MetaData()


class Status(enum.Enum):
    OPEN = "open"
    IN_PROGRESS = "in progress"
    DONE = "done"


class Project(Base):
    __tablename__ = "projects"

    project_no: Mapped[int] = mapped_column("no", primary_key=True)
    title: Mapped[str] = mapped_column("project_title", String(100), unique=True)
    tasks: Mapped[list[Task]] = relationship(back_populates="project")


class Task(Base):
    __tablename__ = "task_items"

    uid: Mapped[uuid.UUID] = mapped_column("task_uuid", Uuid, primary_key=True, default=uuid.uuid4)
    title: Mapped[str] = mapped_column(String(200))
    notes: Mapped[str | None] = mapped_column(Text)
    status: Mapped[Status] = mapped_column(Enum(Status), default=Status.OPEN)
    priority: Mapped[int] = mapped_column(SmallInteger, server_default=text("3"))
    price: Mapped[Decimal | None] = mapped_column(Numeric(10, 2))
    rating: Mapped[float | None] = mapped_column(Double)
    is_private: Mapped[bool] = mapped_column(default=False)
    due_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    seen_at: Mapped[datetime | None] = mapped_column(DateTime())
    on_day: Mapped[date | None] = mapped_column(Date)
    at_time: Mapped[time | None] = mapped_column(Time)
    extra: Mapped[dict[str, Any] | None] = mapped_column(JSON)
    reviewer: Mapped[uuid.UUID | None] = mapped_column(Uuid)
    secret: Mapped[str] = mapped_column(String(50), default="x")
    blob: Mapped[bytes | None] = mapped_column(LargeBinary)
    deleted_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    created_at: Mapped[datetime] = mapped_column(
        DateTime(timezone=True), server_default=func.now(), default=lambda: datetime.now(UTC)
    )
    changed_at: Mapped[datetime] = mapped_column(
        "changed", DateTime(), server_default=func.now(), onupdate=lambda: datetime(2026, 1, 1)
    )
    project_no: Mapped[int | None] = mapped_column("project", ForeignKey("projects.no"))
    project: Mapped[Project | None] = relationship(back_populates="tasks")


TASK_FIELDS = [
    "title",
    "notes",
    "status",
    "priority",
    "price",
    "rating",
    "is_private",
    "due_at",
    "seen_at",
    "on_day",
    "at_time",
    "extra",
    "reviewer",
    "changed_at",
    "project",
]

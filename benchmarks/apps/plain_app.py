"""The same work with no framework on top: Starlette, SQLAlchemy Core and aiosqlite or asyncpg.

No validation, no permissions, no notifications, no JSON:API: the least that gives the same rows.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import jwt
from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    Integer,
    MetaData,
    Row,
    String,
    Table,
    Text,
    event,
    func,
    insert,
    select,
)
from sqlalchemy.ext.asyncio import create_async_engine
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

ROWS = 1000
PAGE = 20
STATUSES = ("draft", "published", "archived", "review")

url = os.environ.get("BENCH_URL") or f"sqlite+aiosqlite:///{os.environ['BENCH_DATABASE']}"
engine = create_async_engine(url)
metadata = MetaData()
posts = Table(
    "posts",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("title", String(255), nullable=False),
    Column("body", Text),
    Column("status", String(255)),
    Column("views", BigInteger),
    Column("published_at", DateTime),
)


@event.listens_for(engine.sync_engine, "connect")
def _set_pragmas(connection: Any, _record: Any) -> None:
    if engine.dialect.name != "sqlite":
        return
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA synchronous = NORMAL")
    cursor.close()


def _document(row: Row[Any]) -> dict[str, Any]:
    return {**row._mapping, "published_at": row.published_at and row.published_at.isoformat()}


async def read(request: Request) -> Response:
    statement = select(posts).where(posts.c.id == int(request.path_params["id"]))
    async with engine.connect() as connection:
        row = (await connection.execute(statement)).one()
    return JSONResponse(_document(row))


async def index(request: Request) -> Response:
    wanted = posts.c.status == request.query_params["status"]
    async with engine.connect() as connection:
        rows = await connection.execute(
            select(posts).where(wanted).order_by(posts.c.id).limit(PAGE)
        )
        total = await connection.scalar(select(func.count()).select_from(posts).where(wanted))
    return JSONResponse({"data": [_document(row) for row in rows], "total": total})


async def create(request: Request) -> Response:
    values = await request.json()
    async with engine.begin() as connection:
        result = await connection.execute(insert(posts).values(**values).returning(posts))
        row = result.one()
    return JSONResponse(_document(row), 201)


class Verified:
    """401 without a token of ours."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            token = Headers(scope=scope).get("authorization", "").removeprefix("Bearer ")
            try:
                jwt.decode(token, os.environ["BENCH_SECRET"], algorithms=["HS256"])
            except jwt.InvalidTokenError:
                await Response(status_code=401)(scope, receive, send)
                return
        await self._app(scope, receive, send)


@asynccontextmanager
async def lifespan(_app: Starlette) -> AsyncIterator[None]:
    async with engine.begin() as connection:
        await connection.run_sync(metadata.create_all)
        rows = [
            {
                "title": f"Post {number}",
                "body": "Lorem ipsum dolor sit amet. " * 8,
                "status": STATUSES[number % len(STATUSES)],
                "views": 0,
                "published_at": datetime(2026, 1, 15, 10, tzinfo=UTC).replace(tzinfo=None),
            }
            for number in range(ROWS)
        ]
        await connection.execute(insert(posts), rows)
    yield
    await engine.dispose()


app = Starlette(
    routes=[
        Route("/posts", index),
        Route("/posts", create, methods=["POST"]),
        Route("/posts/{id}", read),
    ],
    lifespan=lifespan,
    middleware=[Middleware(Verified)],
)

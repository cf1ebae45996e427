"""The lifespan of an ASGI app, run as a server runs it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from starlette.types import ASGIApp, Message

from tidings import ConfigurationError


@asynccontextmanager
async def lifespan(app: ASGIApp) -> AsyncIterator[dict[str, Any]]:
    """Start the app, and stop it at the end; yields the state that its requests get.

    Raises:
        ConfigurationError: the app says that it could not start, or stop.
    """
    state: dict[str, Any] = {}
    to_app: asyncio.Queue[Message] = asyncio.Queue()
    from_app: asyncio.Queue[Message | None] = asyncio.Queue()
    scope = {
        "type": "lifespan",
        "asgi": {"version": "3.0", "spec_version": "2.0"},
        "state": state,
    }

    async def run() -> None:
        try:
            await app(scope, to_app.get, from_app.put)
        finally:
            from_app.put_nowait(None)

    # A task of its own: what the app enters at its start it must leave in the same task.
    task = asyncio.create_task(run(), name="tidings-lifespan")

    async def step(name: str) -> None:
        to_app.put_nowait({"type": f"lifespan.{name}"})
        answer = await from_app.get()
        if answer is None:
            await task  # raises what the app has raised
            return  # an app without a lifespan just returns
        if answer["type"] == f"lifespan.{name}.failed":
            await asyncio.gather(task, return_exceptions=True)
            raise ConfigurationError(f"the app's {name} failed: {answer.get('message', '')}")

    await step("startup")
    try:
        yield state
    finally:
        if not task.done():
            await step("shutdown")
            await task

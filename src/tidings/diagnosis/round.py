"""The round: all checks, one after the other."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from urllib.parse import urlsplit

import uvicorn

from tidings.api import Api
from tidings.diagnosis.database import check_database
from tidings.diagnosis.feed import check_feed
from tidings.diagnosis.finding import Finding, Findings, failed, reason
from tidings.diagnosis.serving import Visit, check_serving
from tidings.diagnosis.settings import check_keys, check_settings
from tidings.errors import ConfigurationError


async def check_all(
    api: Api,
    *,
    url: str | None,
    token: str | None,
    is_made: bool,
    origin: str | None,
    seconds: float,
) -> AsyncIterator[Finding]:
    """See `tidings.diagnose`."""
    if url is not None and not _is_address(url):
        raise ConfigurationError(f"url {url!r} is not of the form https://example.org")
    if api.state != "closed":
        raise ConfigurationError("diagnose() opens the api itself: it must not be open")
    try:
        internals = api.internals
    except ConfigurationError as error:
        yield failed("api", str(error))
        return
    can_open = True
    for check in (check_database, check_feed, check_keys):
        async with aclosing(check(internals, seconds)) as findings:
            async for finding in findings:
                can_open &= finding.status != "failed" or check is not check_database
                yield finding
    for finding in check_settings(api, internals):
        yield finding
    visit = Visit(token, origin, seconds, is_made=is_made)
    if url is not None:
        async for finding in check_serving(api, url.rstrip("/"), visit, is_local=False):
            yield finding
    elif can_open:
        async for finding in _check_opened(api, visit):
            yield finding


def _is_address(url: str) -> bool:
    parts = urlsplit(url)
    return parts.scheme in ("http", "https") and bool(parts.hostname)


async def _check_opened(api: Api, visit: Visit) -> Findings:
    try:
        async with asyncio.timeout(4 * visit.seconds):
            await api.open()
    except Exception as error:  # noqa: BLE001  whatever it is, it is what is to be told
        yield failed("start", f"the api does not open: {reason(error, 4 * visit.seconds)}")
        return
    try:
        async with _served(api) as url:
            async for finding in check_serving(api, url, visit, is_local=True):
                yield finding
    finally:
        await api.close()


@asynccontextmanager
async def _served(api: Api) -> AsyncIterator[str]:
    """The api, which is open, at a free port of this machine alone."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.bind(("127.0.0.1", 0))
        config = uvicorn.Config(
            api.asgi(),
            lifespan="off",
            log_config=None,
            timeout_graceful_shutdown=1,
            ws_per_message_deflate=False,
        )
        server = uvicorn.Server(config)
        task = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            while not server.started and not task.done():  # noqa: ASYNC110  it has no event
                await asyncio.sleep(0.005)
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            await task

"""One guide app per test file, and Node clients that speak to it over every transport."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import httpx
import pytest

from tests.guide.kit import ADMIN, APP, TRANSPORTS, Rest, Socket, unique
from tests.support.node import NodeClient
from tests.support.server import RunningServer, run_server

Connect = Callable[..., Awaitable[Socket]]


@pytest.fixture(scope="module")
async def server() -> AsyncIterator[RunningServer]:
    async with run_server(APP) as server:
        yield server
    # A warning or a traceback that nobody asked for is a failure of the whole file. What uvicorn
    # may cancel are the polls of clients that went without a word; and the guide's app is open to
    # pages of any origin, as the guide has it.
    [_, *rest] = server.output().splitlines()
    expected = ("graceful shutdown exceeded", "pages of any origin")
    assert [line for line in rest if not any(known in line for known in expected)] == []


@pytest.fixture(scope="module")
async def rest(server: RunningServer) -> AsyncIterator[Rest]:
    async with httpx.AsyncClient(base_url=server.url, timeout=10) as http:
        yield Rest(http)


@pytest.fixture(scope="module", params=TRANSPORTS)
async def every_node(server: RunningServer, request: Any) -> AsyncIterator[NodeClient]:
    async with NodeClient(server.url, transports=request.param) as node:
        yield node


@pytest.fixture(scope="module")
async def node(server: RunningServer) -> AsyncIterator[NodeClient]:
    """A client with the library's own choice of transports."""
    async with NodeClient(server.url) as node:
        yield node


async def _connector(node: NodeClient) -> AsyncIterator[Connect]:
    async with AsyncExitStack() as stack:

        async def connect(token: str = ADMIN, **options: Any) -> Socket:
            socket = Socket(node, unique("socket"))
            await node.connect(token, socket=socket.name, **options)
            stack.push_async_callback(node.disconnect, socket=socket.name)
            return socket

        yield connect


@pytest.fixture
async def connect(node: NodeClient) -> AsyncIterator[Connect]:
    """Connects a new socket of `node`; an admin's, unless a token is given."""
    async for connect in _connector(node):
        yield connect


@pytest.fixture
async def connect_by(every_node: NodeClient) -> AsyncIterator[Connect]:
    """The same of `every_node`: the test runs over every transport."""
    async for connect in _connector(every_node):
        yield connect

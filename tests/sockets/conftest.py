"""One api with sockets, served for the tests of a module; it must end with empty books."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
from tests.http.kit import tracebacks, watched_logs
from tests.sockets import kit
from tests.sockets.kit import NOTHING, Socket, eventually, leftovers, live_api, served

from tidings import Api, SocketLimits


@pytest.fixture(scope="module", params=["fast", "portable"], autouse=True)
def way(request: pytest.FixtureRequest) -> Iterator[str]:
    """Everything here is so whether the transport is taken over or not."""
    if request.param == "portable":
        kit.WAY["ws"] = "auto"
    yield request.param
    kit.WAY.clear()


@pytest.fixture(scope="module")
async def api(way: str) -> Api:
    # All of its sockets are one user's.
    return live_api(limits=SocketLimits(user_factor=1_000_000))


@pytest.fixture(scope="module")
async def url(api: Api) -> AsyncIterator[str]:
    async with served(api) as address:
        yield address
        await eventually(lambda: leftovers(api) == NOTHING)


@pytest.fixture
async def socket(url: str) -> AsyncIterator[Socket]:
    async with await Socket.connected(url) as connected:
        yield connected


# Said once, of a setting or a proxy that is not as it should be.
HINTS = ("pages of any origin", "came as a plain request")


@pytest.fixture
def quiet(capfd: pytest.CaptureFixture[str]) -> Iterator[None]:
    """Nothing at all is logged at the default level, and nothing written to the error output."""
    with watched_logs() as records:
        yield
    assert tracebacks(records) == []
    told = [one.getMessage() for one in records if one.name.startswith("tidings")]
    assert [line for line in told if not any(hint in line for hint in HINTS)] == []
    assert "Traceback" not in capfd.readouterr().err

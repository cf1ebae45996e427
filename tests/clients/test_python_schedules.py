"""A list of tidings.client is the server's answer after any schedule."""

from __future__ import annotations

import pytest

from tests.clients.python_schedules import play_all
from tidings.client.lists import LiveList

pytestmark = pytest.mark.anyio

SCHEDULES = 30
"""`python -m tests.clients.python_schedules` plays more."""


async def test_after_any_schedule_the_list_is_the_servers_answer() -> None:
    kinds, failures = await play_all(SCHEDULES, seed=1, beside=8)
    assert failures == []
    assert kinds["schedules"] == SCHEDULES
    assert min(kinds[name] for name in ("cut", "restart", "narrow", "resync epoch")) > 0


async def test_the_schedules_find_a_client_that_forgets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each change is looked at, but not each resync: then the schedules must fail."""
    look = LiveList._look

    async def careless(self: LiveList, changes: list) -> None:  # type: ignore[type-arg]
        await look(self, [one for one in changes if one.reason in ("", "subscribed")])

    monkeypatch.setattr(LiveList, "_look", careless)
    monkeypatch.setattr("tests.clients.python_schedules.PATIENCE", 8.0)
    _, failures = await play_all(8, seed=1, beside=8)
    assert failures
    assert "seed" in failures[0]

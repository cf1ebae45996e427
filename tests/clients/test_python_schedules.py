"""A list of tidings.client is the server's answer after any schedule."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tests.clients.python_schedules import play_all
from tidings.client import Change
from tidings.client.lists import LiveList

pytestmark = pytest.mark.anyio

SCHEDULES = 16
"""`python -m tests.clients.python_schedules` plays more."""


async def test_after_any_schedule_the_list_is_the_servers_answer() -> None:
    kinds, failures = await play_all(SCHEDULES, seed=1, beside=8)
    assert failures == []
    assert kinds["schedules"] == SCHEDULES


async def test_the_schedules_find_a_client_that_forgets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing leaves its lists but by a load: every schedule has records that do."""
    look = LiveList._look

    async def careless(self: LiveList, changes: Sequence[Change]) -> None:
        await look(self, [one for one in changes if one.kind != "leave"])

    monkeypatch.setattr(LiveList, "_look", careless)
    monkeypatch.setattr("tests.clients.python_schedules.PATIENCE", 10.0)
    _, failures = await play_all(6, seed=1, beside=6)
    assert failures

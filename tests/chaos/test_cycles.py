"""Connections that come and go leave nothing behind."""

from __future__ import annotations

from pathlib import Path

from tests.chaos.app import Setup
from tests.chaos.cycles import cycle


async def test_connections_that_come_and_go_leave_nothing(tmp_path: Path) -> None:
    curve = await cycle(Setup(f"sqlite+aiosqlite:///{tmp_path}/c.db"), "cycles", cycles=600)
    assert not any(curve.books), curve
    assert curve.growth < 5, curve

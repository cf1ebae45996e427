"""The wheel: in time, in order enough, and without anything left behind."""

from __future__ import annotations

import asyncio
import time

import pytest

from tidings.socketio.wheel import Wheel

GRAIN = 0.01


class Alarm:
    """Notes when it was looked at; ``again`` are the deadlines that it then gives."""

    def __init__(self, *again: float) -> None:
        self.tick: int | None = None
        self.again = list(again)
        self.seen: list[float] = []

    def due(self, now: float) -> float | None:
        self.seen.append(time.monotonic())
        return self.again.pop(0) if self.again else None


async def until(*alarms: Alarm) -> None:
    async with asyncio.timeout(10):
        while not all(alarm.seen for alarm in alarms):
            await asyncio.sleep(0.001)


async def test_deadlines_come_when_they_are_due_and_not_before() -> None:
    wheel, now = Wheel(GRAIN), time.monotonic()
    alarms = {delay: Alarm() for delay in (0.2, 0.05, 0.1, 0.15, -1.0)}
    for delay, alarm in alarms.items():
        wheel.set(alarm, now + delay)
    await until(*alarms.values())
    assert all(alarm.seen[0] - now >= delay for delay, alarm in alarms.items())
    assert sorted(alarms, key=lambda delay: alarms[delay].seen) == sorted(alarms)
    assert len(wheel) == 0
    assert wheel._timer is None


async def test_a_deadline_that_moves_away_is_asked_for_when_the_old_one_comes() -> None:
    wheel, now = Wheel(GRAIN), time.monotonic()
    alarm = Alarm(now + 0.1)
    wheel.set(alarm, now + 0.02)
    wheel.set(alarm, now + 5)  # it will say so itself
    assert len(wheel) == 1
    await until(alarm)
    assert len(wheel) == 1
    alarm.seen.clear()
    await until(alarm)
    assert alarm.seen[0] - now >= 0.1
    assert len(wheel) == 0


async def test_a_deadline_may_come_nearer() -> None:
    wheel, now = Wheel(GRAIN), time.monotonic()
    alarm, other = Alarm(), Alarm()
    wheel.set(alarm, now + 60)
    wheel.set(other, now + 60)
    wheel.set(alarm, now + 0.02)
    await until(alarm)
    assert len(wheel) == 1
    wheel.discard(other)
    wheel.discard(other)
    assert len(wheel) == 0


async def test_one_that_fails_does_not_cost_the_others_theirs(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Broken(Alarm):
        def due(self, now: float) -> float | None:
            super().due(now)
            raise ValueError("broken")

    wheel, now = Wheel(GRAIN), time.monotonic()
    alarms = [Broken(), *(Alarm() for _ in range(300)), Broken()]
    for alarm in alarms:
        wheel.set(alarm, now)
    await until(*alarms)
    assert caplog.text.count("a deadline could not be kept") == 2


async def test_many_that_are_due_at_once_give_others_a_turn() -> None:
    wheel, now = Wheel(GRAIN), time.monotonic()
    alarms = [Alarm() for _ in range(1_000)]
    for alarm in alarms:
        wheel.set(alarm, now)
    turns = 0
    while not all(alarm.seen for alarm in alarms):
        await asyncio.sleep(0)
        turns += 1
    assert turns >= 10


async def test_one_that_is_due_again_and_again_keeps_nobody_waiting() -> None:
    class Eager(Alarm):
        def due(self, now: float) -> float | None:
            super().due(now)
            return 0.0 if len(self.seen) < 1_000 else None

    wheel, eager, other = Wheel(GRAIN), Eager(), Alarm()
    wheel.set(eager, 0.0)
    wheel.set(other, time.monotonic())
    await until(other)
    while wheel._timer is not None:
        await asyncio.sleep(0.001)
    assert len(eager.seen) == 1_000


async def test_cleared_it_can_be_used_again() -> None:
    wheel, alarm = Wheel(GRAIN), Alarm()
    wheel.set(alarm, time.monotonic() + 0.01)
    wheel.clear()
    assert (len(wheel), wheel._timer, alarm.tick) == (0, None, None)
    await asyncio.sleep(0.03)
    assert alarm.seen == []
    wheel.set(alarm, time.monotonic())
    await until(alarm)

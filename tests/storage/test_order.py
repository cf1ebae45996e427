"""The order of commits: what was asked for first goes on first."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidings.storage.order import CommitOrder


@given(st.permutations(range(6)), st.sets(st.integers(0, 5)))
def test_places_are_handed_on_in_their_order(finished: list[int], failed: set[int]) -> None:
    async def run() -> None:
        told: list[int] = []
        order: CommitOrder[int] = CommitOrder(told.append)
        places = [order.enter() for _ in range(6)]
        for number in finished:
            places[number].fill(None if number in failed else number)
            assert told == sorted(told)
        assert told == [number for number in range(6) if number not in failed]

    asyncio.run(run())


async def test_one_that_hangs_holds_the_others_up_for_a_while_only(
    caplog: pytest.LogCaptureFixture,
) -> None:
    told: list[str] = []
    done = asyncio.Event()

    def take(name: str) -> None:
        told.append(name)
        done.set()

    order: CommitOrder[str] = CommitOrder(take, patience=0.05)
    hanging, next_one = order.enter(), order.enter()
    next_one.fill("next")
    assert told == []
    async with asyncio.timeout(5):
        await done.wait()
    assert told == ["next"]
    assert "a commit does not end" in caplog.text
    hanging.fill("late")
    assert told == ["next", "late"]

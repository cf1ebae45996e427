"""The changes of one transaction: what savepoints undo, and what becomes of very many."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.storage.recording import make_api

from tidings import SqlAlchemyPlugin
from tidings.feed import Change, Invalidation
from tidings.storage.change_log import MAX_CHANGES, ChangeLog

WHOLE = Invalidation("notes")
NOW = datetime.now(UTC)


def change(number: int, resource: str = "notes") -> Change:
    return Change(resource, str(number), "post", None, {"id": number}, NOW)


def test_the_log_of_nested_savepoints() -> None:
    log = ChangeLog()
    log.record(change(1))
    log.savepoint("a")
    log.record(change(2))
    log.savepoint("b")
    log.record(change(3))
    log.release("b")
    log.savepoint("c")
    log.record(change(4))
    log.rollback_to("a")
    log.record(change(5))
    assert [c.id for c in log.take()] == ["1", "5"]
    assert log.take() == []


def test_rolling_back_to_an_unknown_savepoint_drops_everything() -> None:
    """It was set before the log began."""
    log = ChangeLog()
    log.record(change(1))
    log.savepoint("a")
    log.record(change(2))
    log.rollback_to("older")
    assert log.take() == []


def test_releasing_an_unknown_savepoint_keeps_everything() -> None:
    log = ChangeLog()
    log.record(change(1))
    log.savepoint("a")
    log.record(change(2))
    log.release("older")
    assert [c.id for c in log.take()] == ["1", "2"]


def test_an_invalidation_is_rolled_back_like_a_change_and_only_the_last_one_stays() -> None:
    log = ChangeLog()
    names, states = (Invalidation("notes", frozenset({path})) for path in ("a.name", "a.state"))
    first, second = change(1), change(2)
    log.record(names)
    log.record(first)
    log.savepoint("a")
    log.record(names)
    log.record(states)
    log.rollback_to("a")
    log.record(second)
    of_names = frozenset({"a.name"})
    assert log.take() == [
        names,
        *(replace(one, unknown=of_names, resynced=of_names) for one in (first, second)),
    ]
    for notice in (names, states, first, names, second):
        log.record(notice)
    both = of_names | {"a.state"}
    known = [replace(one, unknown=both, resynced=both) for one in (first, second)]
    assert log.take() == [states, known[0], names, known[1]]


def test_too_many_changes_of_a_resource_become_one_invalidation() -> None:
    log = ChangeLog(most=3)
    for number in range(4):
        log.record(change(number))
        log.record(change(number, "users")) if number < 3 else None
    log.record(change(9))
    assert log.take() == [*(change(number, "users") for number in range(3)), WHOLE]
    log.record(change(1))
    assert log.take() == [change(1)]


def test_those_of_a_savepoint_that_is_undone_go_with_it() -> None:
    log = ChangeLog(most=3)
    log.record(change(0))
    log.savepoint("a")
    for number in range(1, 9):
        log.record(change(number))
    log.rollback_to("a")
    assert log.take() == [change(0)]


def test_those_of_savepoints_that_are_released_are_their_parents() -> None:
    log = ChangeLog(most=3)
    log.record(change(0))
    for number in range(1, 9):
        log.savepoint("step")
        log.record(change(number))
        log.release("step")
    assert log.take() == [WHOLE]


def test_paths_that_are_stale_are_so_with_the_whole_resource() -> None:
    log = ChangeLog(most=2)
    log.record(Invalidation("notes", frozenset({"author.name"})))
    for number in range(3):
        log.record(change(number))
    assert log.take() == [WHOLE]


steps = st.lists(
    st.one_of(
        st.tuples(st.just("record"), st.sampled_from(["notes", "users"])),
        st.tuples(st.sampled_from(["savepoint", "release", "rollback_to"]), st.just("")),
    ),
    max_size=60,
)


@given(steps)
def test_a_bounded_log_is_one_without_bounds_but_for_what_it_sums_up(some: list[Any]) -> None:
    bounded, whole = ChangeLog(most=4), ChangeLog(most=10**9)
    open_ones: list[str] = []
    for number, (step, resource) in enumerate(some):
        for log in (bounded, whole):
            if step == "record":
                log.record(change(number, resource))
            elif step == "savepoint":
                log.savepoint(str(number))
            elif open_ones:
                getattr(log, step)(open_ones[-1])
        if step == "savepoint":
            open_ones.append(str(number))
        elif step != "record" and open_ones:
            open_ones.pop()
        # Each open savepoint may hold as many of each resource.
        assert len(bounded._changes) <= 2 * (4 + 1) * (len(open_ones) + 1)
    for _ in range(len(open_ones)):
        bounded.release(open_ones[-1])
        whole.release(open_ones.pop())
    found, wanted = bounded.take(), whole.take()
    summed_up = {one.resource for one in found if isinstance(one, Invalidation)}
    assert [one for one in found if isinstance(one, Change)] == [
        one for one in wanted if one.resource not in summed_up
    ]
    assert summed_up <= {one.resource for one in wanted}
    for resource in summed_up:
        assert sum(one.resource == resource for one in wanted) > 4


@pytest.mark.parametrize("count", [MAX_CHANGES, 3_000])
async def test_a_transaction_of_very_many_rows_takes_no_more_memory(count: int) -> None:
    api, feed = make_api(SqlAlchemyPlugin("sqlite+aiosqlite://", create_tables=True))
    async with api:
        async with api.transaction() as uow:
            tracemalloc.start()
            for number in range(count):
                await api.resources.notes.post(
                    {"title": f"n{number}", "body": "x" * 5000}, transaction=uow
                )
            held, _ = tracemalloc.get_traced_memory()
            tracemalloc.stop()
        # Images of 3,000 such rows are 15 MB.
        assert held < 8_000_000
        assert len(feed.changes) == (count if count == MAX_CHANGES else 1)
        assert (feed.changes[-1] == Invalidation("notes")) == (count != MAX_CHANGES)

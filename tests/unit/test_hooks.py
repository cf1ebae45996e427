"""Hooks: known by name, in an order that can be said, and stopped by the first that raises."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidings import ConfigurationError
from tidings.hooks import HookRegistry


def registry() -> HookRegistry:
    hooks = HookRegistry()
    hooks.declare("before_write", "after_write")
    return hooks


def noting(name: str) -> Any:
    return lambda context: context.append(name)


async def ran(hooks: HookRegistry, hook: str = "before_write") -> list[str]:
    context: list[str] = []
    await hooks.run(hook, context)
    return context


def add(hooks: HookRegistry, name: str, before: Any = (), after: Any = ()) -> None:
    hooks.add("before_write", name, noting(name), before=before, after=after)


async def test_handlers_run_as_they_were_added_unless_said_otherwise() -> None:
    hooks = registry()
    add(hooks, "a")
    add(hooks, "b")
    add(hooks, "c", before="a")
    add(hooks, "d", after=["a", "c"])
    add(hooks, "e", before=("b", "d"))
    assert await ran(hooks) == ["c", "a", "e", "b", "d"]
    assert await ran(hooks, "after_write") == []


async def test_names_that_nobody_has_constrain_nothing_until_somebody_has() -> None:
    hooks = registry()
    add(hooks, "a", after="late")
    add(hooks, "b", before="optional")
    assert await ran(hooks) == ["a", "b"]
    add(hooks, "late")
    assert await ran(hooks) == ["b", "late", "a"]


async def test_handlers_may_wait() -> None:
    hooks = registry()

    async def slow(context: list[str]) -> None:
        await asyncio.sleep(0)
        context.append("slow")

    hooks.add("before_write", "slow", slow)
    add(hooks, "fast")
    assert await ran(hooks) == ["slow", "fast"]


async def test_the_first_that_raises_stops_the_rest() -> None:
    hooks = registry()
    add(hooks, "a")

    def refuse(context: Any) -> None:
        raise PermissionError("no")

    hooks.add("before_write", "refuse", refuse)
    add(hooks, "b")
    context: list[str] = []
    with pytest.raises(PermissionError):
        await hooks.run("before_write", context)
    assert context == ["a"]


def test_a_hook_must_be_known() -> None:
    with pytest.raises(ConfigurationError) as caught:
        registry().add("before_wrte", "x", noting("x"))
    assert str(caught.value) == (
        "there is no hook 'before_wrte'; did you mean 'before_write'? "
        "(known: after_write, before_write)"
    )
    with pytest.raises(ConfigurationError, match=r"there is no hook 'zzz' \(known"):
        registry().add("zzz", "x", noting("x"))


def test_a_name_is_given_once() -> None:
    hooks = registry()
    add(hooks, "a")
    with pytest.raises(ConfigurationError, match="'before_write' already has a handler named 'a'"):
        add(hooks, "a")
    hooks.add("after_write", "a", noting("a"))


async def test_an_order_that_contradicts_itself_is_refused_and_changes_nothing() -> None:
    hooks = registry()
    add(hooks, "a", before="b")
    add(hooks, "b")
    with pytest.raises(ConfigurationError, match="'before_write': the order of a, b, c contradict"):
        add(hooks, "c", before="a", after="b")
    with pytest.raises(ConfigurationError, match="the order of self contradicts itself"):
        add(hooks, "self", before="self")
    assert await ran(hooks) == ["a", "b"]


def test_whether_anybody_listens() -> None:
    hooks = registry()
    assert not hooks.has("before_write")
    assert not hooks.has("unknown")
    add(hooks, "a")
    assert hooks.has("before_write")


def test_declaring_again_keeps_the_handlers() -> None:
    hooks = registry()
    add(hooks, "a")
    hooks.declare("before_write")
    assert hooks.has("before_write")


_names = st.sampled_from("abcdef")
_orders = st.lists(
    st.tuples(_names, st.lists(_names, max_size=2), st.lists(_names, max_size=2)),
    max_size=6,
    unique_by=lambda entry: entry[0],
)


@given(_orders)
def test_every_order_that_is_accepted_is_kept(
    orders: Iterable[tuple[str, list[str], list[str]]],
) -> None:
    hooks = registry()
    accepted = []
    for name, before, after in orders:
        try:
            add(hooks, name, before, after)
        except ConfigurationError:
            continue
        accepted.append((name, before, after))
    order = asyncio.run(ran(hooks))
    assert sorted(order) == sorted(name for name, _, _ in accepted)
    for name, before, after in accepted:
        for other in before:
            assert other not in order or order.index(name) < order.index(other)
        for other in after:
            assert other not in order or order.index(other) < order.index(name)

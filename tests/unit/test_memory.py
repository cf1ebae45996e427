"""What values take while they are held, against what the interpreter says of it."""

from __future__ import annotations

import json
import tracemalloc
from types import MappingProxyType
from typing import Any

import pytest

from tidings.memory import MOST, memory_of

SHAPES = {
    "empty objects": "[" + ",".join(["{}"] * 5_000) + "]",
    "empty arrays": "[" + ",".join(["[]"] * 5_000) + "]",
    "objects": json.dumps([{"a": number} for number in range(3_000)]),
    "names": json.dumps({f"name {number}": number for number in range(3_000)}),
    "texts": json.dumps([f"text {number}" for number in range(3_000)]),
    "numbers": json.dumps([number * 10**6 for number in range(1, 5_000)]),
    "letters": json.dumps("x" * 100_000),
    "nested": "[" * 900 + "]" * 900,
}


@pytest.mark.parametrize("shape", SHAPES)
def test_it_is_about_what_is_taken(shape: str) -> None:
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        value: Any = json.loads(SHAPES[shape])
        taken = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert 0.7 * taken < memory_of(value) < 1.5 * taken + 1_000
    assert memory_of(MappingProxyType({"x": value})) > memory_of(value)


def test_it_is_bounded_itself() -> None:
    many = [{} for _ in range(400_000)]
    assert MOST < memory_of(many) < MOST + 1_000
    assert memory_of(many, 10_000_000) > 10_000_000
    assert memory_of([[many] * 50] * 50, 1_000) < 2_000

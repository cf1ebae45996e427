"""A cache is bounded, and what has been used lately stays in it."""

from __future__ import annotations

from tidings.cache import Cache


def test_a_cache_makes_a_value_once() -> None:
    made: list[str] = []
    cache: Cache[str, str] = Cache(2)

    def make(key: str) -> str:
        made.append(key)
        return key.upper()

    for key in ("a", "b", "a", "a"):
        assert cache.get(key, lambda key=key: make(key)) == key.upper()  # type: ignore[misc]
    assert made == ["a", "b"]


def test_a_cache_forgets_what_was_not_used_for_longest() -> None:
    cache: Cache[str, int] = Cache(2)
    cache.put("a", 1)
    cache.put("b", 2)
    assert cache.find("a") == 1
    cache.put("c", 3)
    assert [key in cache for key in "abc"] == [True, False, True]
    cache.put("a", 4)
    cache.put("d", 5)
    assert [cache.find(key) for key in "abcd"] == [4, None, None, 5]
    assert len(cache) == 2
    cache.clear()
    assert len(cache) == 0

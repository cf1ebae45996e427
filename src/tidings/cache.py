"""A cache that is bounded: what has not been used for longest goes first."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

_Key = TypeVar("_Key", bound=Hashable)
_Value = TypeVar("_Value")


class Cache(Generic[_Key, _Value]):
    """Values by key that weigh ``limit`` at most, each 1 unless ``weigh`` says otherwise; None is
    no value.
    """

    __slots__ = ("_limit", "_values", "_weigh", "_weight")

    def __init__(self, limit: int, weigh: Callable[[_Key, _Value], int] | None = None) -> None:
        self._limit = limit
        self._weigh = weigh
        self._weight = 0
        self._values: OrderedDict[_Key, tuple[_Value, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._values)

    def __contains__(self, key: object) -> bool:
        return key in self._values

    def find(self, key: _Key) -> _Value | None:
        """The value of this key, if there is one."""
        found = self._values.get(key)
        if found is None:
            return None
        self._values.move_to_end(key)
        return found[0]

    def get(self, key: _Key, make: Callable[[], _Value]) -> _Value:
        """The value of this key, made if there is none."""
        found = self.find(key)
        if found is None:
            found = make()
            self.put(key, found)
        return found

    def put(self, key: _Key, value: _Value) -> None:
        """Keep a value, in place of what the key had."""
        self.drop(key)
        weight = 1 if self._weigh is None else self._weigh(key, value)
        self._values[key] = (value, weight)
        self._weight += weight
        while self._weight > self._limit:
            self.drop(next(iter(self._values)))

    def drop(self, key: _Key) -> None:
        """Forget the value of this key, if there is one."""
        dropped = self._values.pop(key, None)
        if dropped is not None:
            self._weight -= dropped[1]

    def clear(self) -> None:
        """Forget everything."""
        self._values.clear()
        self._weight = 0

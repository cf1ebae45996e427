"""Memory: what values take while they are held, which their text does not tell.

A thousand letters of JSON may be five hundred objects of seventy bytes each.
"""

from __future__ import annotations

from collections.abc import Iterable
from sys import getsizeof
from types import MappingProxyType
from typing import Any, Final

MOST: Final = 8_400_000
_MAPPINGS: Final = (dict, MappingProxyType)
_CONTAINERS: Final = (*_MAPPINGS, list, tuple, set, frozenset)


def memory_of(value: object, most: int = MOST) -> int:
    """About how many bytes a value takes, with all that is in it.

    What is found to take more than ``most`` is not looked at any further, so that this itself is
    bounded.
    """
    total = getsizeof(value)
    waiting = [value] if isinstance(value, _CONTAINERS) else []
    while waiting:
        for inner in _contents(waiting.pop()):
            total += getsizeof(inner)
            if isinstance(inner, _CONTAINERS):
                waiting.append(inner)
            if total > most:
                return total
    return total


def _contents(value: Any) -> Iterable[object]:
    if isinstance(value, _MAPPINGS):
        yield from value
        yield from value.values()
    else:
        yield from value

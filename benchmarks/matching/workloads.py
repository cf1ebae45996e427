"""Workloads: the filters that are watched, and the changes that come.

The domains of the values grow with the number of subscriptions, so that a change matches about as
many filters among a million as among a thousand: what differs is what must not be looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any, Final

from tidings.feed import Change
from tidings.filters import Atom, Expression, all_of, any_of

STATUSES: Final = ("draft", "review", "published")
_LETTERS: Final = "aeioubcdfghklmnprstvwz"


@dataclass(frozen=True, slots=True)
class Workload:
    """``make`` gives the filter of one subscription out of so many."""

    make: Callable[[Random, int, int], Expression]

    def filters(self, size: int) -> Iterator[Expression]:
        """The filters of so many subscriptions."""
        r = Random(1)
        for number in range(size):
            yield self.make(r, number, size)


def changes(size: int, count: int) -> Iterator[Change]:
    """Patches of random records: another price and status, and one word of the title."""
    r = Random(2)
    return (_patch(r, number, size) for number in range(count))


def _equality(r: Random, number: int, size: int) -> Expression:
    return Atom("author_id", "=", number)


def _range(r: Random, number: int, size: int) -> Expression:
    low = r.uniform(0, size)
    return Atom("price", "between", (low, low + r.uniform(5, 15)))


def _like(r: Random, number: int, size: int) -> Expression:
    return Atom("title", "like", _word(number))


def _same(r: Random, number: int, size: int) -> Expression:
    return Atom("status", "=", "draft")


def _mixed(r: Random, number: int, size: int) -> Expression:
    kind = number % 20
    if kind < 12:
        return _equality(r, number, size)
    if kind < 15:
        return Atom("project_id", "in", tuple(r.randrange(size) for _ in range(5)))
    if kind < 17:
        return _range(r, number, size)
    if kind < 19:
        status = Atom("status", "=", r.choice(STATUSES))
        category = Atom("category_id", "=", r.randrange(_categories(size)))
        low = r.uniform(0, size / 2)
        return all_of([status, category, Atom("price", "between", (low, low + size / 2))])
    return any_of([Atom("author_id", "=", number), Atom("project_id", "=", r.randrange(size))])


WORKLOADS: Final[Mapping[str, Workload]] = {
    "equality": Workload(_equality),
    "range": Workload(_range),
    "like": Workload(_like),
    "mixed": Workload(_mixed),
    "all the same": Workload(_same),
}


def _categories(size: int) -> int:
    return max(1, size // 100)


def _word(number: int) -> str:
    """One of ever so many words of six letters or more, scattered over the alphabet."""
    scattered, letters = number * 48_271 % 113_379_901 + 22**5, ""
    while scattered:
        scattered, letter = divmod(scattered, len(_LETTERS))
        letters += _LETTERS[letter]
    return letters


def _patch(r: Random, number: int, size: int) -> Change:
    words = [_word(r.randrange(size)) for _ in range(4)]
    before: dict[str, Any] = {
        "id": str(number),
        "author_id": r.randrange(size),
        "project_id": r.randrange(size),
        "category_id": r.randrange(_categories(size)),
        "status": r.choice(STATUSES),
        "price": r.uniform(0, size),
        "title": " ".join(words),
    }
    words[0] = _word(r.randrange(size))
    after = before | {
        "status": r.choice(STATUSES),
        "price": before["price"] + r.uniform(-20, 20),
        "title": " ".join(words),
    }
    return Change("posts", str(number), "patch", before, after)

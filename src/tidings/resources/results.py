"""What queries ask for and what operations give back."""

from __future__ import annotations

from dataclasses import dataclass, field

from tidings.feed import Cursor
from tidings.filters import EVERYTHING, Expression
from tidings.resources.includes import Included, IncludeTree
from tidings.storage import Row, Sort


@dataclass(frozen=True, slots=True)
class Selection:
    """Which records a query wants, in which order, and what comes along with them."""

    where: Expression = EVERYTHING
    sort: Sort = ()
    offset: int = 0
    """How many records come before the first that is wanted."""
    size: int = 20
    include: IncludeTree = field(default_factory=dict)
    clause: Expression = EVERYTHING
    """What trusted code asks for beside the client's filters."""


@dataclass(frozen=True, slots=True)
class Page:
    """What a query found: the rows of one page, how many there are in all, related records."""

    rows: list[Row]
    total: int
    offset: int
    size: int
    included: Included

    @property
    def number(self) -> int:
        """Which page it is, from 1; where the offset is not that of a page, the page it is in."""
        return self.offset // self.size + 1

    @property
    def pages(self) -> int:
        """How many pages there are; an empty result has one."""
        return max(1, -(-self.total // self.size))


@dataclass(frozen=True, slots=True)
class Found:
    """One record and its related ones; ``created`` where the operation made it.

    ``cursor`` is the place in the feed of the write itself, where that is known here.
    """

    row: Row
    included: Included
    created: bool = False
    cursor: Cursor | None = None

"""What queries ask for and what operations give back."""

from __future__ import annotations

from dataclasses import dataclass, field

from tidings.feed import Cursor
from tidings.filters import EVERYTHING, Expression
from tidings.resources.includes import Included, IncludeTree
from tidings.resources.keysets import Keyset
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
    keyset: Keyset | None = None
    """Where the page begins, if that is a place in the order and not a number of records."""
    is_counted: bool = True
    """Whether it is to be told how many records there are in all."""

    @property
    def wanted(self) -> int:
        """How many records to read: one more tells whether there are more, where no total does."""
        return self.size + (self.keyset is not None or not self.is_counted)


@dataclass(frozen=True, slots=True)
class Page:
    """What a query found: the rows of one page, how many there are in all (None where nobody
    asked), related records. ``is_cut``: one more was found than the page holds.
    """

    selection: Selection
    rows: list[Row]
    total: int | None
    included: Included
    is_cut: bool = False

    @property
    def offset(self) -> int:
        """How many records come before the page."""
        return self.selection.offset

    @property
    def size(self) -> int:
        """How many records a page holds."""
        return self.selection.size

    @property
    def number(self) -> int:
        """Which page it is, from 1; where the offset is not that of a page, the page it is in."""
        return self.offset // self.size + 1

    @property
    def pages(self) -> int | None:
        """How many pages there are; an empty result has one. None where nobody counted."""
        return None if self.total is None else max(1, -(-self.total // self.size))

    @property
    def has_more(self) -> bool:
        """Whether there are records beyond it, the way that it goes."""
        if self.total is None or self.selection.keyset is not None:
            return self.is_cut
        return self.offset + self.size < self.total


@dataclass(frozen=True, slots=True)
class Found:
    """One record and its related ones; ``created`` where the operation made it.

    ``cursor`` is the place in the feed of the write itself, where that is known here.
    """

    row: Row
    included: Included
    created: bool = False
    cursor: Cursor | None = None

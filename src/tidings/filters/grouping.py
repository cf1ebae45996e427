"""Parentheses that stay: SQLAlchemy takes its own away where one operator stands inside itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from sqlalchemy import ColumnElement
from sqlalchemy.sql.expression import Grouping

_GROUP: Final = 16


class Group(Grouping[Any]):
    """An expression in parentheses, whose operator nothing outside sees.

    ``a * (b * c)`` is not always ``a * b * c`` to the last digit.
    """

    inherit_cache = True
    operator = None


def joined(
    join: Callable[..., ColumnElement[bool]], terms: Sequence[ColumnElement[bool]], dialect: str
) -> ColumnElement[bool]:
    """Terms joined by AND or OR.

    SQLite takes each further term for one more level, of which it permits 1,000 in all: there
    many terms are joined group by group.
    """
    if dialect != "sqlite" or len(terms) <= _GROUP:
        return join(*terms)
    size = max(_GROUP, -(-len(terms) // _GROUP))
    groups = (terms[start : start + size] for start in range(0, len(terms), size))
    return join(*(Group(joined(join, group, dialect)) for group in groups))

"""Conditions that are used as True or False, which drops a part of them.

Python's ``and``, ``or``, ``not``, ``in``, ``if`` and chained comparisons ask an expression for its
truth. SQLAlchemy answers for ``==`` and ``!=``, since its own collections need that: of
``columns.owner == "7" and columns.public == True`` one half would be left, without a word.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from copy import copy
from typing import Any, Final

from sqlalchemy import BinaryExpression
from sqlalchemy.sql.operators import is_comparison
from sqlalchemy.types import TypeEngine

from tidings.errors import ConfigurationError

ADVICE: Final = (
    "a condition is used as True or False (by and, or, not, in, if or a chained comparison), which "
    "drops a part of it: write &, | and ~ with parentheses around each part, and column.in_([...])"
)
_is_reading: ContextVar[bool] = ContextVar("tidings_is_reading", default=False)


class Misread(ConfigurationError):
    """The application's code says something else than it seems to."""


@contextmanager
def refusing_truth() -> Iterator[None]:
    """While the application's code makes an expression, nothing may ask for its truth.

    Raises:
        Misread: something did.
    """
    token = _is_reading.set(True)
    try:
        yield
    except TypeError as error:
        if "Boolean value of this clause" not in str(error):
            raise
        raise Misread(ADVICE) from None
    finally:
        _is_reading.reset(token)


class Condition(BinaryExpression[Any]):
    """A comparison that has no truth while it is being made."""

    inherit_cache = True

    def __bool__(self) -> bool:
        if _is_reading.get():
            raise Misread(ADVICE)
        return bool(super().__bool__())  # type: ignore[no-untyped-call]


def strict(kind: TypeEngine[Any]) -> TypeEngine[Any]:
    """A type whose columns make comparisons that have no truth."""
    made = copy(kind)
    base: Any = kind.comparator_factory

    class Comparator(base):  # type: ignore[misc]
        def operate(self, op: Any, *other: Any, **options: Any) -> Any:
            return _guarded(super().operate(op, *other, **options))

        def reverse_operate(self, op: Any, other: Any, **options: Any) -> Any:
            return _guarded(super().reverse_operate(op, other, **options))

    made.comparator_factory = Comparator
    return made


def _guarded(found: Any) -> Any:
    if type(found) is BinaryExpression and is_comparison(found.operator):
        found.__class__ = Condition
    return found

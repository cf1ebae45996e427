"""Defaults of models, as fields take them."""

from __future__ import annotations

import enum
from base64 import b64encode
from collections.abc import Callable
from typing import Any
from uuid import UUID

from sqlalchemy import Column

from tidings.schema.types import text_of_member


def is_python(default: Any) -> bool:
    """Whether Python makes a default, and not the database."""
    return bool(default.is_scalar or default.is_callable)


def python_default(column: Column[Any]) -> Any:
    """A default that Python makes, as a function or a value; None: there is none."""
    default: Any = column.default
    if default is None or not is_python(default):
        return None
    return called(default)


def called(default: Any) -> Callable[[], Any]:
    """A default as a function that makes it."""
    if default.is_scalar:
        return constant(default.arg)
    # SQLAlchemy has given it a context to take, whether it looks at it or not.
    return lambda: _plain(default.arg(None))


def constant(value: Any) -> Callable[[], Any]:
    """A default that is always this value."""
    return lambda: _plain(value)


def _plain(value: Any) -> Any:
    """What a model's default gives as a field takes it."""
    if isinstance(value, enum.Enum):
        return text_of_member(value)
    if isinstance(value, bytes):
        return b64encode(value).decode()
    return str(value) if isinstance(value, UUID) else value

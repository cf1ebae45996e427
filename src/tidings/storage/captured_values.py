"""Values as triggers write them down, in JSON, and as fields hold them: one reader per column."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Table
from sqlalchemy.types import TypeEngine

from tidings.numbers import parsed, rounded, shifted
from tidings.schema import ResourceType
from tidings.storage.capture.triggers import MOST_LETTERS
from tidings.storage.models.native import NativeEnum, NativeNumeric, NativeText, PostgresArray
from tidings.storage.types import ExactBytes, ExactDecimal, ExactDouble, ExactJson, ExactText

Reader = Callable[[Any], Any]
"""Makes a field's value of what stands in JSON; never given None."""


class _Text(str):
    """A number of a JSON text, with all its digits."""

    __slots__ = ()


def parse(text: str) -> Mapping[str, Any]:
    """The members of what a trigger has written: an object, or several in an array."""
    found = json.loads(text, parse_float=_Text)
    if isinstance(found, list):
        return {name: value for part in found for name, value in part.items()}
    values: Mapping[str, Any] = found
    return values


def is_real(kind: TypeEngine[Any]) -> bool:
    """Whether SQLite keeps floats in a column of this type."""
    return isinstance(kind, ExactDouble | NativeNumeric)


def may_be_long(kind: TypeEngine[Any]) -> bool:
    """Whether values of this type may be longer than a change carries."""
    if isinstance(kind, ExactText | NativeText):
        return kind.length is None or kind.length > MOST_LETTERS
    return isinstance(kind, ExactJson | PostgresArray | ExactBytes)


def readers(resource: ResourceType, table: Table, dialect: str) -> Mapping[str, Reader]:
    """The readers of a resource's columns, by field."""
    found: dict[str, Reader] = {}
    for name in resource.column_names:
        kind = table.c[name].type
        if name == "id":
            found[name] = _KEYS[resource.id_type]
        elif (reference := resource.fields[name].reference_type) is not None:
            found[name] = _KEYS[reference]
        else:
            found[name] = _reader(resource.fields[name].type, kind, dialect)
    return found


def captured_as(kind: TypeEngine[Any]) -> str | None:
    """How triggers write a type down that JSON cannot have as it is: ``hex`` or ``duration``."""
    found: str | None = getattr(kind, "captured_as", None)
    return found


def _reader(type_name: str, kind: TypeEngine[Any], dialect: str) -> Reader:
    own = getattr(kind, "read_captured", None)
    if own is not None:
        return lambda value: own(value, dialect)
    if isinstance(kind, NativeEnum):
        return kind.text_of_label
    if isinstance(kind, NativeText) and kind.padded:
        return lambda value: str(value).rstrip(" ")
    if isinstance(kind, ExactDecimal) and dialect == "sqlite":
        scale = kind.scale
        return lambda value: shifted(parsed(str(value)), -scale)
    if isinstance(kind, NativeNumeric) and dialect == "sqlite":
        digits = kind.scale
        return lambda value: rounded(parsed(str(value)), digits)
    return _READERS[type_name]


def _moment(value: str) -> datetime:
    found = datetime.fromisoformat(value)
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)


def _json(value: Any) -> Any:
    return json.loads(value) if type(value) is str else _plain(value)


def _plain(value: Any) -> Any:
    if isinstance(value, _Text):
        return float(value)
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    return value


def _uuid(value: Any) -> str:
    return str(UUID(value))


def _decimal(value: Any) -> Decimal:
    return parsed(str(value))


_KEYS: Final[Mapping[str, Reader]] = {"integer": int, "uuid": _uuid, "string": str}
_READERS: Final[Mapping[str, Reader]] = {
    "string": str,
    "text": str,
    "id": str,
    "uuid": _uuid,
    "enum": str,
    "number": float,
    "integer": int,
    "decimal": _decimal,
    "boolean": lambda value: bool(int(value)),
    "date": date.fromisoformat,
    "dateTime": _moment,
    "time": time.fromisoformat,
    "array": _json,
    "object": _json,
}

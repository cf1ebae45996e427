"""Column types of tables that are an application's own: its types, read as tidings' values.

What is read is what a field of that type holds everywhere else (a UUID is its usual text, a moment
is aware and in UTC), so that filters, documents and feeds need not know whose table it was.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from sqlalchemy import DateTime, Dialect, Double, Numeric, String, Text, Uuid
from sqlalchemy import Enum as EnumType
from sqlalchemy.dialects import postgresql
from sqlalchemy.types import TypeDecorator, TypeEngine

from tidings.numbers import exact, rounded, shifted
from tidings.schema.types import text_of_member
from tidings.storage.types import is_mysql

_NUMERIC_DIGITS: Final = 28


class NativeUuid(TypeDecorator[str]):
    """UUIDs, as the database has them; compared for equality only."""

    impl = Uuid
    cache_ok = True
    is_opaque = True

    def __init__(self, *, native: bool = True) -> None:
        super().__init__(as_uuid=True, native_uuid=native)
        self.native = native

    def process_bind_param(self, value: str | None, dialect: Dialect) -> UUID | None:
        return None if value is None else UUID(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> str | None:
        return None if value is None else str(value)


class NativeEnum(TypeDecorator[str]):
    """Enumerations: the values of Python's class where there is one, the database's labels else."""

    impl = EnumType
    cache_ok = True
    is_opaque = True

    def __init__(self, declared: EnumType) -> None:
        super().__init__(*declared.enums)
        self.declared = declared
        members = [] if declared.enum_class is None else list(declared.enum_class)
        self._members: Mapping[str, Any] = {text_of_member(member): member for member in members}
        self._by_label = dict(zip(declared.enums, self._members, strict=False))

    @property
    def texts(self) -> tuple[str, ...]:
        """The values, as documents have them."""
        return tuple(self._members) or tuple(self.declared.enums)

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return dialect.type_descriptor(self.declared)

    def text_of_label(self, label: str) -> str:
        """The value that the database calls so."""
        return self._by_label.get(label, label)

    def process_bind_param(self, value: str | None, dialect: Dialect) -> Any:
        return value if value is None else self._members.get(value, value)

    def process_result_value(self, value: Any, dialect: Dialect) -> str | None:
        return text_of_member(value) if isinstance(value, enum.Enum) else value


class NativeText(TypeDecorator[str]):
    """Texts in whatever collation and character set; ``padded`` ones lose their blanks."""

    impl = Text
    cache_ok = True
    is_converted = True
    """On MariaDB and MySQL it may have another character set than values have."""

    def __init__(self, length: int | None = None, *, padded: bool = False) -> None:
        super().__init__(length)
        self.length = length
        self.padded = padded

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return dialect.type_descriptor(Text() if self.length is None else String(self.length))

    def process_result_value(self, value: str | None, dialect: Dialect) -> str | None:
        return value.rstrip(" ") if value is not None and self.padded else value


class CaselessText(NativeText):
    """PostgreSQL's citext: compared like any other text."""

    cache_ok = True
    compared_as: Final = Text()
    """The column is cast to it before it is compared: by itself it ignores case."""


class NaiveDateTime(TypeDecorator[datetime]):
    """Moments in a column without a zone, which are taken to be in UTC."""

    impl = DateTime
    cache_ok = True

    def __init__(self) -> None:
        super().__init__(timezone=False)

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return None if value is None else value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        # MariaDB's '0000-00-00' comes as a text, or as nothing: it is no moment.
        return value.replace(tzinfo=UTC) if isinstance(value, datetime) else None


class NativeNumeric(TypeDecorator[Decimal]):
    """NUMERIC as declared. SQLite keeps floats in it, which are read by their digits."""

    impl = Numeric
    cache_ok = True

    def __init__(self, precision: int = _NUMERIC_DIGITS, scale: int = 0) -> None:
        super().__init__(precision, scale)
        self.precision = precision
        self.scale = scale

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if dialect.name == "sqlite":
            return dialect.type_descriptor(Double())
        if is_mysql(dialect):
            return dialect.type_descriptor(Numeric(self.precision, self.scale))
        return dialect.type_descriptor(Numeric())

    def process_bind_param(self, value: Decimal | None, dialect: Dialect) -> Any:
        if value is None or dialect.name != "sqlite":
            return value
        scaled = shifted(value, self.scale)
        whole = math.floor(scaled)
        if whole == scaled:
            return float(value)
        # What has more digits than the column lies between two of its values.
        return (whole + 0.5) / 10**self.scale

    def process_result_value(self, value: Any, dialect: Dialect) -> Decimal | None:
        if value is None:
            return None
        return rounded(exact(value), self.scale) if isinstance(value, float) else exact(value)


class PostgresArray(TypeDecorator[list[Any]]):
    """``text[]``, ``integer[]`` and their kin."""

    impl = postgresql.ARRAY
    cache_ok = True
    is_native_array = True

    def __init__(self, item: TypeEngine[Any]) -> None:
        super().__init__(item, dimensions=1)
        self.item = item

    def process_result_value(self, value: Any, dialect: Dialect) -> list[Any] | None:
        return None if value is None else list(value)

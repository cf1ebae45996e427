"""Triggers: what each database is told to note of a table, in its own language."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

CAPTURED: Final = "tidings_captured"
"""The table that the triggers write to."""
LONG: Final = "$long"
"""The member of an image that names what was too long for it, each name with a bar behind it."""
MOST_LETTERS: Final = 65_536
PREFIX: Final = "tidings_"
"""All that tidings makes in a database begins with it."""


@dataclass(frozen=True, slots=True)
class Watched:
    """A table that is captured, by the names that the database knows.

    ``columns`` are those that an image holds: what filters, policies and checks look at, the key
    among them; ``reals`` those of them that SQLite keeps as floats. ``all_columns`` decide whether
    an update has changed anything.
    """

    schema: str | None
    table: str
    key: str
    columns: tuple[str, ...]
    all_columns: tuple[str, ...]
    reals: frozenset[str] = frozenset()
    longs: frozenset[str] = frozenset()
    """Columns whose values may be long: those that are are left out, and named."""
    forms: Mapping[str, str] = field(default_factory=dict)
    """How columns are written down that JSON cannot have as they are: ``hex``, ``duration``."""

    @property
    def source(self) -> str:
        """By this name a captured row says where it comes from."""
        return self.table if self.schema is None else f"{self.schema}.{self.table}"

    @property
    def name(self) -> str:
        """A name for what is made for this table, that every database can take."""
        digest = hashlib.sha256(self.source.encode()).hexdigest()[:6]
        plain = "".join(letter if letter.isalnum() else "_" for letter in self.table.lower())
        return f"{PREFIX}{plain[:30]}_{digest}"


@dataclass(frozen=True, slots=True)
class TriggerSet:
    """What makes a table captured: the statements that make and remove it, and the bodies by which
    the database shows that it is there and not of an older declaration.
    """

    create: tuple[str, ...]
    drop: tuple[str, ...]
    bodies: Mapping[str, str]


def literal(text: str) -> str:
    """A text as SQL has it."""
    return "'" + text.replace("'", "''") + "'"


def quoted(*names: str | None, mark: str = '"') -> str:
    """Identifiers as SQL has them, joined by dots; None is left out."""
    return ".".join(
        f"{mark}{name.replace(mark, mark * 2)}{mark}" for name in names if name is not None
    )

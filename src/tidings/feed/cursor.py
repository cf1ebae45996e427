"""Cursor: a place in the one order of changes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Cursor:
    """Epoch and offset. Offsets of one epoch are ordered; of different epochs, not comparable.

    ``offset`` is that of the last change seen; 0 stands before the first.
    """

    epoch: str
    offset: int

    def __str__(self) -> str:
        return f"{self.epoch}.{self.offset}"

    @classmethod
    def parse(cls, text: object) -> Cursor | None:
        """Read what ``str`` gave; None for anything else."""
        if not isinstance(text, str) or len(text) > 64:
            return None
        epoch, dot, offset = text.partition(".")
        if not dot or not epoch or not offset.isascii() or not offset.isdigit():
            return None
        return cls(epoch, int(offset))

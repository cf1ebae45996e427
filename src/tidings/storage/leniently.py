"""Texts of SQLite that are no UTF-8: one bad row must not hide all the others."""

from __future__ import annotations

from typing import Final

NO_UTF8: Final = "the database holds text that is no UTF-8: it is shown with U+FFFD in its place"


def is_no_utf8(error: object) -> bool:
    """Whether SQLite's driver could not read a text."""
    return str(error).startswith("Could not decode to UTF-8")


def lenient(text: bytes) -> str:
    """A text with U+FFFD for what cannot be read, as a connection's ``text_factory``."""
    return text.decode(errors="replace")

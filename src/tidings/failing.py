"""Failing: a traceback in two lines, as the command shows it.

The first says what went wrong, the second where in the application's own code. Somebody who needs
all of it sets ``TIDINGS_TRACEBACK=1``.
"""

from __future__ import annotations

import os
import re
import traceback
from pathlib import Path
from typing import Final

import click

VARIABLE: Final = "TIDINGS_TRACEBACK"
_LONGEST: Final = 400
_FRAME: Final = re.compile(r'^ *File "(.+)", line (\d+)(?:, in .+)?\n(?: +(.+)\n)?', re.MULTILINE)
_LAST: Final = re.compile(r"^([A-Za-z_][\w.]*)(?:: (.*))?$", re.MULTILINE)
_OURS: Final = re.compile(r"^tidings\.errors\.\w+$")
_NOT_THEIRS: Final = ("site-packages", "dist-packages", "<frozen", str(Path(os.__file__).parent))


def wants_traceback() -> bool:
    """Whether somebody asked for whole tracebacks."""
    return os.environ.get(VARIABLE, "") not in ("", "0")


def failure(error: BaseException, what: str = "") -> click.ClickException:
    """An error that says in two lines what went wrong, and where."""
    text = condensed("".join(traceback.format_exception(error)))
    return click.ClickException(f"{what}: {text}" if what else text)


def condensed(text: str) -> str:
    """The two lines of a traceback; a text that is none is left as it is.

    An error of tidings itself says what to do, so that its place does not matter.
    """
    if "Traceback (most recent call last)" not in text and not _FRAME.search(text):
        return text
    kind, message = _error(text)
    if _OURS.match(kind):
        return message
    said = f"{kind}: {message}".removesuffix(": ")[:_LONGEST]
    place = _place(text)
    hint = f"({VARIABLE}=1 shows all of it)"
    return f"{said}\n  {hint}" if place is None else f"{said}\n  {place} {hint}"


def _error(text: str) -> tuple[str, str]:
    """The error that a traceback ends with: its class, and the first line of its message.

    A message may have lines that look like another error, so the first one after the last frame
    counts.
    """
    frames = list(_FRAME.finditer(text))
    rest = text[frames[-1].end() :] if frames else text
    found = _LAST.search(rest)
    if found is None:
        return "error", text.strip().splitlines()[-1]
    return found[1], found[2] or ""


def _place(text: str) -> str | None:
    """The last place in code that is neither Python's nor installed."""
    for file, line, source in reversed(_FRAME.findall(text)):
        if not any(part in file for part in _NOT_THEIRS) and not _is_tidings(file):
            shown = _relative(file)
            return f"{shown}, line {line}: {source}" if source else f"{shown}, line {line}"
    return None


def _is_tidings(file: str) -> bool:
    return Path(file).is_relative_to(Path(__file__).parent)


def _relative(file: str) -> str:
    try:
        return str(Path(file).relative_to(Path.cwd()))
    except (ValueError, OSError):
        return file

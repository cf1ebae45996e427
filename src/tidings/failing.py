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

from tidings import TidingsError

VARIABLE: Final = "TIDINGS_TRACEBACK"
_LONGEST: Final = 400
_FRAME: Final = re.compile(r'^ *File "(.+)", line (\d+)(?:, in .+)?\n(?: +(.+)\n)?', re.MULTILINE)
_LAST: Final = re.compile(r"^([A-Za-z_][\w.]*)(?:: (.*))?$", re.MULTILINE)
_OURS: Final = re.compile(r"^tidings\.errors\.\w+$")
_IN_A_GROUP: Final = re.compile(r"^ *[|+] ?", re.MULTILINE)
_NOT_THEIRS: Final = ("site-packages", "dist-packages", "<frozen", str(Path(os.__file__).parent))


def wants_traceback() -> bool:
    """Whether somebody asked for whole tracebacks."""
    return os.environ.get(VARIABLE, "") not in ("", "0")


def failure(error: BaseException, what: str = "") -> click.ClickException:
    """An error that says in two lines what went wrong, and where."""
    if isinstance(error, TidingsError):
        said = str(error)  # it says what to do, so that its place does not matter
    else:
        of = type(error)
        kind = of.__name__ if of.__module__ == "builtins" else f"{of.__module__}.{of.__name__}"
        first = str(error).partition("\n")[0]
        if isinstance(error, SyntaxError):
            first = error.msg  # the place follows
        said = _in_two_lines(kind, first, "".join(traceback.format_exception(error)))
    return click.ClickException(f"{what}: {said}" if what else said)


def condensed(text: str) -> str:
    """The two lines of a traceback that comes as a text; another text is left as it is."""
    if "Traceback (most recent call last)" not in text:
        return text
    text = _IN_A_GROUP.sub("", text) if "Exception Group" in text else text
    kind, message = _error(text)
    return message if _OURS.match(kind) else _in_two_lines(kind, message, text)


def _in_two_lines(kind: str, message: str, text: str) -> str:
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

"""The code blocks of a Markdown page, with what its author says of testing them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).parent.parent.parent
PAGES = (REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md")))

_BLOCK = re.compile(
    r"(?:<!-- test: skip (?P<skip>[^\n]+?) -->\n+)?"
    r"^```(?P<language>\w*)[^\n]*\n(?P<code>.*?)^```$"
    r"|^<!-- test: run\n(?P<hidden>.*?)^-->$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    """One block. `skip` is the reason why it is not run; `line` is that of its first line."""

    language: str
    code: str
    line: int
    skip: str | None


def blocks(page: Path) -> Iterator[Block]:
    """The blocks of a page in order; hidden ones (``<!-- test: run``) are Python."""
    text = page.read_text(encoding="utf-8")
    for found in _BLOCK.finditer(text):
        group = "hidden" if found["hidden"] is not None else "code"
        line = text.count("\n", 0, found.start(group)) + 1
        yield Block(found["language"] or "python", found[group], line, found["skip"])


def name_of(page: Path) -> str:
    return str(page.relative_to(REPOSITORY))

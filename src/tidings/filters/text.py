"""Upper and lower case that every database can be brought to agree on, and patterns of text.

Databases differ in what they take for a letter's other case, and by version and locale. Here case
is a map from one code point to one (for `fold` Unicode's simple case folding), made from Python's
tables; SQL either calls these functions (SQLite) or gets a regular expression that spells the
alternatives of each letter out (PostgreSQL, MariaDB).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import cache, lru_cache
from typing import Any, Final, Literal

from tidings.filters.expression import ANY_CHARACTER, TextCase

Flavour = Literal["postgresql", "pcre"]
_BEYOND_CASE: Final = 0x20000
"""No letter at or beyond this code point has another case."""
_NEVER: Final = r"a\Ab"


_LONG: Final = 64
"""What is as long is remembered: many filters look at the same value, one after the other."""
_recent_texts: tuple[tuple[str, str], ...] = ()


def fold(text: str) -> str:
    """The text as it is compared when case does not matter."""
    global _recent_texts
    if len(text) < _LONG:
        return text.lower() if text.isascii() else text.translate(_table("fold"))
    recent = _recent_texts
    for known, folded in recent:
        if known is text or known == text:
            return folded
    folded = text.lower() if text.isascii() else text.translate(_table("fold"))
    _recent_texts = ((text, folded), *recent[:3])
    return folded


def lower(text: str) -> str:
    """The text in lower case, letter by letter: ``"İ"`` has no single lower case, and stays."""
    return text.lower() if text.isascii() else text.translate(_table("lower"))


def upper(text: str) -> str:
    """The text in upper case, letter by letter: ``"ß"`` has no single upper case, and stays."""
    return text.upper() if text.isascii() else text.translate(_table("upper"))


def _same(text: str) -> str:
    return text


SEEN_AS: Final[dict[TextCase, Callable[[str], str]]] = {
    "exact": _same,
    "fold": fold,
    "lower": lower,
    "upper": upper,
}


def _folded(letter: str) -> str:
    for candidate in (letter.casefold(), letter.lower()):
        if len(candidate) == 1:
            return candidate
    return letter


def _single(letter: str, changed: str) -> str:
    return changed if len(changed) == 1 else letter


@cache
def _table(case: TextCase) -> dict[int, str]:
    """What each letter becomes, where that is another one."""
    change: dict[TextCase, Callable[[str], str]] = {
        "fold": _folded,
        "lower": lambda letter: _single(letter, letter.lower()),
        "upper": lambda letter: _single(letter, letter.upper()),
    }
    found = ((code, change[case](chr(code))) for code in range(_BEYOND_CASE))
    return {code: letter for code, letter in found if letter != chr(code)}


@cache
def _origins(case: TextCase) -> dict[str, str]:
    """For each letter that others become, all those that do, itself included where it stays."""
    origins: dict[str, str] = {}
    table = _table(case)
    for code, letter in table.items():
        stays = ord(letter) not in table
        origins[letter] = origins.get(letter, letter if stays else "") + chr(code)
    return origins


def _spelled(letter: str, case: TextCase) -> str | None:
    """A regular expression for the letters that are seen as this one; None if none is."""
    if letter == ANY_CHARACTER:
        return "."
    origins = "" if case == "exact" else _origins(case).get(letter, "")
    if origins:
        return f"[{origins}]" if len(origins) > 1 else origins
    if case != "exact" and ord(letter) in _table(case):
        return None
    return f"\\{letter}" if letter.isascii() and not letter.isalnum() else letter


def _spelled_out(segments: tuple[str, ...], case: TextCase) -> list[str] | None:
    spelled = []
    for segment in segments:
        letters = [_spelled(letter, case) for letter in segment]
        if None in letters:
            return None
        spelled.append("".join(letter for letter in letters if letter is not None))
    return spelled


def pattern_text(segments: tuple[str, ...], case: TextCase, flavour: Flavour) -> str:
    """A pattern as a case-sensitive regular expression for a database."""
    spelled = _spelled_out(segments, case)
    if spelled is None:
        return _NEVER
    if flavour == "pcre":
        return "(?s)" + _joined(spelled, r"\z", atomic=True)
    return _joined(spelled, "$", atomic=False)


def like_text(segments: tuple[str, ...], escape: str) -> str:
    """A pattern for LIKE, for texts whose case matters."""
    parts = []
    for segment in segments:
        for special in (escape, "%", "_"):
            segment = segment.replace(special, escape + special)
        parts.append(segment.replace(ANY_CHARACTER, "_"))
    return "%".join(parts)


def _joined(segments: list[str], end: str, *, atomic: bool) -> str:
    """Segment by segment; where a regex engine backtracks, the first place found for one is kept
    (another could be no better), since long patterns would otherwise take for ever.
    """
    first, *others = segments
    if not others:
        return rf"\A{first}{end}"
    *middle, last = others
    if len(middle) == 1 and not first and not last:
        return middle[0]
    text = rf"\A{first}"
    for segment in filter(None, middle):
        text += f"(?>.*?{segment})" if atomic else f".*{segment}"
    return text + (f".*{last}{end}" if last else "")


@lru_cache(maxsize=4096)
def text_matcher(segments: tuple[str, ...], case: TextCase) -> Callable[[str], bool]:
    """A function that holds a text against a pattern, which is in that case already."""
    see = SEEN_AS[case]
    if len(segments) == 3 and not segments[0] and not segments[2]:
        part = segments[1]
        if ANY_CHARACTER not in part:
            return lambda text: part in see(text)
    if len(segments) == 1 and ANY_CHARACTER not in segments[0]:
        whole = segments[0]
        return lambda text: see(text) == whole
    escaped = [".".join(map(re.escape, segment.split(ANY_CHARACTER))) for segment in segments]
    found = re.compile(_joined(escaped, r"\Z", atomic=True), re.DOTALL)
    return lambda text: found.search(see(text)) is not None


def encoded_pattern(segments: tuple[str, ...], case: TextCase) -> str:
    """A pattern as one parameter, for `sqlite_match`."""
    return json.dumps([case, *segments])


@lru_cache(maxsize=256)
def _decoded(encoded: str) -> Callable[[str], bool]:
    case, *segments = json.loads(encoded)
    return text_matcher(tuple(segments), case)


def sqlite_fold(text: object) -> object:
    """`fold` as SQLite calls it; NULL stays NULL."""
    return fold(text) if isinstance(text, str) else text


def sqlite_match(text: object, encoded: str) -> bool | None:
    """`text_matcher` as SQLite calls it; NULL stays NULL."""
    return None if text is None else _decoded(encoded)(str(text))


def sqlite_some(array: object, wanted: str) -> bool:
    """Whether an array (JSON) has one of some elements (JSON), as SQLite asks."""
    return has_element(_elements(array), json.loads(wanted))


def sqlite_some_like(array: object, part: str) -> bool:
    """Whether some text of an array (JSON) contains a folded text, as SQLite asks."""
    return any(isinstance(item, str) and part in fold(item) for item in _elements(array))


def _elements(array: object) -> list[Any]:
    found = json.loads(array) if isinstance(array, str) else None
    return found if isinstance(found, list) else []


def has_element(elements: Any, wanted: Any) -> bool:
    """Whether one of some elements is one of those wanted: of the same type, and equal.

    To JSON ``1`` and ``1.0`` are one number.
    """
    keys = element_keys(elements)
    return any(element_key(one) in keys for one in wanted)


_TRUE: Final = object()
_FALSE: Final = object()
_recent_elements: tuple[tuple[Any, frozenset[Any]], ...] = ()


def element_key(element: Any) -> Any:
    """An element as it is looked up: to Python True is 1, to JSON it is not."""
    if isinstance(element, bool):
        return _TRUE if element else _FALSE
    return element


def element_keys(elements: Any) -> frozenset[Any]:
    """The elements that can be looked up: not null, nor the arrays and objects among them."""
    global _recent_elements
    if not elements:
        return frozenset()
    recent = _recent_elements
    for known, keys in recent:
        if known is elements:
            return keys
    keys = frozenset(
        element_key(one) for one in elements if one is not None and not isinstance(one, list | dict)
    )
    if len(elements) >= _LONG:
        _recent_elements = ((elements, keys), *recent[:3])
    return keys


SQLITE_FUNCTIONS: Final[dict[str, tuple[int, Callable[..., Any]]]] = {
    "tidings_lower": (1, lambda text: lower(text) if isinstance(text, str) else text),
    "tidings_fold": (1, sqlite_fold),
    "tidings_match": (2, sqlite_match),
    "tidings_some": (2, sqlite_some),
    "tidings_some_like": (2, sqlite_some_like),
}
"""What each SQLite connection registers: the number of arguments and the function, by name."""

"""Reading LIKE and its kin, and texts compared in lower or upper case."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy.sql import operators

from tidings.filters.columns import holds_text
from tidings.filters.expression import ANY_CHARACTER, Atom, Expression, Not, TextMatch
from tidings.filters.reading_constants import Unreadable
from tidings.filters.reading_values import Cased, Operand, Written, as_text
from tidings.filters.text import fold
from tidings.filters.values import Column, Value
from tidings.schema import ResourceType, ValueProblem, cast


@dataclass(frozen=True, slots=True)
class TextOperator:
    """What an operator of SQLAlchemy's does with its pattern.

    With ``open_start`` and ``open_end`` anything may stand before and after it.
    """

    open_start: bool
    open_end: bool
    ignores_case: bool
    negated: bool


def _all_operators() -> dict[Any, TextOperator]:
    stems = {
        "like": (False, False),
        "contains": (True, True),
        "startswith": (False, True),
        "endswith": (True, False),
    }
    return {
        getattr(operators, f"{'not_' * negated}{'i' * ignores_case}{stem}_op"): TextOperator(
            *opened, ignores_case, negated
        )
        for stem, opened in stems.items()
        for ignores_case in (False, True)
        for negated in (False, True)
    }


TEXT_OPERATORS: Final = _all_operators()


def _is_escape(escape: object) -> bool:
    """Tell whether a character has no other meaning in a pattern, and no case."""
    if not isinstance(escape, str) or len(escape) != 1:
        return False
    return escape.isascii() and escape.isprintable() and not escape.isalnum() and escape not in "%_"


def _split_pattern(
    pattern: str, escape: str | None, operator: TextOperator
) -> tuple[str, ...] | None:
    """The segments of a pattern (see `TextMatch`); None where databases would not agree on it.

    Without an escape character of the author's, a backslash is one to some databases only.
    """
    parts = ["", ""] if operator.open_start else [""]
    letters = iter(pattern)
    for letter in letters:
        if letter == escape:
            escaped = next(letters, None)
            if escaped is None:
                return None
            parts[-1] += escaped
        elif letter == "\\" and escape is None:
            return None
        elif letter == "%":
            parts.append("")
        else:
            parts[-1] += ANY_CHARACTER if letter == "_" else letter
    if operator.open_end:
        parts.append("")
    first, *others = parts
    return (first, *filter(None, others[:-1]), *others[-1:])


def read_like(
    resource: ResourceType,
    text: Operand,
    pattern: Operand,
    modifiers: Mapping[str, Any],
    operator: TextOperator,
) -> Expression:
    """A text held against a pattern; ``modifiers`` are those of SQLAlchemy's operator."""
    segments = _split_pattern(_literal(pattern), _escape(modifiers), operator)
    if segments is None:
        raise Unreadable
    found = _match(resource, text, segments, ignores_case=operator.ignores_case)
    return Not(found) if operator.negated else found


def read_cased(left: Cased, operator: str, right: Operand) -> Expression:
    """A text in lower or upper case compared with a literal, which is taken as it is."""
    if operator not in ("=", "!="):
        raise Unreadable
    found = TextMatch(left.text, (_literal(right),), left.case)
    return found if operator == "=" else Not(found)


def _match(
    resource: ResourceType, found: Operand, segments: tuple[str, ...], *, ignores_case: bool
) -> Expression:
    if isinstance(found, Cased):
        if not ignores_case:
            return TextMatch(found.text, segments, found.case)
        # A letter in upper case may be another one where case is ignored: the dotless i is.
        if found.case == "upper":
            raise Unreadable
        found = found.text
    text = as_text(found)
    if not ignores_case:
        return TextMatch(text, segments)
    part = "".join(segments)
    is_inside = segments in (("", ""), ("", part, ""))
    if is_inside and ANY_CHARACTER not in part and _holds_text(resource, text):
        assert isinstance(text, Column)
        return Atom(text.name, "like", part)
    return TextMatch(text, tuple(fold(segment) for segment in segments), "fold")


def _holds_text(resource: ResourceType, text: Value) -> bool:
    return isinstance(text, Column) and holds_text(resource, text.name)


def _literal(found: Operand) -> str:
    if not isinstance(found, Written) or not isinstance(found.value, str):
        raise Unreadable
    try:
        text: str = cast("string", found.value)
    except ValueProblem:
        raise Unreadable from None
    return text


def _escape(modifiers: Mapping[str, Any]) -> str | None:
    escape: str | None = modifiers.get("escape")
    known = {"escape": escape, "autoescape": False}
    if any(name not in known or known[name] != value for name, value in modifiers.items()):
        raise Unreadable
    if escape is not None and not _is_escape(escape):
        raise Unreadable
    return escape

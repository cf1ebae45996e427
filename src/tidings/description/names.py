"""Names of components: ``blog-posts`` is made of records that are each a ``BlogPost``."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

_IRREGULAR: Final = {"People": "Person", "Children": "Child"}


def component_names(resources: Iterable[str]) -> dict[str, str]:
    """By resource, the name of one of its records; where two would be alike, they stay plural."""
    plural = {name: _pascal(name) for name in resources}
    found: dict[str, str] = {}
    for name, whole in plural.items():
        one = _singular(whole)
        others = {other for key, other in plural.items() if key != name}
        taken = others | {_singular(other) for other in others}
        found[name] = whole if one in taken else one
    return found


def _pascal(name: str) -> str:
    return "".join(part[:1].upper() + part[1:] for part in re.split(r"[-_]", name) if part)


def _singular(word: str) -> str:
    """English plurals as tables mostly have them; what is not recognised stays as it is."""
    for plural, one in _IRREGULAR.items():
        if word.endswith(plural):
            return word.removesuffix(plural) + one
    for ending, instead in (
        ("ies", "y"),
        ("sses", "ss"),
        ("ches", "ch"),
        ("shes", "sh"),
        ("xes", "x"),
    ):
        if word.endswith(ending) and len(word) > len(ending):
            return word.removesuffix(ending) + instead
    if word.endswith("s") and not word.endswith(("ss", "us", "is")) and len(word) > 1:
        return word[:-1]
    return word

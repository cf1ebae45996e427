"""Reading declared options: an unknown key is an error that names the place and the likely key."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from difflib import get_close_matches
from typing import Any

from tidings.errors import ConfigurationError


def check_keys(where: str, given: Mapping[str, Any], known: Collection[str]) -> None:
    """Raise `ConfigurationError` for the first key that is not known, with a suggestion.

    Names from the JavaScript guide (``filterOperator``) are recognised and answered with the
    Python one.
    """
    for key in given:
        if key in known:
            continue
        snake = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", str(key)).lower()
        aliases = {"default_to": "default", "as": "as_"}
        guess = aliases.get(snake, snake)
        close = [guess] if guess in known else get_close_matches(guess, known, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else f" (known: {', '.join(sorted(known))})"
        raise ConfigurationError(f"{where}: unknown option {key!r}{hint}")


def as_mapping(where: str, value: object) -> Mapping[str, Any]:
    """The value as a mapping, or a `ConfigurationError` that says what it should have been."""
    if not isinstance(value, Mapping):
        raise ConfigurationError(f"{where}: expected a dict, got {type(value).__name__}")
    return value

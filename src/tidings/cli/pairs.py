"""Pairs: options of the form NAME=VALUE, as filters and claims are given."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import click


def read_pairs(texts: Iterable[str], option: str) -> dict[str, Any]:
    """The values by name. A value is read as JSON where it is JSON (3, true, ["a"]), else as text.

    Raises:
        BadParameter: there is no name, or no equals sign.
    """
    found: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not name or not equals:
            raise click.BadParameter(f"{text!r} is not NAME=VALUE", param_hint=option)
        try:
            found[name] = json.loads(value)
        except ValueError:
            found[name] = value
    return found

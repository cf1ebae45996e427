"""Member names: how clients spell what a resource declares, where that is not as it is declared."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal

from tidings.errors import ConfigurationError

MemberNames = Literal["as_declared", "camelCase", "dasherized"]
_UNDERSCORE: Final = re.compile(r"(?<=[A-Za-z0-9])_+([A-Za-z0-9])")
_LONGEST: Final = 1_000


def member_name(style: MemberNames, name: str) -> str:
    """A declared name as clients spell it; one that they spell already stays as it is."""
    if len(name) > _LONGEST:  # of which clients may send any, and nothing is declared
        return name
    if style == "camelCase":
        return _UNDERSCORE.sub(lambda found: found[1].upper(), name)
    if style == "dasherized":
        return _UNDERSCORE.sub(lambda found: f"-{found[1]}", name)
    return name


def declared_names(
    where: str, style: Any, members: Iterable[str], filters: Iterable[str]
) -> Mapping[str, str]:
    """By the names that clients spell, those that are declared, where they differ.

    Raises:
        ConfigurationError: two of them would be spelled the same, or there is no such style.
    """
    if style not in ("as_declared", "camelCase", "dasherized"):
        raise ConfigurationError(
            f"{where}: member_names is 'as_declared', 'camelCase' or 'dasherized', not {style!r}"
        )
    found: dict[str, str] = {}
    for names in (members, filters):
        own: dict[str, str] = {}
        for name in names:
            other = own.setdefault(member_name(style, name), name)
            if other != name:
                raise ConfigurationError(
                    f"{where}: {other!r} and {name!r} both would be {member_name(style, name)!r} "
                    f"to clients, by member_names={style!r}"
                )
        found |= {spelled: name for spelled, name in own.items() if spelled != name}
    return found

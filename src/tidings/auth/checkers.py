"""Checkers: named functions that say whether an operation is allowed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Protocol, TypeAlias

from tidings.errors import ConfigurationError
from tidings.identity import Identity

METHODS: tuple[str, ...] = ("query", "get", "post", "put", "patch", "delete")
"""The operations that rules are written for."""


class CheckContext(Protocol):
    """What a checker sees of the operation it decides on."""

    @property
    def method(self) -> str:
        """One of `METHODS`."""

    @property
    def resource(self) -> str:
        """The resource's type."""

    @property
    def auth(self) -> Identity:
        """Who is asking."""

    @property
    def id(self) -> str | None:
        """The record's id; None for query, and for post without a client-generated one."""

    @property
    def record(self) -> Mapping[str, Any] | None:
        """The row before the change; None where there is none (query, post)."""

    @property
    def values(self) -> Mapping[str, Any] | None:
        """The validated input; None for query, get and delete."""

    @property
    def owner_field(self) -> str | None:
        """The field that holds the owner's user id; None where the resource has no owner."""


Checker: TypeAlias = Callable[[CheckContext, str | None], bool | Awaitable[bool | None] | None]
"""Takes the context and the rule's argument. Only True allows, and not what is merely true-like."""


@dataclass(frozen=True, slots=True)
class _Entry:
    check: Checker
    takes_argument: bool | None


class CheckerRegistry:
    """Checkers by name: the built-in ones and the application's own.

    Built in: ``public``, ``authenticated``, ``admin`` (the role "admin"), ``is_owner``,
    ``has_role:x`` and ``has_permission:x``.

        checkers = CheckerRegistry()
        checkers.add("same_team", lambda context, argument: context.auth.team == "red")
    """

    def __init__(self) -> None:
        self._entries: dict[str, _Entry] = dict(_BUILT_IN)

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def add(self, name: str, check: Checker, *, takes_argument: bool | None = None) -> None:
        """Add a checker, sync or async; rules that are built later may name it.

        ``takes_argument``: True where a rule must write ``name:argument``, False where it must
        not, None where it may.

        Raises:
            ConfigurationError: the name is taken, empty, or has a colon or a space, or ``check``
                cannot be called.
        """
        if not isinstance(name, str) or not name or ":" in name or name.split() != [name]:
            raise ConfigurationError(f"checker {name!r}: a name has no colon and no spaces")
        if name in self._entries:
            raise ConfigurationError(f"there is already a checker {name!r}")
        if not callable(check):
            raise ConfigurationError(f"checker {name!r} must be a function, not {check!r}")
        self._entries[name] = _Entry(check, takes_argument)

    def resolve(self, rule: str) -> tuple[Checker, str | None]:
        """The checker that ``rule`` names, and the rule's argument.

        Raises:
            ConfigurationError: unknown name, missing argument, or one too many.
        """
        name, colon, rest = (part.strip() for part in rule.partition(":"))
        entry = self._entries.get(name)
        if entry is None:
            raise ConfigurationError(
                f"there is no checker {name!r}{did_you_mean(name, self._entries)} "
                f"(known: {', '.join(sorted(self._entries))})"
            )
        if colon and entry.takes_argument is False:
            raise ConfigurationError(f"checker {name!r} takes no argument")
        if (colon or entry.takes_argument) and not rest:
            raise ConfigurationError(f"an argument is missing: write {name + ':something'!r}")
        return entry.check, rest or None


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """The part of a message that names what is close to ``name``; empty where nothing is."""
    close = get_close_matches(str(name).lower(), list(known), n=2)
    return f"; did you mean {' or '.join(map(repr, close))}?" if close else ""


def is_public(context: CheckContext, argument: str | None) -> bool:
    """Allow everybody; `Rules` knows this one, so as not to ask it."""
    return True


def _authenticated(context: CheckContext, argument: str | None) -> bool:
    return context.auth.is_authenticated


def _admin(context: CheckContext, argument: str | None) -> bool:
    return context.auth.has_role("admin")


def _has_role(context: CheckContext, argument: str | None) -> bool:
    return argument is not None and context.auth.has_role(argument)


def _has_permission(context: CheckContext, argument: str | None) -> bool:
    return argument is not None and context.auth.has_permission(argument)


def is_owner(context: CheckContext, argument: str | None) -> bool:
    """The row decides, and the input must not hand it to somebody else; for post the input does."""
    if not context.auth.is_authenticated or context.owner_field is None:
        return False
    if context.method == "post":
        return _names_caller(context, context.values)
    if not _names_caller(context, context.record):
        return False
    hands_over = context.values is not None and context.owner_field in context.values
    return not hands_over or _names_caller(context, context.values)


def _names_caller(context: CheckContext, row: Mapping[str, Any] | None) -> bool:
    owner = row.get(context.owner_field) if row is not None and context.owner_field else None
    return owner is not None and str(owner) == context.auth.user_id


_BUILT_IN: dict[str, _Entry] = {
    "public": _Entry(is_public, takes_argument=False),
    "authenticated": _Entry(_authenticated, takes_argument=False),
    "admin": _Entry(_admin, takes_argument=False),
    "is_owner": _Entry(is_owner, takes_argument=False),
    "has_role": _Entry(_has_role, takes_argument=True),
    "has_permission": _Entry(_has_permission, takes_argument=True),
}

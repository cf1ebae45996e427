"""Permissions written as lists of rules, each rule a checker's name with or without an argument."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence

from tidings.auth.checkers import (
    METHODS,
    CheckContext,
    Checker,
    CheckerRegistry,
    did_you_mean,
    is_owner,
    is_public,
)
from tidings.errors import ConfigurationError, PermissionDenied


class Rules:
    """The rules of one resource.

        Rules({"query": "public", "patch": ["is_owner", "has_role:editor"], "*": ["admin"]},
              resource="posts")

    A method is allowed where **any** of its rules allows. ``"*"`` stands for the methods that are
    not named; a method that is neither named nor covered by ``"*"`` is denied to everybody.

    ``is_owner`` cannot be used for ``query``: a collection has no owner.

    Raises:
        ConfigurationError: unknown method or checker, a missing or superfluous argument, an empty
            list, or ``is_owner`` for ``query``; it names the resource, the method and the rule.
    """

    def __init__(
        self,
        rules: Mapping[str, str | Sequence[str]],
        *,
        resource: str,
        checkers: CheckerRegistry | None = None,
    ) -> None:
        if not isinstance(rules, Mapping):
            raise ConfigurationError(
                f"resource {resource!r}: rules must be a dict of method to rules, not {rules!r}"
            )
        registry = checkers or CheckerRegistry()
        compiled = {
            method: _compiled(registry, resource, method, written)
            for method, written in rules.items()
        }
        default = compiled.get("*", ())
        self._checks = {method: compiled.get(method, default) for method in METHODS}
        self._public = frozenset(
            method for method, checks in self._checks.items() if (is_public, None) in checks
        )
        if (is_owner, None) in self._checks["query"]:
            raise ConfigurationError(
                f"resource {resource!r}, method 'query', rule 'is_owner': a collection has no "
                "owner; give 'query' rules of its own and limit the rows with a row policy or hook"
            )

    def is_public(self, method: str) -> bool:
        """Tell whether everybody may do this, so that nothing has to be looked up first."""
        return method in self._public

    def is_closed(self, method: str) -> bool:
        """Tell whether no rule is there for a method, so that it is denied to everybody."""
        return not self._checks.get(method)

    async def allows(self, context: CheckContext) -> bool:
        """Tell whether a rule of the context's method allows it.

        The rules are asked in order. A checker that raises `PermissionDenied` does not allow, like
        one that returns False, and the next is asked; any other exception comes out of here, and
        the caller must deny.
        """
        if context.method in self._public:
            return True
        for check, argument in self._checks.get(context.method, ()):
            if await _says_yes(check, context, argument):
                return True
        return False


async def _says_yes(check: Checker, context: CheckContext, argument: str | None) -> bool:
    try:
        answer = check(context, argument)
        if inspect.isawaitable(answer):
            answer = await answer
    except PermissionDenied:
        return False
    return answer is True


def _compiled(
    registry: CheckerRegistry, resource: str, method: str, written: object
) -> tuple[tuple[Checker, str | None], ...]:
    place = f"resource {resource!r}, method {method!r}"
    if method != "*" and method not in METHODS:
        raise ConfigurationError(
            f"{place}: there is no such method{did_you_mean(method, METHODS)} "
            f"(known: {', '.join(METHODS)} and '*')"
        )
    rules = [written] if isinstance(written, str) else written
    if not isinstance(rules, list | tuple) or not rules:
        raise ConfigurationError(
            f"{place}: give a rule or a non-empty list of rules, not {written!r}; "
            "a method that is not named at all is denied"
        )
    checks = []
    for rule in rules:
        if not isinstance(rule, str):
            raise ConfigurationError(f"{place}, rule {rule!r}: a rule must be a string")
        try:
            checks.append(registry.resolve(rule))
        except ConfigurationError as error:
            raise ConfigurationError(f"{place}, rule {rule!r}: {error}") from None
    return tuple(checks)

"""May this identity do this? Rules and ``check_permissions`` both have to say yes."""

from __future__ import annotations

import asyncio
import inspect
import logging
import time
from typing import Final

from tidings.cache import Cache
from tidings.errors import AuthenticationError, DatabaseBusy, PermissionDenied
from tidings.identity import Asker, Identity, Trusted
from tidings.resources.context import OperationContext, operation_context
from tidings.schema import ResourceRegistry, ResourceType
from tidings.values import without_values

_log = logging.getLogger("tidings.permissions")
_KEPT: Final = 10_000
_AT_ONCE: Final = 50
"""So many checks run side by side."""


async def permit(resource: ResourceType, context: OperationContext, auth: Asker) -> None:
    """Ask for permission, unless trusted code is at work."""
    if is_asked(resource, auth):
        await check_permission(resource, context)


def is_asked(resource: ResourceType, auth: Asker) -> bool:
    """Whether anything decides what this asker may do with the resource."""
    if isinstance(auth, Trusted):
        return False
    return resource.rules is not None or resource.check_permissions is not None


async def check_permission(resource: ResourceType, context: OperationContext) -> None:
    """Return if the operation is allowed.

    Raises:
        AuthenticationError: it is not, and nobody is signed in.
        PermissionDenied: it is not.
        DatabaseBusy: the check could not look, so that trying again may help.
    """
    try:
        allowed = await _allowed(resource, context)
    except PermissionDenied:
        if context.auth.is_authenticated:
            raise
        allowed = False
    if allowed:
        return
    if not context.auth.is_authenticated:
        raise AuthenticationError("Authentication required")
    raise PermissionDenied(
        f"You may not {context.method} '{resource.name}'", resource=resource.name
    )


class QueryPermissions:
    """Who may query what now; answers are kept for ``seconds`` (0: not at all)."""

    def __init__(self, registry: ResourceRegistry, seconds: float = 5.0) -> None:
        self._registry = registry
        self._seconds = seconds
        self._kept: Cache[tuple[str, Identity], tuple[float, bool]] = Cache(_KEPT)
        self._generation = 0

    def are_asked(self, resource: str) -> bool:
        """Whether anybody may be denied to query the resource."""
        found = self._registry[resource]
        return found.rules is not None or found.check_permissions is not None

    async def denied(self, resource: str, identities: set[Identity]) -> frozenset[Identity]:
        """Those who may not query it."""
        now = time.monotonic()
        answers: dict[Identity, bool] = {}
        for identity in identities:
            kept = self._kept.find((resource, identity))
            if kept is not None and kept[0] > now:
                answers[identity] = kept[1]
        unknown = [identity for identity in identities if identity not in answers]
        for start in range(0, len(unknown), _AT_ONCE):
            some = unknown[start : start + _AT_ONCE]
            found = await asyncio.gather(*(self._ask(resource, identity) for identity in some))
            answers.update(zip(some, found, strict=True))
        return frozenset(identity for identity, answer in answers.items() if not answer)

    def forget(self) -> None:
        """Ask everything anew."""
        self._generation += 1
        self._kept.clear()

    async def _ask(self, name: str, identity: Identity) -> bool:
        resource, generation = self._registry[name], self._generation
        try:
            await check_permission(resource, operation_context(resource, "query", identity))
            answer = True
        except (PermissionDenied, AuthenticationError, DatabaseBusy):
            answer = False
        # An answer that was asked for before something has changed is not kept.
        if self._seconds > 0 and generation == self._generation:
            self._kept.put((name, identity), (time.monotonic() + self._seconds, answer))
        return answer


async def _allowed(resource: ResourceType, context: OperationContext) -> bool:
    try:
        if resource.rules is not None and not await resource.rules.allows(context):
            return False
        if resource.check_permissions is None:
            return True
        answer = resource.check_permissions(context)
        if inspect.isawaitable(answer):
            answer = await answer
    except (PermissionDenied, DatabaseBusy):
        raise
    except Exception as error:  # noqa: BLE001  a check that fails in any way has not said yes
        shown = without_values(error)
        _log.error("permission check of %r failed and denies", resource.name, exc_info=shown)
        return False
    return answer is True

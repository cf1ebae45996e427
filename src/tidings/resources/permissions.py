"""May this identity do this? Rules and ``check_permissions`` both have to say yes."""

from __future__ import annotations

import asyncio
import inspect
import logging
import time
from collections.abc import Callable
from typing import Final

from tidings.cache import Cache
from tidings.errors import AuthenticationError, PermissionDenied, Unavailable
from tidings.identity import Asker, Identity, Trusted
from tidings.resources.context import OperationContext, operation_context
from tidings.schema import ResourceRegistry, ResourceType
from tidings.values import without_values

_log = logging.getLogger("tidings.permissions")
_KEPT: Final = 10_000
_AT_ONCE: Final = 50
"""So many checks of one resource run side by side, where nobody waits for them alone."""


async def permit(resource: ResourceType, context: OperationContext, auth: Asker) -> None:
    """Ask for permission, unless trusted code is at work."""
    if is_asked(resource, auth):
        await check_permission(resource, context)


def is_asked(resource: ResourceType, auth: Asker) -> bool:
    """Whether anything decides what this asker may do with the resource."""
    return not isinstance(auth, Trusted) and is_guarded(resource)


def is_guarded(resource: ResourceType) -> bool:
    """Whether anybody may be denied to do something with the resource."""
    return resource.rules is not None or resource.check_permissions is not None


async def check_permission(resource: ResourceType, context: OperationContext) -> None:
    """Return if the operation is allowed.

    Raises:
        AuthenticationError: it is not, and nobody is signed in.
        PermissionDenied: it is not.
        Unavailable: the check could not look, so that trying again may help; or the checks of this
            request have kept its locks for too long (``CHECKS_TOO_SLOW``).
    """
    try:
        allowed = await _allowed_in_time(resource, context)
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


class Answer:
    """Whether somebody may do something: ``allowed`` is None until that is known."""

    __slots__ = ("_then", "allowed")

    def __init__(self, allowed: bool | None = None) -> None:
        self.allowed = allowed
        self._then: list[Callable[[], None]] = []

    def give(self, allowed: bool) -> None:
        """Say it, and call those who wait for it."""
        self.allowed = allowed
        waiting, self._then = self._then, []
        for call in waiting:
            call()

    def then(self, call: Callable[[], None]) -> None:
        """Call this when the answer is there."""
        self._then.append(call)


_YES: Final = Answer(True)


class QueryPermissions:
    """Who may query what now; answers are kept for ``seconds`` (0: not at all).

    Each resource is asked by itself, at most so many identities at once, so that a check which
    does not answer keeps only those waiting whom it concerns.
    """

    def __init__(self, registry: ResourceRegistry, seconds: float = 5.0) -> None:
        self._registry = registry
        self._seconds = seconds
        self._kept: Cache[tuple[str, Identity], tuple[float, Answer]] = Cache(_KEPT)
        self._turns: dict[str, asyncio.Semaphore] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._generation = 0

    def ask(self, resource: str, identity: Identity) -> Answer:
        """Whether the identity may query the resource; the answer may come later."""
        if not is_guarded(self._registry[resource]):
            return _YES
        kept = self._kept.find((resource, identity))
        if kept is not None and kept[0] > time.monotonic():
            return kept[1]
        answer = Answer()
        self._keep(resource, identity, answer)
        task = asyncio.create_task(
            self._find(resource, identity, answer), name="tidings-permission"
        )
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return answer

    def forget(self) -> None:
        """Ask everything anew: an answer that is on its way counts for what it was asked for."""
        self._generation += 1
        self._kept.clear()

    async def close(self) -> None:
        """Ask nothing any more."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._turns.clear()

    def _keep(self, resource: str, identity: Identity, answer: Answer) -> None:
        if self._seconds > 0:
            until = time.monotonic() + self._seconds
            self._kept.put((resource, identity), (until, answer))

    async def _find(self, name: str, identity: Identity, answer: Answer) -> None:
        generation, allowed = self._generation, False
        try:
            async with self._turns.setdefault(name, asyncio.Semaphore(_AT_ONCE)):
                allowed = await self._ask(name, identity)
        finally:
            answer.give(allowed)
            # From when it was given; one that was asked for before something changed is not kept.
            if generation == self._generation and answer.allowed is not None:
                self._keep(name, identity, answer)

    async def _ask(self, name: str, identity: Identity) -> bool:
        resource = self._registry[name]
        try:
            await check_permission(resource, operation_context(resource, "query", identity))
        except (PermissionDenied, AuthenticationError, Unavailable):
            return False
        return True


async def _allowed_in_time(resource: ResourceType, context: OperationContext) -> bool:
    """The answer of a check; whatever it is about, it counts while locks are held."""
    uow = context.transaction
    if uow is None or uow.patience is None or not is_guarded(resource):
        return await _allowed(resource, context)
    if uow.patience <= 0:
        raise Unavailable(
            "Permission for each record of this request takes too long while others wait for its "
            "locks; send fewer at once",
            code="CHECKS_TOO_SLOW",
        )
    began = time.monotonic()
    try:
        return await _allowed(resource, context)
    finally:
        uow.patience -= time.monotonic() - began


async def _allowed(resource: ResourceType, context: OperationContext) -> bool:
    try:
        async with asyncio.timeout(resource.check_seconds) as limit:
            return await _answer(resource, context)
    except (PermissionDenied, Unavailable):
        raise
    except TimeoutError as error:
        if not limit.expired():
            shown = without_values(error)
            _log.error("permission check of %r failed and denies", resource.name, exc_info=shown)
            return False
        _log.error(
            "permission check of %r gave no answer in %g s, which denies: see "
            "Api(check_timeout=...)",
            resource.name,
            resource.check_seconds,
        )
        return False
    except Exception as error:  # noqa: BLE001  a check that fails in any way has not said yes
        shown = without_values(error)
        _log.error("permission check of %r failed and denies", resource.name, exc_info=shown)
        return False


async def _answer(resource: ResourceType, context: OperationContext) -> bool:
    if resource.rules is not None and not await resource.rules.allows(context):
        return False
    if resource.check_permissions is None:
        return True
    answer = resource.check_permissions(context)
    if inspect.isawaitable(answer):
        answer = await answer
    return answer is True

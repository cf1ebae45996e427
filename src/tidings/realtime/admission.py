"""Admission: may this identity watch this? The client's filters, and the clauses of the hooks."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from tidings.errors import ConfigurationError, FilterError, PermissionDenied, RequestError
from tidings.filters import (
    EVERYTHING,
    ClientFilters,
    Expression,
    all_of,
    build_clause,
    build_filters,
    opaque_without_record_test,
)
from tidings.hooks import HookRegistry
from tidings.identity import Identity
from tidings.realtime.requests import SubscribeRequest, named_resource, parse_subscribe
from tidings.realtime.subscriptions import SubscriptionContext, SubscriptionDraft
from tidings.resources import View, Visibility, is_guarded, looked_into
from tidings.resources.naming import (
    declared_fieldsets,
    declared_filters,
    declared_paths,
    spell_error,
)
from tidings.schema import ResourceType
from tidings.values import without_values

_log = logging.getLogger("tidings.realtime")


@dataclass(frozen=True, slots=True)
class Admitted:
    """A request that may become a subscription: what the client asked, and what the server adds."""

    identity: Identity
    request: SubscribeRequest
    own: ClientFilters
    """What the client asked."""
    client: ClientFilters
    """The same, as far as it may look at what its filters go through."""
    clauses: Expression
    """The row policy, and what the hooks require."""
    asked: tuple[str, ...] = ()
    """The resources that this looks at, of which somebody may be denied to query them."""

    @property
    def is_guarded(self) -> bool:
        """Whether not everybody may see everything of what this looks at."""
        return bool(self.asked) or self.clauses != EVERYTHING or self.client.terms != self.own.terms

    @property
    def filters(self) -> dict[str, Any]:
        """The client's own filters, as it is shown them."""
        resource = self.request.resource
        return {resource.member_name(n): value for n, value in self.client.normalised.items()}

    @property
    def expression(self) -> Expression:
        """What is watched; the clauses come first, since they are what most records fail."""
        return all_of([self.clauses, self.client.expression])

    @property
    def resources(self) -> frozenset[str]:
        """The resources that are looked at in any way, by policies and hooks, too."""
        resource = self.request.resource
        return _one_of_each(frozenset({resource.name}) | looked_into(resource, self.expression))


@lru_cache(maxsize=10_000)
def _one_of_each(names: frozenset[str]) -> frozenset[str]:
    """The same set for equal ones: every subscription keeps it."""
    return names


class Admission:
    """Holds subscribe requests against the schema, permissions and hooks; it changes nothing."""

    def __init__(self, visibility: Visibility, hooks: HookRegistry) -> None:
        self._visibility = visibility
        self._hooks = hooks

    async def admit(self, identity: Identity, payload: object) -> Admitted:
        """Check a request whole.

        Raises:
            RequestError: with the code that WIRE.md has for it.
        """
        registry = self._visibility.registry(identity)
        resource = named_resource(registry, payload)
        try:
            return await self._admit(View(registry, resource, identity), identity, payload)
        except RequestError as error:
            spell_error(resource, error)
            raise

    async def _admit(self, view: View, identity: Identity, payload: object) -> Admitted:
        registry, resource = view.registry, view.resource
        # Before anything else is looked at: an error would tell of the schema.
        await self._visibility.permit_query(view)
        request = parse_subscribe(registry, resource, payload)
        client = build_filters(resource, declared_filters(resource, request.filters), identity)
        looked_at = await self._visibility.permit_related(view, client.expression)
        include = tuple(declared_paths(registry, resource, request.include))
        fields = declared_fieldsets(registry, request.fields)
        assert isinstance(fields, dict)
        draft = SubscriptionDraft(resource.name, client.normalised, include, fields)
        clauses = await self._clauses(resource, SubscriptionContext(draft, identity))
        unsupported = opaque_without_record_test(client.expression)
        if unsupported is not None:
            raise FilterError(
                f"Filter '{unsupported}' requires 'filterRecord' (filter_record) "
                "for WebSocket support",
                code="UNSUPPORTED_FILTER",
                resource=resource.name,
            )
        policies = self._visibility.policies
        guarded = client.changed(lambda term: policies.guarded(resource, term, identity))
        policy = self._visibility.condition(view)
        names = (resource.name, *sorted(looked_at))
        asked = tuple(name for name in names if is_guarded(registry[name]))
        clause = all_of([policy, *clauses])
        return Admitted(identity, request, client, guarded, clause, asked)

    async def _clauses(
        self, resource: ResourceType, context: SubscriptionContext
    ) -> list[Expression]:
        """Run the hooks; whatever goes wrong in them refuses the subscription."""
        draft, clauses = context.subscription, list[Expression]()

        def collect() -> None:
            # As each hook leaves them: what a later one takes back or rewrites still holds.
            given = [] if draft.filters == {} else [draft.filters]
            clauses.extend(build_clause(resource, clause) for clause in (*given, *draft.clauses))

        refusal = PermissionDenied(
            f"You may not subscribe to '{resource.name}'", resource=resource.name
        )
        try:
            async with asyncio.timeout(resource.check_seconds):
                await self._hooks.run("subscription_filters", context, after_each=collect)
            return clauses
        except RequestError as error:
            error.resource = error.resource or resource.name
            raise
        except PermissionError as error:  # Python's own, for hooks that import nothing
            if error.args and isinstance(error.args[0], str):
                refusal = PermissionDenied(error.args[0], resource=resource.name)
            raise refusal from error
        except ConfigurationError as error:
            _log.warning("subscription refused: %s", error)
            raise refusal from error
        except Exception as error:
            shown = without_values(error)
            message = "a subscription_filters hook failed, which refuses the subscription"
            _log.error(message, exc_info=shown)
            raise refusal from error

"""Admission: may this identity watch this? The client's filters, and the clauses of the hooks."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

from tidings.errors import ConfigurationError, DatabaseBusy, FilterError, PermissionDenied
from tidings.filters import (
    ClientFilters,
    Expression,
    all_of,
    build_clause,
    build_filters,
    opaque_without_record_test,
)
from tidings.hooks import HookRegistry
from tidings.identity import Identity
from tidings.realtime.requests import SubscribeRequest, parse_subscribe
from tidings.realtime.subscriptions import SubscriptionContext, SubscriptionDraft
from tidings.resources import Policies, check_permission, operation_context
from tidings.schema import ResourceRegistry, ResourceType
from tidings.values import without_values

_log = logging.getLogger("tidings.realtime")


@dataclass(frozen=True, slots=True)
class Admitted:
    """A request that may become a subscription: what the client asked, and what the server adds."""

    request: SubscribeRequest
    client: ClientFilters
    clauses: Expression
    """The row policy, and what the hooks require."""

    @property
    def filters(self) -> dict[str, Any]:
        """The client's own filters, as it is shown them."""
        return self.client.normalised

    @property
    def expression(self) -> Expression:
        """What is watched; the clauses come first, since they are what most records fail."""
        return all_of([self.clauses, self.client.expression])


class Admission:
    """Holds subscribe requests against the schema, permissions and hooks; it changes nothing."""

    def __init__(self, registry: ResourceRegistry, hooks: HookRegistry, policies: Policies) -> None:
        self._registry = registry
        self._hooks = hooks
        self._policies = policies

    async def admit(self, identity: Identity, payload: object) -> Admitted:
        """Check a request whole.

        Raises:
            RequestError: with the code that WIRE.md has for it.
        """
        request = parse_subscribe(self._registry.seen_by(identity), payload)
        resource = request.resource
        await check_permission(resource, operation_context(resource, "query", identity))
        client = build_filters(resource, request.filters, identity)
        draft = SubscriptionDraft(resource.name, client.normalised, request.include, request.fields)
        clauses = await self._clauses(resource, SubscriptionContext(draft, identity))
        unsupported = opaque_without_record_test(client.expression)
        if unsupported is not None:
            raise FilterError(
                f"Filter '{unsupported}' requires 'filterRecord' (filter_record) "
                "for WebSocket support",
                code="UNSUPPORTED_FILTER",
                resource=resource.name,
            )
        policy = self._policies.of(resource, "query", identity)
        client = client.changed(lambda term: self._policies.guarded(resource, term, identity))
        return Admitted(request, client, all_of([policy, *clauses]))

    async def _clauses(
        self, resource: ResourceType, context: SubscriptionContext
    ) -> list[Expression]:
        """Run the hooks; whatever goes wrong in them refuses the subscription."""
        draft = context.subscription
        refusal = PermissionDenied(
            f"You may not subscribe to '{resource.name}'", resource=resource.name
        )
        try:
            await self._hooks.run("subscription_filters", context)
            given = [] if draft.filters == {} else [draft.filters]
            return [build_clause(resource, clause) for clause in (*given, *draft.clauses)]
        except PermissionDenied as error:
            error.resource = error.resource or resource.name
            raise
        except DatabaseBusy:
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

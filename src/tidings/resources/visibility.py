"""Visibility: the one place that says what somebody may see of a resource, for every face."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from tidings.filters import EVERYTHING, Atom, Expression, Linked, all_of, columns_used
from tidings.identity import Asker, Trusted
from tidings.resources.context import Method, operation_context
from tidings.resources.includes import IncludeTree, included_resources
from tidings.resources.permissions import check_permission, permit
from tidings.resources.policies import Policies
from tidings.schema import Relationship, ResourceRegistry, ResourceType
from tidings.storage import UnitOfWork

_NOTHING_INCLUDED: Final[IncludeTree] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class View:
    """A resource as an asker may know it: fields that it may not read are hidden, and what would
    tell of them is not there. ``registry`` has the other resources, known in the same way.
    """

    registry: ResourceRegistry
    resource: ResourceType
    auth: Asker


class Visibility:
    """What an asker may know, query and see."""

    def __init__(self, registry: ResourceRegistry, policies: Policies) -> None:
        self._registry = registry
        self.policies = policies

    def registry(self, auth: Asker) -> ResourceRegistry:
        """The resources as this asker may know them."""
        return self._registry if isinstance(auth, Trusted) else self._registry.seen_by(auth)

    def view(self, name: str, auth: Asker) -> View:
        """A resource as this asker may know it."""
        registry = self.registry(auth)
        return View(registry, registry[name], auth)

    async def permit_query(self, view: View) -> None:
        """Ask whether the asker may query the resource at all.

        Raises:
            PermissionDenied, AuthenticationError: it may not.
        """
        await permit(view.resource, operation_context(view.resource, "query", view.auth), view.auth)

    async def permit_related(
        self,
        view: View,
        filters: Expression = EVERYTHING,
        include: IncludeTree = _NOTHING_INCLUDED,
        uow: UnitOfWork | None = None,
    ) -> frozenset[str]:
        """Ask the same of each resource that filters look into and that is brought in; gives
        their names. ``uow``: the transaction within which that is.

        Raises:
            PermissionDenied, AuthenticationError: one of them may not be queried.
        """
        if isinstance(view.auth, Trusted):
            return frozenset()
        names = looked_into(view.resource, filters)
        names |= included_resources(view.registry, view.resource, include)
        for name in sorted(names):
            target = view.registry[name]
            context = operation_context(target, "query", view.auth, uow=uow)
            await check_permission(target, context)
        return names

    def condition(
        self, view: View, method: Method = "query", filters: Expression = EVERYTHING
    ) -> Expression:
        """What a record must be like to be seen by the asker, and to satisfy its filters."""
        policy = self.policies.of(view.resource, method, view.auth)
        return all_of([policy, self.policies.guarded(view.resource, filters, view.auth)])

    async def members(self, link: Relationship, key: object, auth: Asker) -> Expression:
        """What is true of the members of a to-many relationship, of the record with this id.

        Raises:
            PermissionDenied, AuthenticationError: what links them may not be queried.
        """
        own = Atom(link.foreign_key, "=", key)
        if not link.through:
            return own
        through = self.view(link.through, auth)
        await self.permit_query(through)
        where = all_of([own, self.condition(through)])
        return Linked(through.resource, link.other_key, where)

    async def visible(self, view: View, filters: Expression = EVERYTHING) -> Expression:
        """The same, after permission was asked for all that this looks at.

        Raises:
            PermissionDenied, AuthenticationError: it may not be looked at.
        """
        await self.permit_query(view)
        await self.permit_related(view, filters)
        return self.condition(view, "query", filters)


def looked_into(resource: ResourceType, filters: Expression) -> frozenset[str]:
    """The names of the resources on the paths that filters go along."""
    if not resource.related:
        return frozenset()
    paths = columns_used(filters) & resource.related.keys()
    return frozenset(hop.resource for path in paths for hop in resource.related[path].hops)

"""TenancyPlugin: records belong to tenants, and nobody sees beyond their own."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from tidings.api import Api
from tidings.filters import Both
from tidings.policies import tenant
from tidings.resources import OperationContext
from tidings.schema import ResourceType
from tidings.schema.resource import RowPolicy


class TenancyPlugin:
    """Keeps every resource that has the column within the tenant that the token names.

        api.use(TenancyPlugin())                          # column and claim tenant_id
        api.use(TenancyPlugin("workspace_id", claim="ws", exempt=["plans"]))

    The tenant comes from a verified claim and from nowhere else. It is ANDed to the resource's own
    row policy, on reads, writes, includes and subscriptions; a new record gets it where none is
    given; a filter that names another tenant is refused (403), rather than answered with nothing.
    Without the claim nothing is seen.
    """

    name = "tenancy"

    def __init__(
        self, column: str = "tenant_id", *, claim: str | None = None, exempt: Collection[str] = ()
    ) -> None:
        self._column = column
        self._claim = claim or column
        self._exempt = frozenset(exempt)
        self._kept: set[str] = set()

    def install(self, api: Api) -> None:
        api.add_hook("before_write", "tenancy", self._fill_in)
        api.transform_resources(self._keep)

    def _keep(self, resource: ResourceType) -> ResourceType:
        if resource.name in self._exempt or self._column not in resource.fields:
            return resource
        self._kept.add(resource.name)
        own = tenant(self._column, self._claim)
        policies = resource.row_policy or {"*": lambda columns, identity: True}
        return replace(
            resource,
            row_policy={method: _both(own, policy) for method, policy in policies.items()},
            enforced={**resource.enforced, self._column: self._claim},
        )

    def _fill_in(self, context: OperationContext) -> None:
        if context.resource not in self._kept or context.values is None:
            return
        value = getattr(context.auth, self._claim)
        if context.method == "post" and value is not None:
            context.values.setdefault(self._column, value)


def _both(first: RowPolicy, second: RowPolicy) -> RowPolicy:
    return lambda columns, identity: Both((first(columns, identity), second(columns, identity)))

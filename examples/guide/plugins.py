"""The guide's two plugins: who may watch what, by workspace and by role.

A hook runs for every subscription, a restored one too. What it puts into
``subscription.filters`` holds beside the client's own filters: the client neither sees it nor can
it remove or overwrite it.

The guide's hooks narrow subscriptions and nothing else; its collections over HTTP show everybody's
rows. Here each of these resources has a row policy as well (see ``app.py``), which holds on every
way; the hooks are kept for what the guide shows with them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Final

from tidings import Api, Identity, OperationContext, PermissionDenied, SubscriptionContext

ADMIN: Final = "admin"


class MultiTenancyPlugin:
    """Keeps subscriptions inside the workspace that the token names.

    The guide's hook puts ``workspace_id`` on every subscription. Here only some resources have
    such a column, and a condition on a column that is not there refuses the subscription; so the
    plugin is told which ``resources`` belong to a workspace.
    """

    name = "multi-tenancy"
    dependencies = ("rest-api", "socketio")

    def __init__(self, resources: Collection[str]) -> None:
        self._resources = frozenset(resources)

    def install(self, api: Api) -> None:
        api.add_hook("subscription_filters", "workspace-isolation", self._isolate)
        api.add_hook("before_write", "workspace-of-the-creator", self._fill_in)

    def _isolate(self, context: SubscriptionContext) -> None:
        subscription = context.subscription
        if subscription.resource not in self._resources:
            return
        workspace = _workspace(context.auth)
        if workspace is None:
            raise PermissionDenied("User must belong to a workspace")
        # Compared before it is set: the guide's hook does it the other way round, so that it
        # never refuses.
        if subscription.requested_filters.get("workspace_id", workspace) != workspace:
            raise PermissionDenied("Cannot subscribe to other workspaces")
        subscription.filters["workspace_id"] = workspace

    def _fill_in(self, context: OperationContext) -> None:
        if context.resource in self._resources:
            _default(context, "workspace_id", _workspace(context.auth))


class UserRolesPlugin:
    """Lets those who are no admins watch only what is theirs."""

    name = "user-roles"
    dependencies = ("rest-api", "socketio")

    def install(self, api: Api) -> None:
        api.add_hook("subscription_filters", "role-based-filters", self._restrict)
        api.add_hook("before_write", "owner-is-the-creator", self._fill_in)

    def _restrict(self, context: SubscriptionContext) -> None:
        subscription, auth = context.subscription, context.auth
        if auth.has_role(ADMIN):
            return
        match subscription.resource:
            case "orders":
                subscription.filters["customer_id"] = auth.user_id
            case "invoices":
                subscription.filters["user_id"] = auth.user_id
            case "messages":
                subscription.filters["$or"] = [
                    {"sender_id": auth.user_id},
                    {"recipient_id": auth.user_id},
                ]
            case "admin-logs":
                raise PermissionDenied("Access denied to admin resources")

    def _fill_in(self, context: OperationContext) -> None:
        columns = {"orders": "customer_id", "invoices": "user_id", "messages": "sender_id"}
        if context.resource in columns:
            _default(context, columns[context.resource], context.auth.user_id)


def _workspace(auth: Identity) -> str | None:
    """The workspace that the token names; None where its claim is missing or is no id."""
    claim = auth.workspace_id
    is_id = isinstance(claim, str | int) and not isinstance(claim, bool) and claim != ""
    return str(claim) if is_id else None


def _default(context: OperationContext, column: str, value: str | None) -> None:
    """What a new record does not say about its owner, the token does."""
    if context.record is None and context.values is not None and value is not None:
        context.values.setdefault(column, value)


Check = Callable[[OperationContext], bool]


def admins_only(context: OperationContext) -> bool:
    """Allow everything to admins and nothing to others."""
    return context.auth.has_role(ADMIN)


def members_only(context: OperationContext) -> bool:
    """Allow a record to its own workspace and to admins; a new one and a query to any user."""
    if context.record is None or context.auth.has_role(ADMIN):
        return context.auth.is_authenticated
    workspace = _workspace(context.auth)
    return workspace is not None and context.record["workspace_id"] == workspace


def owners_only(*columns: str) -> Check:
    """Allow a record to those it names in a column and to admins; the rest as `members_only`."""

    def check(context: OperationContext) -> bool:
        auth, record = context.auth, context.record
        if not auth.is_authenticated or record is None or auth.has_role(ADMIN):
            return auth.is_authenticated
        return any(record[column] == auth.user_id for column in columns)

    return check

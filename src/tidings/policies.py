"""Row policies for the common cases, and ways to combine them.

    from tidings import policies

    api.add_resource("posts", schema, row_policy=policies.either(
        policies.owner("author_id"), policies.public("is_public"), policies.role("admin")))

Each is a function ``(columns, identity)``, like one of your own. A claim that the identity lacks
makes its policy deny.
"""

from __future__ import annotations

from typing import Any

from tidings.filters import Either
from tidings.resources.policies import MissingClaim
from tidings.schema.resource import RowPolicy


def owner(column: str = "owner_id") -> RowPolicy:
    """Records whose ``column`` is the user's id."""
    return lambda columns, identity: {column: identity.user_id}


def tenant(column: str = "tenant_id", claim: str | None = None) -> RowPolicy:
    """Records whose ``column`` is the token's claim, by default the claim of the same name."""
    return lambda columns, identity: {column: getattr(identity, claim or column)}


def public(column: str = "is_public") -> RowPolicy:
    """Records whose boolean ``column`` is true, for everybody, signed in or not."""
    return lambda columns, identity: {column: True}


def role(*names: str) -> RowPolicy:
    """Every record, for who has one of the roles; none for others."""
    return lambda columns, identity: any(identity.has_role(name) for name in names)


def signed_in() -> RowPolicy:
    """Every record, for who has a token."""
    return lambda columns, identity: identity.is_authenticated


def either(*policies: RowPolicy) -> RowPolicy:
    """Records that one of the policies allows; one that lacks a claim allows none."""

    def any_of_them(columns: Any, identity: Any) -> Any:
        answers = []
        for policy in policies:
            try:
                answers.append(policy(columns, identity))
            except MissingClaim:
                continue
        return Either(tuple(answers))

    return any_of_them

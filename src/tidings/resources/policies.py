"""Row policies: which records an identity may see or change, as one more filter, ANDed everywhere.

A policy is ordinary code that is called with the resource's columns and the identity, and answers
with True, False, a clause (a dict, as hooks give them) or an SQLAlchemy expression. It must depend
on nothing but the identity, since its answer is kept. Whatever goes wrong in it denies.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, Final

from tidings.errors import ConfigurationError
from tidings.filters import EVERYTHING, NOTHING, Expression, any_of, read_clause
from tidings.identity import Identity
from tidings.resources.context import Method
from tidings.schema import ResourceType

_log = logging.getLogger("tidings.permissions")
_KEPT: Final = 10_000


class MissingClaim(Exception):
    """A policy looked at something that the identity does not have."""


class PolicyIdentity:
    """An identity as policies see it: what it has not is not None, but ends the policy.

    ``columns.tenant_id == None`` would mean "is null", and show what belongs to nobody.
    """

    __slots__ = ("_identity",)

    def __init__(self, identity: Identity) -> None:
        self._identity = identity

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._identity, name)
        if value is None:
            raise MissingClaim(name)
        return value


class Policies:
    """The row policies of an api's resources, worked out once per identity."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[str, str, Identity], Expression] = OrderedDict()

    def forget(self) -> None:
        """Ask every policy anew from now on."""
        self._kept.clear()

    def of(self, resource: ResourceType, method: Method, auth: Identity | None) -> Expression:
        """What a record must be like for this identity and operation; trusted code (None) sees
        everything.
        """
        if auth is None or not resource.row_policy:
            return EVERYTHING
        key = (resource.name, method, auth)
        found = self._kept.get(key)
        if found is None:
            found = self._kept[key] = decide(resource, method, auth)
            if len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        else:
            self._kept.move_to_end(key)
        return found


def decide(resource: ResourceType, method: Method, auth: Identity) -> Expression:
    """Call the policy and read its answer; NOTHING where it denies or fails."""
    policies = resource.row_policy
    policy = policies.get(method, policies.get("*"))
    if policy is None:
        return NOTHING
    try:
        return read_clause(resource, lambda columns: policy(columns, PolicyIdentity(auth)))
    except MissingClaim as missing:
        _log.debug("row policy of %r denies: no claim %s", resource.name, missing)
    except ConfigurationError as error:
        _log.error("row policy of %r denies: %s", resource.name, error)
    except Exception:  # noqa: BLE001  a policy that fails in any way has not said yes
        _log.exception("row policy of %r failed and denies", resource.name)
    return NOTHING

"""Row policies: which records an identity may see or change, as one more filter, ANDed everywhere.

A policy is ordinary code that is called with the resource's columns and the identity, and answers
with True, False, a clause (a dict, as hooks give them) or an SQLAlchemy expression. It must depend
on nothing but the identity, since its answer is kept. Whatever goes wrong in it denies.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from functools import cached_property
from typing import Any, Final

from tidings.cache import Cache
from tidings.errors import ConfigurationError, PermissionDenied
from tidings.filters import (
    EVERYTHING,
    NOTHING,
    AllOf,
    AnyOf,
    Atom,
    Expression,
    Misread,
    Mistyped,
    Not,
    all_of,
    any_of,
    columns_used,
    compile_predicate,
    read_clause,
)
from tidings.identity import Asker, Identity, Trusted
from tidings.resources.context import Method
from tidings.schema import ResourceRegistry, ResourceType
from tidings.schema.resource import RowPolicy
from tidings.storage import Connection, RecordStore, Row

_log = logging.getLogger("tidings.permissions")
_KEPT: Final = 10_000
KEPT_SECONDS: Final = 60.0
"""For so long an answer is kept where nobody says that rights have changed."""


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


class _Policy:
    """A policy's answer to one identity, and the function that holds a row against it."""

    def __init__(self, expression: Expression) -> None:
        self.expression = expression

    @cached_property
    def admits(self) -> Callable[[Row], bool] | None:
        """None where the policy looks at related records, for which the database has to be asked.

        Compiled when a row is first held against it: most answers are asked for in SQL alone.
        """
        if any("." in column for column in columns_used(self.expression)):
            return None
        return compile_predicate(self.expression)


class Policies:
    """The row policies of an api's resources, worked out once per identity."""

    def __init__(self, registry: ResourceRegistry, store: RecordStore) -> None:
        self._registry = registry
        self._store = store
        self._open = _Policy(EVERYTHING)
        self._kept: Cache[tuple[str, Method, Identity], tuple[float, _Policy]] = Cache(_KEPT)
        self._clock: Callable[[], float] = time.monotonic

    def forget(self) -> None:
        """Ask every policy anew from now on."""
        self._kept.clear()

    def of(self, resource: ResourceType, method: Method, auth: Asker) -> Expression:
        """What a record must be like for this identity and operation; trusted code sees all."""
        return self._of(resource, method, auth).expression

    def _of(self, resource: ResourceType, method: Method, auth: Asker) -> _Policy:
        if isinstance(auth, Trusted) or not resource.row_policy:
            return self._open
        key = (resource.name, method, auth)
        kept = self._kept.find(key)
        if kept is None or kept[0] <= self._clock():
            policy = _Policy(decide(resource, method, auth))
            kept = (self._clock() + KEPT_SECONDS, policy)
            self._kept.put(key, kept)
        return kept[1]

    def guarded(self, resource: ResourceType, filters: Expression, auth: Asker) -> Expression:
        """Filters through relationships see only those related records that the identity may.

        A negation is guarded as a whole: what a term says of a related record that may not be seen
        is not false, it is unknown.
        """
        if isinstance(auth, Trusted) or not resource.related:
            return filters
        match filters:
            case AllOf(terms):
                return all_of(self.guarded(resource, term, auth) for term in terms)
            case AnyOf(terms):
                return any_of(self.guarded(resource, term, auth) for term in terms)
            case _:
                paths = sorted(columns_used(filters) & resource.related.keys())
                guards = [guard for path in paths for guard in self._along(resource, path, auth)]
                if guards and isinstance(filters, Atom) and filters.operator == "is null":
                    # True as well where there is nothing that could be hidden.
                    hop = resource.related[filters.column].hops[0]
                    if not hop.to_many:
                        return any_of([Atom(hop.near, "is null"), all_of([filters, *guards])])
                return all_of([filters, *guards])

    async def sees(
        self,
        connection: Connection,
        resource: ResourceType,
        method: Method,
        auth: Asker,
        row: Row,
    ) -> bool:
        """Whether the policy for the method admits this row, which the database holds."""
        policy = self._of(resource, method, auth)
        if policy.admits is not None:
            return policy.admits(row)
        expression = all_of([Atom("id", "=", row["id"]), policy.expression])
        return bool(await self._store.find(connection, resource, expression))

    async def require(
        self,
        connection: Connection,
        resource: ResourceType,
        method: Method,
        auth: Asker,
        row: Row,
    ) -> None:
        """Return if the policy for the method admits this row.

        Raises:
            PermissionDenied: it does not.
        """
        if not await self.sees(connection, resource, method, auth, row):
            raise PermissionDenied(
                f"You may not {method} this '{resource.name}'", resource=resource.name
            )

    def along(self, resource: ResourceType, path: str, auth: Asker) -> Expression:
        """Whether what a path leads to may be seen by the asker, of each record of a resource."""
        if isinstance(auth, Trusted):
            return EVERYTHING
        return all_of(self._along(resource, path, auth))

    def _along(self, resource: ResourceType, path: str, auth: Identity) -> list[Expression]:
        """The policies of the resources that a path leads through, as the path sees them."""
        found: list[Expression] = []
        names = path.split(".")[:-1]
        for number, hop in enumerate(resource.related[path].hops, start=1):
            target = self._registry[hop.resource]
            policy = self.of(target, "query", auth)
            if policy == EVERYTHING:
                continue
            prefix = ".".join(names[:number])
            found.append(seen_from(resource, policy, prefix))
        return found


def seen_from(resource: ResourceType, policy: Expression, prefix: str) -> Expression:
    """A policy of a related resource over the paths that lead to its columns.

    A part that no path reaches makes all of it NOTHING: taken for false by itself, it would be
    true below a negation.
    """
    found = _along_path(resource, policy, prefix)
    if found is None:
        _log.error(
            "the row policy at the end of %r is too complex for a filter of %r: it denies",
            prefix,
            resource.name,
        )
        return NOTHING
    return found


def _along_path(resource: ResourceType, policy: Expression, prefix: str) -> Expression | None:
    match policy:
        case Atom(column, operator, value, some) if _is_reached(resource, prefix, column, some):
            return Atom(f"{prefix}.{column}", operator, value, some)
        case AllOf(terms):
            return _joined_along(resource, terms, prefix, all_of)
        case AnyOf(terms):
            return _joined_along(resource, terms, prefix, any_of)
        case Not(term):
            found = _along_path(resource, term, prefix)
            return None if found is None else Not(found)
        case _:
            return None


def _is_reached(resource: ResourceType, prefix: str, column: str, some: bool) -> bool:
    """Whether a path leads there, with as many values as the policy speaks of.

    Along a to-many prefix it would not be the same record that the filter and the policy are true
    of; a path of the policy's own may well be to-many.
    """
    related = resource.related.get(f"{prefix}.{column}")
    if related is None or related.many != some:
        return False
    hops = prefix.count(".") + 1
    return not any(hop.to_many for hop in related.hops[:hops])


def _joined_along(
    resource: ResourceType,
    terms: Iterable[Expression],
    prefix: str,
    join: Callable[[Iterable[Expression]], Expression],
) -> Expression | None:
    found = [_along_path(resource, term, prefix) for term in terms]
    reached = [term for term in found if term is not None]
    return join(reached) if len(reached) == len(found) else None


class _Probe:
    """Somebody whose every claim is there: for a first look at what policies say."""

    def __getattr__(self, name: str) -> Any:
        return "1"


def _asking(policy: RowPolicy) -> Callable[[Any], Any]:
    return lambda columns: policy(columns, _Probe())


def check_policies(registry: ResourceRegistry) -> None:
    """Ask every policy once, before anybody does, so that what it can never say is said at start.

    Raises:
        ConfigurationError: names the resource, and what its policy looks at that is not there.
    """
    for resource in registry:
        for method, policy in resource.row_policy.items():
            try:
                read_clause(resource, _asking(policy))
            except Misread as error:
                if "there is no column" in str(error):
                    raise ConfigurationError(
                        f"resource {resource.name!r}, row_policy, {method!r}: {error}"
                    ) from None
            except Exception:  # noqa: BLE001, S110  it is made for other claims than these
                pass


def decide(resource: ResourceType, method: Method, auth: Identity) -> Expression:
    """Call the policy and read its answer; NOTHING where it denies or fails.

    Raises:
        Misread: it says something else than it seems to, or nothing that can be read.
    """
    policies = resource.row_policy
    policy = policies.get(method, policies.get("*"))
    if policy is None:
        return NOTHING
    try:
        return read_clause(resource, lambda columns: policy(columns, PolicyIdentity(auth)))
    except MissingClaim as missing:
        _log.debug("row policy of %r denies: no claim %s", resource.name, missing)
    except Mistyped as error:
        # A claim may hold anything; a user id is what the policy is written for.
        if error.value == auth.user_id:
            raise Misread(f"row policy of {resource.name!r}: {error}") from None
        _log.error("row policy of %r denies: %s", resource.name, error)
    except Misread as error:
        # An empty list would look like the truth: whoever wrote it is told what it says.
        raise Misread(f"row policy of {resource.name!r}: {error}") from None
    except ConfigurationError as error:
        _log.error("row policy of %r denies: %s", resource.name, error)
    except Exception:  # noqa: BLE001  a policy that fails in any way has not said yes
        _log.exception("row policy of %r failed and denies", resource.name)
    return NOTHING

"""Why was I told of this change, or why not? For clients, and for those who develop them.

A client is told nothing about a record that it may not read: not that there is one of this id,
nor that it has changed. Nor does an answer over a socket hold any value of a record; what is
quoted is the client's own filter.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from tidings.errors import (
    AuthenticationError,
    ConfigurationError,
    FilterError,
    InvalidRequest,
    NotFound,
    PermissionDenied,
)
from tidings.feed import Change, Cursor, Feed
from tidings.filters import (
    AllOf,
    Atom,
    Expression,
    all_of,
    build_clause,
    build_filters,
    columns_used,
    compile_predicate,
    in_words,
    value_in_words,
)
from tidings.identity import ANONYMOUS, Asker, Identity, Trusted
from tidings.matching import is_told, is_unknown, way_through
from tidings.realtime.admission import Admission, Admitted
from tidings.realtime.notifications import timestamp
from tidings.realtime.requests import readable
from tidings.realtime.subscriptions import Subscriber, Subscription
from tidings.resources import (
    OperationContext,
    Operations,
    check_permission,
    is_guarded,
    not_found,
    operation_context,
)
from tidings.resources.naming import declared_filters
from tidings.schema import ResourceType, ValueProblem, describe

MAX_CHANGES: Final = 10
"""So many of a record's last changes are explained."""
NOTHING_TO_TELL: Final = "No change of such a record that you may read is remembered"
Record = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Clause:
    """One part of what a subscription asks for, and whether the record satisfies it.

    ``origin`` is the name of the client's filter, or ``server`` for a clause that a hook added.
    """

    origin: str
    words: str
    holds: bool

    def __str__(self) -> str:
        return f"{'holds' if self.holds else 'fails'}: {self.origin}: {self.words}"


@dataclass(frozen=True, slots=True)
class Explanation:
    """Whether a record is in a subscription's view, and which of its clauses hold.

    ``refusal`` says why the subscription itself would be refused, if it would.
    """

    matches: bool
    clauses: tuple[Clause, ...]
    refusal: str | None = None

    def __str__(self) -> str:
        if self.refusal is not None:
            return f"does not match: the subscription is refused: {self.refusal}"
        head = "matches" if self.matches else "does not match"
        return "\n".join([head, *(f"  {clause}" for clause in self.clauses)])


class Explainer:
    """Explains matches, to clients (`changes`) and to trusted code (`record`)."""

    def __init__(self, operations: Operations, feed: Feed) -> None:
        self._operations = operations
        self._registry = operations.registry
        self._admission = Admission(operations.visibility, operations.hooks)
        self._feed = feed

    async def changes(self, subscription: Subscription, record_id: str) -> dict[str, Any]:
        """What became of the last changes of a record, for a subscription of this client."""
        resource = self._registry[subscription.resource]
        identity = subscription.subscriber.identity
        asked = {"resource": resource.name, "filters": dict(subscription.filters)}
        explained: list[dict[str, Any]] = []
        try:
            admitted = await self._admission.admit(identity, asked)
            found = await self._feed.changes_of(resource.name, record_id, MAX_CHANGES)
            is_there = bool(found) and await self._may_get(resource, identity, record_id)
            for offset, change in found:
                # Of what is gone, or may not be read now, it is known only since the subscription
                # was made (or checked anew) who could read it.
                if not is_there and admitted.is_guarded and offset <= subscription.since:
                    continue
                images = await self._readable(resource, admitted, change, is_there=is_there)
                if images:
                    cursor = str(Cursor(self._feed.position.epoch, offset))
                    way, reason = _outcome(subscription, admitted, change, images, offset)
                    explained.append(_entry(cursor, change, way, reason))
        except (PermissionDenied, AuthenticationError):
            explained = []
        return {
            "subscriptionId": subscription.id,
            "resource": resource.name,
            "id": record_id,
            "changes": explained,
            "message": None if explained else NOTHING_TO_TELL,
        }

    async def _may_get(self, resource: ResourceType, identity: Identity, record_id: str) -> bool:
        """Whether there is such a record, for this client."""
        try:
            await self._operations.get(resource.name, record_id, auth=identity)
        except (NotFound, PermissionDenied, AuthenticationError):
            return False
        return True

    async def _readable(
        self, resource: ResourceType, admitted: Admitted, change: Change, *, is_there: bool
    ) -> list[Record]:
        """The images of a change that this client may read, the newer one first.

        Changes need not carry all columns: then that it may read the record now has to do.
        """
        if is_unknown(change, admitted.clauses):
            return []  # a value that was too long is left out, and is not null for all that
        is_visible = compile_predicate(admitted.clauses)
        images = []
        for image in (change.after, change.before):
            if image is None or not is_visible(image):
                continue
            if resource.fields.keys() <= image.keys() - change.unknown:
                context = operation_context(
                    resource, "get", admitted.identity, record_id=change.id, record=dict(image)
                )
                if not await self._may_read(resource, context):
                    continue
            elif not is_there and is_guarded(resource):
                continue  # a check could look at what is not there
            images.append(image)
        return images

    async def _may_read(self, resource: ResourceType, context: OperationContext) -> bool:
        try:
            await check_permission(resource, context)
        except (PermissionDenied, AuthenticationError):
            return False
        return True

    async def record(
        self,
        resource: ResourceType,
        record: Record | object,
        filters: Mapping[str, Any],
        auth: Asker,
        where: Mapping[str, Any] | None,
    ) -> Explanation:
        """Hold a record (its columns, or its id) against what a subscription would watch.

        Raises:
            FilterError: the filters cannot be used.
            NotFound: there is no record of this id.
            ConfigurationError: a column that is looked at is missing from ``record``.
        """
        parts: list[tuple[str, Expression]] = []
        if isinstance(auth, Trusted):
            client = build_filters(resource, declared_filters(resource, filters), ANONYMOUS)
        else:
            try:
                payload = {"resource": resource.name, "filters": dict(filters)}
                admitted = await self._admission.admit(auth, payload)
            except (PermissionDenied, AuthenticationError, FilterError) as error:
                if isinstance(error, FilterError) and error.code != "UNSUPPORTED_FILTER":
                    raise
                return Explanation(False, (), error.message)
            client = admitted.client
            parts += [("server", term) for term in _terms(admitted.clauses)]
        if where is not None:
            parts += [("where", term) for term in _terms(build_clause(resource, where))]
        parts += [(f"filter {name!r}", term) for name, term in client.terms.items()]
        expressions = [term for _, term in parts]
        if isinstance(record, Mapping):
            row, answers = record, _answers(resource, record, expressions)
        else:
            row, answers = await self._asked(resource, record, expressions)
        clauses = tuple(
            Clause(origin, _with_value(term, row, holds=holds), holds)
            for (origin, term), holds in zip(parts, answers, strict=True)
        )
        return Explanation(all(answers), clauses)

    async def _asked(
        self, resource: ResourceType, record_id: object, expressions: list[Expression]
    ) -> tuple[Record, list[bool]]:
        """Have the database answer, which can decide custom filters without a record side, too."""
        store = self._operations.store
        try:
            itself = Atom("id", "=", resource.cast_id(record_id))
        except ValueProblem:
            raise not_found(resource, record_id) from None
        async with self._operations.scopes.reading(None, snapshot=True) as connection:
            rows = await store.find(connection, resource, itself)
            if not rows:
                raise not_found(resource, record_id)
            answers = [
                bool(await store.find(connection, resource, all_of([itself, expression])))
                for expression in expressions
            ]
        return rows[0], answers


def _terms(expression: Expression) -> tuple[Expression, ...]:
    return expression.terms if isinstance(expression, AllOf) else (expression,)


def _answers(resource: ResourceType, record: Record, expressions: list[Expression]) -> list[bool]:
    missing = columns_used(all_of(expressions)) - set(record)
    if missing:
        raise ConfigurationError(
            f"explain: the record of {resource.name!r} has no column {min(missing)!r}: give all "
            "columns that the filters look at, or the record's id"
        )
    return [compile_predicate(expression)(record) for expression in expressions]


def _with_value(term: Expression, record: Record, *, holds: bool) -> str:
    words = in_words(term)
    if holds or not isinstance(term, Atom) or term.column not in record:
        return words
    return f"{words}; it is {value_in_words(record[term.column])}"


def parse_explain(payload: object, subscriber: Subscriber) -> tuple[Subscription, str]:
    """The subscription and the record's id that a client asks about.

    Raises:
        RequestError: what it is that cannot be used.
    """
    payload = readable(payload, "INVALID_DATA")
    if not isinstance(payload, dict):
        raise InvalidRequest(f"Expected an object, got {describe(payload)}", code="INVALID_DATA")
    subscription = subscriber.named(payload)
    resource = payload.get("resource", subscription.resource)
    if resource != subscription.resource:
        raise InvalidRequest(
            f"The subscription is of '{subscription.resource}'",
            code="INVALID_DATA",
            resource=subscription.resource,
        )
    record_id = payload.get("id")
    if isinstance(record_id, bool) or not isinstance(record_id, str | int) or record_id == "":
        raise InvalidRequest("'id' is required: that of a record", code="INVALID_DATA")
    return subscription, str(record_id)[:255]


def _outcome(
    subscription: Subscription,
    admitted: Admitted,
    change: Change,
    images: list[Record],
    offset: int,
) -> tuple[str | None, str | None]:
    """The way that was told and, where nothing was told, why."""
    expression = subscription.node.expression
    is_lost = is_unknown(change, expression)
    way = None if is_lost else way_through(change, compile_predicate(expression))
    if is_lost or way is not None:
        if offset <= subscription.since:
            return None, "it was before the subscription was made"
        if is_lost:
            return None, (
                "it has too many related records, or too long a value: the subscription was told "
                "to resync"
            )
        if not is_told(change, way):
            return None, "only a related record has changed, and this one still matches"
        return way, None
    for name, term in admitted.client.terms.items():
        if not compile_predicate(term)(images[0]):
            # In the client's own words: what policies add to it is not shown.
            return None, f"filter {name!r} does not hold: {in_words(admitted.own.terms[name])}"
    return None, "it does not match"


def _entry(cursor: str, change: Change, way: str | None, reason: str | None) -> dict[str, Any]:
    return {
        "cursor": cursor,
        "timestamp": timestamp(change.at),
        "action": change.action,
        "change": way,
        "reason": reason,
    }

"""Reasons: why a subscription was told of a change, or why not, for those who may know it all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from tidings.feed import Change, Invalidation
from tidings.filters import AllOf, Atom, Expression, compile_predicate, in_words, value_in_words
from tidings.inspector.figures import Document, change_document, in_turns, words
from tidings.inspector.recorder import LONGEST, Recorded
from tidings.matching import Node, is_stale, is_told, is_unknown, way_through
from tidings.realtime import SocketServer, Subscription

EXAMINED: Final = 2_000
"""So many distinct filters are looked at for one answer."""
_GROUPS: Final = 100
_USERS: Final = 5
_WORDS: Final = 300


@dataclass(slots=True)
class _Group:
    """Subscriptions of one filter that were not told, for the same reason."""

    node: Node
    reason: str
    subscriptions: int = 0
    users: dict[str, None] = field(default_factory=dict)


class Reasons:
    """Holds a change against the filters that are watched now.

    ``shows_values`` adds the record's own value to a clause that it fails.
    """

    def __init__(self, sockets: SocketServer, *, shows_values: bool) -> None:
        self._sockets = sockets
        self._shows_values = shows_values

    async def document(self, recorded: Recorded, user: str | None) -> Document:
        """Who was told, and why others on the same resource were not. With ``user``, only that
        user's subscriptions are looked at, and those on other resources are explained, too.
        """
        told, groups, examined = 0, dict[tuple[int, str], _Group](), 0
        for_user = self._of_user(user)
        nodes = self._nodes(recorded) if for_user is None else list(for_user)
        async for node in in_turns(nodes[:EXAMINED]):
            examined += 1
            outcome = _Outcome(recorded, node, shows_values=self._shows_values)
            members = self._members(node) if for_user is None else for_user[node]
            for subscription in members:
                reason = outcome.reason(subscription)
                if reason is None:
                    told += 1
                    continue
                group = groups.setdefault((id(node), reason), _Group(node, reason))
                group.subscriptions += 1
                who = subscription.subscriber.identity.user_id
                if who is not None and len(group.users) < _USERS:
                    group.users[who[:LONGEST]] = None
        others = sorted(groups.values(), key=lambda group: -group.subscriptions)
        return {
            "change": change_document(recorded),
            "user": user,
            "sockets": None if user is None else len(self._sockets.subscribers_of(user)),
            "matching": told,
            "examined": examined,
            "left": len(nodes) - examined,
            "groups": [
                {
                    "resource": group.node.resource,
                    "filter": words(group.node),
                    "reason": group.reason,
                    "subscriptions": group.subscriptions,
                    "users": list(group.users),
                }
                for group in others[:_GROUPS]
            ],
            "groupsFound": len(others),
        }

    def _nodes(self, recorded: Recorded) -> list[Node]:
        resource = recorded.notice.resource
        nodes = self._sockets.subscriptions.nodes()
        return [node for node in nodes if resource in (None, node.resource)]

    def _members(self, node: Node) -> Iterable[Subscription]:
        rooms = self._sockets.subscriptions.rooms(node)
        return (subscription for _, members in rooms for subscription in members)

    def _of_user(self, user: str | None) -> dict[Node, list[Subscription]] | None:
        if user is None:
            return None
        found: dict[Node, list[Subscription]] = {}
        for subscriber in self._sockets.subscribers_of(user):
            for subscription in subscriber.subscriptions.values():
                found.setdefault(subscription.node, []).append(subscription)
        return found


class _Outcome:
    """What a notice came to for one filter; each subscription may have a reason of its own."""

    def __init__(self, recorded: Recorded, node: Node, *, shows_values: bool) -> None:
        self._offset = recorded.cursor.offset
        self._shared = _of_filter(recorded, node, shows_values=shows_values)

    def reason(self, subscription: Subscription) -> str | None:
        """Why this subscription was not told of the change; None where it was."""
        if self._shared is not None:
            return self._shared
        if subscription.since >= self._offset:
            return "it was made after the change, or knew of it already"
        if not subscription.is_permitted:
            return "its user may not query what it looks at now"
        return None


def _of_filter(recorded: Recorded, node: Node, *, shows_values: bool) -> str | None:
    notice, expression = recorded.notice, node.expression
    if isinstance(notice, Invalidation):
        stale = is_stale(notice, node.resource, expression)
        return None if stale else "its filter does not look at what has changed"
    if not isinstance(notice, Change):
        return "only rights were checked anew"
    if notice.resource != node.resource:
        return f"it watches {node.resource!r}"
    if is_unknown(notice, expression):
        return "the change does not carry what the filter looks at: it was told to resync"
    try:
        way = way_through(notice, compile_predicate(expression))
        if way is None:
            return _failing(expression, notice, shows_values=shows_values)
    except Exception as error:  # noqa: BLE001  code of the application's own; matching logs it
        return f"its filter fails with {type(error).__name__}"
    if not is_told(notice, way):
        return "only a related record has changed, and this one still matches"
    return None


def _failing(expression: Expression, change: Change, *, shows_values: bool) -> str:
    """The first clause that the record fails, as it is now or was last."""
    image: Mapping[str, Any] = change.after or change.before or {}
    terms = expression.terms if isinstance(expression, AllOf) else (expression,)
    for term in terms:
        if not compile_predicate(term)(image):
            text = f"the record fails: {in_words(term)}"
            if shows_values and isinstance(term, Atom) and term.column in image:
                text += f"; it is {value_in_words(image[term.column])}"
            return text if len(text) <= _WORDS else text[: _WORDS - 1] + "…"
    return "the record does not match"

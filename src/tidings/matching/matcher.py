"""Matcher: which of the watched filters does a change enter, stay in, or leave?

Equal filters are one node, however many subscriptions hold it. A node is found through one
equality of its filter (the first, and trusted clauses come first), so that a change looks only at
the nodes whose value it has, before or after, and at those without any equality.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from tidings.feed import Change
from tidings.filters import AllOf, Atom, Expression, canonical, compile_predicate

_log = logging.getLogger("tidings.matching")
Way = Literal["enter", "update", "leave"]


@dataclass(eq=False, slots=True)
class Node:
    """One distinct filter of one resource, held by ``holders`` subscriptions."""

    resource: str
    key: str
    expression: Expression
    test: Callable[[Mapping[str, Any]], bool]
    holders: int = 0
    has_failed: bool = False


@dataclass(frozen=True, slots=True)
class Transition:
    """A change's way through one filter."""

    node: Node
    way: Way


@dataclass(slots=True)
class _Index:
    """The nodes of one resource: by column and value, and those that have no equality."""

    by_value: dict[str, dict[Any, dict[Node, None]]] = field(default_factory=dict)
    residual: dict[Node, None] = field(default_factory=dict)

    def places(self, node: Node) -> Iterator[dict[Node, None]]:
        atom = _access_atom(node.expression)
        if atom is None:
            yield self.residual
            return
        values = atom.value if atom.operator == "in" else (atom.value,)
        for value in set(values):
            yield self.by_value.setdefault(atom.column, {}).setdefault(value, {})

    def prune(self, node: Node) -> None:
        atom = _access_atom(node.expression)
        if atom is None:
            return
        buckets = self.by_value[atom.column]
        for value in atom.value if atom.operator == "in" else (atom.value,):
            if value in buckets and not buckets[value]:
                del buckets[value]
        if not buckets:
            del self.by_value[atom.column]

    def candidates(self, images: Iterable[Mapping[str, Any]]) -> list[Node]:
        found = dict(self.residual)
        for image in images:
            for column, buckets in self.by_value.items():
                found.update(buckets.get(image[column], ()))
        return list(found)


def _access_atom(expression: Expression) -> Atom | None:
    terms = expression.terms if isinstance(expression, AllOf) else (expression,)
    for term in terms:
        if isinstance(term, Atom) and term.operator in ("=", "in"):
            return term
    return None


class Matcher:
    """The watched filters of one process."""

    def __init__(self) -> None:
        self._nodes: dict[tuple[str, str], Node] = {}
        self._indexes: dict[str, _Index] = {}

    def __len__(self) -> int:
        return len(self._nodes)

    def acquire(self, resource: str, expression: Expression) -> Node:
        """The node of this filter, one holder more; equal filters give the same node."""
        key = canonical(expression)
        node = self._nodes.get((resource, key))
        if node is None:
            node = Node(resource, key, expression, compile_predicate(expression))
            self._nodes[resource, key] = node
            for place in self._indexes.setdefault(resource, _Index()).places(node):
                place[node] = None
        node.holders += 1
        return node

    def release(self, node: Node) -> None:
        """One holder less; the last one takes the node out."""
        node.holders -= 1
        if node.holders:
            return
        del self._nodes[node.resource, node.key]
        index = self._indexes[node.resource]
        for place in index.places(node):
            place.pop(node, None)
        index.prune(node)

    def match(self, change: Change) -> list[Transition]:
        """The filters that the change concerns, and its way through each."""
        index = self._indexes.get(change.resource)
        if index is None:
            return []
        before, after = change.before, change.after
        images = [image for image in (before, after) if image is not None]
        transitions = []
        for node in index.candidates(images):
            was = before is not None and _matches(node, before)
            now = after is not None and _matches(node, after)
            if was or now:
                way: Way = "update" if was and now else "enter" if now else "leave"
                transitions.append(Transition(node, way))
        _log.debug("%s %s: %d filters match", change.resource, change.id, len(transitions))
        return transitions


def _matches(node: Node, record: Mapping[str, Any]) -> bool:
    try:
        return node.test(record)
    except Exception:  # noqa: BLE001  a custom filter_record may raise anything; others go on
        if not node.has_failed:
            node.has_failed = True
            _log.exception("filter_record of %r failed; it counts as no match", node.resource)
        return False

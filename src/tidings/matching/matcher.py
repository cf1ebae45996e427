"""Matcher: which of the watched filters does a change enter, stay in, or leave?"""

from __future__ import annotations

import hashlib
import logging

from tidings.feed import Change
from tidings.filters import Atom, Expression, canonical
from tidings.matching.access import ByValues, choose
from tidings.matching.conjunctions import check_of, conjunctions
from tidings.matching.index import Index
from tidings.matching.node import Entry, Node, Transitions

_log = logging.getLogger("tidings.matching")


class Matcher:
    """The watched filters of one process: equal ones are one node, however many hold it."""

    def __init__(self) -> None:
        self._nodes: dict[tuple[str, bytes], Node] = {}
        self._indexes: dict[str, Index] = {}

    def __len__(self) -> int:
        return len(self._nodes)

    def acquire(self, resource: str, expression: Expression) -> Node:
        """The node of this filter, one holder more; equal filters give the same node."""
        key = _digest(expression)
        node = self._nodes.get((resource, key))
        if node is None:
            node = self._nodes[resource, key] = Node(resource, key, expression)
            self._add(node)
        node.holders += 1
        return node

    def find(self, resource: str, expression: Expression) -> Node | None:
        """The node of this filter, if somebody holds it."""
        return self._nodes.get((resource, _digest(expression)))

    def release(self, node: Node) -> None:
        """One holder less; the last one takes the node out."""
        node.holders -= 1
        if node.holders:
            return
        del self._nodes[node.resource, node.key]
        for entry, terms in zip(node.entries, conjunctions(node.expression), strict=True):
            self._indexes[node.resource].discard(entry, _atoms(terms))
        if node.entries and not len(self._indexes[node.resource]):
            del self._indexes[node.resource]

    def match(self, change: Change) -> Transitions:
        """The filters that the change concerns, by its way through them."""
        index = self._indexes.get(change.resource)
        if index is None:
            return Transitions([], [], [])
        was: set[Node] = set()
        now: set[Node] = set()
        if change.before is not None:
            index.collect(change.before, was)
        if change.after is not None:
            index.collect(change.after, now)
        _log.debug("%s %s: matched %d and %d", change.resource, change.id, len(was), len(now))
        return Transitions(list(now - was), list(now & was), list(was - now))

    def _add(self, node: Node) -> None:
        entries = []
        for terms in conjunctions(node.expression):
            atoms = _atoms(terms)
            access = choose(atoms)
            used = access.used if access is not None else ()
            # A key of values answers for its atoms for good; other keys only narrow down.
            answered = used if isinstance(access, ByValues) else ()
            checks = tuple(check_of(term) for term in terms if term not in answered)
            left = tuple(atom for atom in atoms if atom not in used)
            entry = Entry(node, left, checks)
            self._indexes.setdefault(node.resource, Index(Index)).add(entry, atoms)
            entries.append(entry)
        node.entries = tuple(entries)


def _digest(expression: Expression) -> bytes:
    return hashlib.blake2b(canonical(expression).encode(), digest_size=16).digest()


def _atoms(terms: tuple[Expression, ...]) -> tuple[Atom, ...]:
    return tuple(term for term in terms if isinstance(term, Atom))

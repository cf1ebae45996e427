"""Matcher: which of the watched filters does a change enter, stay in, or leave?"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Generator, Mapping
from typing import Any, cast

from tidings.feed import Change
from tidings.filters import Atom, Expression, canonical
from tidings.matching.access import Access, ByRange, ByValues, can_nest, choose
from tidings.matching.buckets import AFTER, BEFORE, Found
from tidings.matching.conjunctions import check_of, conjunctions, is_heavy
from tidings.matching.index import Index
from tidings.matching.node import Entry, Node, Transitions

_log = logging.getLogger("tidings.matching")


class Matcher:
    """The watched filters of one process: equal ones are one node, however many hold it."""

    def __init__(self) -> None:
        # With keys and values that the garbage collector need not look at, it need not look at
        # the dicts of a resource either, which are the largest there are.
        self._nodes: dict[str, dict[bytes, Node]] = {}
        self._indexes: dict[str, Index] = {}

    def __len__(self) -> int:
        return sum(map(len, self._nodes.values()))

    def watches(self, resource: str) -> bool:
        """Whether there is any filter of the resource."""
        return bool(self._nodes.get(resource))

    def acquire(self, resource: str, expression: Expression) -> Node:
        """The node of this filter, one holder more; equal filters give the same node."""
        key = _digest(expression)
        nodes = self._nodes.setdefault(resource, {})
        node = nodes.get(key)
        if node is None:
            node = nodes[key] = Node(resource, key, expression)
            self._add(node)
        node.holders += 1
        return node

    def find(self, resource: str, expression: Expression) -> Node | None:
        """The node of this filter, if somebody holds it."""
        return self._nodes.get(resource, {}).get(_digest(expression))

    def release(self, node: Node) -> None:
        """One holder less; the last one takes the node out."""
        node.holders -= 1
        if node.holders:
            return
        del self._nodes[node.resource][node.key]
        for entry, terms in zip(node.entries, conjunctions(node.expression), strict=True):
            self._indexes[node.resource].discard(entry, choose(_atoms(terms)))
        if node.entries and not len(self._indexes[node.resource]):
            del self._indexes[node.resource]
        # Entries know their node: without this only a garbage collection would free them.
        node.entries = ()

    def match(self, change: Change) -> Transitions:
        """The filters that the change concerns, by its way through them."""
        steps = self.steps(change)
        while True:
            try:
                next(steps)
            except StopIteration as end:
                return cast("Transitions", end.value)

    def steps(self, change: Change) -> Generator[None, None, Transitions]:
        """The same in steps that are short each, between which filters may come and go: those that
        come meanwhile are not found, those that go may be.
        """
        before, after = change.before, change.after
        if change.unknown:  # who looks at these is told otherwise, and the others as ever
            before, after = _filled(before, change), _filled(after, change)
        found = Found()
        index = self._indexes.get(change.resource)
        if index is not None:
            if before is not None and after is not None:
                index.collect(before, after, BEFORE | AFTER, found)
            elif before is not None:
                index.collect(before, before, BEFORE, found)
            elif after is not None:
                index.collect(after, after, AFTER, found)
            for work in found.late:  # it grows meanwhile
                yield from work(found)
            _log.debug("%s %s: matched %d", change.resource, change.id, len(found))
        ways: tuple[list[Node], ...] = ([], [], [], [])
        for node, images in found.items():
            ways[images].append(node)
        return Transitions(ways[AFTER], ways[BEFORE | AFTER], ways[BEFORE])

    def _add(self, node: Node) -> None:
        entries = []
        for terms in conjunctions(node.expression):
            if node.resource not in self._indexes:
                self._indexes[node.resource] = Index(Index)
            atoms = _atoms(terms)
            access = choose(atoms)
            entry = _entry(node, terms, atoms, access)
            self._indexes[node.resource].add(entry, access)
            entries.append(entry)
        node.entries = tuple(entries)


def _filled(image: Mapping[str, Any] | None, change: Change) -> Mapping[str, Any] | None:
    if image is None:
        return None
    return {**dict.fromkeys(change.unknown), **image}


def _entry(
    node: Node, terms: tuple[Expression, ...], atoms: tuple[Atom, ...], access: Access
) -> Entry:
    used = access.used if access is not None else ()
    left = tuple(atom for atom in atoms if atom not in used)
    nested = choose(left) if can_nest(access) else None
    # A key of values answers for its atoms for good; other keys only narrow down.
    answered = used if isinstance(access, ByValues) else ()
    open_terms = [term for term in terms if term not in answered]
    checks = tuple(check_of(term) for term in open_terms)
    innermost = nested or access
    inner = checks
    if isinstance(innermost, ByRange):
        # A place truly inside the range answers for its atoms, too.
        open_checks = zip(open_terms, checks, strict=True)
        inner = tuple(check for term, check in open_checks if term not in innermost.used)
    heavy = any(map(is_heavy, open_terms))
    return Entry(node, left if nested else (), checks, inner, heavy)


def _digest(expression: Expression) -> bytes:
    return hashlib.blake2b(canonical(expression).encode(), digest_size=16).digest()


def _atoms(terms: tuple[Expression, ...]) -> tuple[Atom, ...]:
    return tuple(term for term in terms if isinstance(term, Atom))

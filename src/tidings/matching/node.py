"""Node: one distinct filter of one resource, and the ways a change can go through it."""

from __future__ import annotations

from typing import NamedTuple

from tidings.filters import Atom, Expression
from tidings.matching.conjunctions import Check


class Node:
    """One distinct filter, held by ``holders`` subscriptions.

    ``key`` is a digest of the canonical form; equal filters have equal keys.
    """

    __slots__ = ("__weakref__", "entries", "expression", "has_failed", "holders", "key", "resource")

    def __init__(self, resource: str, key: bytes, expression: Expression) -> None:
        self.resource = resource
        self.key = key
        self.expression = expression
        self.holders = 0
        self.has_failed = False
        self.entries: tuple[Entry, ...] = ()


class Entry:
    """One alternative of a node's filter, as the index keeps it.

    ``atoms`` are those that its place in the index does not answer for and that a nested index
    could use; ``checks`` decide everything that the place leaves open. Of an entry that is found
    by a range, ``inner`` are the checks that are left for values truly inside that range.
    """

    __slots__ = ("atoms", "checks", "inner", "node")

    def __init__(
        self,
        node: Node,
        atoms: tuple[Atom, ...],
        checks: tuple[Check, ...],
        inner: tuple[Check, ...],
    ) -> None:
        self.node = node
        self.atoms = atoms
        self.checks = checks
        self.inner = inner


class Transitions(NamedTuple):
    """The nodes that a change enters, stays in, and leaves."""

    enter: list[Node]
    update: list[Node]
    leave: list[Node]

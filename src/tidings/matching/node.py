"""Node: one distinct filter of one resource, and the ways a change can go through it."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from tidings.filters import Atom, Expression
from tidings.matching.conjunctions import Check

# The garbage collector need not look at these: there are a great many, and what cycles they form
# (a node and its entries) is undone when a node is released.


class Node(msgspec.Struct, eq=False, gc=False):
    """One distinct filter, held by ``holders`` subscriptions.

    ``key`` is a digest of the canonical form; equal filters have equal keys.
    """

    resource: str
    key: bytes
    expression: Expression
    holders: int = 0
    has_failed: bool = False
    entries: tuple[Entry, ...] = ()


class Entry(msgspec.Struct, eq=False, gc=False):
    """One alternative of a node's filter, as the index keeps it.

    ``atoms`` are those that its place in the index does not answer for and that a nested index
    could use; ``checks`` decide everything that the place leaves open. Of an entry that is found
    by a range, ``inner`` are the checks that are left for values truly inside that range.
    ``is_heavy``: the checks may take long, since they look through texts or arrays, or call the
    application's code.
    """

    node: Node
    atoms: tuple[Atom, ...]
    checks: tuple[Check, ...]
    inner: tuple[Check, ...]
    is_heavy: bool = False


class Transitions(NamedTuple):
    """The nodes that a change enters, stays in, and leaves."""

    enter: list[Node]
    update: list[Node]
    leave: list[Node]

"""Subscriptions' filters, indexed: from a change to the filters that it concerns."""

from tidings.matching.matcher import Matcher
from tidings.matching.node import Node, Transitions
from tidings.matching.transition import Way, is_stale, is_told, is_unknown, way_through

__all__ = [
    "Matcher",
    "Node",
    "Transitions",
    "Way",
    "is_stale",
    "is_told",
    "is_unknown",
    "way_through",
]

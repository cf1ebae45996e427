"""Subscriptions' filters, indexed: from a change to the filters that it concerns."""

from tidings.matching.matcher import Matcher
from tidings.matching.node import Node, Transitions

__all__ = ["Matcher", "Node", "Transitions"]

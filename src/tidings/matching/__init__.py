"""Subscriptions' filters, indexed: from a change to the filters that it concerns."""

from tidings.matching.matcher import Matcher, Node, Transition, Way

__all__ = ["Matcher", "Node", "Transition", "Way"]

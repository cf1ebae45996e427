"""A page for those who run an api: what is watched, what changed, who was told, and why not."""

from tidings.inspector.plugin import InspectorPlugin

__all__ = ["InspectorPlugin"]

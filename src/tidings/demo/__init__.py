"""The demo: a live board of posts, run by ``tidings demo``."""

from tidings.demo.app import Demo, build_demo

__all__ = ["Demo", "build_demo"]

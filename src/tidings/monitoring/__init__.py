"""Watching over a running Api: health, metrics, traces."""

from tidings.monitoring.plugin import OperationsPlugin

__all__ = ["OperationsPlugin"]

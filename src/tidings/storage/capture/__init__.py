"""Capture: triggers that tell of every writer, and the table that they write to.

An application's own writes (its ORM, its scripts, a console) never pass through tidings. A trigger
notes them, in the writer's own transaction, before and after; the relay reads that table in the
order of the commits and publishes.
"""

from __future__ import annotations

from tidings.storage.capture.install import check, install, remove, statements
from tidings.storage.capture.outbox import CapturedRow, CaptureOutbox, Convert
from tidings.storage.capture.triggers import Watched

__all__ = [
    "CaptureOutbox",
    "CapturedRow",
    "Convert",
    "Watched",
    "check",
    "install",
    "remove",
    "statements",
]

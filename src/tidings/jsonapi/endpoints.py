"""Endpoints beside the resources."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from tidings.identity import Identity


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Something at a path of its own, which needs to know no more than who is asking.

    ``respond`` gives the document, or None for an answer without one.
    """

    methods: tuple[str, ...]
    respond: Callable[[Identity], Awaitable[dict[str, Any] | None]]

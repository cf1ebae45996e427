"""Endpoints beside the resources."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from tidings.identity import Identity
from tidings.jsonapi.negotiation import MEDIA_TYPE


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Something at a path of its own, which needs to know no more than who is asking, and the URL
    path below which the resources are.

    ``respond`` gives the document, or None for an answer without one.
    """

    methods: tuple[str, ...]
    respond: Callable[[Identity, str], Awaitable[Any]]
    media_type: str = MEDIA_TYPE

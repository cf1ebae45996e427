"""Requests: how many there were for each resource, with which outcome, and how long they took."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tidings.counting import Histogram
from tidings.jsonapi import resource_named
from tidings.schema import ResourceRegistry

METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
OTHER: Final = "other"
"""Stands for methods and resources that there are not: clients could think up any number."""
NO_STATUS: Final = "none"
"""The client had gone before there was an answer."""


@dataclass(slots=True)
class RequestCounters:
    """The requests of one process since it started."""

    answers: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    """By method, resource and status."""
    durations: dict[tuple[str, str], Histogram] = field(default_factory=dict)
    """Seconds until the last byte was handed over, by method and resource."""

    def add(self, method: str, resource: str, status: str, seconds: float) -> None:
        """Count a request."""
        self.answers[method, resource, status] += 1
        duration = self.durations.get((method, resource))
        if duration is None:
            duration = self.durations[method, resource] = Histogram()
        duration.observe(seconds)


class CountedRequests:
    """Counts what passes through to the app of the resources."""

    def __init__(self, app: ASGIApp, registry: ResourceRegistry, counters: RequestCounters) -> None:
        self._app = app
        self._registry = registry
        self._counters = counters

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        begin = time.perf_counter()
        status = NO_STATUS

        async def counted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = str(message["status"])
            await send(message)

        try:
            await self._app(scope, receive, counted)
        finally:
            method, resource = labels(scope, self._registry)
            self._counters.add(method, resource, status, time.perf_counter() - begin)


def labels(scope: Scope, registry: ResourceRegistry) -> tuple[str, str]:
    """The method and the resource of a request, `OTHER` in place of what there is not."""
    method, name = scope["method"], resource_named(scope)
    return method if method in METHODS else OTHER, OTHER if registry.get(name) is None else name

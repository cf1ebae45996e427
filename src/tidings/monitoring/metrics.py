"""Metrics: what has been counted, in the words of Prometheus, put together when it is asked for."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Final

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import Response

from tidings._version import __version__
from tidings.api import Api
from tidings.counting import Histogram
from tidings.feed import Cursor, SharedFeed
from tidings.monitoring.findings import Findings, ask, lag
from tidings.monitoring.questions import Questions
from tidings.monitoring.requests import RequestCounters

_REASONS: Final = ("window", "epoch", "overflow", "bulk", "permission")


class Metrics(Collector):
    """The figures of one Api, in a registry of its own.

    ``seconds`` bounds the questions that a scrape asks; what is not answered is left out.
    """

    def __init__(self, api: Api, requests: RequestCounters, *, seconds: float = 2.0) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(self)
        ProcessCollector(registry=self.registry)
        self._api = api
        self._requests = requests
        self._questions = Questions(seconds)
        self._findings = Findings()

    async def respond(self, request: Request) -> Response:
        """The answer to a scrape, in the format that it accepts."""
        self._findings = await ask(self._api, self._questions) if self._is_open else Findings()
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(self.registry), headers={"content-type": content_type})

    def describe(self) -> list[Metric]:
        """Nothing is looked at when the collector is registered: the api is not complete yet."""
        return []

    def collect(self) -> Iterator[Metric]:
        """All figures, as they are now."""
        info = {"version": __version__, "api": self._api.name, "api_version": self._api.version}
        yield InfoMetricFamily("tidings", "What is running.", value=info)
        yield _gauge("tidings_open", "Whether the api is open (1) or not (0).", self._is_open)
        yield from self._http()
        if self._is_open:
            yield from self._sockets()
            yield from self._feed()
            yield from self._publishing()

    @property
    def _is_open(self) -> bool:
        return self._api.state == "open"

    def _http(self) -> Iterator[Metric]:
        answers = CounterMetricFamily(
            "tidings_http_requests",
            "Requests for resources that have been answered.",
            labels=["method", "resource", "status"],
        )
        for labels, count in self._requests.answers.items():
            answers.add_metric(labels, count)
        yield answers
        durations = HistogramMetricFamily(
            "tidings_http_request_duration_seconds",
            "How long requests for resources took.",
            labels=["method", "resource"],
        )
        for names, histogram in self._requests.durations.items():
            durations.add_metric(names, _buckets(histogram), histogram.total)
        yield durations

    def _sockets(self) -> Iterator[Metric]:
        sockets = self._api.internals.sockets
        if sockets is None:
            return
        now = sockets.statistics()
        yield _gauge("tidings_connections", "Sockets that are connected.", now.connections)
        yield _gauge("tidings_subscriptions", "Subscriptions of all sockets.", now.subscriptions)
        yield _gauge("tidings_filters", "Distinct filters among them.", now.filters)
        yield _gauge("tidings_queue_bytes", "Queued for clients and not sent.", now.queue_bytes)
        yield CounterMetricFamily(
            "tidings_notifications", "Notifications handed over.", value=now.notifications
        )
        yield _resyncs(now.resyncs)
        yield _histogram(
            "tidings_match_seconds", "How long changes took to be matched.", now.matching
        )
        yield _histogram(
            "tidings_delivery_delay_seconds",
            "From the write of a change until all concerned were told.",
            now.delay,
        )
        yield from self._lag(now.position, now.newest_at)

    def _lag(self, delivered: Cursor, newest_at: float | None) -> Iterator[Metric]:
        behind, seconds = lag(self._api, delivered, self._findings.head)
        yield _gauge("tidings_feed_behind", "Changes in the feed, not delivered yet.", behind)
        yield _gauge("tidings_feed_lag_seconds", "Age of the oldest change among those.", seconds)
        if newest_at is not None:
            yield _gauge(
                "tidings_feed_newest_change_age_seconds",
                "Age of the newest change that has been delivered.",
                max(0.0, time.time() - newest_at),
            )

    def _feed(self) -> Iterator[Metric]:
        feed = self._api.internals.feed
        is_connected = feed.is_connected if isinstance(feed, SharedFeed) else True
        yield _gauge("tidings_feed_connected", "Whether the feed can be reached.", is_connected)
        yield _gauge("tidings_feed_offset", "The newest change read.", feed.position.offset)
        yield _gauge("tidings_feed_window_bytes", "Weight of remembered changes.", feed.weight)

    def _publishing(self) -> Iterator[Metric]:
        relay = self._api.internals.link.relay
        if relay is not None:
            yield _gauge("tidings_relay_waiting_bytes", "Changes in memory.", relay.waiting)
            yield CounterMetricFamily(
                "tidings_relay_overflows",
                "How often too much was waiting, so that it was dropped.",
                value=relay.overflows,
            )
        if self._findings.outbox is not None:
            rows, _ = self._findings.outbox
            yield _gauge("tidings_outbox_rows", "Rows to be published.", rows)
            age = self._findings.outbox_age
            yield _gauge("tidings_outbox_oldest_age_seconds", "Age of the oldest of them.", age)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=float(value))


def _histogram(name: str, text: str, histogram: Histogram) -> Metric:
    return HistogramMetricFamily(name, text, buckets=_buckets(histogram), sum_value=histogram.total)


def _buckets(histogram: Histogram) -> list[tuple[str, float]]:
    return [
        ("+Inf" if bound == float("inf") else str(bound), count)
        for bound, count in histogram.cumulative()
    ]


def _resyncs(resyncs: Mapping[str, int]) -> Metric:
    family = CounterMetricFamily(
        "tidings_resyncs", "Subscriptions that were told to refetch.", labels=["reason"]
    )
    for reason in dict.fromkeys((*_REASONS, *resyncs)):
        family.add_metric([reason], resyncs.get(reason, 0))
    return family

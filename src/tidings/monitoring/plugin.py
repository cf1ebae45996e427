"""OperationsPlugin: health, metrics and traces of an Api, as they are wanted."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp

from tidings.api import Api
from tidings.errors import ConfigurationError, MissingExtraError
from tidings.monitoring.endpoints import Endpoint
from tidings.monitoring.health import Health
from tidings.monitoring.requests import CountedRequests, RequestCounters
from tidings.schema import ResourceRegistry

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry


class OperationsPlugin:
    """Tells those who run an Api how it does.

    ``health`` is where it says whether it lives (``{health}/live``) and whether it can serve
    (``{health}/ready``, and ``health`` itself). With ``require_feed`` a process whose feed is away
    is not ready; without, it is, but degraded. ``metrics`` is where Prometheus finds figures
    (``pip install "tidings[metrics]"``); None for neither. ``tracing=True`` makes OpenTelemetry
    spans from the request to the deliveries (``pip install "tidings[otel]"``), with the
    application's tracer provider or the one given. ``check_seconds`` bounds each check.

        api.use(OperationsPlugin(metrics="/metrics"))

    Raises:
        ConfigurationError: a path that cannot be one, or no positive number of seconds.
        MissingExtraError: what is asked for needs a package that is not installed.
    """

    name = "operations"

    def __init__(
        self,
        *,
        health: str | None = "/health",
        metrics: str | None = None,
        tracing: bool = False,
        tracer_provider: Any = None,
        require_feed: bool = False,
        check_seconds: float = 2.0,
    ) -> None:
        for path in (health, metrics):
            if path is not None and (not path.startswith("/") or path.endswith("/")):
                raise ConfigurationError(f"path {path!r}: start it with '/', end it without")
        if isinstance(check_seconds, bool) or not 0 < check_seconds <= 60:
            raise ConfigurationError(
                f"check_seconds must be more than 0 and at most 60, not {check_seconds!r}"
            )
        if metrics is not None:
            _require("prometheus_client", "prometheus-client", "metrics", "metrics=")
        if tracing:
            _require("opentelemetry.trace", "opentelemetry-api", "otel", "tracing=True")
        self._paths = health, metrics
        self._traces = tracing
        self._tracer_provider = tracer_provider
        self._require_feed = require_feed
        self._seconds = check_seconds
        self._registry: CollectorRegistry | None = None

    @property
    def registry(self) -> CollectorRegistry:
        """The registry that is served, for collectors of the application's own."""
        if self._registry is None:
            raise ConfigurationError("there is a registry with metrics=, when the plugin is in use")
        return self._registry

    def install(self, api: Api) -> None:
        health, metrics = self._paths
        if health is not None:
            self._add_health(api, health)
        if metrics is not None:
            self._add_metrics(api, metrics)
        if self._traces:
            self._add_tracing(api)

    def _add_health(self, api: Api, path: str) -> None:
        health = Health(api, seconds=self._seconds, require_feed=self._require_feed)

        async def live(_: Request) -> Response:
            return JSONResponse({"status": "alive"})

        async def ready(_: Request) -> Response:
            is_ready, document = await health.ready()
            return JSONResponse(document, 200 if is_ready else 503)

        api.add_endpoint(f"{path}/live", Endpoint(live))
        for place in (path, f"{path}/ready"):
            api.add_endpoint(place, Endpoint(ready))

    def _add_metrics(self, api: Api, path: str) -> None:
        from tidings.monitoring.metrics import Metrics  # its library is an extra

        counters = RequestCounters()
        metrics = Metrics(api, counters, seconds=self._seconds)
        self._registry = metrics.registry

        def count(app: ASGIApp, registry: ResourceRegistry) -> ASGIApp:
            return CountedRequests(app, registry, counters)

        api.wrap_rest(count)
        api.add_endpoint(path, Endpoint(metrics.respond))

    def _add_tracing(self, api: Api) -> None:
        from tidings.monitoring.tracing import OpenTelemetryTracing  # its library is an extra

        tracing = OpenTelemetryTracing(self._tracer_provider)
        api.set_tracing(tracing)
        api.wrap_rest(tracing.requests)


def _require(module: str, package: str, extra: str, option: str) -> None:
    try:
        found = find_spec(module)
    except ModuleNotFoundError:  # the package that it is in
        found = None
    if found is None:
        raise MissingExtraError(package, extra, f"OperationsPlugin({option})")

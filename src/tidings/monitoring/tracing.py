"""Traces: spans of OpenTelemetry from a request to the deliveries, in whatever process they are.

    GET posts | PATCH posts (server)
    └── patch posts                 the operation
        └── commit                  from the outbox row to the end of the COMMIT
            ├── publish             the append to the feed
            └── deliver posts       in every process that has sockets
                └── match

What a span tells is names and outcomes: no ids, no values, no texts of errors.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from typing import Any, Final

from opentelemetry import propagate, trace
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer, TracerProvider
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from sqlalchemy import Dialect
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tidings._version import __version__
from tidings.errors import RequestError
from tidings.feed import Batch, Change, Cursor, Notice, decode_notice
from tidings.hooks import HookRegistry
from tidings.monitoring.requests import labels
from tidings.resources import Operations
from tidings.schema import ResourceRegistry
from tidings.storage import Appends, Connection, Publication, Publisher, RecordStore

_propagator = TraceContextTextMapPropagator()
_PARENT: Final = "traceparent"
_ERROR: Final = "error.type"
_RESOURCE: Final = "tidings.resource"


class OpenTelemetryTracing:
    """The spans of one Api; without a provider, the application's global one makes them."""

    def __init__(self, provider: TracerProvider | None = None) -> None:
        self._tracer = trace.get_tracer("tidings", __version__, provider)

    def requests(self, app: ASGIApp, registry: ResourceRegistry) -> ASGIApp:
        """An app around the one that serves the resources."""
        return _TracedRequests(self._tracer, app, registry)

    def operations(
        self,
        registry: ResourceRegistry,
        store: RecordStore,
        hooks: HookRegistry,
        publisher: Publisher,
    ) -> Operations:
        return _TracedOperations(self._tracer, registry, store, hooks, publisher)

    def publisher(self, publisher: Publisher, *, is_direct: bool) -> Publisher:
        return _TracedPublisher(self._tracer, publisher, is_direct=is_direct)

    def appending(self, feed: Appends) -> Appends:
        return _TracedFeed(self._tracer, feed)

    def delivery(self, notice: Notice) -> AbstractContextManager[None]:
        context = _context_of(notice)
        if context is None:
            return nullcontext()
        return _span(
            self._tracer,
            f"deliver {notice.resource}",
            {_RESOURCE: str(notice.resource)},
            kind=SpanKind.CONSUMER,
            context=context,
        )

    def matching(self) -> AbstractContextManager[None]:
        if not trace.get_current_span().is_recording():
            return nullcontext()
        return _span(self._tracer, "match", {})


class _TracedRequests:
    def __init__(self, tracer: Tracer, app: ASGIApp, registry: ResourceRegistry) -> None:
        self._tracer = tracer
        self._app = app
        self._registry = registry

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        method, resource = labels(scope, self._registry)
        known = {"http.request.method": method, _RESOURCE: resource}
        context: Context | None = None
        if not trace.get_current_span().get_span_context().is_valid:
            # Whoever has instrumented the application's server has read them already.
            context = propagate.extract(dict(Headers(scope=scope)))
        span = self._tracer.start_span(
            f"{method} {resource}", context, kind=SpanKind.SERVER, attributes=known
        )

        async def noted(message: Message) -> None:
            if message["type"] == "http.response.start":
                span.set_attribute("http.response.status_code", message["status"])
                if message["status"] >= 500:
                    span.set_status(Status(StatusCode.ERROR))
            await send(message)

        with trace.use_span(
            span, end_on_exit=True, record_exception=False, set_status_on_exception=False
        ):
            await self._app(scope, receive, noted)


class _TracedOperations(Operations):
    def __init__(
        self,
        tracer: Tracer,
        registry: ResourceRegistry,
        store: RecordStore,
        hooks: HookRegistry,
        publisher: Publisher,
    ) -> None:
        super().__init__(registry, store, hooks, publisher)
        self._tracer = tracer

    async def query(self, name: str, *given: Any, **options: Any) -> Any:
        with self._span("query", name):
            return await super().query(name, *given, **options)

    async def get(self, name: str, *given: Any, **options: Any) -> Any:
        with self._span("get", name):
            return await super().get(name, *given, **options)

    async def post(self, name: str, *given: Any, **options: Any) -> Any:
        with self._span("post", name):
            return await super().post(name, *given, **options)

    async def put(self, name: str, *given: Any, **options: Any) -> Any:
        with self._span("put", name):
            return await super().put(name, *given, **options)

    async def patch(self, name: str, *given: Any, **options: Any) -> Any:
        with self._span("patch", name):
            return await super().patch(name, *given, **options)

    async def delete(self, name: str, *given: Any, **options: Any) -> Any:
        with self._span("delete", name):
            await super().delete(name, *given, **options)

    def _span(self, method: str, name: str) -> AbstractContextManager[None]:
        known = {_RESOURCE: name, "tidings.operation": method}
        return _span(self._tracer, f"{method} {name}", known)


class _TracedPublisher:
    def __init__(self, tracer: Tracer, publisher: Publisher, *, is_direct: bool) -> None:
        self._tracer = tracer
        self._publisher = publisher
        self._is_direct = is_direct

    @property
    def opening(self) -> str | None:
        return self._publisher.opening

    def begin(self, changes: Sequence[Notice]) -> Publication:
        if not changes:
            return self._publisher.begin(changes)
        span = self._tracer.start_span("commit", attributes={"tidings.changes": len(changes)})
        place = _place(span)
        if place is not None:
            changes = [_marked(change, place) for change in changes]
        return _TracedPublication(
            self._tracer, span, self._publisher.begin(changes), is_direct=self._is_direct
        )


class _TracedPublication:
    def __init__(
        self, tracer: Tracer, span: Span, publication: Publication, *, is_direct: bool
    ) -> None:
        self._tracer = tracer
        self._span = span
        self._publication = publication
        self._is_direct = is_direct

    @property
    def cursor(self) -> Cursor | None:
        return self._publication.cursor

    async def keep(self, connection: Connection) -> None:
        await self._publication.keep(connection)

    def statements(self, dialect: Dialect) -> Sequence[tuple[str, Any]]:
        return self._publication.statements(dialect)

    def committed(self, *, kept: bool = True) -> None:
        context = trace.set_span_in_context(self._span)
        self._span.end()
        if not self._is_direct:
            self._publication.committed(kept=kept)
            return
        with _span(self._tracer, "publish", {}, kind=SpanKind.PRODUCER, context=context):
            self._publication.committed(kept=kept)

    def failed(self, *, doubtful: bool = False) -> None:
        self._span.set_status(Status(StatusCode.ERROR))
        self._span.end()
        self._publication.failed(doubtful=doubtful)


class _TracedFeed:
    """A span for each batch, since each is of another trace."""

    def __init__(self, tracer: Tracer, feed: Appends) -> None:
        self._tracer = tracer
        self._feed = feed

    async def append(self, batches: Sequence[Batch]) -> None:
        spans = [span for batch in batches if (span := self._begin(batch)) is not None]
        try:
            await self._feed.append(batches)
        except BaseException as error:
            for span in spans:
                _failed(span, error)
            raise
        finally:
            for span in spans:
                span.end()

    def _begin(self, batch: Batch) -> Span | None:
        context = _context_of(decode_notice(batch.entries[0]))
        if context is None:
            return None
        return self._tracer.start_span("publish", context, kind=SpanKind.PRODUCER)


@contextmanager
def _span(
    tracer: Tracer,
    name: str,
    attributes: dict[str, str],
    *,
    kind: SpanKind = SpanKind.INTERNAL,
    context: Context | None = None,
) -> Iterator[None]:
    """A span around what is done, and its outcome.

    The library would note an error with its text, and that may hold values of records.
    """
    with tracer.start_as_current_span(
        name,
        context,
        kind=kind,
        attributes=attributes,
        record_exception=False,
        set_status_on_exception=False,
    ) as span:
        try:
            yield
        except BaseException as error:
            _failed(span, error)
            raise


def _failed(span: Span, error: BaseException) -> None:
    """Note why something was not done; what a client is refused is no failure of ours."""
    if isinstance(error, RequestError) and error.status < 500:
        span.set_attribute(_ERROR, error.code)
        return
    span.set_attribute(_ERROR, type(error).__name__)
    span.set_status(Status(StatusCode.ERROR))


def _place(span: Span) -> str | None:
    """A span's place in its trace, if anybody keeps that."""
    carrier: dict[str, str] = {}
    if span.get_span_context().trace_flags.sampled:
        _propagator.inject(carrier, trace.set_span_in_context(span))
    return carrier.get(_PARENT)


def _marked(notice: Notice, place: str) -> Notice:
    return replace(notice, trace=place) if isinstance(notice, Change) else notice


def _context_of(notice: Notice) -> Context | None:
    """The place that a change was marked with; None where it is not traced."""
    if not isinstance(notice, Change) or notice.trace is None:
        return None
    context = _propagator.extract({_PARENT: notice.trace}, Context())
    return context if trace.get_current_span(context).get_span_context().is_valid else None

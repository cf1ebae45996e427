"""Traces: a delivery, wherever it happens, belongs to the trace of the write."""

from __future__ import annotations

import msgspec
import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased, Sampler, TraceIdRatioBased
from opentelemetry.trace import StatusCode

from tests.monitoring.kit import MemoryLog, client, eventually, make_api
from tests.monitoring.test_metrics import body
from tidings import Api, OperationsPlugin
from tidings.feed import Change, decode_notice, encode_notice
from tidings.feed.codec import EVERYTHING_CHANGED

pytestmark = pytest.mark.anyio
HEADER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
TRACE = 0x0AF7651916CD43DD8448EB211C80319C


class Traces:
    """A provider of its own, and what it has been given."""

    def __init__(self, sampler: Sampler | None = None) -> None:
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider(sampler=sampler)
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))

    @property
    def plugin(self) -> OperationsPlugin:
        return OperationsPlugin(tracing=True, tracer_provider=self.provider)

    @property
    def spans(self) -> dict[str, ReadableSpan]:
        return {span.name: span for span in self._exporter.get_finished_spans()}

    def tree(self) -> set[tuple[str | None, str]]:
        """Each span with its parent's name; ``remote`` where that is nobody's of ours."""
        spans = self._exporter.get_finished_spans()
        names = {span.context.span_id: span.name for span in spans}
        return {
            (span.parent and names.get(span.parent.span_id, "remote"), span.name) for span in spans
        }


async def delivered(api: Api, offset: int) -> None:
    dispatcher = api.socket_server._dispatcher
    await eventually(lambda: dispatcher.delivered.offset == offset)


async def test_a_request_is_traced_to_the_delivery() -> None:
    traces = Traces()
    api = make_api(None, traces.plugin)
    async with api, client(api.asgi()) as http:
        answer = await http.post("/api/posts", **body(title="a"))
        assert answer.status_code == 201
        await delivered(api, 1)
        assert traces.tree() == {
            (None, "POST posts"),
            ("POST posts", "post posts"),
            ("post posts", "commit"),
            ("commit", "publish"),
            ("commit", "deliver posts"),
            ("deliver posts", "match"),
        }
        attributes = dict(traces.spans["POST posts"].attributes or {})
        assert attributes == {
            "http.request.method": "POST",
            "tidings.resource": "posts",
            "http.response.status_code": 201,
        }


async def test_a_delivery_in_another_process_belongs_to_the_trace_of_the_write(tmp_path) -> None:
    """Two apis with nothing in common but the log, each with a provider of its own."""
    log, writes, reads = MemoryLog(), Traces(), Traces()
    writer = make_api(tmp_path / "a.db", writes.plugin, log=log, outbox=True)
    reader = make_api(tmp_path / "a.db", reads.plugin, log=log, outbox=True)
    async with writer, reader, client(writer.asgi()) as http:
        await http.post(
            "/api/posts",
            json=body(title="a")["json"],
            headers={"content-type": "application/vnd.api+json", "traceparent": HEADER},
        )
        await delivered(reader, 1)
        await delivered(writer, 1)
        await eventually(lambda: len(writes.spans) + len(reads.spans) >= 8)
        assert reads.tree() >= {("remote", "deliver posts"), ("deliver posts", "match")}
        commit, found = writes.spans["commit"], reads.spans["deliver posts"]
        assert found.parent is not None
        assert found.parent.span_id == commit.context.span_id
        assert found.parent.is_remote
        publish = (writes.spans | reads.spans)["publish"]  # either may have swept the outbox
        assert publish.parent is not None
        assert publish.parent.span_id == commit.context.span_id
        for span in (writes.spans | reads.spans).values():
            assert span.context.trace_id == TRACE
        assert ("remote", "POST posts") in writes.tree()


async def test_a_transaction_of_python_is_traced_too() -> None:
    traces = Traces()
    api = make_api(None, traces.plugin)
    tracer = traces.provider.get_tracer("test")
    async with api:
        with tracer.start_as_current_span("job"):
            async with api.transaction() as uow:
                await api.resources.posts.post({"title": "a"}, transaction=uow)
                await api.resources.posts.patch(1, {"title": "b"}, transaction=uow)
        await delivered(api, 1)
        tree = traces.tree()
        assert {("job", "post posts"), ("job", "patch posts"), ("job", "commit")} <= tree
        assert ("commit", "deliver posts") in tree


async def test_what_is_not_sampled_is_not_carried() -> None:
    log = MemoryLog()
    traces = Traces(ParentBased(ALWAYS_OFF))
    api = make_api(None, traces.plugin, log=log)
    async with api:
        await api.resources.posts.post({"title": "a"})
        await delivered(api, 1)
        assert traces.spans == {}
        (notice,) = map(decode_notice, log.entries)
        assert isinstance(notice, Change)
        assert notice.trace is None


async def test_without_tracing_nothing_is_carried_and_a_trace_is_let_through() -> None:
    log, traces = MemoryLog(), Traces()
    traced, plain = make_api(None, traces.plugin, log=log), make_api(None, log=log)
    async with traced, plain:
        await plain.resources.posts.post({"title": "a"})
        await delivered(traced, 1)
        assert traces.spans == {}
        await traced.resources.posts.post({"title": "a"})
        await delivered(plain, 2)
        assert [decode_notice(entry).trace is None for entry in log.entries] == [True, False]


async def test_refusals_are_no_errors_and_failures_are_without_their_texts() -> None:
    traces = Traces()
    api = make_api(None, traces.plugin)

    @api.hook("before_write")
    def fail(context: object) -> None:
        if context.values["title"] == "secret":
            raise ZeroDivisionError("secret")

    async with api, client(api.asgi()) as http:
        assert (await http.post("/api/posts", **body(title=7))).status_code == 422
        span = traces.spans["post posts"]
        assert span.status.status_code is StatusCode.UNSET
        assert (span.attributes or {})["error.type"] == "VALIDATION_FAILED"
        assert (await http.post("/api/posts", **body(title="secret"))).status_code == 500
        for name in ("post posts", "POST posts"):
            span = traces.spans[name]
            assert span.status.status_code is StatusCode.ERROR
            assert "secret" not in span.to_json()
        assert not any(span.events for span in traces.spans.values())


async def test_a_commit_that_fails_is_an_error(tmp_path, monkeypatch) -> None:
    async def commit(_transaction: object) -> None:
        raise RuntimeError("out of order")

    traces = Traces()
    api = make_api(tmp_path / "a.db", traces.plugin)
    async with api:
        monkeypatch.setattr("tidings.storage.sqlite._SqliteTransaction.commit", commit)
        with pytest.raises(RuntimeError, match="out of order"):
            async with api.transaction() as uow:
                await api.resources.posts.post({"title": "a"}, transaction=uow)
        monkeypatch.undo()
        assert traces.spans["commit"].status.status_code is StatusCode.ERROR
        assert "publish" not in traces.spans


async def test_an_append_that_fails_and_its_repetition_are_both_seen() -> None:
    log, traces = MemoryLog(), Traces()
    api = make_api(None, traces.plugin, log=log)
    async with api:
        log.is_there = False
        await api.resources.posts.post({"title": "a"})
        await eventually(lambda: "publish" in traces.spans)
        assert traces.spans["publish"].status.status_code is StatusCode.ERROR
        assert (traces.spans["publish"].attributes or {})["error.type"] == "FeedUnavailable"
        log.is_there = True
        await delivered(api, 1)
        await eventually(lambda: traces.spans["publish"].status.status_code is StatusCode.UNSET)


@pytest.mark.parametrize("trace", ["", "nonsense", "00-0-0-01", "x" * 10_000, HEADER[:-3]])
async def test_a_mark_that_is_none_is_left_alone(trace) -> None:
    log, traces = MemoryLog(), Traces(ParentBased(TraceIdRatioBased(1)))
    api = make_api(None, traces.plugin, log=log)
    async with api:
        log.entries.append(
            encode_notice(Change("posts", "1", "post", None, {"id": 1}, trace=trace))
        )
        await delivered(api, 1)
        assert traces.spans == {}


def test_a_mark_comes_after_everything_and_may_be_missing() -> None:
    plain = Change("posts", "1", "post", None, {"id": 1})
    marked = Change("posts", "1", "post", None, {"id": 1}, plain.at, trace=HEADER)
    assert decode_notice(encode_notice(marked)) == marked
    assert decode_notice(encode_notice(plain)) == plain
    fields = msgspec.msgpack.decode(encode_notice(marked))
    assert fields[-1] == HEADER
    assert msgspec.msgpack.encode(fields[:-1]) == encode_notice(plain)


def test_what_a_later_version_adds_is_left_unread() -> None:
    marked = Change("posts", "1", "post", None, {"id": 1}, trace=HEADER)
    fields = msgspec.msgpack.decode(encode_notice(marked))
    assert decode_notice(msgspec.msgpack.encode([*fields, {"more": 1}, 2])) == marked
    fields[-1] = 7  # no mark at all
    decoded = decode_notice(msgspec.msgpack.encode(fields))
    assert decoded != EVERYTHING_CHANGED
    assert decoded.trace is None

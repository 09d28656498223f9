"""Spans on their way to an OTLP receiver, by OpenTelemetry's SDK: batched, bounded, in a thread."""

import asyncio
from collections.abc import Sequence
from importlib.metadata import version
from typing import Final
from uuid import uuid4

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from runtime.tracing import metrics
from runtime.tracing.spans import Span, TraceContext, Tracer, is_within

QUEUE_MAX: Final = 16_384
"""Spans that wait for the receiver; beyond them the oldest are dropped. About 1 kB each."""
BATCH_MAX: Final = 512
"""Spans of one request; OTLP receivers take 4 MB by default."""
DELAY_MS: Final = 1000.0
TIMEOUT_S: Final = 2.0
"""Of one request with its retries: a process that ends waits for it."""

_SAMPLED: Final = TraceFlags(TraceFlags.SAMPLED)
_KINDS: Final = tuple(SpanKind)
_OK: Final = Status(StatusCode.UNSET)
_FAILED: Final = Status(StatusCode.ERROR)


class ExportingTracer(Tracer):
    """Hands spans to a processor of the SDK."""

    is_on = True

    def __init__(self, processor: SpanProcessor, *, service: str, ratio: float = 1.0) -> None:
        """`service` is the process's name; `ratio` of the traces that begin here are kept."""
        self._processor = processor
        self._ratio = ratio
        release = version("ackledger")
        self._scope = InstrumentationScope("ackledger", release)
        self._resource = Resource.create(
            {
                "service.name": f"ackledger-{service}",
                "service.namespace": "ackledger",
                "service.version": release,
                "service.instance.id": str(uuid4()),
            }
        )

    def record(self, span: Span) -> None:
        """Put a span into the processor's queue."""
        self._processor.on_end(
            ReadableSpan(
                name=span.name,
                context=_context(span.context),
                parent=None if span.parent is None else _context(span.parent, is_remote=True),
                resource=self._resource,
                attributes=span.attributes,
                links=[Link(_context(one, is_remote=True)) for one in span.links],
                kind=_KINDS[span.kind],
                status=_FAILED if span.is_error else _OK,
                start_time=span.began_ns,
                end_time=span.ended_ns,
                instrumentation_scope=self._scope,
            )
        )

    def is_chosen(self, trace_id: int) -> bool:
        """Whether a trace that begins here is kept: so many of them are."""
        return is_within(trace_id, self._ratio)

    async def close(self) -> None:
        """Send what is left; the exporter's own bound ends that."""
        await asyncio.to_thread(self._processor.shutdown)


class CountedExporter(SpanExporter):
    """Counts what another exporter could send."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send spans, and count them by what came of it."""
        result = self._exporter.export(spans)
        outcome = "exported" if result is SpanExportResult.SUCCESS else "lost"
        metrics.SPANS.labels(outcome).inc(len(spans))
        return result

    def shutdown(self) -> None:
        """Send nothing more."""
        self._exporter.shutdown()


def otlp_tracer(url: str, *, service: str, ratio: float) -> Tracer:
    """Return what sends spans to an OTLP/HTTP receiver; `url` with its path, such as /v1/traces.

    Headers, certificates and compression are read by the exporter from the OTEL_… settings.
    """
    exporter = CountedExporter(OTLPSpanExporter(endpoint=url, timeout=TIMEOUT_S))
    processor = BatchSpanProcessor(
        exporter,
        max_queue_size=QUEUE_MAX,
        schedule_delay_millis=DELAY_MS,
        max_export_batch_size=BATCH_MAX,
    )
    return ExportingTracer(processor, service=service, ratio=ratio)


def _context(context: TraceContext, *, is_remote: bool = False) -> SpanContext:
    return SpanContext(context.trace_id, context.span_id, is_remote, _SAMPLED)

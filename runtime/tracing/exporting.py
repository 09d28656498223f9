"""Spans on their way to an OTLP receiver, by OpenTelemetry's SDK: batched, bounded, in a thread."""

import asyncio
import logging
import time
from collections.abc import Sequence
from importlib.metadata import version
from typing import Final
from uuid import uuid4

import structlog
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
"""Of one request with its retries."""
FINISH_S: Final = 0.8
"""How long a process that ends begins requests; with the last of them it stays below 3 s."""

log = structlog.get_logger()

_SAMPLED: Final = TraceFlags(TraceFlags.SAMPLED)
_KINDS: Final = tuple(SpanKind)
_OK: Final = Status(StatusCode.UNSET)
_FAILED: Final = Status(StatusCode.ERROR)


class ExportingTracer(Tracer):
    """Hands spans to a processor of the SDK."""

    is_on = True

    def __init__(
        self,
        processor: SpanProcessor,
        *,
        service: str,
        ratio: float = 1.0,
        exporter: "BoundedExporter | None" = None,
    ) -> None:
        """`service` is the process's name; `ratio` of the traces that begin here are kept.

        `exporter` is told that the process ends.
        """
        self._processor = processor
        self._exporter = exporter
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
        """Send what is left, for a moment: a receiver that is away delays no restart."""
        if self._exporter is not None:
            self._exporter.finish()
        await asyncio.to_thread(self._processor.shutdown)


class BoundedExporter(SpanExporter):
    """Counts what another exporter could send; says once that it cannot, and once that it can.

    Its methods are called by the processor's thread, but `finish`.
    """

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self._ends_at: float | None = None
        self._lost = 0

    def finish(self) -> None:
        """Begin to send for so long, and drop the rest."""
        self._ends_at = time.monotonic() + FINISH_S

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send spans, and count them by what came of it."""
        is_late = self._ends_at is not None and time.monotonic() > self._ends_at
        result = SpanExportResult.FAILURE if is_late else self._exporter.export(spans)
        is_exported = result is SpanExportResult.SUCCESS
        metrics.SPANS.labels("exported" if is_exported else "lost").inc(len(spans))
        self._tell(len(spans), is_exported=is_exported)
        return result

    def shutdown(self) -> None:
        """Send nothing more."""
        self._exporter.shutdown()

    def _tell(self, count: int, *, is_exported: bool) -> None:
        if not is_exported:
            if not self._lost:
                log.warning("trace_receiver_lost", spans=count)
            self._lost += count
        elif self._lost:
            log.info("trace_receiver_back", lost_spans=self._lost)
            self._lost = 0


def otlp_tracer(url: str, *, service: str, ratio: float) -> Tracer:
    """Return what sends spans to an OTLP/HTTP receiver; `url` with its path, such as /v1/traces.

    Headers, certificates and compression are read by the exporter from the OTEL_… settings.
    """
    # It writes a line for each batch that fails, some of them a second.
    logging.getLogger("opentelemetry.exporter").setLevel(logging.CRITICAL)
    exporter = BoundedExporter(OTLPSpanExporter(endpoint=url, timeout=TIMEOUT_S))
    processor = BatchSpanProcessor(
        exporter,
        max_queue_size=QUEUE_MAX,
        schedule_delay_millis=DELAY_MS,
        max_export_batch_size=BATCH_MAX,
    )
    return ExportingTracer(processor, service=service, ratio=ratio, exporter=exporter)


def _context(context: TraceContext, *, is_remote: bool = False) -> SpanContext:
    return SpanContext(context.trace_id, context.span_id, is_remote, _SAMPLED)

"""Spans, as OpenTelemetry's own exporter has them: what they belong to, and what they never say."""

import asyncio
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID, uuid4

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from structlog.testing import capture_logs

from contracts.record import RecordedRow, Submission
from contracts.requests.transaction import command_of
from ingress.calls import names_of
from ingress.http.traces import RequestTraces
from ingress.submit.traces import SubmissionTraces
from ledger.state import Posted, Posting, Refused
from ledger.words import FailureCode
from notifier.webhooks.delivery import WebhookTraces
from notifier.webhooks.egress import Outcome
from processor.events.messages import BuiltFlight, Landing
from processor.events.owed import Owed
from processor.traces import EventTraces, PostingTraces
from runtime.amqp.publisher import Outgoing
from runtime.service.lifecycle import CLOSE_TIMEOUT_S
from runtime.service.settings import ConfigurationError, TracingSettings, load_settings
from runtime.tracing import metrics
from runtime.tracing.exporting import BATCH_MAX, BoundedExporter, ExportingTracer, otlp_tracer
from runtime.tracing.spans import (
    AnnouncementTraces,
    Span,
    TraceContext,
    child_of,
    is_within,
    new_context,
    sampled_context,
    server_of,
    tracer_of,
)
from runtime.tracing.spans import SpanKind as Kind

CLIENTS: Final = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
NOT_KEPT: Final = CLIENTS[:-2] + "00"
TRACE_ID: Final = 0x4BF92F3577B34DA6A3CE929D0E0E4736
SPAN_ID: Final = 0x00F067AA0BA902B7
EMAIL: Final = "anna@example.org"
ATTRIBUTES: Final = frozenset(
    {
        "ackledger.batch.transactions",
        "ackledger.transaction.failure_code",
        "ackledger.transaction.id",
        "ackledger.transaction.status",
        "ackledger.transaction.type",
        "ackledger.webhook.id",
        "db.collection.name",
        "db.operation.batch.size",
        "db.operation.name",
        "db.query.summary",
        "db.system.name",
        "error.type",
        "http.request.method",
        "http.request.resend_count",
        "http.response.status_code",
        "http.route",
        "messaging.destination.name",
        "messaging.message.body.size",
        "messaging.operation.name",
        "messaging.operation.type",
        "messaging.rabbitmq.destination.routing_key",
        "messaging.system",
        "server.address",
        "server.port",
    }
)
"""All that a span may say. One more is looked at twice: is it a person's, or without a bound?"""


class Kept:
    """Spans that a tracer recorded."""

    def __init__(self, *, ratio: float = 1.0) -> None:
        self._exporter = InMemorySpanExporter()
        self.tracer = ExportingTracer(
            SimpleSpanProcessor(self._exporter), service="test", ratio=ratio
        )

    @property
    def spans(self) -> Sequence[ReadableSpan]:
        """In the order in which they were recorded."""
        return self._exporter.get_finished_spans()


def parent_of(span: ReadableSpan) -> tuple[int, int] | None:
    return None if span.parent is None else (span.parent.trace_id, span.parent.span_id)


def attributes_of(span: ReadableSpan) -> Mapping[str, Any]:
    return dict(span.attributes or {})


def submission(traceparent: str | None = CLIENTS) -> Submission:
    body = {
        "type": "deposit",
        "destination_wallet_id": str(uuid4()),
        "amount": "12.34",
        "currency": "USD",
        "description": f"for {EMAIL}",
        "metadata": {"email": EMAIL},
    }
    command = command_of(body, header_key=EMAIL)
    return Submission(EMAIL, command, EMAIL, traceparent)


def recorded_row(transaction_id: UUID) -> RecordedRow:
    return RecordedRow(transaction_id, True, True, True, datetime.now(UTC))  # noqa: FBT003


def pending_row(transaction_id: UUID, traceparent: str | None = CLIENTS) -> dict[str, Any]:
    return {
        "id": transaction_id,
        "type": "deposit",
        "traceparent": traceparent,
        "description": EMAIL,
        "submitter": EMAIL,
    }


def posted(transaction_id: UUID) -> Posted:
    return Posted(transaction_id, UUID(int=1), UUID(int=2), 1, 1, 1, 0, 0)


def answered(traces: RequestTraces, traceparent: str | None, *, status: int = 202) -> str:
    names = traces.names_of(traceparent, EMAIL)
    traces.answered(
        "submit_transaction",
        names,
        received=traceparent,
        status=status,
        started=time.perf_counter() - 0.25,
    )
    return names[0]


def test_a_request_of_a_traced_client_is_a_span_beneath_the_clients_own() -> None:
    kept = Kept()
    own = answered(RequestTraces(kept.tracer), CLIENTS)
    [span] = kept.spans

    assert (span.name, span.kind) == ("POST /v1/transactions", SpanKind.SERVER)
    assert parent_of(span) == (TRACE_ID, SPAN_ID)
    # The row, the logs and whatever comes after name this span, and not the client's.
    assert sampled_context(own) == (span.context.trace_id, span.context.span_id)
    assert span.context.span_id != SPAN_ID
    assert (span.end_time or 0) - (span.start_time or 0) == pytest.approx(0.25e9, rel=0.2)
    assert attributes_of(span) == {
        "http.request.method": "POST",
        "http.route": "/v1/transactions",
        "http.response.status_code": 202,
    }


def test_a_request_without_a_trace_begins_one() -> None:
    kept = Kept()
    own = answered(RequestTraces(kept.tracer), None)
    [span] = kept.spans

    assert span.parent is None
    assert sampled_context(own) == (span.context.trace_id, span.context.span_id)


def test_what_a_client_does_not_keep_is_not_kept_here() -> None:
    kept = Kept()
    own = answered(RequestTraces(kept.tracer), NOT_KEPT)

    assert kept.spans == ()
    assert own[:36] == NOT_KEPT[:36]
    assert own.endswith("-00")


@pytest.mark.parametrize("received", ["00-nonsense", f"{CLIENTS}-{EMAIL}", ""])
def test_a_trace_that_is_none_is_no_parent(received: str) -> None:
    kept = Kept()
    answered(RequestTraces(kept.tracer), received)

    assert [span.parent for span in kept.spans] == [None]


def test_a_part_of_the_traces_that_begin_here_is_kept() -> None:
    kept = Kept(ratio=0.25)
    traces = RequestTraces(kept.tracer)
    for _ in range(2000):
        answered(traces, None)

    assert len(kept.spans) == pytest.approx(500, abs=120)  # six standard deviations
    assert all(is_within(span.context.trace_id, 0.25) for span in kept.spans)


@pytest.mark.parametrize(("status", "is_error"), [(202, False), (422, False), (503, True)])
def test_only_our_own_failures_are_errors(status: int, *, is_error: bool) -> None:
    kept = Kept()
    answered(RequestTraces(kept.tracer), CLIENTS, status=status)
    [span] = kept.spans

    assert (span.status.status_code is StatusCode.ERROR) == is_error
    assert attributes_of(span).get("error.type") == (str(status) if is_error else None)


async def test_each_request_has_its_own_span_of_a_shared_insert_and_announcement() -> None:
    kept = Kept()
    traces = SubmissionTraces(kept.tracer, database={"server.address": "db"})
    group = [submission(), submission(NOT_KEPT), submission(None), submission()]
    ids = [uuid4() for _ in group]
    rows: list[RecordedRow | Exception] = [*map(recorded_row, ids[:3]), ValueError(EMAIL)]
    traced = traces.recorded(group, rows, began_ns=time.time_ns())
    confirmed = asyncio.get_running_loop().create_future()
    traces.announcing(confirmed, 0, traced)
    confirmed.set_result(True)
    await asyncio.sleep(0)
    insert, failed, publish = kept.spans

    assert list(traced) == ids[:1]
    assert [parent_of(span) for span in kept.spans] == [(TRACE_ID, SPAN_ID)] * 3
    assert attributes_of(insert)["db.operation.batch.size"] == 4
    assert attributes_of(failed)["error.type"] == "ValueError"
    assert (publish.name, publish.kind) == ("publish ackledger.transactions.0", SpanKind.PRODUCER)
    assert attributes_of(publish)["messaging.operation.type"] == "send"
    assert attributes_of(publish)["ackledger.transaction.id"] == str(ids[0])


def test_a_batch_is_linked_to_each_of_its_transactions_and_each_to_the_batch() -> None:
    kept = Kept()
    ids = [uuid4() for _ in range(1000)]
    rows = [pending_row(one, f"00-{number + 1:032x}-{7:016x}-01") for number, one in enumerate(ids)]
    posting = Posting(
        [posted(one) for one in ids[1:-1]],
        [Refused(ids[0], FailureCode.INSUFFICIENT_FUNDS)],
        wallets=[],
    )
    PostingTraces(kept.tracer, queue="q").posted(rows, posting, began_ns=1, writing_ns=2)
    batch, commit, *each = kept.spans

    assert (batch.name, batch.kind, batch.parent) == ("process q", SpanKind.CONSUMER, None)
    assert [link.context.trace_id for link in batch.links] == list(range(1, 1001))
    assert parent_of(commit) == (batch.context.trace_id, batch.context.span_id)
    assert [parent_of(span) for span in each] == [(number, 7) for number in range(1, 1001)]
    linked = {link.context.span_id for span in each for link in span.links}
    assert linked == {batch.context.span_id}
    statuses = [attributes_of(span)["ackledger.transaction.status"] for span in each]
    assert statuses == ["FAILED", *["COMPLETED"] * 998, "PENDING"]
    assert attributes_of(each[0])["ackledger.transaction.failure_code"] == "insufficient_funds"


def test_a_batch_of_which_no_trace_is_kept_leaves_no_span() -> None:
    kept = Kept()
    rows = [pending_row(uuid4(), one) for one in (None, NOT_KEPT)]
    PostingTraces(kept.tracer).posted(rows, Posting([], [], []), began_ns=1, writing_ns=2)

    assert kept.spans == ()


def flight(ids: Sequence[UUID]) -> BuiltFlight:
    messages = [
        Outgoing("ackledger.events", "transaction.completed.deposit.USD", b"{}", "t",
                 headers=b"", traceparent=CLIENTS)
        for _ in ids
    ]  # fmt: skip
    return BuiltFlight([Owed(uuid4(), "completed", "now", ids, range(len(ids)))], messages)


def test_an_event_is_a_span_of_its_transactions_trace() -> None:
    kept = Kept()
    ids = [uuid4(), uuid4()]
    EventTraces(kept.tracer).sent(flight(ids), Landing(refused=[1]), began_ns=time.time_ns())
    taken, refused = kept.spans

    assert (taken.name, taken.kind) == ("publish ackledger.events", SpanKind.PRODUCER)
    assert parent_of(taken) == (TRACE_ID, SPAN_ID)
    assert attributes_of(taken)["ackledger.transaction.id"] == str(ids[0])
    assert taken.status.status_code is StatusCode.UNSET
    assert refused.status.status_code is StatusCode.ERROR


def delivery(traceparent: str | None = CLIENTS, *, attempts: int = 1) -> dict[str, Any]:
    return {
        "traceparent": traceparent,
        "webhook_id": UUID(int=3),
        "attempts": attempts,
        "url": "https://anna.example.org/secret",
    }


def test_an_attempt_to_deliver_is_a_span_of_its_transactions_trace() -> None:
    kept = Kept()
    traces = WebhookTraces(kept.tracer)
    traces.attempted(delivery(), Outcome(0.1, status=204), began_ns=1)
    traces.attempted(delivery(attempts=3), Outcome(0.1, error=EMAIL), began_ns=1)
    for not_kept in (None, NOT_KEPT):
        traces.attempted(delivery(not_kept), Outcome(0.1, status=204), began_ns=1)
    taken, lost = kept.spans

    assert (taken.name, taken.kind) == ("POST webhook", SpanKind.CLIENT)
    assert [parent_of(span) for span in (taken, lost)] == [(TRACE_ID, SPAN_ID)] * 2
    assert taken.status.status_code is StatusCode.UNSET
    assert lost.status.status_code is StatusCode.ERROR
    assert attributes_of(lost)["http.request.resend_count"] == 2
    assert attributes_of(lost)["error.type"] == "_OTHER"


def test_no_span_says_anything_of_a_person_or_of_money() -> None:
    """Names of clients, keys, descriptions, metadata, amounts, paths and passwords stay here."""
    kept = Kept()
    database = server_of("postgresql://anna:secret@db.internal/ledger")
    broker = server_of("amqps://anna:secret@mq.internal/anna")
    transaction_id = uuid4()
    answered(RequestTraces(kept.tracer), CLIENTS, status=500)
    one = submission()
    SubmissionTraces(kept.tracer, database=database, broker=broker).recorded(
        [one, one], [recorded_row(transaction_id), ValueError(EMAIL)], began_ns=1
    )
    posting = Posting([posted(transaction_id)], [], [])
    PostingTraces(kept.tracer, database=database, broker=broker).posted(
        [pending_row(transaction_id), pending_row(uuid4())], posting, began_ns=1, writing_ns=2
    )
    EventTraces(kept.tracer, broker=broker).sent(flight([transaction_id]), Landing(), began_ns=1)
    context = TraceContext(TRACE_ID, SPAN_ID)
    AnnouncementTraces(kept.tracer, broker=broker).announced(
        "q", {transaction_id: context}, began_ns=1
    )
    outcome = Outcome(0.1, status=500, error=f"anna.example.org: {EMAIL}")
    WebhookTraces(kept.tracer).attempted(delivery(), outcome, began_ns=1)
    said = " ".join(span.to_json() for span in kept.spans)

    assert {name for span in kept.spans for name in attributes_of(span)} <= ATTRIBUTES
    for secret in (EMAIL, "anna", "secret", "12.34", str(one.command.destination_wallet_id)):
        assert secret not in said
    assert "db.internal" in said


def test_servers_are_named_by_host_and_port() -> None:
    assert server_of("amqps://user:secret@mq.internal") == {
        "server.address": "mq.internal",
        "server.port": 5671,
    }
    assert server_of("postgresql://db:6000/name")["server.port"] == 6000


def test_without_a_receiver_names_are_as_they_were_and_nothing_is_recorded() -> None:
    traces = RequestTraces()

    assert traces.names_of(CLIENTS, "r") == names_of(CLIENTS, "r") == (CLIENTS, "r")
    others = (SubmissionTraces(), AnnouncementTraces(), PostingTraces(), EventTraces())
    assert not any(one.is_on for one in (traces, WebhookTraces(), *others))


def test_a_process_that_is_not_traced_never_loads_what_exports_spans() -> None:
    """OpenTelemetry's interfaces alone are loaded: the client of Redis does that by itself."""
    program = (
        "import sys, ingress.composition, processor.composition\n"
        "import reconciler.composition, notifier.composition\n"
        "sys.exit(any(name.startswith('opentelemetry.exporter') for name in sys.modules))"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def spans_of(count: int) -> list[Span]:
    context = new_context()
    return [
        Span("test", Kind.INTERNAL, child_of(context), 1, 2, {}, parent=context)
        for _ in range(count)
    ]


async def test_a_receiver_that_is_away_delays_no_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """A supervisor waits for a process that ends: what cannot be sent in 3 s is lost, and counted.

    The SDK alone would wait for half a minute.
    """
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    lost = metrics.SPANS.labels("lost")
    before = lost._value.get()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        tracer = otlp_tracer(f"http://127.0.0.1:{port}/v1/traces", service="test", ratio=1)
        for span in spans_of(3 * BATCH_MAX):
            tracer.record(span)
        async with asyncio.timeout(CLOSE_TIMEOUT_S):
            await tracer.close()

    assert lost._value.get() - before == 3 * BATCH_MAX


def test_a_receiver_is_said_to_be_lost_once_and_back_once() -> None:
    inner = InMemorySpanExporter()
    exporter = BoundedExporter(inner)
    with capture_logs() as lines:
        for is_away in (False, True, True, False, False):
            inner._stopped = is_away
            exporter.export([ReadableSpan("test")] * 2)

    assert [(one["event"], one.get("lost_spans")) for one in lines] == [
        ("trace_receiver_lost", None),
        ("trace_receiver_back", 4),
    ]


@pytest.mark.parametrize(
    ("environment", "is_on"),
    [
        ({}, False),
        ({"ACKLEDGER_TRACES_URL": "http://collector:4318/v1/traces"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}, True),
        (
            {
                "OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318",
                "ACKLEDGER_TRACES_RATIO": "0",
            },
            False,
        ),
    ],
)
async def test_spans_are_recorded_where_a_receiver_is_named(
    environment: dict[str, str], *, is_on: bool
) -> None:
    tracer = tracer_of(load_settings(TracingSettings, environment), service="test")
    await tracer.close()

    assert tracer.is_on == is_on


@pytest.mark.parametrize(
    "environment",
    [
        {"ACKLEDGER_TRACES_URL": "collector:4318"},
        {"ACKLEDGER_TRACES_RATIO": "1.5"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "grpc://collector:4317"},
    ],
)
def test_a_wrong_setting_stops_the_start(environment: dict[str, str]) -> None:
    [name] = environment
    with pytest.raises(ConfigurationError, match=name):
        load_settings(TracingSettings, environment)

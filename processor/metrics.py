"""What the processor counts; docs/operations.md says what to watch."""

from collections import Counter as Tally
from collections import defaultdict
from collections.abc import Mapping
from datetime import datetime
from typing import Final
from uuid import UUID

from prometheus_client import Counter, Gauge

from contracts.identifiers import trace_id_of
from contracts.messages import DeadLetterReason
from contracts.record import RecordedView
from ledger.state import BookPosting, Posting
from ledger.words import FailureCode, TransactionStatus, TransactionType
from runtime.service.measures import HotCounter, HotHistogram, from_zero
from runtime.tracing.spans import sampled_context

TRANSACTIONS: Final = HotCounter(
    "ackledger_processor_transactions",
    "Transactions that a commit of ours ended, by outcome",
    ["outcome"],
)
from_zero(TRANSACTIONS, ("completed", "failed", "quarantined"))
ENDED: Final = HotCounter(
    "ackledger_transactions_ended",
    "Transactions that a commit of ours ended, by type and status, and why those that FAILED did",
    ["type", "status", "failure_code"],
)
for _type in TransactionType:
    ENDED.labels(_type.value, TransactionStatus.COMPLETED.value, "")
    for _code in FailureCode:
        ENDED.labels(_type.value, TransactionStatus.FAILED.value, _code.value)
END_TO_END_SECONDS: Final = HotHistogram(
    "ackledger_transaction_end_to_end_seconds",
    "From a transaction's acceptance to the commit that ended it, by the database's clock",
    ["channel"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 3600),
)
from_zero(END_TO_END_SECONDS, ("http", "amqp"))
HELD_BACK: Final = HotCounter(
    "ackledger_processor_held_back", "Transactions that a rule holds back for review"
)
BATCHES: Final = HotCounter("ackledger_processor_batches", "Batches committed")
BATCH_TRANSACTIONS: Final = HotHistogram(
    "ackledger_processor_batch_transactions",
    "Transactions in a committed batch",
    buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024),
)
BATCH_SECONDS: Final = HotHistogram(
    "ackledger_processor_batch_seconds",
    "From taking a batch to its commit",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
DEAD_LETTERS: Final = Counter(
    "ackledger_processor_dead_letters", "Messages that became dead letters", ["reason"]
)
from_zero(DEAD_LETTERS, DeadLetterReason)
REPLIES_LOST: Final = Counter(
    "ackledger_processor_replies_lost", "Results that no reply queue took in time"
)
REPLIES_REFUSED: Final = Counter(
    "ackledger_processor_replies_refused",
    "Results that were not sent, since their sender may not read the queue that it named",
)
SET_ASIDE: Final = Counter(
    "ackledger_processor_set_aside",
    "Letters and answers of one message that could not be written as they should be, by kind",
    ["kind"],
)
GIVEN_BACK: Final = Counter(
    "ackledger_processor_given_back",
    "Batches that went back to the queue, since they could not be ended in time",
)
FORWARDED: Final = Counter(
    "ackledger_processor_forwarded", "Transactions announced to the other partition that posts them"
)
RETRIES: Final = Counter(
    "ackledger_processor_retries", "Batches that are tried again after a passing error"
)
BISECTIONS: Final = Counter(
    "ackledger_processor_bisections", "Batches split because of an error of unknown cause"
)
CIRCUIT_OPEN: Final = Gauge(
    "ackledger_processor_circuit_open",
    "1 while nothing is consumed because the database cannot be reached",
)
CIRCUIT_OPENINGS: Final = Counter(
    "ackledger_processor_circuit_openings", "Times that the circuit opened"
)
STUCK: Final = Gauge(
    "ackledger_processor_stuck",
    "Partitions whose batch fails again and again though the database answers",
)
CONSUMERS_REBUILT: Final = Counter(
    "ackledger_processor_consumers_rebuilt",
    "Consumers built anew by their watchdog, by reason",
    ["reason"],
)
WAITING_DELIVERIES: Final = Gauge(
    "ackledger_processor_waiting_deliveries", "Deliveries that wait for the next batch"
)
EVENTS: Final = HotCounter(
    "ackledger_relay_events", "Events confirmed by the broker", ["event_type"]
)
EVENTS_UNHEARD: Final = HotCounter(
    "ackledger_relay_unheard",
    "Events that were not sent, or came back, since no queue is bound to take them",
    ["event_type"],
)
RELAY_FAILURES: Final = Counter(
    "ackledger_relay_failures", "Rounds of the relay that have to be done again"
)
OUTBOX_AGE: Final = Gauge(
    "ackledger_outbox_oldest_seconds", "Age of the oldest event that the last round found owed"
)
EVENTS_REFUSED: Final = Counter(
    "ackledger_relay_refused", "Publishes of events that a subscriber's full queue refused"
)
REFUSED_LINES: Final = Gauge(
    "ackledger_relay_refused_lines",
    "Routing keys whose refused events wait for another try, and the line of bundles",
)
EVENTS_SET_ASIDE: Final = Counter(
    "ackledger_relay_set_aside", "Events that became dead letters, by reason", ["reason"]
)
CLAIMS_LOST: Final = Counter(
    "ackledger_relay_claims_lost", "Rows that another relay claimed while they were published"
)


def note_endings(
    rows: Mapping[UUID, RecordedView],
    posting: Posting | BookPosting,
    moment: datetime,
    *,
    is_traced: bool = False,
) -> None:
    """Count what a commit ended, by the rows as they were accepted.

    Where spans are wanted each bucket of the time to the end names a trace that is kept.
    """
    if not posting.posted and not posting.refused:
        return
    waits: dict[str, list[float]] = defaultdict(list)
    tally: Tally[tuple[str, str, str]] = Tally()
    for one in posting.posted:
        row = rows[one.transaction_id]
        tally[row["type"], "COMPLETED", ""] += 1
        waits[row["channel"]].append((moment - row["created_at"]).total_seconds())
    for refused in posting.refused:
        row = rows[refused.transaction_id]
        tally[row["type"], "FAILED", refused.code.value] += 1
        waits[row["channel"]].append((moment - row["created_at"]).total_seconds())
    for labels, count in tally.items():
        ENDED.labels(*labels).inc(count)
    for channel, seconds in waits.items():
        END_TO_END_SECONDS.labels(channel).observe_many(seconds)
    if is_traced:
        _name_traces(rows, posting, moment)


def _name_traces(
    rows: Mapping[UUID, RecordedView], posting: Posting | BookPosting, moment: datetime
) -> None:
    for one in (*posting.posted, *posting.refused):
        row = rows[one.transaction_id]
        if sampled_context(row["traceparent"]) is not None:
            seconds = (moment - row["created_at"]).total_seconds()
            trace_id = trace_id_of(row["traceparent"])
            END_TO_END_SECONDS.labels(row["channel"]).exemplify(seconds, trace_id=trace_id)

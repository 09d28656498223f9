"""What the reconciler counts; docs/operations.md says what to watch."""

from typing import Final

from prometheus_client import Counter, Gauge

from runtime.service.measures import from_zero
from verification.checks import Check

SWEPT: Final = Counter("ackledger_reconciler_swept_rows", "Transactions that the sweep walked over")
STALE: Final = Counter(
    "ackledger_reconciler_stale_transactions", "Transactions found PENDING past the threshold"
)
REPUBLISHED: Final = Counter(
    "ackledger_reconciler_republished_transactions", "Transactions published again, confirmed"
)
EXPIRED: Final = Counter(
    "ackledger_reconciler_expired_transactions",
    "Transactions that nobody posted in time and that are FAILED for it",
)
HOLDS_EXPIRED: Final = Counter(
    "ackledger_holds_expired", "Holds whose time was over and whose money was made available again"
)
SCHEDULED_DUE: Final = Counter(
    "ackledger_scheduled_due_transactions", "SCHEDULED transactions that became PENDING"
)
CLOCK_FAILURES: Final = Counter(
    "ackledger_reconciler_clock_failures",
    "Steps of the clock (holds that expire, transactions that are due) that failed",
)
FAILURES: Final = Counter(
    "ackledger_reconciler_failures", "Passes that have to be done again after an error"
)
RETRY_QUEUE: Final = Gauge(
    "ackledger_reconciler_worklist_transactions",
    "Transactions on the worklist, counted up to a bound",
)
PAUSED: Final = Gauge(
    "ackledger_reconciler_paused", "1 while the partitions' queues are too deep to add to"
)
UNSERVED: Final = Gauge(
    "ackledger_reconciler_unserved_messages",
    "Messages that wait in a queue while no consumer of it is active, by queue",
    ["queue"],
)
QUEUE_MESSAGES: Final = Gauge(
    "ackledger_reconciler_queue_messages",
    "Messages that wait in a partition's queue and are in no consumer's hands, by queue",
    ["queue"],
)
IS_LEADER: Final = Gauge("ackledger_reconciler_is_leader", "1 in the one process that reconciles")

INTEGRITY_CHECKED: Final = Counter(
    "ackledger_integrity_checked_transactions",
    "Transactions that were checked with their entries and wallets",
)
INTEGRITY_FINDINGS: Final = Counter(
    "ackledger_integrity_findings",
    "What the integrity check found wrong, once for each subject",
    ["check"],
)
from_zero(INTEGRITY_FINDINGS, Check)
INTEGRITY_KEPT_FINDINGS: Final = Gauge(
    "ackledger_integrity_kept_findings",
    "Findings in the table, of whatever age, counted up to a bound",
)
INTEGRITY_LAG_SECONDS: Final = Gauge(
    "ackledger_integrity_lag_seconds", "How far the integrity check is behind the sweep"
)
INTEGRITY_FAILURES: Final = Counter(
    "ackledger_integrity_failures", "Steps of the integrity check that have to be done again"
)

SEALED: Final = Counter("ackledger_sealed_transactions", "Transactions that were sealed")
SEAL_NUMBER: Final = Gauge("ackledger_seal_number", "The number of the last seal of the chain")
SEAL_AGE_SECONDS: Final = Gauge(
    "ackledger_seal_age_seconds",
    "How long ago the moment is up to which everything that had ended is sealed",
)
SEAL_UNSEALED: Final = Gauge(
    "ackledger_seal_waiting_transactions",
    "Transactions that had not ended when sealing passed them, counted up to a bound",
)
SEAL_IS_SIGNED: Final = Gauge("ackledger_seal_is_signed", "1 while seals are made with a signature")
SEAL_FAILURES: Final = Counter(
    "ackledger_seal_failures", "Steps of sealing that have to be done again"
)
SEAL_CHECKED: Final = Counter(
    "ackledger_seal_checked_transactions",
    "Sealed transactions that were recomputed, again and again from the chain's beginning",
)
SEAL_CHECK_FAILURES: Final = Counter(
    "ackledger_seal_check_failures", "Steps of the seals' check that have to be done again"
)
VERIFICATION_FAILURES: Final = Counter(
    "ackledger_verification_failures",
    "Verifications of the whole book that were broken off and are begun again",
)
COUNTERS_FORGOTTEN: Final = Counter(
    "ackledger_reconciler_counters_forgotten", "Counters of rules that no window held any more"
)
COUNTER_FAILURES: Final = Counter(
    "ackledger_reconciler_counter_failures",
    "Steps through the counters of rules that have to be made again after an error",
)

PENDING: Final = Gauge(
    "ackledger_pending_transactions", "Transactions that wait for posting, counted up to a bound"
)
OLDEST_PENDING_SECONDS: Final = Gauge(
    "ackledger_oldest_pending_seconds", "How long the oldest of them has waited"
)
OPEN_HOLDS: Final = Gauge(
    "ackledger_open_holds", "Holds that are open and have not expired, counted up to a bound"
)
OUTBOX_ROWS: Final = Gauge(
    "ackledger_outbox_rows", "Commits whose events are still owed, counted up to a bound"
)
OUTBOX_AGE_SECONDS: Final = Gauge(
    "ackledger_outbox_age_seconds", "How long ago the oldest of those commits was"
)
MONEY: Final = Gauge(
    "ackledger_money_minor_units",
    "What all wallets of a currency hold together, in its minor units",
    ["currency"],
)
OBSERVATION_FAILURES: Final = Counter(
    "ackledger_observation_failures", "Looks at the whole book that have to be made again"
)

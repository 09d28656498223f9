"""What the reconciler counts; docs/operations.md says what to watch."""

from typing import Final

from prometheus_client import Counter, Gauge

SWEPT: Final = Counter("ackledger_reconciler_swept_rows", "Transactions that the sweep walked over")
STALE: Final = Counter(
    "ackledger_reconciler_stale_transactions", "Transactions found PENDING past the threshold"
)
REPUBLISHED: Final = Counter(
    "ackledger_reconciler_republished_transactions", "Transactions published again, confirmed"
)
FAILURES: Final = Counter(
    "ackledger_reconciler_failures", "Passes that have to be done again after an error"
)
WORKLIST: Final = Gauge(
    "ackledger_reconciler_worklist_transactions",
    "Transactions on the worklist, counted up to a bound",
)
PAUSED: Final = Gauge(
    "ackledger_reconciler_paused", "1 while the partitions' queues are too deep to add to"
)
IS_LEADER: Final = Gauge("ackledger_reconciler_is_leader", "1 in the one process that reconciles")

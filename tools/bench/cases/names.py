"""Cases and contestants by name: what measures them and what compares them say the same words."""

from typing import Final

DRAIN: Final = "drain"
SUBMIT: Final = "submit"
END_TO_END: Final = "end-to-end"
LATENCY: Final = "latency"
STATUS: Final = "status"
START_UP: Final = "start-up"
MEMORY: Final = "memory"
GROWTH: Final = "growth"
TYPES: Final = "types"
PROOFS: Final = "proofs"
PARTITIONS: Final = "partitions"

RECORDED: Final = "batch messages (recorded ids)"
REQUESTED: Final = "upstream's batches"
SINGLES: Final = "upstream's single messages"
UNIFORM: Final = "uniform"
HOT: Final = "one hot wallet"
REFUSALS: Final = "30 % refusals"
WIDE: Final = "uniform over ten times the wallets"
ZIPF_1: Final = "Zipf 1.0"
ZIPF_2: Final = "Zipf 2.0"

ONE_QUEUE: Final = "one processor, one queue"
ONE_FOR_FOUR: Final = "one processor, four queues"
FOUR_QUEUES: Final = "four processors, four queues"

TRANSFERS: Final = "transfers"
HOLDS: Final = "holds"
CAPTURES: Final = "captures"
JOURNALS: Final = "journals of 4 legs"
HOT_ALONE: Final = "transfers from one wallet"
HOT_WITH_HOLDS: Final = "transfers from one wallet with 100,000 open holds"

PGBENCH: Final = "pgbench TPC-B"
AIO_PIKA: Final = "aio-pika + asyncpg"
AIO_PIKA_BATCHED: Final = "aio-pika + asyncpg in batches"
FASTSTREAM: Final = "FastStream + asyncpg"
CELERY: Final = "Celery + SQLAlchemy"

BATCH_OF_500: Final = "batches of 500"
BATCH_OF_500_ALONE: Final = "batches of 500, processors halted"
SINGLE_ALONE: Final = "single POSTs, processors halted"

GATHERED: Final = "reads of one instant share a query"
ONE_QUERY_EACH: Final = "one query per request"

VERIFY: Final = "verify"
EXPORT_HLEDGER: Final = "export --format hledger"
EXPORT_CSV: Final = "export --format csv"
PROVING: Final = (
    VERIFY,
    EXPORT_HLEDGER,
    "export --format ledger",
    "export --format beancount",
    EXPORT_CSV,
    "export --format jsonl",
)
"""Commands, as they are called."""

PROCESSOR_AFTER: Final = "processor, after"


def of(kind: str, pattern: str) -> str:
    """Return the contestant that drains a kind of message with a pattern of wallets."""
    return f"{kind}, {pattern}"


def over_http(connections: int) -> str:
    """Return the contestant that posts over so many connections."""
    return f"{connections} connections"


def at_rate(rate_per_s: int) -> str:
    """Return the contestant that submits so many a second."""
    return f"{rate_per_s:,}/s"


def with_history(transactions: int, wallets: int) -> str:
    """Return the step of growth with so many transactions before it."""
    return f"{transactions:,} transactions, {wallets:,} wallets"

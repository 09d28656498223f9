"""What the ingress counts; docs/operations.md says what to watch."""

from typing import Final

from prometheus_client import Counter, Gauge

from contracts.people import LoginOutcome
from runtime.service.measures import HotCounter, HotHistogram, from_zero

REQUESTS: Final = HotCounter(
    "ackledger_ingress_requests", "Requests answered", ["operation", "status"]
)
REQUEST_SECONDS: Final = HotHistogram(
    "ackledger_ingress_request_seconds",
    "From the parsed head of a request to its answer",
    ["operation"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
SUBMISSIONS: Final = HotCounter(
    "ackledger_ingress_submissions", "Submissions by how they stand to their key", ["standing"]
)
from_zero(SUBMISSIONS, ("new", "replay", "conflict"))
GROUP_SUBMISSIONS: Final = HotHistogram(
    "ackledger_ingress_group_submissions",
    "Submissions in one insert",
    buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024),
)
ANNOUNCED: Final = HotCounter(
    "ackledger_ingress_announced", "Recorded transactions that the broker confirmed"
)
UNANNOUNCED: Final = Gauge(
    "ackledger_ingress_unannounced", "Recorded transactions that wait for the broker"
)
MARKED: Final = Counter(
    "ackledger_ingress_marked_unannounced",
    "Transactions accepted without the broker's confirm, and marked so that none overtakes them",
)
LEFT_TO_RECONCILER: Final = Counter(
    "ackledger_ingress_left_to_reconciler",
    "Recorded transactions that this process will not announce any more",
)
BACKLOG: Final = Gauge("ackledger_ingress_backlog", "Transactions that wait for posting")
RATE_LIMITED: Final = Counter("ackledger_ingress_rate_limited", "Requests refused by the limit")
COUNTED_LOCALLY: Final = Counter(
    "ackledger_ingress_counted_locally",
    "Requests that this process counted by itself, since Redis did not answer",
)
LOGINS: Final = Counter("ackledger_ingress_logins", "Attempts to log in", ["outcome"])
from_zero(LOGINS, LoginOutcome)
CONNECTIONS: Final = Gauge("ackledger_ingress_connections", "Open connections of clients")
CONNECTIONS_REFUSED: Final = Counter(
    "ackledger_ingress_connections_refused", "Connections closed at once: there are too many"
)
CONNECTIONS_CUT: Final = Counter(
    "ackledger_ingress_connections_cut", "Connections closed whose client did not read its answer"
)
REDIS_FAILURES: Final = Counter(
    "ackledger_ingress_redis_failures", "Questions to Redis that went without an answer"
)
EVENTS_FOLLOWERS: Final = Gauge(
    "ackledger_ingress_events_followers", "Clients that follow the log of events"
)
EVENTS_READ: Final = Counter(
    "ackledger_ingress_events_read", "Events read from the end of the log, once for all who follow"
)

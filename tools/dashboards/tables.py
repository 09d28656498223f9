"""The six dashboards: the overview, each process, the book, who comes in, and what it runs on."""

from typing import Final

from tools.dashboards.model import Dashboard, Panel

_LED: Final = "and on (instance) ackledger_reconciler_is_leader == 1"


def _quantiles(metric: str, selector: str = "", by: str = "le") -> dict[str, str]:
    """Return the lines of a histogram's median and 99th percentile."""
    inner = f"sum by ({by}) (rate({metric}_bucket{selector}[5m]))"
    return {
        "p50": f"histogram_quantile(0.5, {inner})",
        "p99": f"histogram_quantile(0.99, {inner})",
    }


OVERVIEW: Final = Dashboard(
    "ackledger-overview",
    "Ackledger · overview",
    (
        Panel(
            "Late transactions, last hour",
            "The share that took longer than 5 s to its final state; 0.1 % may.",
            "percentunit",
            {"late": "max(ackledger:late_transactions:ratio_rate1h) or vector(0)"},
            "stat",
            (("orange", 0.001), ("red", 0.0144)),
        ),
        Panel(
            "Oldest PENDING",
            "How long the oldest accepted transaction has waited for posting.",
            "s",
            {"oldest": "ackledger:oldest_pending_seconds"},
            "stat",
            (("orange", 5), ("red", 60)),
            console_path="/transactions",
        ),
        Panel(
            "Findings",
            "What the integrity check found, and nobody has dealt with.",
            "short",
            {"findings": f"max(ackledger_integrity_kept_findings {_LED})"},
            "stat",
            (("red", 1),),
        ),
        Panel(
            "Transactions a second",
            "What commits ended, by status.",
            "ops",
            {"{{status}}": "ackledger:transactions:rate1m"},
        ),
        Panel(
            "Acceptance to final state",
            "By the database's clock.",
            "s",
            _quantiles("ackledger_transaction_end_to_end_seconds"),
            has_exemplars=True,
        ),
        Panel(
            "Submissions over HTTP",
            "From the parsed head of a request to its answer.",
            "s",
            _quantiles("ackledger_ingress_request_seconds", '{operation=~"submit_transaction.*"}'),
        ),
        Panel(
            "Waiting",
            "Transactions that are PENDING.",
            "short",
            {"PENDING": f"max(ackledger_pending_transactions {_LED})"},
        ),
        Panel(
            "Processes",
            "Those that answer.",
            "short",
            {"{{job}}": 'sum by (job) (up{job=~"ackledger-.*"})'},
        ),
        Panel(
            "Dead letters in ten minutes",
            "Messages that could not be processed, by reason.",
            "short",
            {"{{reason}}": "sum by (reason) (increase(ackledger_dead_letters_stored_total[10m]))"},
            console_path="/dead-letters",
        ),
    ),
)
INGRESS: Final = Dashboard(
    "ackledger-ingress",
    "Ackledger · ingress",
    (
        Panel(
            "Requests a second",
            "By operation.",
            "reqps",
            {"{{operation}}": "sum by (operation) (rate(ackledger_ingress_requests_total[1m]))"},
        ),
        Panel(
            "Errors a second",
            "Answers 4xx and 5xx, by status.",
            "reqps",
            {
                "{{status}}": "sum by (status) "
                '(rate(ackledger_ingress_requests_total{status=~"[45].."}[5m])) or vector(0)'
            },
        ),
        Panel(
            "Slowest operations",
            "99 of 100 requests are answered in this time.",
            "s",
            {
                "{{operation}}": "topk(8, histogram_quantile(0.99, sum by (le, operation) "
                "(rate(ackledger_ingress_request_seconds_bucket[5m]))))"
            },
        ),
        Panel(
            "Submissions by their key",
            "New, replayed, and keys used with other content.",
            "ops",
            {"{{standing}}": "sum by (standing) (rate(ackledger_ingress_submissions_total[1m]))"},
        ),
        Panel(
            "Submissions in an insert",
            "Groups grow by themselves under load.",
            "short",
            _quantiles("ackledger_ingress_group_submissions"),
        ),
        Panel(
            "Not announced",
            "Recorded transactions that wait for the broker.",
            "short",
            {"{{instance}}": "ackledger_ingress_unannounced"},
        ),
        Panel(
            "Connections",
            "Of clients, and those who follow events.",
            "short",
            {
                "open": "sum(ackledger_ingress_connections)",
                "follow events": "sum(ackledger_ingress_events_followers)",
            },
        ),
        Panel(
            "Refused by limits a second",
            "Requests over their limit.",
            "reqps",
            {"limited": "sum(rate(ackledger_ingress_rate_limited_total[5m]))"},
        ),
        Panel(
            "Backlog",
            "What waits for posting, as the ingress sees it.",
            "short",
            {"waiting": "max(ackledger_ingress_backlog)"},
        ),
    ),
)
PROCESSING: Final = Dashboard(
    "ackledger-processing",
    "Ackledger · processing and queues",
    (
        Panel(
            "Transactions in a batch",
            "One commit each.",
            "short",
            _quantiles("ackledger_processor_batch_transactions"),
        ),
        Panel(
            "A batch takes",
            "From taking it to its commit.",
            "s",
            _quantiles("ackledger_processor_batch_seconds"),
        ),
        Panel(
            "Why transactions FAILED",
            "By code.",
            "ops",
            {
                "{{failure_code}}": "sum by (failure_code) "
                '(rate(ackledger_transactions_ended_total{status="FAILED"}[5m]))'
            },
        ),
        Panel(
            "Types",
            "Completed transactions a second, by type.",
            "ops",
            {
                "{{type}}": "sum by (type) "
                '(rate(ackledger_transactions_ended_total{status="COMPLETED"}[5m]))'
            },
        ),
        Panel(
            "Deliveries that wait",
            "In hand, for the next batch.",
            "short",
            {"{{instance}}": "ackledger_processor_waiting_deliveries"},
        ),
        Panel(
            "Messages nobody consumes",
            "While no consumer of their queue is active.",
            "short",
            {"{{queue}}": "max by (queue) (ackledger_reconciler_unserved_messages)"},
            thresholds=(("red", 1),),
        ),
        Panel(
            "Circuit and stuck partitions",
            "1: a processor does not reach its database, or a batch fails again and again.",
            "short",
            {
                "open {{instance}}": "ackledger_processor_circuit_open",
                "stuck {{instance}}": "ackledger_processor_stuck",
            },
        ),
        Panel(
            "Events a second",
            "Confirmed by the broker, and those that no queue takes.",
            "ops",
            {
                "sent": "sum(rate(ackledger_relay_events_total[1m])) or vector(0)",
                "unheard": "sum(rate(ackledger_relay_unheard_total[1m])) or vector(0)",
            },
        ),
        Panel(
            "Events are owed since",
            "The oldest commit whose events are not sent.",
            "s",
            {"oldest": "ackledger:outbox_age_seconds"},
        ),
    ),
)
LEDGER: Final = Dashboard(
    "ackledger-ledger",
    "Ackledger · ledger and reconciliation",
    (
        Panel(
            "Money inside",
            "What all wallets of a currency hold together, in minor units.",
            "short",
            {"{{currency}}": f"max by (currency) (ackledger_money_minor_units {_LED})"},
        ),
        Panel(
            "Open holds",
            "Not expired.",
            "short",
            {"open": f"max(ackledger_open_holds {_LED})"},
        ),
        Panel(
            "Findings a day",
            "Of the integrity check, by check.",
            "short",
            {"{{check}}": "sum by (check) (increase(ackledger_integrity_findings_total[1d]))"},
        ),
        Panel(
            "Checked and sealed a second",
            "Transactions, behind posting.",
            "ops",
            {
                "checked": "sum(rate(ackledger_integrity_checked_transactions_total[5m]))",
                "sealed": "sum(rate(ackledger_sealed_transactions_total[5m]))",
            },
        ),
        Panel(
            "Sealed up to",
            "How long ago.",
            "s",
            {"age": "ackledger:seal_age_seconds"},
            thresholds=(("red", 300),),
        ),
        Panel(
            "The check is behind by",
            "Behind the sweep.",
            "s",
            {"lag": f"max(ackledger_integrity_lag_seconds {_LED})"},
        ),
        Panel(
            "Announced again",
            "Transactions that were PENDING for too long.",
            "ops",
            {"republished": "sum(rate(ackledger_reconciler_republished_transactions_total[5m]))"},
        ),
        Panel(
            "Worklist",
            "Transactions that the reconciler looks after.",
            "short",
            {"waiting": f"max(ackledger_reconciler_worklist_transactions {_LED})"},
        ),
        Panel(
            "Leads",
            "1 in the one process that reconciles.",
            "short",
            {"{{instance}}": "ackledger_reconciler_is_leader"},
        ),
    ),
)
SECURITY: Final = Dashboard(
    "ackledger-security",
    "Ackledger · who comes in",
    (
        Panel(
            "Logins a second",
            "By outcome.",
            "ops",
            {"{{outcome}}": "sum by (outcome) (rate(ackledger_ingress_logins_total[5m]))"},
        ),
        Panel(
            "Refused a second",
            "No valid key or token (401), a scope missing (403), a limit reached (429).",
            "reqps",
            {
                "{{status}}": "sum by (status) "
                '(rate(ackledger_ingress_requests_total{status=~"401|403|429"}[5m]))'
                " or vector(0)"
            },
        ),
        Panel(
            "Held back for review",
            "By rules, a second.",
            "ops",
            {"held": "sum(rate(ackledger_processor_held_back_total[5m]))"},
            console_path="/reviews",
        ),
        Panel(
            "Without Redis",
            "Requests that a process counted by itself.",
            "reqps",
            {"counted": "sum(rate(ackledger_ingress_counted_locally_total[5m]))"},
        ),
        Panel(
            "Webhooks",
            "Attempts a second, by what came of them.",
            "ops",
            {
                "{{outcome}}": "sum by (outcome) "
                "(rate(ackledger_notifier_webhook_deliveries_total[5m]))"
            },
        ),
        Panel(
            "Webhooks that take nothing",
            "After five days they are disabled.",
            "short",
            {"failing": "max(ackledger_notifier_failing_webhooks)"},
            console_path="/webhooks",
        ),
    ),
)
RUNTIME: Final = Dashboard(
    "ackledger-runtime",
    "Ackledger · runtime and servers",
    (
        Panel(
            "The event loop is late by",
            "99 of 100 timers are woken with less.",
            "s",
            {
                "{{instance}}": "histogram_quantile(0.99, sum by (le, instance) "
                "(rate(ackledger_loop_lag_seconds_bucket[5m])))"
            },
        ),
        Panel(
            "Connections to PostgreSQL",
            "In use, by pool.",
            "short",
            {"{{pool}}": 'ackledger_database_pool_connections{state="in_use"}'},
        ),
        Panel(
            "Memory",
            "Of each process.",
            "bytes",
            {"{{job}}": 'process_resident_memory_bytes{job=~"ackledger-.*"}'},
        ),
        Panel(
            "Cores",
            "That each process takes.",
            "short",
            {"{{job}}": 'rate(process_cpu_seconds_total{job=~"ackledger-.*"}[5m])'},
        ),
        Panel(
            "Releases",
            "Which release runs, on which Python.",
            "short",
            {"{{version}} on {{python}}": "sum by (version, python) (ackledger_build_info)"},
        ),
        Panel(
            "RabbitMQ: messages",
            "Ready and unacknowledged, of all queues.",
            "short",
            {
                "ready": "sum(rabbitmq_queue_messages_ready)",
                "unacked": "sum(rabbitmq_queue_messages_unacked)",
            },
        ),
        Panel(
            "RabbitMQ: alarms",
            "1: it blocks whoever publishes.",
            "short",
            {
                "memory": "max(rabbitmq_alarms_memory_used_watermark)",
                "disk": "max(rabbitmq_alarms_free_disk_space_watermark)",
            },
        ),
        Panel(
            "RabbitMQ: connections",
            "Open ones.",
            "short",
            {"open": "sum(rabbitmq_connections)"},
        ),
    ),
)
DASHBOARDS: Final = (OVERVIEW, INGRESS, PROCESSING, LEDGER, SECURITY, RUNTIME)

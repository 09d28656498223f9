"""What the notifier counts; docs/operations.md says what to watch."""

from typing import Final

from prometheus_client import Counter, Gauge, Histogram

from runtime.service.measures import from_zero

MAILS_SENT: Final = Counter("ackledger_notifier_mails_sent", "Mails that the SMTP server took")
MAIL_FAILURES: Final = Counter(
    "ackledger_notifier_mail_failures",
    "Tries to send a mail that failed: refused for now or for good, or no server was reached",
    ["kind"],
)
MAILS_GIVEN_UP: Final = Counter(
    "ackledger_notifier_mails_given_up", "Mails that are not tried any more"
)
MAILS_WAITING: Final = Gauge(
    "ackledger_notifier_waiting_mails", "Mails that are to be sent, counted up to a bound"
)
MAILS_OLDEST_SECONDS: Final = Gauge(
    "ackledger_notifier_oldest_mail_seconds", "Age of the oldest mail that is to be sent"
)
MAILS_PURGED: Final = Counter(
    "ackledger_notifier_mails_purged", "Mails that were sent or given up long ago, and deleted"
)
FAILURES: Final = Counter(
    "ackledger_notifier_failures", "Steps that have to be done again after an error", ["step"]
)

EVENTS: Final = Counter("ackledger_notifier_events", "Events of money that were read")
NOTIFICATIONS: Final = Counter(
    "ackledger_notifier_notifications", "Notifications of money that were written", ["kind"]
)
EVENTS_BURIED: Final = Counter(
    "ackledger_notifier_buried_events",
    "Events that cannot be read and are dead letters",
    ["reason"],
)
EVENTS_WAITING: Final = Gauge(
    "ackledger_notifier_waiting_events", "Events in hand that wait for their turn"
)
CONSUMERS_REBUILT: Final = Counter(
    "ackledger_notifier_consumers_rebuilt", "New consumers in place of lost ones", ["reason"]
)

WEBHOOK_EVENTS: Final = Counter(
    "ackledger_notifier_webhook_events", "Events that were written down for a webhook"
)
WEBHOOK_DELIVERIES: Final = Counter(
    "ackledger_notifier_webhook_deliveries",
    "Attempts to deliver an event by what came of them: delivered, failed, given_up",
    ["outcome"],
)
from_zero(WEBHOOK_DELIVERIES, ("delivered", "failed", "given_up"))
WEBHOOK_SECONDS: Final = Histogram(
    "ackledger_notifier_webhook_seconds",
    "Of one attempt to deliver, until it is written down",
    buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 15, 20),
)
WEBHOOKS_WAITING: Final = Gauge(
    "ackledger_notifier_waiting_webhooks", "Deliveries to be made, counted up to a bound"
)
WEBHOOKS_FAILING: Final = Gauge(
    "ackledger_notifier_failing_webhooks", "Webhooks that take nothing at the moment"
)
WEBHOOKS_DISABLED: Final = Counter(
    "ackledger_notifier_webhooks_disabled", "Webhooks that were disabled, since they took nothing"
)

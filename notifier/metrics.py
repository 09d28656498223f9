"""What the notifier counts; docs/operations.md says what to watch."""

from typing import Final

from prometheus_client import Counter, Gauge

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

"""The notifier's composition root: builds the parts, runs them."""

import sys
from collections.abc import Mapping
from typing import Final

from notifier.mails import MailDelivery
from notifier.money import MoneyNotifications
from notifier.smtp import PrintedMails, Sender, SmtpSender, SmtpServer
from notifier.webhooks.delivery import WebhookDelivery, WebhookTraces
from notifier.webhooks.egress import Egress
from notifier.webhooks.feed import WebhookFeed
from runtime.amqp.publisher import Publisher
from runtime.postgres.migrate import check_database
from runtime.postgres.pool import KEYED_SESSION, Pool, create_pool
from runtime.service.fault_points import fault_points_in
from runtime.service.lifecycle import Service, run_process
from runtime.service.logs import escape
from runtime.service.settings import ConfigurationError, Deployment, NotifierSettings
from runtime.service.status_server import Readiness, StatusServer, check_broker
from runtime.tracing.spans import Tracer, tracer_of

_DATABASE_CONNECTIONS: Final = 8


async def serve(settings: NotifierSettings) -> None:
    """Send mails and webhooks, and notify of money, until a signal."""
    sender = _sender(settings)
    service = Service("notifier", shutdown_timeout_s=settings.shutdown_timeout_s)
    pool = create_pool(
        settings.database_url,
        name="notifier",
        size=_DATABASE_CONNECTIONS,
        statement_timeout_s=settings.database_statement_timeout_s,
        session=KEYED_SESSION,
    )
    await pool
    publisher = Publisher(settings.amqp_url, name="notifier-publish")
    money = MoneyNotifications(settings.amqp_url, pool=pool, publisher=publisher)
    mails = MailDelivery(pool, sender)
    service.add_loop("publisher", publisher)
    service.add_loop("money", money)
    service.add_loop("mails", mails)
    service.add_drain(mails.drain)
    tracer = tracer_of(settings, service="notifier")
    _add_webhooks(service, settings, pool, tracer)
    readiness = Readiness(
        {
            "database": check_database(pool),
            "broker": check_broker(lambda: publisher.is_up and money.is_up),
        }
    )
    service.add_loop(
        "status", StatusServer(readiness, host=settings.status_host, port=settings.status_port)
    )
    service.add_close(tracer.close)
    service.add_close(pool.close)
    await service.run()


def _add_webhooks(service: Service, settings: NotifierSettings, pool: Pool, tracer: Tracer) -> None:
    """Add what reads events for webhooks, where they are kept, and what sends them."""
    fault_points = fault_points_in(settings.fault_orders)
    egress = Egress(settings.webhook_targets, user_agent="Ackledger-Webhooks/1")
    delivery = WebhookDelivery(
        pool, egress, traces=WebhookTraces(tracer), fault_points=fault_points
    )
    service.add_loop("webhooks", delivery)
    service.add_drain(delivery.drain)
    if settings.events_log:
        feed = WebhookFeed(
            settings.amqp_url, pool, written=delivery.wake, fault_points=fault_points
        )
        service.add_loop("webhook-feed", feed)


def _sender(settings: NotifierSettings) -> Sender:
    """Return what takes mails; raises ConfigurationError where there is nothing that may."""
    if settings.smtp_url is not None:
        if settings.mail_from is None:
            raise ConfigurationError("ACKLEDGER_MAIL_FROM is not set: ACKLEDGER_SMTP_URL needs it")
        return SmtpSender(SmtpServer.of_url(settings.smtp_url), sender=settings.mail_from)
    if settings.env is Deployment.PRODUCTION:
        raise ConfigurationError(
            "ACKLEDGER_SMTP_URL is not set: people would wait in vain for their mails"
        )
    # Tokens are shown only where somebody said that this is development, not where nobody spoke.
    is_said = "env" in settings.model_fields_set
    return PrintedMails(_print if is_said else None)


def _print(text: str) -> None:
    """Write to standard output, since tokens must not be in the log."""
    shown = "\n".join(escape(line) for line in text.splitlines())
    sys.stdout.write(f"{shown}\n")
    sys.stdout.flush()


def run(environment: Mapping[str, str]) -> int:
    """Run as a process; return its exit code."""
    return run_process(NotifierSettings, serve, name="notifier", environment=environment)

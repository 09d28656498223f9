"""What is looked at: targets, panels, rules, and alerts from their fault to a webhook."""

import asyncio
import math
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from tools.dashboards.model import Dashboard
from tools.dashboards.tables import DASHBOARDS
from tools.observability.drawing import Line, Span, drawn
from tools.observability.receiver import Receiver
from tools.observability.servers import RULES, Prometheus, Watched
from tools.proving import Verdict

ALERT_S: Final = 300.0
"""For an alert to go off, to be told of, or to be resolved: the longest `for` is a minute, and a
machine that others use may be slow."""
REPLICATED: Final = frozenset(
    {
        "pg_replication_slots_active",
        "pg_stat_replication_pg_current_wal_lsn_bytes",
        "pg_stat_replication_pg_wal_lsn_diff",
    }
)
"""Metrics that only a server with a replica or a replication slot has: this one has neither."""
EXEMPLIFIED: Final = "ackledger_transaction_end_to_end_seconds_bucket"
POINTS: Final = 120
"""Of each line of a picture."""
_POLL_S: Final = 0.5
_METRIC: Final = re.compile(r"\b(?:ackledger|pg|node|rabbitmq)_[a-z_]+\b(?=[{\[) ])")
_LABEL: Final = re.compile(r"\{\{(\w+)\}\}")


@dataclass(frozen=True, slots=True)
class Fault:
    """What is done, and which alerts it has to set off."""

    what: str
    alerts: tuple[str, ...]
    strike: Callable[[Watched], None]
    mend: Callable[[Watched], None]


FAULTS: Final = (
    Fault(
        "the notifier is killed",
        ("AckledgerTargetDown",),
        lambda watched: watched.system.kill("notifier"),
        lambda watched: watched.system.restart("notifier"),
    ),
    Fault(
        "the only reconciler stops",
        ("AckledgerNoLeader",),
        lambda watched: watched.system.halt("reconciler"),
        lambda watched: watched.system.restart("reconciler"),
    ),
    Fault(
        "the only processor stops",
        ("AckledgerNoConsumer",),
        lambda watched: watched.system.halt("processor"),
        lambda watched: watched.system.restart("processor"),
    ),
    Fault(
        "PostgreSQL stops",
        ("PostgreSQLDown", "AckledgerCircuitOpen"),
        lambda watched: watched.stack.postgres.stop(),
        lambda watched: watched.stack.postgres.start(),
    ),
)


class Proof:
    """What was looked at, and what came of it."""

    def __init__(self, watched: Watched, prometheus: Prometheus, receiver: Receiver) -> None:
        self._watched = watched
        self._prometheus = prometheus
        self._receiver = receiver
        self.verdict = Verdict()

    async def targets(self) -> None:
        """Every process and server is scraped."""
        unhealthy = await self._prometheus.unhealthy_targets()
        self.verdict.note("targets", str(unhealthy or "all are up"), is_well=not unhealthy)

    async def panels(self) -> None:
        """Every line of every panel gives series."""
        for dashboard in DASHBOARDS:
            lines = [
                (panel.title, expression)
                for panel in dashboard.panels
                for expression in panel.lines.values()
            ]
            empty = [
                title for title, expression in lines if not await self._prometheus.query(expression)
            ]
            told = f"{len(lines)} lines" if not empty else f"without series: {empty}"
            self.verdict.note(dashboard.title, told, is_well=not empty)

    async def rules(self) -> None:
        """Every recording rule gives series, and every metric that an alert names exists."""
        text = "".join(path.read_text() for path in sorted(RULES.glob("*.yml")))
        recorded = re.findall(r"- record: (\S+)", text)
        # Hours have not passed: what looks at the last six gives the same as the last minute's.
        empty = [name for name in recorded if not await self._prometheus.query(name)]
        self.verdict.note(
            f"{len(recorded)} recording rules", str(empty or "all"), is_well=not empty
        )
        named = set(_METRIC.findall(text)) - REPLICATED
        missing = [one for one in sorted(named) if not await self._prometheus.query(one)]
        self.verdict.note(
            f"{len(named)} metrics of rules", str(missing or "all"), is_well=not missing
        )
        for name in sorted(REPLICATED):
            self.verdict.note(name, "not looked at: this server has no replica and no slot")

    async def alerts(self, fault: Fault) -> None:
        """Alerts are pending, firing and told of while a fault lasts, and resolved after it."""
        watches = [asyncio.create_task(self._seen(one)) for one in fault.alerts]
        await asyncio.to_thread(fault.strike, self._watched)
        try:
            seen = await asyncio.gather(*watches)
        finally:
            await asyncio.to_thread(fault.mend, self._watched)
        for alert, states in zip(fault.alerts, seen, strict=True):
            told = ", ".join([*states, *await self._resolved(alert)])
            self.verdict.note(f"{fault.what}: {alert}", told, is_well="never" not in told)

    async def _seen(self, alert: str) -> list[str]:
        states = [await self._reached(alert, one) for one in ("pending", "firing")]
        return [*states, await self._told(alert, "firing")]

    async def _resolved(self, alert: str) -> list[str]:
        state = await self._reached(alert, "inactive")
        return [state, await self._told(alert, "resolved")]

    async def _told(self, alert: str, status: str) -> str:
        is_told = await self._receiver.is_told(alert, status, within_s=ALERT_S)
        return "webhook" if is_told else "never at the webhook"

    async def _reached(self, alert: str, wanted: str) -> str:
        until = time.monotonic() + ALERT_S
        while time.monotonic() < until:
            if await self._prometheus.state_of(alert) == wanted:
                return "resolved" if wanted == "inactive" else wanted
            await asyncio.sleep(_POLL_S)
        return f"never {wanted}"

    async def webhooks(self) -> None:
        """Our own webhooks went where they should: their panel is no picture of nothing."""
        came = self._receiver.events
        self.verdict.note("events at our own webhook", f"{came:,}", is_well=came > 0)

    async def exemplars(self, *, since: float, until: float) -> None:
        """Buckets of the time to the end name traces, and Prometheus has kept which."""
        found = await self._prometheus.exemplars(EXEMPLIFIED, since=since, until=until)
        named = {one["labels"]["trace_id"] for series in found for one in series["exemplars"]}
        self.verdict.note(
            "exemplars of the time to the end", f"{len(named)} traces", is_well=bool(named)
        )

    async def picture(self, dashboard: Dashboard, *, since: float, until: float) -> str:
        """Return a picture of what a dashboard shows of a time."""
        span = Span(since, until, max(1.0, (until - since) / POINTS))
        lines = {
            panel.title: [
                line
                for legend, expression in panel.lines.items()
                for line in await self._lines(legend, expression, span)
            ]
            for panel in dashboard.panels
        }
        return drawn(dashboard, lines, span)

    async def _lines(self, legend: str, expression: str, span: Span) -> list[Line]:
        series = await self._prometheus.query_range(
            expression, since=span.since, until=span.until, step_s=span.step_s
        )
        return [_line(legend, one) for one in series]


def _line(legend: str, series: Any) -> Line:
    labels = series["metric"]
    named = _LABEL.sub(lambda found: labels.get(found[1], ""), legend)
    points = [(float(moment), float(value)) for moment, value in series["values"]]
    return Line(named, [point for point in points if math.isfinite(point[1])])

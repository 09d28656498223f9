"""A run of load, from its wallets to its last event, on a system that may be attacked."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

from yarl import URL

from tests.integration.ingress.serving import CheckedDoors
from tests.support import eventually
from tools.chaos.doors import Doors
from tools.chaos.events import EventRecorder
from tools.chaos.invariants import OrderTerms, Verdict, await_drained, check, resolve_unknown
from tools.chaos.journal import Act, Journal, Outcome
from tools.chaos.listening import Heard, Listeners, listening
from tools.chaos.load import Load, WalletPlan
from tools.chaos.load.pressure import NO_PRESSURE
from tools.chaos.pressure import Pressure
from tools.chaos.recovery import RecoveryMeter
from tools.system import CLIENT, MOVING_MONEY, Instance, Role

STALE_AFTER_S = 2.0
BATCH_SIZE = 10
"""Of a full batch, for the runs that fill some."""
RATE_PER_S = 150.0
CLIENTS = 4
BOUND_S = 60.0

_ANY_PORT = {
    "ACKLEDGER_STATUS_PORT": "0",
    "ACKLEDGER_HTTP_PORT": "0",
    "ACKLEDGER_BATCH_SIZE": str(BATCH_SIZE),
    # What a test changes in the books shall break the invariant that it is about, not a seal.
    "ACKLEDGER_SEAL_INTERVAL_S": "600",
}
INSTANCES = tuple(Instance(role=one.role, environment=_ANY_PORT) for one in MOVING_MONEY)
"""One of each, on ports that no other run wants at the same moment."""
HEARD = {
    **_ANY_PORT,
    "ACKLEDGER_WEBHOOK_TARGETS": "any",
    "ACKLEDGER_EVENTS_HEARTBEAT_S": "2",
}
LISTENED_TO = tuple(
    Instance(role=role, environment=HEARD)
    for role in (*(one.role for one in MOVING_MONEY), Role.NOTIFIER)
)
"""Those, and a notifier that may send to this machine."""
SECOND_INGRESS = Instance(role=Role.INGRESS, name="ingress-2", environment=_ANY_PORT)


@dataclass(frozen=True)
class Run:
    """What a run wrote, and where the books are."""

    doors: Doors
    journal: Journal
    events: EventRecorder
    load: Load
    meter: RecoveryMeter
    listeners: Listeners | None = None
    heard: Heard = field(default_factory=Heard)
    drained_s: float | None = None
    is_every_event_read: bool = False
    lost: list[tuple[float, float]] = field(default_factory=list)
    """Spans in which the broker lost what it had confirmed; the attack tells them."""

    async def verdict(self) -> Verdict:
        """Compare; for a run that is over."""
        terms = OrderTerms(losses=self.lost)
        return await check(
            self.doors,
            self.journal,
            self.events,
            terms=terms,
            batch_size=BATCH_SIZE,
            listeners=self.listeners,
        )


def chaos_doors(doors: CheckedDoors, *, broker_port: int | None = None) -> Doors:
    """Return the doors of a test's system as the load is given them.

    `broker_port`: a proxy on the clients' and the recorder's way to the broker.
    """
    amqp_url, events_amqp_url = URL(doors.upstream.url), URL(doors.amqp_url)
    if broker_port is not None:
        amqp_url = amqp_url.with_port(broker_port)
        events_amqp_url = events_amqp_url.with_port(broker_port)
    return Doors(
        http_urls=tuple(doors.system.http_urls.values()),
        api_key=doors.system.api_key,
        amqp_url=str(amqp_url),
        database_url=doors.database_url,
        events_amqp_url=str(events_amqp_url),
        submitter=CLIENT,
    )


async def run_load(
    doors: Doors,
    directory: Path,
    *,
    seed: int,
    attack: Callable[[Run], Awaitable[None]],
    bound_s: float = BOUND_S,
    pressure: Pressure = NO_PRESSURE,
    is_heard: bool = False,
) -> Run:
    """Send until the attack is over, then resolve, drain and read every event.

    `is_heard`: over HTTP too, by a client that follows and by webhooks.
    """
    async with AsyncExitStack() as exits:
        journal = exits.enter_context(Journal(directory))
        events = await exits.enter_async_context(
            EventRecorder(doors.events_amqp_url, directory=directory)
        )
        load = Load(
            doors,
            seed=seed,
            rate_per_s=RATE_PER_S,
            clients=CLIENTS,
            journal=journal,
            wallets=WalletPlan(hot=6, cold=60),
            pressure=pressure,
        )
        run = Run(doors, journal, events, load, RecoveryMeter(doors, journal))
        if is_heard:
            heard = listening(doors, directory=directory, seed=seed)
            run = replace(run, listeners=await exits.enter_async_context(heard))
        wallets = await load.prepare()
        await run.meter.prepare()
        if run.listeners is not None:
            await run.listeners.subscribe([*wallets.hot[:2], *run.meter.wallets])
        await _send(run, attack)
        await resolve_unknown(doors, journal, bound_s=bound_s, lost=run.lost)
        drained_s = await await_drained(doors, journal, bound_s=bound_s)
        is_every_event_read = await events.drain(BOUND_S)
        if run.listeners is not None:
            run = replace(run, heard=await run.listeners.drain(events, bound_s=bound_s))
    return replace(run, drained_s=drained_s, is_every_event_read=is_every_event_read)


async def _send(run: Run, attack: Callable[[Run], Awaitable[None]]) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(run.load.run())
        group.create_task(run.meter.run())
        try:
            await attack(run)
        finally:
            run.load.stop()
            run.meter.stop()


async def answered(journal: Journal, count: int) -> None:
    """Return when so many more attempts were answered."""
    until = journal.counts.total() + count

    async def enough() -> bool:
        return journal.counts.total() >= until

    await eventually(enough, what=f"{count} more answers", within_s=2 * BOUND_S)


def acts_of(journal: Journal) -> set[Act]:
    """Return the acts that were answered for sure."""
    return {act for act, outcome in journal.counts if outcome is not Outcome.UNKNOWN}

"""Processes that stand still, are replaced, or wake up to a heap of work."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from runtime.service.fault_points import Fault, FaultPoint
from tools.chaos.faults.fault import STARTED_S, SceneFault, Strike
from tools.chaos.scene import (
    INGRESSES,
    NOTIFIERS,
    PROCESSES,
    RECONCILERS,
    STALE_AFTER_S,
    Scene,
)
from tools.chaos.ways import Server, way_of, ways_of
from tools.system import Role

TAKEOVER_S: Final = 75.0
"""The broker gives up a silent consumer after some missed heartbeats of 10 s; PostgreSQL ends an
idle database transaction after 30 s; then the standby's batch is tried again after its backoff."""
_UNANNOUNCED_S: Final = 1.5
"""Longer than an ingress waits for a confirm before it gives a 202 all the same."""
_OLDER_THAN_STALE_S: Final = STALE_AFTER_S + 2.0


def _frozen_at(point: FaultPoint) -> Strike:
    """Stop the active processor until the standby posts; then it wakes and goes on as before."""

    @asynccontextmanager
    async def strike(scene: Scene) -> AsyncIterator[None]:
        try:
            async with scene.ordered(Role.PROCESSOR, point, Fault.STOP):
                await scene.next_completed(within_s=TAKEOVER_S)
                yield
        finally:
            scene.resume_all()

    return strike


def _stopped(label: str) -> Strike:
    """Stop one process, wherever it is; it wakes later and goes on as before."""

    @asynccontextmanager
    async def strike(scene: Scene) -> AsyncIterator[None]:
        scene.stop(label)
        try:
            yield
        finally:
            scene.resume_all()

    return strike


@asynccontextmanager
async def _stopped_with_a_line(scene: Scene) -> AsyncIterator[None]:
    """Stop an ingress that gave 202 for what it could not announce yet."""
    frozen = INGRESSES[0]
    with scene.refused(way_of(frozen, Server.RABBITMQ)):
        await asyncio.sleep(_UNANNOUNCED_S)
        scene.stop(frozen)
    try:
        yield
    finally:
        scene.resume_all()


@asynccontextmanager
async def _stopped_after_commit(scene: Scene) -> AsyncIterator[None]:
    try:
        async with scene.ordered(Role.INGRESS, FaultPoint.INGRESS_COMMITTED, Fault.STOP):
            yield
    finally:
        scene.resume_all()


def _killed(*labels: str) -> Strike:
    """Kill processes, wherever they are; they come back afterwards."""

    @asynccontextmanager
    async def strike(scene: Scene) -> AsyncIterator[None]:
        async with scene.held(*labels):
            await scene.kill(*labels)
            yield

    return strike


@asynccontextmanager
async def _all_killed(scene: Scene) -> AsyncIterator[None]:
    async with scene.held(*PROCESSES):
        await scene.kill(*PROCESSES)
        yield


@asynccontextmanager
async def _rolling_restart(scene: Scene) -> AsyncIterator[None]:
    for label in PROCESSES:
        await scene.restart(label)
    yield


@asynccontextmanager
async def _backlog(scene: Scene) -> AsyncIterator[None]:
    """Let announcements be lost with the ingresses that owed them, while no reconciler runs."""
    async with scene.down(*RECONCILERS):
        with scene.refused(*ways_of(Role.INGRESS, Server.RABBITMQ)):
            await asyncio.sleep(_OLDER_THAN_STALE_S)
            await scene.kill(*INGRESSES)
        yield


FAULTS: Final = (
    SceneFault(
        name="processor-frozen",
        claim="the standby takes over; the sleeper's late acks are dropped",
        strike=_frozen_at(FaultPoint.PROCESSOR_COMMITTED),
        striking_s=25.0,
    ),
    SceneFault(
        name="processor-frozen-in-a-batch",
        claim="PostgreSQL ends the sleeper's database transaction; the standby posts its batch",
        strike=_frozen_at(FaultPoint.PROCESSOR_BEFORE_COMMIT),
        striking_s=32.0,
    ),
    SceneFault(
        name="ingress-frozen",
        claim="what it accepted keeps its place, although another ingress accepts more meanwhile",
        targets={
            **{label: _stopped(label) for label in INGRESSES},
            "after-commit": _stopped_after_commit,
            "with-unannounced": _stopped_with_a_line,
        },
        striking_s=1.5,
        lasting_s=3.0,
    ),
    SceneFault(
        name="all-processes-killed",
        claim="what was promised is in PostgreSQL or the broker, and is finished",
        strike=_all_killed,
        recovery_bound_s=STARTED_S,
    ),
    SceneFault(
        name="notifier-killed",
        claim="another one reads on behind what is written down, and sends what was in hand again",
        targets={
            **{label: _killed(label) for label in NOTIFIERS},
            "both": _killed(*NOTIFIERS),
        },
    ),
    SceneFault(
        name="rolling-restart",
        claim="every process is replaced under load, and clients see no more than a retry",
        strike=_rolling_restart,
        striking_s=21.0,
        lasting_s=0.0,
    ),
    SceneFault(
        name="two-reconcilers-with-a-backlog",
        claim="two reconcilers start on a backlog older than their threshold; each is posted once",
        strike=_backlog,
        striking_s=8.0,
        lasting_s=0.5,
        recovery_bound_s=STARTED_S,
    ),
)

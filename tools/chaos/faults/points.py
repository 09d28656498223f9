"""Processes that die at the worst moment: at a fault point, just before the next step."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from runtime.service.fault_points import Fault, FaultPoint
from tools.chaos.faults.fault import STANDBY_S, SceneFault, Strike
from tools.chaos.scene import STALE_AFTER_S, Scene
from tools.chaos.ways import Server, ways_of
from tools.system import Role


def _killed_at(point: FaultPoint, role: Role) -> Strike:
    @asynccontextmanager
    async def strike(scene: Scene) -> AsyncIterator[None]:
        async with scene.ordered(role, point, Fault.KILL):
            yield

    return strike


def _reconciler_killed_at(point: FaultPoint) -> Strike:
    """Give the reconciler something to do first: announcements that do not get through."""

    @asynccontextmanager
    async def strike(scene: Scene) -> AsyncIterator[None]:
        with scene.refused(*ways_of(Role.INGRESS, Server.RABBITMQ)):
            # Without anything stale the reconciler comes to the same point with empty hands.
            await asyncio.sleep(STALE_AFTER_S)
            async with scene.ordered(Role.RECONCILER, point, Fault.KILL):
                yield

    return strike


@asynccontextmanager
async def _commit_cancelled(scene: Scene) -> AsyncIterator[None]:
    async with scene.ordered(Role.PROCESSOR, FaultPoint.PROCESSOR_BEFORE_COMMIT, Fault.CANCEL):
        yield


FAULTS: Final = (
    SceneFault(
        name="ingress-killed-before-commit",
        claim="nothing is recorded, nobody has a 202; the same key, sent again, is accepted",
        strike=_killed_at(FaultPoint.INGRESS_BEFORE_COMMIT, Role.INGRESS),
    ),
    SceneFault(
        name="ingress-killed-before-announcing",
        claim="what is recorded and was never announced is finished by the reconciler",
        strike=_killed_at(FaultPoint.INGRESS_COMMITTED, Role.INGRESS),
    ),
    SceneFault(
        name="ingress-killed-before-answering",
        claim="what is announced is posted; the same key, sent again, gives that transaction",
        strike=_killed_at(FaultPoint.INGRESS_ANNOUNCED, Role.INGRESS),
    ),
    SceneFault(
        name="processor-killed-in-a-batch",
        claim="the batch is undone; the standby gets its messages and posts them",
        strike=_killed_at(FaultPoint.PROCESSOR_BEFORE_COMMIT, Role.PROCESSOR),
    ),
    SceneFault(
        name="processor-killed-before-ack",
        claim="committed messages come again, and change nothing",
        strike=_killed_at(FaultPoint.PROCESSOR_COMMITTED, Role.PROCESSOR),
    ),
    SceneFault(
        name="relay-killed-before-delete",
        claim="events are published again under the same event_id",
        strike=_killed_at(FaultPoint.RELAY_PUBLISHED, Role.PROCESSOR),
    ),
    SceneFault(
        name="reconciler-killed-before-publishing",
        claim="another one leads; what was claimed is due again",
        strike=_reconciler_killed_at(FaultPoint.RECONCILER_CLAIMED),
        striking_s=STALE_AFTER_S + 2.0,
        recovery_bound_s=2 * STANDBY_S,
    ),
    SceneFault(
        name="reconciler-killed-after-publishing",
        claim="another one leads; what is announced twice is posted once",
        strike=_reconciler_killed_at(FaultPoint.RECONCILER_REPUBLISHED),
        striking_s=STALE_AFTER_S + 2.0,
        recovery_bound_s=2 * STANDBY_S,
    ),
    SceneFault(
        name="collector-killed-before-ack",
        claim="stored dead letters come again, and are stored once",
        # The load sends poison all the time, so that the collector comes to it.
        strike=_killed_at(FaultPoint.DEAD_LETTERS_STORED, Role.RECONCILER),
    ),
    SceneFault(
        name="notifier-killed-before-commit",
        claim="nothing is written down of events that it read; another one reads them again",
        strike=_killed_at(FaultPoint.NOTIFIER_READ, Role.NOTIFIER),
    ),
    SceneFault(
        name="notifier-killed-before-sending",
        claim="what was claimed is due again when its lease ends, and is sent",
        strike=_killed_at(FaultPoint.NOTIFIER_CLAIMED, Role.NOTIFIER),
    ),
    SceneFault(
        name="notifier-killed-before-writing",
        claim="what was taken is sent again under the same webhook-id",
        strike=_killed_at(FaultPoint.NOTIFIER_SENT, Role.NOTIFIER),
    ),
    SceneFault(
        name="commit-cancelled",
        claim="a cancelled COMMIT is of unknown outcome: done again, posted once",
        strike=_commit_cancelled,
    ),
)

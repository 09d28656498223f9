"""Fault points: named places in the code where a chaos run may strike; nothing happens otherwise.

Each component that is handed `FaultPoints` says where it is; in production it is handed none. In a
chaos run they look for an order in a directory, carry it out once, and leave a trace of that.
"""

import asyncio
import os
import signal
from enum import StrEnum
from pathlib import Path
from typing import Protocol, assert_never

import structlog

log = structlog.get_logger()


class FaultPoint(StrEnum):
    """A place between two steps at which a fault tells most."""

    INGRESS_BEFORE_COMMIT = "ingress.before_commit"
    """A group of submissions is about to be recorded."""
    INGRESS_COMMITTED = "ingress.committed"
    """A group is recorded, and not announced yet."""
    INGRESS_ANNOUNCED = "ingress.announced"
    """The broker has confirmed an announcement; whoever waits for it has no answer yet."""
    PROCESSOR_BEFORE_COMMIT = "processor.before_commit"
    """A batch is decided, and written if that takes a step of its own; its commit comes next."""
    PROCESSOR_COMMITTED = "processor.committed"
    """A batch is committed; nothing of it is acked."""
    RELAY_PUBLISHED = "relay.published"
    """Events are confirmed by the broker, and still owed in the outbox."""
    RECONCILER_CLAIMED = "reconciler.claimed"
    """Due transactions are claimed, and not published again yet."""
    RECONCILER_REPUBLISHED = "reconciler.republished"
    """Due transactions are published again and confirmed."""
    RECONCILER_SEALING = "reconciler.sealing"
    """A seal is written, and what it rests on is not moved on yet; its commit comes next."""
    RECONCILER_SEALED = "reconciler.sealed"
    """A seal is committed, and not written down beside the keys."""
    NOTIFIER_READ = "notifier.read"
    """Events are written down for webhooks, with how far the log was read; their commit is next."""
    NOTIFIER_CLAIMED = "notifier.claimed"
    """Deliveries are claimed, and not sent yet."""
    NOTIFIER_SENT = "notifier.sent"
    """A receiver has answered; what it answered is not written down."""
    DEAD_LETTERS_STORED = "dead_letters.stored"
    """Dead letters are in the table, and not acked."""


class Fault(StrEnum):
    """What an order asks for."""

    KILL = "kill"
    """SIGKILL to the process itself."""
    STOP = "stop"
    """SIGSTOP: the process stands still until somebody sends SIGCONT."""
    CANCEL = "cancel"
    """The task is cancelled: the error is raised in whatever it waits for next."""


class FaultPoints(Protocol):
    """What the components of a chaos run are handed."""

    async def reach(self, point: FaultPoint) -> None:
        """Say that this point is reached."""


class OrderedFaultPoints(FaultPoints):
    """Carries out orders: a file named after the point that holds a Fault's value.

    Renaming the file claims the order, so one process carries it out, once. What is left is
    `<point>.struck`.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    async def reach(self, point: FaultPoint) -> None:
        """Carry out what is ordered for this point, if anything is."""
        order = self._directory / point.value
        struck = order.with_name(f"{point.value}.struck")
        try:
            order.rename(struck)
        except FileNotFoundError:
            return
        fault = Fault(struck.read_text(encoding="utf-8").strip())
        log.warning("fault_struck", point=point.value, fault=fault.value)
        _strike(fault)


def _strike(fault: Fault) -> None:
    match fault:
        case Fault.KILL:
            os.kill(os.getpid(), signal.SIGKILL)
        case Fault.STOP:
            os.kill(os.getpid(), signal.SIGSTOP)
        case Fault.CANCEL:
            task = asyncio.current_task()
            if task is not None:
                task.cancel()
        case _:
            assert_never(fault)


def fault_points_in(directory: Path | None) -> FaultPoints | None:
    """Return what a process is to run with: orders from a directory, or nothing at all."""
    if directory is None:
        return None
    log.warning("fault_points_open", directory=str(directory))
    return OrderedFaultPoints(directory)

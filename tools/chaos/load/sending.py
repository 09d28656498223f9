"""Sending what a client wants until its outcome is known, every attempt in the journal."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from cli.clients.amqp import UpstreamMessage
from runtime.service.backoff import Backoff
from tools.chaos.background import came_within
from tools.chaos.journal import Act, Command, Door, Journal, Outcome, Promise
from tools.chaos.load.doors import AmqpDoor, Attempts, HttpDoor, Reply
from tools.chaos.load.plan import Item

TRIES: Final = 6
"""Over about ten seconds; what is still open then waits until the run has healed everything."""


@dataclass(frozen=True, slots=True)
class Sent:
    """When an attempt began: monotonic, and as a clock on the wall shows it."""

    at_s: float
    at: datetime

    @classmethod
    def now(cls) -> "Sent":
        """Return this moment."""
        return cls(time.monotonic(), datetime.now(UTC))


class Sender:
    """One client's way through both doors."""

    def __init__(
        self,
        *,
        client: int,
        http: HttpDoor,
        amqp: AmqpDoor,
        journal: Journal,
        stopping: asyncio.Event,
    ) -> None:
        """Once `stopping` is set, nothing is tried again."""
        self._client = client
        self._doors: dict[Door, Attempts] = {Door.HTTP: http, Door.AMQP: amqp}
        self._amqp = amqp
        self._journal = journal
        self._stopping = stopping

    async def send(
        self,
        items: Sequence[Item],
        *,
        sequence: int,
        door: Door,
        is_after_loss: bool = False,
        tries: int = TRIES,
    ) -> Sequence[Item]:
        """Send items, several as a batch, again while their outcome is open; return the open."""
        backoff = Backoff(first_s=0.1, most_s=4.0)
        is_batch = len(items) > 1
        waiting = list(items)
        for attempt in range(tries):
            sent = Sent.now()
            replies = await self._doors[door].ask(
                [item.command.body(item.key) for item in waiting],
                routing_key=str(waiting[0].command.routing_wallet),
                is_batch=is_batch,
            )
            for item, reply in zip(waiting, replies, strict=True):
                self._note(
                    sent,
                    reply,
                    sequence=sequence,
                    attempt=attempt,
                    door=door,
                    act=item.act,
                    key=item.key,
                    command=item.command,
                    is_batch=is_batch,
                    is_after_loss=is_after_loss,
                )
            waiting = [
                item
                for item, reply in zip(waiting, replies, strict=True)
                if reply.outcome is Outcome.UNKNOWN
            ]
            if not waiting or await self._paused(backoff.next_delay_s()):
                break
        return waiting

    async def send_poison(self, message: UpstreamMessage, *, sequence: int, mark: str) -> None:
        """Publish poison until the broker has it."""
        backoff = Backoff(first_s=0.1, most_s=4.0)
        for attempt in range(TRIES):
            sent = Sent.now()
            reply = await self._amqp.publish(message)
            self._note(
                sent,
                reply,
                sequence=sequence,
                attempt=attempt,
                door=Door.AMQP,
                act=Act.POISON,
                key=mark,
            )
            if reply.outcome is not Outcome.UNKNOWN or await self._paused(backoff.next_delay_s()):
                return

    async def _paused(self, delay_s: float) -> bool:
        """Wait before the next try; return whether there shall be none."""
        return await came_within(self._stopping, delay_s)

    def _note(
        self,
        sent: Sent,
        reply: Reply,
        *,
        sequence: int,
        attempt: int,
        door: Door,
        act: Act,
        key: str,
        command: Command | None = None,
        is_batch: bool = False,
        is_after_loss: bool = False,
    ) -> None:
        self._journal.record(
            Promise(
                client=self._client,
                sequence=sequence,
                attempt=attempt,
                door=door,
                act=act,
                idempotency_key=key,
                command=command,
                is_batch=is_batch,
                sent_s=sent.at_s,
                answered_s=time.monotonic(),
                sent_at=sent.at,
                outcome=reply.outcome,
                transaction_id=reply.transaction_id,
                code=reply.code,
                is_after_loss=is_after_loss,
            )
        )

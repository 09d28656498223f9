"""Sending what a client wants until its outcome is known, every attempt in the journal."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

from ackledger.client.publishing import UpstreamMessage
from runtime.service.periodic import Backoff
from tools.chaos.background import came_within
from tools.chaos.command import Command, Terms
from tools.chaos.journal import Act, Door, Journal, Outcome, Promise
from tools.chaos.load.contents import Item
from tools.chaos.load.doors import AmqpDoor, Attempts, Form, HttpDoor, Reply, reply_of

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
        self._http = http
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
        """Send items, several as a batch, again while their outcome is open; return the open.

        The members of an atomic batch are sent together, however many are open.
        """
        backoff = Backoff(first_s=0.1, most_s=4.0)
        form = _form_of(items)
        waiting = list(items)
        for attempt in range(tries):
            sent = Sent.now()
            replies = await self._doors[door].ask(
                [item.command.body(item.key) for item in waiting],
                routing_key=str(waiting[0].command.routing_wallet),
                form=form,
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
                    is_batch=form is not Form.SINGLE,
                    is_after_loss=is_after_loss,
                )
            waiting = [
                item
                for item, reply in zip(waiting, replies, strict=True)
                if reply.outcome is Outcome.UNKNOWN
            ]
            if waiting and form is Form.ATOMIC:
                waiting = list(items)
            if not waiting or await self._paused(backoff.next_delay_s()):
                break
        return waiting

    async def cancel(self, transaction_id: UUID, *, sequence: int, key: str) -> None:
        """Cancel the transaction that a key stands for, until that is answered."""
        backoff = Backoff(first_s=0.1, most_s=4.0)
        cancel_key = f"{key}/cancel"
        command = Command(
            type="cancel",
            source_wallet_id=None,
            destination_wallet_id=None,
            minor=None,
            currency="",
            terms=Terms(other_key=key, other_id=transaction_id),
        )
        for attempt in range(TRIES):
            sent = Sent.now()
            status, answer = await self._http.next(
                "POST",
                f"/v1/transactions/{transaction_id}/cancel",
                headers={"Idempotency-Key": cancel_key},
            )
            reply = reply_of(status, answer)
            self._note(
                sent,
                reply,
                sequence=sequence,
                attempt=attempt,
                door=Door.HTTP,
                act=Act.CANCEL,
                key=cancel_key,
                command=command,
            )
            if reply.outcome is not Outcome.UNKNOWN or await self._paused(backoff.next_delay_s()):
                return

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


def _form_of(items: Sequence[Item]) -> Form:
    if items[0].command.batch is not None:
        return Form.ATOMIC
    return Form.BATCH if len(items) > 1 else Form.SINGLE

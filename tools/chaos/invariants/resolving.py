"""Learning what became of what was not answered: the same key again, as every client would do."""

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import AsyncExitStack, suppress
from typing import Final

from tools.chaos.doors import Doors
from tools.chaos.journal import Door, Journal, Outcome, Promise
from tools.chaos.load.contents import Item
from tools.chaos.load.doors import AmqpDoor, HttpDoor
from tools.chaos.load.poison import poison
from tools.chaos.load.sending import Sender

_CLIENT: Final = -3
_WORKERS: Final = 32
_TRIES: Final = 1000
"""Until the bound."""


async def resolve_unknown(
    doors: Doors,
    journal: Journal,
    *,
    bound_s: float,
    lost: Sequence[tuple[float, float]] = (),
) -> int:
    """Send again what is open, until it is answered; return how much stayed open at the bound.

    `lost`: spans (monotonic) in which the broker lost what it had confirmed, such as a deleted
    queue; all that it confirmed in them is sent again too, as its documents ask of upstream.
    """
    open_now = list(journal.open.values())
    waiting = _Again(open_now, is_after_loss=False)
    vanished = _Again(_confirmed_in(journal, lost), is_after_loss=True)
    stopping = asyncio.Event()
    async with AsyncExitStack() as exits:
        http = await exits.enter_async_context(HttpDoor(doors, first=0, connections=_WORKERS))
        amqp = await exits.enter_async_context(
            AmqpDoor(doors.amqp_url, name="chaos-resolver").opened()
        )
        sender = Sender(client=_CLIENT, http=http, amqp=amqp, journal=journal, stopping=stopping)
        with suppress(TimeoutError):
            async with asyncio.timeout(bound_s):
                for again in (waiting, vanished):
                    await again.send(sender)
    return len(journal.open)


class _Again:
    """Attempts to repeat, by several workers: the members of an atomic batch together."""

    def __init__(self, promises: Iterable[Promise], *, is_after_loss: bool) -> None:
        self._requests = iter(requests_of(promises))
        self._is_after_loss = is_after_loss

    async def send(self, sender: Sender) -> None:
        """Send each until it is answered."""
        async with asyncio.TaskGroup() as group:
            for _ in range(_WORKERS):
                group.create_task(self._work(sender))

    async def _work(self, sender: Sender) -> None:
        for promises in self._requests:
            await self._send(sender, promises)

    async def _send(self, sender: Sender, promises: Sequence[Promise]) -> None:
        first = promises[0]
        if first.command is None:
            # Any kind does: what counts is that a dead letter carries the mark.
            mark = first.idempotency_key
            message = poison(1, mark).message
            await sender.send_poison(message, sequence=first.sequence, mark=mark)
            return
        await sender.send(
            [
                Item(act=one.act, key=one.idempotency_key, command=one.command)
                for one in promises
                if one.command is not None
            ],
            sequence=first.sequence,
            door=first.door,
            is_after_loss=self._is_after_loss,
            tries=_TRIES,
        )


def requests_of(promises: Iterable[Promise]) -> list[list[Promise]]:
    """Return what is sent at once: single ones, and atomic batches with each member once."""
    single: list[list[Promise]] = []
    batches: dict[str, dict[str, Promise]] = {}
    for one in promises:
        batch = None if one.command is None else one.command.batch
        if batch is None:
            single.append([one])
        else:
            batches.setdefault(batch, {}).setdefault(one.idempotency_key, one)
    return [*single, *(list(members.values()) for members in batches.values())]


def _confirmed_in(journal: Journal, spans: Sequence[tuple[float, float]]) -> list[Promise]:
    """What the broker confirmed inside the spans."""
    if not spans:
        return []
    return [
        promise
        for promise in journal.read()
        if promise.door is Door.AMQP
        and promise.outcome is Outcome.CONFIRMED
        and any(start <= promise.answered_s <= end for start, end in spans)
    ]

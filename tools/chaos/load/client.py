"""One client: it sends on its schedule, whether or not what it sent before is answered.

But it keeps the order rule: a wallet's next debit is sent when the one before it is answered, so
that the order in which a wallet's debits were accepted is known.
"""

import asyncio
import time
from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Final
from uuid import UUID
from weakref import WeakValueDictionary

from tools.chaos.background import came_within
from tools.chaos.journal import Act, Door, Journal
from tools.chaos.load.contents import Item
from tools.chaos.load.filling import Filler
from tools.chaos.load.plan import REPEATING, Step
from tools.chaos.load.poison import poison
from tools.chaos.load.sending import Sender

IN_FLIGHT_MAX: Final = 256
"""Acts of one client that await their answer; while there are so many, what is due is shed."""
_ACCEPTED_MAX: Final = 1024
"""Keys that are known to be accepted over HTTP: longer than a repetition reaches back."""


class Client:
    """A seeded sequence of acts, carried out on time."""

    def __init__(
        self,
        *,
        steps: Iterable[Step],
        sender: Sender,
        filler: Filler,
        journal: Journal,
        stopping: asyncio.Event,
        mark_prefix: str,
    ) -> None:
        """`mark_prefix` begins what this client's poison is marked with."""
        self._steps: Iterator[Step] = iter(steps)
        self._sender = sender
        self._filler = filler
        self._journal = journal
        self._stopping = stopping
        self._mark_prefix = mark_prefix
        self._in_flight = 0
        self._locks: WeakValueDictionary[UUID, asyncio.Lock] = WeakValueDictionary()
        self._accepted: OrderedDict[str, None] = OrderedDict()
        self.shed: Counter[Act] = Counter()

    async def run(self) -> None:
        """Act until told to stop, then await what is under way."""
        began = time.monotonic()
        async with asyncio.TaskGroup() as acts:
            for step in self._steps:
                if await self._stopped_before(began + step.at_s):
                    return
                if self._in_flight >= IN_FLIGHT_MAX or self._journal.is_full:
                    self.shed[step.act] += 1
                    continue
                self._in_flight += 1
                acts.create_task(self._carry_out(step))

    async def _stopped_before(self, moment_s: float) -> bool:
        """Wait for the moment; return whether the stop came first. A late client hurries."""
        delay_s = moment_s - time.monotonic()
        if delay_s <= 0:
            await asyncio.sleep(0)
            return self._stopping.is_set()
        return await came_within(self._stopping, delay_s)

    async def _carry_out(self, step: Step) -> None:
        try:
            await self._act(step)
        finally:
            self._in_flight -= 1

    async def _act(self, step: Step) -> None:
        match step.act:
            case Act.POISON:
                mark = f"{self._mark_prefix}{step.sequence}"
                message = poison(step.poison, mark).message
                await self._sender.send_poison(message, sequence=step.sequence, mark=mark)
            case Act.CANCEL:
                await self._cancel(step)
            case _:
                items = await self._filler.filled(step.items)
                if items and not self._lacks_original(step.act, items):
                    await self._send_in_turn(replace(step, items=items))
                else:
                    self.shed[step.act] += 1

    def _lacks_original(self, act: Act, items: Sequence[Item]) -> bool:
        """Whether an original may never have arrived, so that this would be the first content."""
        return act is Act.OTHER_CONTENT and items[0].key not in self._accepted

    async def _cancel(self, step: Step) -> None:
        transaction_id = await self._filler.id_of(step.cancels)
        if transaction_id is None:
            self.shed[step.act] += 1
            return
        await self._sender.cancel(transaction_id, sequence=step.sequence, key=step.cancels)

    async def _send_in_turn(self, step: Step) -> None:
        is_repetition = step.act in REPEATING
        if is_repetition or not step.waits:
            await self._send(step, step.door)
        else:
            await self._in_turn(step)

    async def _in_turn(self, step: Step) -> None:
        async with AsyncExitStack() as turns:
            # In one order for all, so that two batches never wait for each other.
            for wallet in sorted(step.debited):
                await turns.enter_async_context(self._lock(wallet))
            if step.act is Act.CONCURRENT_DUPLICATE:
                await asyncio.gather(*(self._send(step, door) for door in Door))
            else:
                await self._send(step, step.door)

    async def _send(self, step: Step, door: Door) -> None:
        unanswered = await self._sender.send(step.items, sequence=step.sequence, door=door)
        if door is Door.HTTP and step.act is not Act.OTHER_CONTENT:
            self._remember(step.items, unanswered)

    def _remember(self, items: Iterable[Item], unanswered: Iterable[Item]) -> None:
        excluded = {item.key for item in unanswered}
        for item in items:
            if item.key not in excluded:
                self._accepted[item.key] = None
        while len(self._accepted) > _ACCEPTED_MAX:
            self._accepted.popitem(last=False)

    def _lock(self, wallet: UUID) -> asyncio.Lock:
        # Kept only while someone holds it or waits for it: there may be very many wallets.
        lock = self._locks.get(wallet)
        if lock is None:
            lock = self._locks[wallet] = asyncio.Lock()
        return lock

"""The time to recover: how soon after a moment something new comes to its end."""

import asyncio
import time
from collections import deque
from typing import Final
from uuid import UUID, uuid4

from ackledger.client.asynchronous import AsyncClient
from tools.chaos.background import came_within
from tools.chaos.command import Command
from tools.chaos.doors import Doors
from tools.chaos.journal import Act, Door, Journal, Outcome, Promise
from tools.chaos.load.doors import ATTEMPT_TIMEOUT_S, HttpDoor, reply_of
from tools.chaos.load.sending import Sent
from tools.chaos.load.wallets import HOME_CURRENCY, create_wallets

PROBE_INTERVAL_S: Final = 0.1
"""How exact the measure is."""
_IN_FLIGHT_MAX: Final = 150
"""More than can be under way: an attempt ends after ATTEMPT_TIMEOUT_S."""
_REMEMBERED_MAX: Final = 3000
"""Five minutes of probes: longer than any fault is waited for."""
_CLIENT: Final = -2
_PREFERENCE: Final = {"Prefer": f"wait={int(ATTEMPT_TIMEOUT_S) - 1}"}


class RecoveryMeter:
    """A client that asks for something new all the time, at each ingress in turn, and waits for it.

    Its deposits go to a wallet of its own and into the journal, as all that is promised.
    """

    def __init__(self, doors: Doors, journal: Journal) -> None:
        self._doors = doors
        self._journal = journal
        self._key_prefix = f"probe-{uuid4().hex[:12]}-"
        self._wallet: UUID | None = None
        self._stopping = asyncio.Event()
        self._completed: deque[tuple[float, float]] = deque(maxlen=_REMEMBERED_MAX)
        self._changed = asyncio.Condition()
        self._in_flight = 0

    async def prepare(self) -> None:
        """Make the wallet; for a healthy system."""
        async with AsyncClient(self._doors.http_urls[0], self._doors.api_key) as client:
            [self._wallet] = await create_wallets(client, 1, key_prefix=self._key_prefix)

    @property
    def wallets(self) -> tuple[UUID, ...]:
        """The wallet that it deposits to, once it is made."""
        return () if self._wallet is None else (self._wallet,)

    async def run(self) -> None:
        """Probe until `stop`, then await what is under way."""
        number = 0
        http = HttpDoor(self._doors, first=0, connections=_IN_FLIGHT_MAX)
        async with http, asyncio.TaskGroup() as probes:
            while not await came_within(self._stopping, PROBE_INTERVAL_S):
                if self._in_flight < _IN_FLIGHT_MAX:
                    self._in_flight += 1
                    probes.create_task(self._probe(http, number))
                    number += 1

    def stop(self) -> None:
        """Probe no more; safe at any time."""
        self._stopping.set()

    async def first_completed_after(self, moment: float, *, bound_s: float) -> float | None:
        """Return the seconds from a moment (monotonic) to the first end of what was sent later.

        None when nothing was completed within the bound.
        """
        try:
            async with asyncio.timeout(moment + bound_s - time.monotonic()), self._changed:
                await self._changed.wait_for(lambda: self._first_after(moment) is not None)
        except TimeoutError:
            return None
        first = self._first_after(moment)
        return None if first is None else first - moment

    def _first_after(self, moment: float) -> float | None:
        return min((ended for sent, ended in self._completed if sent >= moment), default=None)

    async def _probe(self, http: HttpDoor, number: int) -> None:
        assert self._wallet is not None  # noqa: S101  # prepared before it runs
        key = f"{self._key_prefix}{number}"
        command = Command(
            type="deposit",
            source_wallet_id=None,
            destination_wallet_id=self._wallet,
            minor=1,
            currency=HOME_CURRENCY,
        )
        try:
            await self._measure(http, number, key, command)
        finally:
            self._in_flight -= 1

    async def _measure(self, http: HttpDoor, number: int, key: str, command: Command) -> None:
        sent = Sent.now()
        status, answer = await http.call(
            "POST", "/v1/transactions", body=command.body(key), headers=_PREFERENCE, place=number
        )
        reply, answered_s = reply_of(status, answer), time.monotonic()
        self._journal.record(
            Promise(
                client=_CLIENT,
                sequence=number,
                attempt=0,
                door=Door.HTTP,
                act=Act.PROBE,
                idempotency_key=key,
                command=command,
                is_batch=False,
                sent_s=sent.at_s,
                answered_s=answered_s,
                sent_at=sent.at,
                outcome=reply.outcome,
                transaction_id=reply.transaction_id,
                code=reply.code,
            )
        )
        if reply.outcome is Outcome.ACCEPTED and answer["status"] == "COMPLETED":
            async with self._changed:
                self._completed.append((sent.at_s, answered_s))
                self._changed.notify_all()

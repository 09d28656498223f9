"""Clients that go on submitting whatever happens to the system, and note how long each waited."""

import asyncio
import random
import statistics
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID, uuid4

import aiohttp
import orjson

from tools.bench.open_loop import poisson_moments

ANSWER_BOUND_S: Final = 60.0
"""Until a submission must have been accepted, its repetitions included."""
PAUSE_S: Final = 0.1
"""Between a refusal to serve and the repetition under the same key."""
ACCEPTED: Final = frozenset({200, 202})
HOUR_S: Final = 3_600.0


@dataclass(slots=True)
class Phase:
    """What the clients saw in one part of the upgrade."""

    waits_ms: list[float] = field(default_factory=list)
    """Of each submission, from the moment at which it was due to its acceptance."""
    repeated: int = 0
    """Answers 5xx and broken connections, after which the same key was sent again."""

    def row(self, name: str) -> tuple[str, ...]:
        """Return the phase as a row of a table."""
        if len(self.waits_ms) < 2:  # noqa: PLR2004, quantiles need two
            return (name, str(len(self.waits_ms)), "", "", "", str(self.repeated))
        cuts = statistics.quantiles(self.waits_ms, n=100)
        figures = (statistics.median(self.waits_ms), cuts[98], max(self.waits_ms))
        return (
            name,
            f"{len(self.waits_ms):,}",
            *(f"{one:,.0f}" for one in figures),
            str(self.repeated),
        )


class NotAcceptedError(Exception):
    """A submission was refused, or not accepted within its bound."""


class Traffic:
    """Transfers between wallets at a rate, to the ingresses that are named at the moment."""

    def __init__(self, wallets: Sequence[UUID], *, rate_per_s: float, api_key: str) -> None:
        self._wallets = wallets
        self._rate_per_s = rate_per_s
        self._headers = {
            "Authorization": f"Bearer {api_key}",
            "Content-Type": "application/json",
        }
        self.urls: Sequence[str] = ()
        self.phase_name = ""
        self.phases: dict[str, Phase] = defaultdict(Phase)
        self.accepted = 0

    @asynccontextmanager
    async def flowing(self) -> AsyncIterator[None]:
        """Submit as long as the block lasts; raises NotAcceptedError if one was not accepted."""
        async with aiohttp.ClientSession(headers=self._headers) as session:
            stopping = asyncio.Event()
            submitting = asyncio.create_task(self._submit_on(session, stopping))
            try:
                yield
            finally:
                stopping.set()
                await submitting

    async def _submit_on(self, session: aiohttp.ClientSession, stopping: asyncio.Event) -> None:
        began = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for moment in poisson_moments(self._rate_per_s, HOUR_S, seed=1):
                await asyncio.sleep(max(0.0, began + moment - time.monotonic()))
                if stopping.is_set():
                    return
                phase = self.phases[self.phase_name]
                group.create_task(self._submit(session, began + moment, phase))

    async def _submit(self, session: aiohttp.ClientSession, due: float, phase: Phase) -> None:
        source, destination = random.sample(self._wallets, 2)
        body = orjson.dumps(
            {
                "idempotency_key": str(uuid4()),
                "type": "transfer",
                "source_wallet_id": str(source),
                "destination_wallet_id": str(destination),
                "amount": "1.00",
                "currency": "USD",
            }
        )
        while (status := await self._status_of(session, body)) not in ACCEPTED:
            phase.repeated += 1
            if status is not None and status < 500:  # noqa: PLR2004, a refusal for good
                raise NotAcceptedError(f"a submission was answered {status}")
            if time.monotonic() - due > ANSWER_BOUND_S:
                raise NotAcceptedError(f"a submission waited for {ANSWER_BOUND_S:g} s: {status}")
            await asyncio.sleep(PAUSE_S)
        self.accepted += 1
        phase.waits_ms.append(1000 * (time.monotonic() - due))

    async def _status_of(self, session: aiohttp.ClientSession, body: bytes) -> int | None:
        """Return the answer's status; None for a connection that broke."""
        url = f"{random.choice(self.urls)}/v1/transactions"
        try:
            async with session.post(url, data=body) as response:
                await response.read()
                return response.status
        except (aiohttp.ClientError, TimeoutError):
            return None

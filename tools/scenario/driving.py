"""Driving a plan through both doors at once, and reading back what it came to."""

import asyncio
import time
import zlib
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from functools import partial
from http import HTTPStatus
from typing import Final

from ackledger.client.asynchronous import AsyncClient
from ackledger.client.publishing import AsyncPublisher, UpstreamMessage
from cli.dependencies import Connection
from cli.failures import RefusedError
from cli.replay.doors import AmqpDoor, Door, HttpDoor
from cli.replay.tally import Tally
from contracts.money import minor_units
from runtime.postgres.queries import load_queries
from tools.scenario.model import Expectation
from tools.scenario.poison import BadRequest, PoisonMessage, bad_requests, poison_messages
from tools.scenario.requests import Requests
from tools.scenario.steps import Batch, Plan, PlannedWallet, Round, Step
from tools.scenario.steps import Door as DoorName

Show = Callable[[str, int, int], None]
"""Called with what is done, how far it is, and of how much."""

_DRAINED_IN_S: Final = 60.0
"""Without anything settling for so long, the processor is taken for stopped."""
_LOOK_S: Final = 0.1
_WORKERS: Final = 8
_HTTP_BATCH: Final = 100
_AMQP_BATCH: Final = 50


@dataclass(slots=True)
class Observation:
    """What a scenario came to, as the doors and the tables tell it."""

    submitted: Counter[DoorName] = field(default_factory=Counter)
    seconds: dict[DoorName, float] = field(default_factory=dict)
    outcomes: dict[str, Counter[str]] = field(default_factory=dict)
    http_replays: int = 0
    http_problems: Counter[str] = field(default_factory=Counter)
    dead_letters: Counter[str] = field(default_factory=Counter)
    kinds: dict[str, Counter[str]] = field(default_factory=dict)
    holds: dict[str, Counter[str]] = field(default_factory=dict)
    balances: dict[str, int] = field(default_factory=dict)
    held: dict[str, int] = field(default_factory=dict)


class Driver:
    """One run of a plan."""

    def __init__(
        self,
        *,
        plan: Plan,
        expected: Expectation,
        client: AsyncClient,
        publisher: AsyncPublisher,
        connection: Connection,
        key_prefix: str,
        show: Show,
    ) -> None:
        self._plan = plan
        self._expected = expected
        self._client = client
        self._publisher = publisher
        self._connection = connection
        self._key_prefix = key_prefix
        self._show = show
        self._sql = load_queries("tools.scenario")
        self._wallets: dict[str, str] = {}
        self._requests = Requests(self._wallets)
        self._seen = Observation()

    async def run(self) -> Observation:
        """Make the wallets, drive every round, wait for the end of each, and read the result."""
        began: datetime = await self._connection.fetchval(self._sql["read_clock"])
        await self._make_wallets()
        settled = 0
        poison = poison_messages()
        for number, moment in enumerate(self._plan.rounds):
            # The poison goes among the many good ones of the main round.
            is_main = number == 1
            await self._drive(moment, poison if is_main else [], is_main=is_main)
            await self._cancel(moment)
            settled += _new_in(moment, self._plan.rounds[:number])
            await self._drain(settled)
            await self._let_expire()
            await self._find_ids()
        await self._await_dead_letters(began, len(poison) + self._expected.reused["amqp"])
        await self._read(began)
        return self._seen

    async def _make_wallets(self) -> None:
        done = 0
        slots = asyncio.Semaphore(_WORKERS)

        async def make(planned: PlannedWallet) -> None:
            nonlocal done
            async with slots:
                self._wallets[planned.name] = await self._make_wallet(planned)
            done += 1
            self._show("making wallets", done, len(self._plan.wallets))

        await asyncio.gather(*(make(one) for one in self._plan.wallets))

    async def _make_wallet(self, planned: PlannedWallet) -> str:
        kind = "internal" if planned.is_internal else "customer"
        wallet = await self._client.create_wallet(
            currency=planned.currency,
            owner_id=planned.name,
            kind=kind,
            idempotency_key=f"{self._key_prefix}{planned.name}",
        )
        if planned.status != "ACTIVE":
            await self._client.change_wallet(wallet.id, status=planned.status)
        return str(wallet.id)

    async def _drive(
        self, moment: Round, poison: Sequence[PoisonMessage], *, is_main: bool
    ) -> None:
        tallies = (Tally(), Tally())
        async with asyncio.TaskGroup() as group:
            group.create_task(self._through_http(moment.steps["http"], tallies[0]))
            group.create_task(self._through_amqp(moment.steps["amqp"], poison, tallies[1]))
            group.create_task(self._batches_through_http(moment.batches["http"]))
            group.create_task(self._batches_through_amqp(moment.batches["amqp"]))
            if is_main:
                group.create_task(self._send_bad_requests(bad_requests()))
            group.create_task(self._follow(tallies, moment))

    async def _follow(self, tallies: Sequence[Tally], moment: Round) -> None:
        total = sum(len(steps) for steps in moment.steps.values())
        sent = 0
        while sent < total:
            sent = sum(tally.sent for tally in tallies)
            self._show("submitting", sent, total)
            await asyncio.sleep(_LOOK_S)

    async def _through_http(self, steps: Sequence[Step], tally: Tally) -> None:
        door = HttpDoor(self._client, tally, connections=_WORKERS, batch=_HTTP_BATCH)
        started = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            group.create_task(door.run())
            for step in steps:
                await door.send(self._requests.item(step))
                tally.sent += 1
            await door.finish()
        self._note("http", len(steps), started)
        self._seen.http_replays += tally.replays or 0
        self._seen.http_problems.update(tally.problems)

    async def _through_amqp(
        self, steps: Sequence[Step], poison: Sequence[PoisonMessage], tally: Tally
    ) -> None:
        """Half of the wallets in single messages, half in batches, poison evenly between them."""
        doors: list[Door] = [
            AmqpDoor(self._publisher, tally, batch=1),
            AmqpDoor(self._publisher, tally, batch=_AMQP_BATCH),
        ]
        started = time.perf_counter()
        every = max(1, len(steps) // max(1, len(poison)))
        waiting = list(poison)
        for number, step in enumerate(steps):
            item = self._requests.item(step)
            # A wallet's messages all go through the same one, so that their order is kept. A
            # message with used keys has one dead letter for all of them: those go one by one.
            door = 0 if step.is_changed else zlib.crc32(item.wallet.encode()) % 2
            await doors[door].send(item)
            tally.sent += 1
            if waiting and number % every == 0:
                await self._publisher.send(waiting.pop().message)
        for rest in waiting:
            await self._publisher.send(rest.message)
        for one in doors:
            await one.finish()
        self._note("amqp", len(steps), started)

    def _note(self, door: DoorName, count: int, started: float) -> None:
        if count:
            self._seen.submitted[door] += count
            spent = self._seen.seconds.get(door, 0.0)
            self._seen.seconds[door] = spent + time.perf_counter() - started

    async def _send_bad_requests(self, requests: Sequence[BadRequest]) -> None:
        for one in requests:
            answer = await self._client.call("POST", one.path, data=one.data, headers=one.headers)
            code = answer.problem and answer.problem.code
            is_expected = (answer.status, code) == (one.status, one.code)
            name = str(one.code) if is_expected else f"{answer.status} {code}"
            self._seen.http_problems[name] += 1

    async def _batches_through_http(self, batches: Sequence[Batch]) -> None:
        for batch in batches:
            answer = await self._client.call(
                "POST", "/v1/transactions/batch", data=self._requests.batch(batch)
            )
            items = answer.wanted()["items"]
            self._seen.submitted["http"] += len(items)
            self._seen.http_replays += sum(item["status_code"] == HTTPStatus.OK for item in items)

    async def _batches_through_amqp(self, batches: Sequence[Batch]) -> None:
        for batch in batches:
            await self._publisher.send(
                UpstreamMessage(
                    routing_key=self._wallets[batch.ordered_by],
                    body=self._requests.batch(batch, version=1),
                    transactions=len(batch.steps),
                )
            )
            self._seen.submitted["amqp"] += len(batch.steps)

    async def _cancel(self, moment: Round) -> None:
        """Cancel what is to be cancelled; what came by AMQP, once it is recorded."""
        for step in moment.all_steps:
            if step.terms.is_cancelled:
                await self._await_count("recording", partial(self._count_recorded, step.key), 1)
                transaction_id = await self._connection.fetchval(self._sql["find_id"], step.key)
                await self._client.cancel(transaction_id, idempotency_key=f"{step.key}/cancel")

    async def _count_recorded(self, key: str) -> int:
        return int(await self._connection.fetchval(self._sql["find_id"], key) is not None)

    async def _let_expire(self) -> None:
        """Wait until every hold of this scenario that is about to expire has expired."""
        short = await self._connection.fetchval(self._sql["count_short_holds"], self._key_prefix)

        async def expired() -> int:
            count: int = await self._connection.fetchval(
                self._sql["count_expired_holds"], self._key_prefix
            )
            return count

        if short:
            await self._await_count("expiring", expired, short)

    async def _find_ids(self) -> None:
        """Let later steps refer to what has been posted."""
        for row in await self._connection.fetch(self._sql["list_ids"], self._key_prefix):
            self._requests.ids[row["idempotency_key"]] = str(row["id"])

    async def _drain(self, total: int) -> None:
        """Wait until so many transactions are settled."""

        async def settled() -> int:
            count: int = await self._connection.fetchval(
                self._sql["count_settled"], self._key_prefix
            )
            return count

        await self._await_count("posting", settled, total)

    async def _await_dead_letters(self, began: datetime, total: int) -> None:
        async def stored() -> int:
            return (await self._dead_letters(began)).total()

        await self._await_count("storing dead letters", stored, total)

    async def _await_count(
        self, what: str, count: Callable[[], Awaitable[int]], total: int
    ) -> None:
        moved, before = time.monotonic(), -1
        while (now := await count()) < total:
            if now != before:
                moved, before = time.monotonic(), now
            if time.monotonic() - moved > _DRAINED_IN_S:
                raise RefusedError(f"{what}: {now} of {total}, and none for {_DRAINED_IN_S:g} s")
            self._show(what, now, total)
            await asyncio.sleep(_LOOK_S)
        self._show(what, now, total)

    async def _read(self, began: datetime) -> None:
        for row in await self._connection.fetch(self._sql["read_outcomes"], self._key_prefix):
            for found, name in ((self._seen.outcomes, "outcome"), (self._seen.kinds, "kind")):
                found.setdefault(row["door"], Counter())[row[name]] += row["transactions"]
        for row in await self._connection.fetch(self._sql["read_holds"], self._key_prefix):
            self._seen.holds.setdefault(row["door"], Counter())[row["status"]] += row["holds"]
        self._seen.dead_letters = await self._dead_letters(began)
        wallets = await asyncio.gather(
            *(self._client.read_wallet(wallet_id) for wallet_id in self._wallets.values())
        )
        for name, wallet in zip(self._wallets, wallets, strict=True):
            self._seen.balances[name] = _minor(wallet.balance, wallet.currency)
            self._seen.held[name] = _minor(wallet.held, wallet.currency)

    async def _dead_letters(self, began: datetime) -> Counter[str]:
        rows = await self._connection.fetch(self._sql["read_dead_letters"], began)
        return Counter({row["reason"]: row["dead_letters"] for row in rows})


def _new_in(moment: Round, before: Sequence[Round]) -> int:
    """How many of a round's keys no round before it had."""
    return len(_keys(moment) - set().union(*(_keys(one) for one in before)))


def _keys(moment: Round) -> set[str]:
    return {step.key for step in moment.all_steps}


def _minor(amount: Decimal, currency: str) -> int:
    # An amount is never negative, but what a forced reversal has overdrawn is.
    minor = minor_units(abs(amount), currency)
    return -minor if amount < 0 else minor

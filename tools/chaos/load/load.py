"""The load: wallets with money in them, and seeded clients of both doors."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

from ackledger.client.asynchronous import AsyncClient
from cli.failures import RefusedError
from tools.chaos.doors import Doors
from tools.chaos.journal import Act, Door, Journal
from tools.chaos.load.client import Client
from tools.chaos.load.contents import Item, move
from tools.chaos.load.doors import AmqpDoor, HttpDoor
from tools.chaos.load.filling import Filler
from tools.chaos.load.plan import Step, client_steps
from tools.chaos.load.pressure import NO_PRESSURE, burst_steps, sequence_steps
from tools.chaos.load.sending import Sender
from tools.chaos.load.wallets import WalletPlan, Wallets, make_wallets
from tools.chaos.pressure import Pressure

CONNECTIONS: Final = 16
"""To each ingress, for each client."""
_SETUP_CONNECTIONS: Final = 32
_OPENING_BATCH: Final = 500
_OPENING_CLIENT: Final = -1
_OPENING_WAIT_S: Final = 30


class Load:
    """Clients on a schedule that only the seed knows; every answer goes into the journal."""

    def __init__(
        self,
        doors: Doors,
        *,
        seed: int,
        rate_per_s: float,
        clients: int,
        journal: Journal,
        wallets: WalletPlan | None = None,
        pressure: Pressure = NO_PRESSURE,
    ) -> None:
        """`rate_per_s` counts the acts of all `clients` together; some acts are batches.

        `pressure` comes on top of that.

        A seed names its wallets and keys: one run of a seed for each system.
        """
        self._doors = doors
        self._seed = seed
        self._client_rate_per_s = rate_per_s / clients
        self._journal = journal
        self._plan = wallets or WalletPlan()
        self._pressure = pressure
        self._key_prefix = f"chaos-{seed}-"
        self._stopping = asyncio.Event()
        self._numbers = range(clients)
        self._wallets: Wallets | None = None
        self._clients: list[Client] = []

    @property
    def shed(self) -> Counter[Act]:
        """What was not sent: too much awaited its answer, or there was nothing to repeat."""
        return sum((client.shed for client in self._clients), Counter())

    async def prepare(self) -> Wallets:
        """Make the wallets and fund them; returns when the money is there. For a healthy system."""
        async with AsyncClient(
            self._doors.http_urls[0], self._doors.api_key, connections=_SETUP_CONNECTIONS
        ) as client:
            wallets = await make_wallets(
                client,
                self._plan,
                key_prefix=self._key_prefix,
                database_url=self._doors.database_url,
            )
            last_key = await self._fund(wallets)
            last = await client.find_transaction(idempotency_key=last_key)
            if last is not None:
                last = await client.read_transaction(last.id, wait_s=_OPENING_WAIT_S)
        if last is None or last.status != "COMPLETED":
            status = last and last.status
            raise RefusedError(f"the opening deposits do not end: the last one is {status}")
        self._wallets = wallets
        return wallets

    async def run(self) -> None:
        """Send until `stop`, and then until everything under way was answered or given up."""
        if self._wallets is None:
            raise RuntimeError("prepare it first")
        async with AsyncExitStack() as exits:
            self._clients = [
                await exits.enter_async_context(self._client(number, steps))
                for number, steps in enumerate(self._all_steps(self._wallets))
            ]
            async with asyncio.TaskGroup() as group:
                for client in self._clients:
                    group.create_task(client.run())

    def stop(self) -> None:
        """Send nothing new; safe at any time."""
        self._stopping.set()

    def _all_steps(self, wallets: Wallets) -> Iterator[Iterator[Step]]:
        """Yield what each client does: the ordinary ones, the bursts, the sequences."""
        for number in self._numbers:
            yield client_steps(
                seed=self._seed,
                client=number,
                wallets=wallets,
                rate_per_s=self._client_rate_per_s,
                key_prefix=self._key_prefix,
            )
        pressure = self._pressure
        if pressure.burst:
            yield burst_steps(
                seed=self._seed,
                wallets=wallets,
                pressure=pressure,
                key_prefix=f"{self._key_prefix}burst-",
            )
        for number in range(pressure.sequences):
            yield sequence_steps(
                seed=self._seed,
                number=number,
                wallets=wallets,
                pressure=pressure,
                key_prefix=f"{self._key_prefix}sequence-{number}-",
            )

    @asynccontextmanager
    async def _client(self, number: int, steps: Iterator[Step]) -> AsyncIterator[Client]:
        async with self._http(number) as http, self._sender(number, http) as sender:
            yield Client(
                steps=steps,
                sender=sender,
                filler=Filler(http),
                journal=self._journal,
                stopping=self._stopping,
                mark_prefix=f"{self._key_prefix}poison-{number}-",
            )

    def _http(self, number: int) -> HttpDoor:
        return HttpDoor(self._doors, first=max(number, 0), connections=CONNECTIONS)

    @asynccontextmanager
    async def _sender(self, number: int, http: HttpDoor) -> AsyncIterator[Sender]:
        amqp = AmqpDoor(self._doors.amqp_url, name=f"chaos-client-{number}")
        async with amqp.opened():
            yield Sender(
                client=number, http=http, amqp=amqp, journal=self._journal, stopping=self._stopping
            )

    async def _fund(self, wallets: Wallets) -> str:
        """Deposit in batches, one after the other; return the last key."""
        items = [
            Item(
                act=Act.OPENING,
                key=f"{self._key_prefix}opening-{number}",
                command=move("deposit", None, wallet_id, minor),
            )
            for number, (wallet_id, minor) in enumerate(wallets.funded())
        ]
        number = _OPENING_CLIENT
        async with self._http(number) as http, self._sender(number, http) as sender:
            for start in range(0, len(items), _OPENING_BATCH):
                batch = items[start : start + _OPENING_BATCH]
                if await sender.send(batch, sequence=start, door=Door.HTTP):
                    raise RefusedError("the opening deposits are not accepted")
        return items[-1].key

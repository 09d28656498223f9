"""The wallets that the load moves money between: made over HTTP, then funded."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID, uuid5

from ackledger.client.asynchronous import AsyncClient
from contracts.money import format_minor
from runtime.postgres.pool import connect
from runtime.postgres.queries import load_queries

HOME_CURRENCY: Final = "USD"
FOREIGN_CURRENCY: Final = "KWD"
"""Three decimals, where the home currency has two; no wallet of the load holds it."""
HOT_MINOR: Final = 1_000_000
COLD_MINOR: Final = 10_000
HOLDING_MINOR: Final = 200_000
OVERDRAFT_MINOR: Final = 5_000
OTHER_CURRENCY: Final = "EUR"
"""What exchanges change the home currency into."""
_OVERDRAWN_EACH: Final = 4
"""Every so many wallets one may be overdrawn, so that limits other than zero are held against."""
_FROZEN: Final = 2
_HOLDING: Final = 8
"""Money is held of these alone: what moves other wallets plainly is still posted the fast way."""
_SPENT: Final = 2
"""Deposits to these are taken back by force: no limit can be held against them afterwards."""
_TRAVELLERS: Final = 4
_HOUSE: Final = (HOME_CURRENCY, HOME_CURRENCY, OTHER_CURRENCY)
_RING_LEAST: Final = 2
_OVER_HTTP_MOST: Final = 1000
"""Cold wallets that are created over HTTP; 50,000 would take minutes and show nothing more."""
_NAMESPACE: Final = UUID("c0a5f1f2-6d2e-4a0e-9b7b-2f0c7d0f4b11")
_WORKERS: Final = 32
"""Creations under way; one commit takes them all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WalletPlan:
    """How many wallets there are: a ring of hot ones, in half of all acts, and one of cold ones."""

    hot: int = 8
    cold: int = 300

    def __post_init__(self) -> None:
        if min(self.hot, self.cold) < _RING_LEAST:
            raise ValueError(f"a ring has at least {_RING_LEAST} wallets")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wallets:
    """The wallets of a load."""

    hot: tuple[UUID, ...]
    cold: tuple[UUID, ...]
    frozen: tuple[UUID, ...]
    holding: tuple[UUID, ...]
    spent: tuple[UUID, ...]
    travellers: tuple[UUID, ...]
    """Customers' wallets in the other currency."""
    fees: UUID
    exchange: UUID
    exchange_other: UUID
    """The house's own, which may owe: in the home currency, and in the other one."""

    def funded(self) -> list[tuple[UUID, int]]:
        """Return each wallet that begins with money, and how much."""
        hot = [(wallet, HOT_MINOR) for wallet in self.hot]
        holding = [(wallet, HOLDING_MINOR) for wallet in self.holding]
        return [*hot, *holding, *((wallet, COLD_MINOR) for wallet in self.cold)]


async def make_wallets(
    client: AsyncClient, plan: WalletPlan, *, key_prefix: str, database_url: str
) -> Wallets:
    """Create the wallets, or find those that this prefix created before.

    What is beyond _OVER_HTTP_MOST is written into the table, as the service would have written it.
    """
    created = plan.hot + min(plan.cold, _OVER_HTTP_MOST)
    ids = await create_wallets(client, created + _FROZEN, key_prefix=key_prefix)
    for wallet_id in ids[created:]:
        await client.change_wallet(wallet_id, status="FROZEN")
    count = plan.hot + plan.cold - created
    written = await _write_wallets(database_url, count, key_prefix=key_prefix)
    more = await create_wallets(client, _HOLDING + _SPENT, key_prefix=f"{key_prefix}more-")
    travellers = await _create_others(
        client, [OTHER_CURRENCY] * _TRAVELLERS, kind="customer", key_prefix=key_prefix
    )
    fees, exchange, exchange_other = await _create_others(
        client, _HOUSE, kind="internal", key_prefix=key_prefix
    )
    return Wallets(
        hot=tuple(ids[: plan.hot]),
        cold=(*ids[plan.hot : created], *written),
        frozen=tuple(ids[created:]),
        holding=tuple(more[:_HOLDING]),
        spent=tuple(more[_HOLDING:]),
        travellers=tuple(travellers),
        fees=fees,
        exchange=exchange,
        exchange_other=exchange_other,
    )


async def _create_others(
    client: AsyncClient, currencies: Sequence[str], *, kind: str, key_prefix: str
) -> Sequence[UUID]:
    """Create a few wallets of a kind, one after the other."""
    made = []
    for number, currency in enumerate(currencies):
        name = f"{key_prefix}{kind}-{number}"
        wallet = await client.create_wallet(
            currency=currency, owner_id=name, kind=kind, idempotency_key=name
        )
        made.append(wallet.id)
    return made


async def _write_wallets(database_url: str, count: int, *, key_prefix: str) -> Sequence[UUID]:
    if count == 0:
        return []
    owners = [f"{key_prefix}written-{number}" for number in range(count)]
    ids = [uuid5(_NAMESPACE, owner) for owner in owners]
    limits = [0 if number % _OVERDRAWN_EACH else OVERDRAFT_MINOR for number in range(count)]
    connection = await connect(database_url, name="chaos-wallets")
    try:
        await connection.execute(
            load_queries(__package__)["write_wallets"], ids, owners, limits, HOME_CURRENCY
        )
    finally:
        await connection.close()
    return ids


async def create_wallets(client: AsyncClient, count: int, *, key_prefix: str) -> Sequence[UUID]:
    """Create so many wallets in the home currency and return their ids, in order."""
    made: list[UUID | None] = [None] * count
    numbers = iter(range(count))
    limit = format_minor(OVERDRAFT_MINOR, HOME_CURRENCY)

    async def work() -> None:
        for number in numbers:
            wallet = await client.create_wallet(
                currency=HOME_CURRENCY,
                owner_id=f"{key_prefix}{number}",
                overdraft_limit=limit if number % _OVERDRAWN_EACH == 0 else None,
                idempotency_key=f"{key_prefix}wallet-{number}",
            )
            made[number] = wallet.id

    async with asyncio.TaskGroup() as group:
        for _ in range(min(_WORKERS, count)):
            group.create_task(work())
    return [wallet for wallet in made if wallet is not None]

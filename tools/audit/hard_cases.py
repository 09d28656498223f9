"""Transactions that are hard to write for others: every type, every kind of code, any text."""

import asyncio
from collections.abc import Mapping
from typing import Final
from uuid import UUID

from ackledger.client import (
    AsyncClient,
    Capture,
    Deposit,
    Hold,
    Journal,
    Leg,
    Release,
    Reversal,
    TransactionRequest,
    Transfer,
    Withdrawal,
)
from cli.assets import add_asset
from cli.dependencies import Connection
from runtime.postgres.assets import USABLE_AFTER_S

ASSETS: Final[Mapping[str, int]] = {"POINTS8": 8, "1UP": 12, "TRUE": 0}
"""Code to exponent: with a digit, beginning with one, and a word of beancount's language."""

TEXTS: Final = (
    '!* =(hello) @ "quoted" \\ {1.00 USD} [2026/13/99]',
    "two\nlines; a comment | a note\ttab",
    "ünï 漢字 😀",
    "=",
    "1,000.00 USD",
)
"""Descriptions that mean something to one of the programs."""

_WAIT_S: Final = 30


class HardCases:
    """Submits them one by one, each waited for: every one of them must be posted."""

    def __init__(self, client: AsyncClient, connection: Connection, *, actor: str) -> None:
        self._client = client
        self._connection = connection
        self._actor = actor

    async def run(self) -> None:
        """Register the assets, and post everything; raises UnpostedError for what is not posted."""
        for code, exponent in ASSETS.items():
            await add_asset(self._connection, code, exponent, actor=self._actor)
        await self._texts()
        await self._exchange()
        # Processes take a code from then on; a second more than enough.
        await asyncio.sleep(USABLE_AFTER_S + 1)
        for code, exponent in ASSETS.items():
            smallest = f"0.{'0' * (exponent - 1)}1" if exponent else "1"
            wallet = await self._wallet(code)
            await self._deposit(wallet, smallest, code)

    async def _texts(self) -> None:
        rich, poor = await self._wallet("USD"), await self._wallet("USD")
        await self._deposit(rich, "100.00", "USD")
        for text in TEXTS:
            await self._transfer(rich, poor, "0.01", description=text)
        spent = await self._transfer(rich, poor, "20.00")
        await self._submit(Reversal(reverses=spent, amount="5.00"))
        await self._submit(Reversal(reverses=spent))
        await self._submit(Withdrawal(source_wallet_id=rich, amount="0.05", currency="USD"))
        await self._holds(rich, poor)

    async def _holds(self, rich: UUID, poor: UUID) -> None:
        captured, released = [
            await self._submit(
                Hold(
                    source_wallet_id=rich,
                    destination_wallet_id=poor,
                    amount="30.00",
                    currency="USD",
                )
            )
            for _ in range(2)
        ]
        await self._submit(Capture(hold_id=captured, amount="7.77", final=False))
        await self._submit(Capture(hold_id=captured, amount="1.00"))
        await self._submit(Release(hold_id=released))

    async def _exchange(self) -> None:
        """Dollars for yen through the house's wallets, with a fee; and one more that is undone."""
        dollars, yen = await self._wallet("USD"), await self._wallet("JPY")
        house = {
            code: await self._wallet(code, kind="internal", owner_id="exchange; | desk")
            for code in ("USD", "JPY")
        }
        await self._deposit(dollars, "50.00", "USD")
        legs = [
            Leg(wallet_id=dollars, amount="-10.00", currency="USD"),
            Leg(wallet_id=house["USD"], amount="9.90", currency="USD"),
            Leg(wallet_id=house["USD"], amount="0.10", currency="USD"),
            Leg(wallet_id=house["JPY"], amount="-1500", currency="JPY"),
            Leg(wallet_id=yen, amount="1500", currency="JPY"),
        ]
        await self._submit(Journal(legs=legs))
        undone = await self._submit(Journal(legs=legs))
        await self._submit(Reversal(reverses=undone))

    async def _wallet(
        self, currency: str, *, kind: str | None = None, owner_id: str | None = None
    ) -> UUID:
        wallet = await self._client.create_wallet(currency=currency, kind=kind, owner_id=owner_id)
        return wallet.id

    async def _deposit(self, wallet: UUID, amount: str, currency: str) -> None:
        await self._submit(Deposit(destination_wallet_id=wallet, amount=amount, currency=currency))

    async def _transfer(
        self, source: UUID, destination: UUID, amount: str, description: str | None = None
    ) -> UUID:
        return await self._submit(
            Transfer(
                source_wallet_id=source,
                destination_wallet_id=destination,
                amount=amount,
                currency="USD",
                description=description,
            )
        )

    async def _submit(self, request: TransactionRequest) -> UUID:
        transaction = await self._client.submit(request, wait_s=_WAIT_S)
        if transaction.status not in {"COMPLETED", "REVERSED"}:
            failure = transaction.failure
            raise UnpostedError(f"{request.type}: {transaction.status} {failure}")
        return transaction.id


class UnpostedError(Exception):
    """A transaction that had to be posted was not; the message has its state."""

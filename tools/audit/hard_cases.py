"""Transactions that are hard to write for others: every type, every kind of code, any text."""

import asyncio
from collections.abc import Mapping
from typing import Any, Final
from uuid import uuid4

from cli.assets import add_asset
from cli.clients.http import ACCEPTED, CREATED, OK, ApiClient
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

    def __init__(self, client: ApiClient, connection: Connection, *, actor: str) -> None:
        self._client = client
        self._connection = connection
        self._actor = actor

    async def run(self) -> None:
        """Register the assets, and post everything; raises DoorRefusedError for what fails."""
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
        await self._submit({"type": "reversal", "reverses": spent, "amount": "5.00"})
        await self._submit({"type": "reversal", "reverses": spent})
        await self._submit(
            {
                "type": "withdrawal",
                "source_wallet_id": rich,
                "amount": "0.05",
                "currency": "USD",
            }
        )
        await self._holds(rich, poor)

    async def _holds(self, rich: str, poor: str) -> None:
        hold = {
            "type": "hold",
            "source_wallet_id": rich,
            "amount": "30.00",
            "currency": "USD",
            "destination_wallet_id": poor,
        }
        hold_id = await self._submit(hold)
        await self._submit(
            {"type": "capture", "hold_id": hold_id, "amount": "7.77", "final": False}
        )
        await self._submit({"type": "capture", "hold_id": hold_id, "amount": "1.00"})
        await self._submit({"type": "release", "hold_id": await self._submit(hold)})

    async def _exchange(self) -> None:
        """Dollars for yen through the house's wallets, with a fee; and one more that is undone."""
        dollars, yen = await self._wallet("USD"), await self._wallet("JPY")
        house = {
            code: await self._wallet(code, kind="internal", owner_id="exchange; | desk")
            for code in ("USD", "JPY")
        }
        await self._deposit(dollars, "50.00", "USD")
        legs = [
            _leg(dollars, "-10.00", "USD"),
            _leg(house["USD"], "9.90", "USD"),
            _leg(house["USD"], "0.10", "USD"),
            _leg(house["JPY"], "-1500", "JPY"),
            _leg(yen, "1500", "JPY"),
        ]
        await self._submit({"type": "journal", "legs": legs})
        undone = await self._submit({"type": "journal", "legs": legs})
        await self._submit({"type": "reversal", "reverses": undone})

    async def _wallet(self, currency: str, **fields: str) -> str:
        body = {"currency": currency, **fields}
        answer = await self._client.create_wallet(body, key=uuid4().hex)
        wallet_id: str = answer.expect(CREATED, OK)["id"]
        return wallet_id

    async def _deposit(self, wallet: str, amount: str, currency: str) -> None:
        await self._submit(
            {
                "type": "deposit",
                "destination_wallet_id": wallet,
                "amount": amount,
                "currency": currency,
            }
        )

    async def _transfer(self, source: str, destination: str, amount: str, **fields: str) -> str:
        return await self._submit(
            {
                "type": "transfer",
                "source_wallet_id": source,
                "destination_wallet_id": destination,
                "amount": amount,
                "currency": "USD",
                **fields,
            }
        )

    async def _submit(self, body: Mapping[str, Any]) -> str:
        answer = await self._client.submit({"idempotency_key": uuid4().hex, **body}, wait_s=_WAIT_S)
        transaction = answer.expect(OK, ACCEPTED)
        if transaction["status"] not in {"COMPLETED", "REVERSED"}:
            raise UnpostedError(f"{body['type']}: {transaction['status']} {transaction['failure']}")
        transaction_id: str = transaction["id"]
        return transaction_id


class UnpostedError(Exception):
    """A transaction that had to be posted was not; the message has its state."""


def _leg(wallet: str, amount: str, currency: str) -> dict[str, str]:
    return {"wallet_id": wallet, "amount": amount, "currency": currency}

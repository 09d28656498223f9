"""The book as its tables have it, page by page: memory stays bounded, whatever its size."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from typing import Any, Final
from uuid import UUID

import asyncpg

from cli.dependencies import Connection
from cli.export.book import Balance, BookAsset, BookLeg, BookTransaction, BookWallet
from contracts.money import exponent_of, register_asset
from runtime.postgres.queries import load_queries

TRANSACTIONS_PER_PAGE: Final = 2_000
"""A megabyte with its text; larger ones were no faster."""
BALANCES_PER_PAGE: Final = 1_000
"""As many are asserted in one transaction of a journal."""

Page = Sequence[asyncpg.Record]


@dataclass(frozen=True, slots=True)
class Span:
    """What is exported: days of UTC from `first` on and before `end`; None is without a bound."""

    first: date | None = None
    end: date | None = None
    currency: str | None = None

    @property
    def since(self) -> datetime | None:
        """The first moment that is in it."""
        return _midnight(self.first)

    @property
    def until(self) -> datetime | None:
        """The first moment that is behind it."""
        return _midnight(self.end)


def _midnight(day: date | None) -> datetime | None:
    return None if day is None else datetime.combine(day, time.min, UTC)


class BookReader:
    """Reads one span of the book. All of it inside one database transaction: one snapshot."""

    def __init__(self, connection: Connection, span: Span) -> None:
        self._connection = connection
        self._span = span
        self._sql = load_queries("cli.export")
        # Two cursors are read in turns, and a connection answers one question at a time.
        self._turn = asyncio.Lock()

    async def pin(self) -> None:
        """Set the snapshot's bounds, and learn what amounts in registered assets mean.

        Raises AmountError for a span of a currency that does not exist.
        """
        await self._connection.execute(self._sql["pin_export"])
        for row in await self._connection.fetch(self._sql["list_registered_assets"]):
            register_asset(row["code"], row["exponent"], is_usable=False)
        if self._span.currency is not None:
            exponent_of(self._span.currency)

    async def estimate(self) -> int:
        """Return about how many transactions there are."""
        count: int = await self._connection.fetchval(self._sql["estimate_transactions"])
        return count

    async def assets(self) -> list[BookAsset]:
        """Return the currencies of the book, by their codes."""
        rows = await self._connection.fetch(self._sql["list_currencies"], self._span.currency)
        return [BookAsset(row["currency"], exponent_of(row["currency"])) for row in rows]

    async def own_wallets(self) -> Mapping[UUID, tuple[str, str]]:
        """Return kind and currency of each wallet that is no customer's."""
        rows = await self._connection.fetch(self._sql["list_own_wallets"])
        return {row["id"]: (row["kind"], row["currency"]) for row in rows}

    async def wallets(self) -> AsyncIterator[list[BookWallet]]:
        """Yield every wallet, by id."""
        async for page in self._pages("list_wallets", BALANCES_PER_PAGE, self._span.currency):
            yield [BookWallet(*row) for row in page]

    async def balances_at(self, moment: datetime | None) -> AsyncIterator[list[Balance]]:
        """Yield what every wallet had before a moment, by currency and id; None: what it has."""
        arguments: list[Any] = [self._span.currency]
        if moment is not None:
            arguments.append(moment)
        name = "list_balances" if moment is None else "list_balances_at"
        async for page in self._pages(name, BALANCES_PER_PAGE, *arguments):
            yield [Balance(*row) for row in page]

    async def daily_balances(self) -> AsyncIterator[tuple[date, list[Balance]]]:
        """Yield what wallets had at the end of each day on which they moved; a day has pages."""
        arguments = (self._span.currency, self._span.since, self._span.until)
        async for page in self._pages("list_daily_balances", BALANCES_PER_PAGE, *arguments):
            days: dict[date, list[Balance]] = {}
            for day, *balance in page:
                days.setdefault(day, []).append(Balance(*balance))
            for day, balances in days.items():
                yield day, balances

    async def transactions(self) -> AsyncIterator[list[BookTransaction]]:
        """Yield every posted transaction that has legs, by (completed_at, id)."""
        arguments = (self._span.currency, self._span.since, self._span.until)
        async for page in self._pages("list_posted", TRANSACTIONS_PER_PAGE, *arguments):
            yield [one for one in map(_transaction, page) if one.legs]

    async def _pages(self, name: str, size: int, *arguments: Any) -> AsyncIterator[Page]:
        async with self._turn:
            cursor = await self._connection.cursor(self._sql[name], *arguments)
        ahead = await self._ask(cursor, size)
        try:
            while page := await ahead:
                ahead = await self._ask(cursor, size)
                yield page
        finally:
            ahead.cancel()

    async def _ask(
        self, cursor: "asyncpg.cursor.Cursor[asyncpg.Record]", size: int
    ) -> "asyncio.Task[Page]":
        """Begin to fetch a page: the server makes it while the one before becomes text."""

        async def fetch() -> Page:
            async with self._turn:
                page: Page = await cursor.fetch(size)
                return page

        asked = asyncio.create_task(fetch())
        # Its question is only sent when the loop has its turn, and writing leaves it none.
        await asyncio.sleep(0)
        return asked


def _transaction(row: asyncpg.Record) -> BookTransaction:
    """Return a row of `list_posted`; without legs where none is of the currency."""
    (
        id_, kind, completed_at, submitter, key, reverses, description,
        source, source_sequence, destination, destination_sequence, amount, currency, apart,
    ) = row  # fmt: skip
    legs: tuple[BookLeg, ...]
    if amount is None:
        legs = tuple(map(tuple, apart or ()))
    else:
        legs = (
            (source, currency, -amount, source_sequence),
            (destination, currency, amount, destination_sequence),
        )
    return BookTransaction(id_, kind, completed_at, submitter, key, reverses, description, legs)

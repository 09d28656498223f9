"""The book as its tables have it, page by page: memory stays bounded, whatever its size."""

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from typing import Any, Final

import asyncpg

from cli.dependencies import Connection
from cli.export.book import Balance, BookAsset, BookLeg, BookTransaction, BookWallet
from contracts.money import exponent_of, register_asset
from runtime.postgres.queries import load_queries

BALANCES_PER_PAGE: Final = 1_000
"""As many are asserted in one transaction of a journal."""

# How COPY writes what would end a field or a line: https://www.postgresql.org/docs/current/sql-copy.html
_ESCAPED: Final = re.compile(r"\\(.)", re.DOTALL)
_UNESCAPED: Final = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}

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
    """Reads one span of the book, in the database transactions that one snapshot has begun.

    Transactions come over the one connection, whatever else there is over the other: while their
    rows are sorted, and become text, the balances of days are added up.
    """

    def __init__(self, connection: Connection, beside: Connection, span: Span) -> None:
        self._connection = connection
        self._beside = beside
        self._span = span
        self._sql = load_queries("cli.export")

    async def pin(self) -> None:
        """Set the snapshot's bounds, and learn what amounts in registered assets mean.

        Raises AmountError for a span of a currency that does not exist.
        """
        await self._connection.execute(self._sql["pin_export"])
        await self._beside.execute(self._sql["pin_export"])
        for row in await self._beside.fetch(self._sql["list_registered_assets"]):
            register_asset(row["code"], row["exponent"], is_usable=False)
        if self._span.currency is not None:
            exponent_of(self._span.currency)

    async def estimate(self) -> int:
        """Return about how many transactions there are."""
        count: int = await self._beside.fetchval(self._sql["estimate_transactions"])
        return count

    async def assets(self) -> list[BookAsset]:
        """Return the currencies of the book, by their codes."""
        rows = await self._beside.fetch(self._sql["list_currencies"], self._span.currency)
        return [BookAsset(row["currency"], exponent_of(row["currency"])) for row in rows]

    async def own_wallets(self) -> Mapping[str, tuple[str, str]]:
        """Return kind and currency of each wallet that is no customer's."""
        rows = await self._beside.fetch(self._sql["list_own_wallets"])
        return {row["id"]: (row["kind"], row["currency"]) for row in rows}

    async def wallets(self) -> AsyncIterator[list[BookWallet]]:
        """Yield every wallet, by id."""
        async for page in self._pages("list_wallets", self._span.currency):
            yield [BookWallet(*row) for row in page]

    async def balances_at(self, moment: datetime | None) -> AsyncIterator[list[Balance]]:
        """Yield what every wallet had before a moment, by currency and id; None: what it has."""
        arguments: list[Any] = [self._span.currency]
        if moment is not None:
            arguments.append(moment)
        name = "list_balances" if moment is None else "list_balances_at"
        async for page in self._pages(name, *arguments):
            yield [Balance(*row) for row in page]

    async def daily_balances(self) -> AsyncIterator[tuple[date, list[Balance]]]:
        """Yield what wallets had at the end of each day on which they moved; a day has pages."""
        arguments = (self._span.currency, self._span.since, self._span.until)
        async for page in self._pages("list_daily_balances", *arguments):
            days: dict[date, list[Balance]] = {}
            for day, *balance in page:
                days.setdefault(day, []).append(Balance(*balance))
            for day, balances in days.items():
                yield day, balances

    async def transactions(self, take: Callable[[list[BookTransaction]], Awaitable[None]]) -> None:
        """Hand over every posted transaction that has legs, by (completed_at, id), in pages.

        A page is what a read from the socket brings, some hundred kilobytes; nothing is read while
        one is being taken.
        """
        rest = b""

        async def take_bytes(piece: bytes) -> None:
            nonlocal rest
            lines, newline, rest = (rest + piece).rpartition(b"\n")
            if newline:
                rows = map(_transaction, lines.decode().split("\n"))
                await take([one for one in rows if one.legs])

        await self._connection.copy_from_query(
            self._sql["list_posted"],
            *(self._span.currency, self._span.since, self._span.until),
            output=take_bytes,
            format="text",
            null="",
        )

    async def _pages(self, name: str, *arguments: Any) -> AsyncIterator[Page]:
        cursor = await self._beside.cursor(self._sql[name], *arguments)
        while page := await cursor.fetch(BALANCES_PER_PAGE):
            yield page


def _transaction(line: str) -> BookTransaction:
    """Return a line of `list_posted`; without legs where none is of the currency."""
    fields: list[Any] = line.split("\t")
    if "\\" in line:
        fields = [_ESCAPED.sub(_unescaped, one) for one in fields]
    (
        id_, kind, completed_at, submitter, key, reverses, description,
        source, source_sequence, destination, destination_sequence, amount, currency, apart,
    ) = fields  # fmt: skip
    legs: Sequence[BookLeg]
    if amount:
        minor = int(amount)
        legs = (
            (source, currency, -minor, source_sequence),
            (destination, currency, minor, destination_sequence),
        )
    else:
        legs = _legs_apart(apart)
    description = description[1:] if description else None
    return BookTransaction(
        id_, kind, completed_at, submitter, key, reverses or None, description, legs
    )


def _legs_apart(text: str) -> Sequence[BookLeg]:
    """Return the legs of what has no one amount: four words each."""
    words = text.split(" ") if text else []
    return [
        (wallet_id, currency, int(amount), sequence)
        for wallet_id, currency, amount, sequence in zip(
            words[::4], words[1::4], words[2::4], words[3::4], strict=True
        )
    ]


def _unescaped(found: re.Match[str]) -> str:
    return _UNESCAPED.get(found[1], found[1])

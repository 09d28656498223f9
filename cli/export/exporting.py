"""The stream from the tables to a file: one snapshot, in one order, the same text each time."""

import asyncio
from bisect import bisect_right
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from datetime import date, timedelta
from enum import StrEnum
from itertools import groupby
from typing import Final

from cli.dependencies import Connection
from cli.export.book import Balance, BookTransaction, BookWriter
from cli.export.journals import BeancountWriter, HledgerWriter, LedgerWriter
from cli.export.reading import BookReader, Span
from cli.export.records import CsvWriter, JsonLinesWriter
from cli.export.texts import Accounts
from runtime.postgres.pool import one_snapshot

Write = Callable[[str], object]
"""Takes the next piece of the text."""
Progress = Callable[[int, int], None]
"""Called with the transactions done and those in all, the latter an estimate."""

_EPOCH: Final = date(1970, 1, 1)
_DAY: Final = timedelta(days=1)


class ExportFormat(StrEnum):
    """Whom the text is for."""

    HLEDGER = "hledger"
    LEDGER = "ledger"
    BEANCOUNT = "beancount"
    CSV = "csv"
    JSONL = "jsonl"


@dataclass(slots=True)
class Exported:
    """How much was written."""

    wallets: int = 0
    transactions: int = 0


def writer_of(chosen: ExportFormat, own_wallets: Mapping[str, tuple[str, str]]) -> BookWriter:
    """Return the writer of a format; `own_wallets`: kind and currency of what is no customer's."""
    accounts = Accounts(own_wallets)
    writers: dict[ExportFormat, Callable[[], BookWriter]] = {
        ExportFormat.HLEDGER: lambda: HledgerWriter(accounts),
        ExportFormat.LEDGER: lambda: LedgerWriter(accounts),
        ExportFormat.BEANCOUNT: lambda: BeancountWriter(accounts),
        ExportFormat.CSV: CsvWriter,
        ExportFormat.JSONL: JsonLinesWriter,
    }
    return writers[chosen]()


async def export_book(
    connection: Connection,
    beside: Connection,
    chosen: ExportFormat,
    span: Span,
    write: Write,
    *,
    progress: Progress | None = None,
) -> Exported:
    """Write the posted book of a span; return how much that was.

    Opening balances come first where the span has a first day, and are dated the evening before.
    Each day's transactions are followed by the balances of the wallets that moved, and the last
    day's by those of all wallets: as their rows say, or, where the span ends, as their entries sum.
    Both connections are to the same database and have no command timeout
    (cli.dependencies.database_connection).
    """
    async with one_snapshot(connection, beside):
        reader = BookReader(connection, beside, span)
        await reader.pin()
        writer = writer_of(chosen, await reader.own_wallets())
        return await _Export(reader, writer, span, write, progress).run()


class _Export:
    """One run: what it reads from, writes with and to, and how far it is."""

    def __init__(
        self,
        reader: BookReader,
        writer: BookWriter,
        span: Span,
        write: Write,
        progress: Progress | None,
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._span = span
        self._write = write
        self._progress = progress
        self._day = span.first or _EPOCH
        self._done = Exported()

    async def run(self) -> Exported:
        self._write(self._writer.heading(await self._reader.assets()))
        async for wallets in self._reader.wallets():
            self._write("".join(map(self._writer.wallet, wallets)))
            self._done.wallets += len(wallets)
        if self._span.first is not None:
            await self._open(self._span.first - _DAY)
        await self._transactions()
        async for balances in self._reader.balances_at(self._span.until):
            self._write(self._writer.closing(self._day, balances))
        return self._done

    async def _open(self, evening: date) -> None:
        """Write what wallets begin with: per currency the balances sum to zero by themselves."""
        current = None
        async for page in self._reader.balances_at(self._span.since):
            held = (balance for balance in page if balance.minor)
            for currency, balances in groupby(held, key=lambda balance: balance.currency):
                if currency != current:
                    self._write(self._writer.opening(evening, currency))
                    current = currency
                self._write(self._writer.opened(evening, list(balances)))

    async def _transactions(self) -> None:
        total = await self._reader.estimate()
        async with aclosing(_DayEnds(self._reader.daily_balances())) as ends:

            async def take(page: list[BookTransaction]) -> None:
                await self._page(page, ends)
                if self._progress is not None:
                    self._progress(self._done.transactions, max(total, self._done.transactions))

            await self._reader.transactions(take)
            await self._end_days(ends, before=date.max)

    async def _page(self, page: list[BookTransaction], ends: "_DayEnds") -> None:
        is_first = self._done.transactions == 0
        self._done.transactions += len(page)
        while page:
            self._day = _day_of(page[0])
            if not is_first:
                # Nothing moved before the first day: the ends of days may be under way still.
                await self._end_days(ends, before=self._day)
            is_first = False
            # They are in the order of time: a few looks tell how many are of this day.
            count = bisect_right(page, self._day, key=_day_of)
            self._write("".join(map(self._writer.transaction, page[:count])))
            page = page[count:]

    async def _end_days(self, ends: "_DayEnds", *, before: date) -> None:
        async for day, balances in ends.before(before):
            self._write(self._writer.closing(day, balances))


def _day_of(transaction: BookTransaction) -> date:
    return date.fromisoformat(transaction.completed_at[:10])


class _DayEnds:
    """The balances at the ends of days, taken as far as the transactions have come.

    The next are asked for ahead: the server adds up the first while it sorts the transactions.
    """

    def __init__(self, days: AsyncIterator[tuple[date, list[Balance]]]) -> None:
        self._days = days
        self._next = self._ask()

    def _ask(self) -> "asyncio.Task[tuple[date, list[Balance]] | None]":
        async def ask() -> tuple[date, list[Balance]] | None:
            return await anext(self._days, None)

        return asyncio.create_task(ask())

    async def before(self, day: date) -> AsyncIterator[tuple[date, list[Balance]]]:
        """Yield all that end before a day and were not yielded yet."""
        while (ended := await self._next) is not None and ended[0] < day:
            self._next = self._ask()
            yield ended

    async def aclose(self) -> None:
        """Ask no more."""
        self._next.cancel()
        await asyncio.gather(self._next, return_exceptions=True)

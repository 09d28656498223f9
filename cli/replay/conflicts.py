"""Which of the rows sent over AMQP stand for other content than their key did before."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from typing import Any, Final

from cli.replay.sent import SentRow, SentRows
from cli.replay.tally import Trail

ROWS_AT_ONCE_MAX: Final = 50_000
"""Rows held in memory at a time, some 30 MB; what was sent is read once for each so many."""

Transaction = dict[str, Any]
Histories = Callable[[str], AsyncIterator[list[Transaction]]]
"""The submitter's transactions of a wallet, page by page, the newest first."""


class Conflicts:
    """Holds every row of some wallets against the transaction of its key."""

    def __init__(
        self,
        sent: SentRows,
        *,
        histories: Histories,
        await_key: Callable[[str], Awaitable[Transaction]],
        meet: Callable[[SentRow], None],
    ) -> None:
        """`await_key` returns a key's transaction; `meet` is told of each row in conflict."""
        self._sent = sent
        self._histories = histories
        self._await_key = await_key
        self._meet = meet

    def groups(self, wallets: Mapping[str, Trail]) -> Iterator[list[tuple[str, list[SentRow]]]]:
        """Yield the wallets with their rows, as many at once as may be held in memory."""
        group: set[str] = set()
        rows = 0
        for wallet, trail in wallets.items():
            if group and rows + trail.rows > ROWS_AT_ONCE_MAX:
                yield self._rows_of(group)
                group, rows = set(), 0
            group.add(wallet)
            rows += trail.rows
        if group:
            yield self._rows_of(group)

    async def check(self, wallet: str, rows: list[SentRow]) -> None:
        """Hold a wallet's rows against their transactions, waiting for those still to come.

        Most are found in the wallet's history, many with one call. No more pages are read than
        rows are missing: then it is cheaper to ask for each.
        """
        missing: dict[str, list[SentRow]] = {}
        for row in rows:
            missing.setdefault(row.key, []).append(row)
        pages = 0
        async for page in self._histories(wallet):
            for transaction in page:
                self._compare(missing.pop(transaction["idempotency_key"], []), transaction)
            pages += 1
            if pages >= len(missing):
                break
        for key, wanted in missing.items():
            self._compare(wanted, await self._await_key(key))

    def _compare(self, rows: list[SentRow], transaction: Transaction) -> None:
        for row in rows:
            if not row.is_content_of(transaction):
                self._meet(row)

    def _rows_of(self, wallets: set[str]) -> list[tuple[str, list[SentRow]]]:
        found: dict[str, list[SentRow]] = {wallet: [] for wallet in wallets}
        for row in self._sent.of(found):
            found[row.wallet].append(row)
        return list(found.items())

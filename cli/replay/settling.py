"""Waiting until everything that was sent is final, and counting what became of it.

A wallet's transactions are posted in their order, so each wallet's last one is waited for; then its
transactions since the beginning are listed and counted. Where over AMQP there are not as many as
were sent, each row is held against the transaction of its key. Needs the HTTP door alone.
"""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

from ackledger.client.asynchronous import SETTLED, AsyncClient
from cli.replay.finality import await_final, check_patience
from cli.replay.sent import SentRow, SentRows
from cli.replay.tally import Tally, Trail
from contracts.problems import ProblemCode
from contracts.representations.pages import PAGE_LIMIT_MAX
from runtime.service.periodic import Backoff

ROWS_AT_ONCE_MAX: Final = 50_000
"""Rows held in memory at a time, some 30 MB; what was sent is read once for each so many."""

Transaction = dict[str, Any]
Histories = Callable[[str], AsyncIterator[list[Transaction]]]
"""The submitter's transactions of a wallet, page by page, the newest first."""
SETTLE_TIMEOUT_S: Final = 120.0
"""Without any wallet settling for so long, the processor is taken for stopped."""
_AT_ONCE: Final = 8
_REUSED: Final = {
    "code": ProblemCode.IDEMPOTENCY_KEY_REUSED.value,
    "detail": "the key was already used with different content",
}
"""What the HTTP door answers, and a dead letter says over AMQP."""


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


class Settlement:
    """Follows each wallet of a tally to its end. Raises UnreachableError when nothing moves."""

    def __init__(
        self,
        client: AsyncClient,
        tally: Tally,
        *,
        submitter: str | None,
        sent: SentRows | None,
        timeout_s: float,
    ) -> None:
        """`submitter` is the broker's user, `sent` what was published.

        Both are None after a replay by HTTP, which knows the ids.
        """
        self._client = client
        self._tally = tally
        self._sent = sent
        self._by_key = submitter is not None
        self._in_doubt: set[str] = set()
        self._submitter = submitter or tally.submitter
        self._names_submitter = True
        self._timeout_s = timeout_s
        self._last_settled = 0.0
        self.settled = 0

    async def run(self) -> None:
        """Return when every wallet is settled; the tally then has its last counts."""
        started = self._last_settled = time.monotonic()
        self._tally.completed = 0
        waiting = list(self._tally.trails.items())
        async with asyncio.TaskGroup() as group:
            for _ in range(min(_AT_ONCE, len(waiting))):
                group.create_task(self._work(waiting))
        if self._sent is not None:
            await self._look_up(self._sent)
            found = self._tally.completed + self._tally.refused.total() + self._tally.quarantined
            self._tally.new = found
            self._tally.replays = self._tally.sent - found - self._tally.problems.total()
        self._tally.settling_s = time.monotonic() - started

    async def _work(self, waiting: list[tuple[str, Trail]]) -> None:
        while waiting:
            wallet, trail = waiting.pop()
            await self._await_last(trail)
            counts = await self._count(wallet)
            if self._by_key and counts.total() != trail.rows:
                self._in_doubt.add(wallet)
            else:
                self._add(counts)
                self.settled += 1
            self._last_settled = time.monotonic()

    async def _look_up(self, sent: SentRows) -> None:
        """Find the conflicts of the wallets in doubt, then count these wallets once more.

        Such a wallet's last key may have been there all along, with others still to come.
        """
        conflicts = Conflicts(
            sent, histories=self._history, await_key=self._await_key, meet=self._meet_conflict
        )
        in_doubt = {wallet: self._tally.trails[wallet] for wallet in self._in_doubt}
        for group in conflicts.groups(in_doubt):
            async with asyncio.TaskGroup() as tasks:
                for _ in range(_AT_ONCE):
                    tasks.create_task(self._look_up_each(group, conflicts))

    async def _look_up_each(
        self, group: list[tuple[str, list[SentRow]]], conflicts: Conflicts
    ) -> None:
        while group:
            wallet, rows = group.pop()
            await conflicts.check(wallet, rows)
            self._add(await self._count(wallet))
            self.settled += 1
            self._last_settled = time.monotonic()

    def _meet_conflict(self, row: SentRow) -> None:
        self._tally.meet_problem(row.line, _REUSED)

    async def _history(self, wallet: str) -> AsyncIterator[list[dict[str, Any]]]:
        async for page in self._pages(wallet, since=None):
            yield [one for one in page if one["submitter"] == self._submitter]

    async def _await_last(self, trail: Trail) -> None:
        if self._by_key:
            await self._await_id((await self._await_key(trail.last or ""))["id"])
        elif trail.last is not None:
            await self._await_id(trail.last)

    async def _await_id(self, transaction_id: str) -> dict[str, Any]:
        return await await_final(
            self._client,
            transaction_id,
            timeout_s=self._timeout_s,
            since=lambda: self._last_settled,
        )

    async def _await_key(self, key: str) -> dict[str, Any]:
        """Return the transaction of a key as soon as the message has become one."""
        backoff = Backoff(first_s=0.05, most_s=1.0)
        while True:
            found = await self._find(key)
            if found is not None:
                return found
            check_patience(self._last_settled, self._timeout_s, waiting_for=key)
            await asyncio.sleep(backoff.next_delay_s())

    async def _find(self, key: str) -> dict[str, Any] | None:
        parameters = {"idempotency_key": key}
        if self._names_submitter:
            named = {**parameters, "submitter": self._submitter or ""}
            answer = await self._client.call("GET", "/v1/transactions", parameters=named)
            if answer.status != HTTPStatus.FORBIDDEN:
                items: list[dict[str, Any]] = answer.wanted()["items"]
                return items[0] if items else None
            # Without the scope `operations` the key shows its own client's transactions only: the
            # same ones, when it has the name of the broker's user.
            self._names_submitter = False
        answer = await self._client.call("GET", "/v1/transactions", parameters=parameters)
        page = answer.wanted()
        return page["items"][0] if page["items"] else None

    async def _count(self, wallet: str) -> Counter[str]:
        """Count a wallet's own transactions of this replay by failure code or status."""
        counts: Counter[str] = Counter()
        async for transaction in self._listed(wallet):
            if not self._is_ours(transaction, wallet):
                continue
            if transaction["status"] not in SETTLED:
                # The reconciler's: out of order after a loss of the broker.
                transaction = await self._await_id(transaction["id"])  # noqa: PLW2901
            failure = transaction["failure"]
            counts[failure["code"] if failure else transaction["status"]] += 1
        return counts

    async def _listed(self, wallet: str) -> AsyncIterator[dict[str, Any]]:
        if self._tally.since is None:
            return
        async for page in self._pages(wallet, since=self._tally.since):
            for transaction in page:
                yield transaction

    async def _pages(
        self, wallet: str, *, since: str | None
    ) -> AsyncIterator[list[dict[str, Any]]]:
        parameters = {"wallet_id": wallet, "limit": str(PAGE_LIMIT_MAX)}
        if since is not None:
            parameters["from"] = since
        while True:
            answer = await self._client.call("GET", "/v1/transactions", parameters=parameters)
            if answer.status == HTTPStatus.NOT_FOUND:
                return
            page = answer.wanted()
            yield page["items"]
            if page["next_cursor"] is None:
                return
            parameters["cursor"] = page["next_cursor"]

    def _is_ours(self, transaction: dict[str, Any], wallet: str) -> bool:
        """Ours, and counted here: a transfer or a journal is listed by all of its wallets."""
        door = "amqp" if self._by_key else "http"
        debited = (
            transaction["source_wallet_id"]
            or transaction["destination_wallet_id"]
            or _first_debited(transaction["legs"] or ())
        )
        found = (debited, transaction["submitter"], transaction["channel"])
        return found == (wallet, self._submitter, door)

    def _add(self, counts: Counter[str]) -> None:
        tally = self._tally
        for name, count in counts.items():
            if name in ("COMPLETED", "REVERSED"):
                tally.completed = (tally.completed or 0) + count
            elif name == "QUARANTINED":
                tally.quarantined += count
            else:
                tally.refused[name] += count


def _first_debited(legs: Sequence[dict[str, Any]]) -> str | None:
    """Return the wallet that a journal is counted with: debited, or else credited."""
    named = [leg for leg in legs if leg["wallet_id"] is not None]
    ordered = sorted(named, key=lambda leg: not leg["amount"].startswith("-"))
    return ordered[0]["wallet_id"] if ordered else None

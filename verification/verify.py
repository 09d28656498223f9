"""Verification of the books: of all of them at once, and of a few transactions as they end.

`verify` reads every wallet, transaction and entry once, in one snapshot. All statements see the
same moment, so live traffic neither disturbs it nor is disturbed. It reads in sets: what is right
is only counted, and rows come out only for what is wrong. Memory stays bounded on both sides: the
client holds one page of wallets and a bounded list of findings, the server sorts and hashes within
its work_mem and spills to temporary files beyond.

`check_transactions` finds by keys what `verify` finds by reading all: an entry whose balance does
not follow from the one before, a wallet that is not what its last entry says, a leg without its
entry, an entry that is nobody's. By induction over a wallet's entries, each checked when it is new,
the balance is the sum. What was changed afterwards, behind the last entries, only `verify` sees;
and what was changed so that all of this still holds, only the seals (verification/seals.py).

Neither proves what the tables cannot know: that a request which never arrived was meant.
"""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias, TypeVar
from uuid import UUID

import asyncpg

from contracts.messages import EVENT_REASONS, DeadLetterReason
from runtime.postgres.pool import Connection, one_snapshot
from runtime.postgres.queries import load_queries
from verification.checks import (
    POSTED_STATUSES,
    RARE_STATUSES,
    Finding,
    Findings,
    Row,
    SealsReport,
    VerificationReport,
    batch_finding,
    chain_finding,
    currency_findings,
    exceptional_finding,
    hold_finding,
    journal_finding,
    leg_findings,
    missing_leg_finding,
    overdue_finding,
    reversal_finding,
    schedule_finding,
    set_aside_finding,
    status_findings,
    strange_currency_finding,
    stray_entry_finding,
    touched_wallet_findings,
    unposted_finding,
    unsealed_audit_finding,
    unsealed_finding,
    unturned_finding,
    wallet_findings,
)
from verification.seal_keys import Anchor, SealKeys, TrustedKeys
from verification.seals import ChainWalk, LeafStream

WALLETS_PER_PAGE: Final = 5_000
"""Rows that a page of the walk brings: a few hundred kilobytes."""
BROKEN_WALLETS_HELD_MAX: Final = 1_000
"""Wallets whose broken entries are listed one by one; all of them are counted."""
WRONG_ROWS_MAX: Final = 100
"""Rows that are brought out for each question: books that are worse need `verify`."""
UNSEALED_MAX_S: Final = 3600.0
"""How long after its end a transaction may be in no seal, unless the caller says otherwise."""
_LEGS: Final = 2
"""On the row of every posted transaction that has its legs there."""
_REVERSAL, _JOURNAL, _HOLD, _CAPTURE = "reversal", "journal", "hold", "capture"
_WITH_ROW_LEGS: Final = ("deposit", "withdrawal", "transfer", _CAPTURE, _REVERSAL)
_SCHEDULED: Final = "SCHEDULED"
_SET_ASIDE: Final = sorted({*EVENT_REASONS, DeadLetterReason.REPLY_NOT_SENT})

Progress = Callable[[int, int], None]
Database: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
First = TypeVar("First")
Second = TypeVar("Second")


@dataclass(frozen=True, slots=True)
class SealExpectations:
    """What the seals are held against: keys (None: signatures are not looked at) and anchors."""

    trusted: TrustedKeys | None = None
    anchors: Sequence[Anchor] = ()
    unsealed_max_s: float = UNSEALED_MAX_S

    @classmethod
    def of(
        cls, keys: SealKeys | None, *, unsealed_max_s: float, written_down: Sequence[Anchor] = ()
    ) -> "SealExpectations":
        """Return what seals must be by a directory of keys, and by anchors known from elsewhere.

        Raises SigningKeyError where the keys cannot be read.
        """
        if keys is None:
            return cls(None, written_down, unsealed_max_s)
        trusted, latest = keys.trusted(), keys.latest()
        anchors = written_down if latest is None else (*written_down, latest)
        return cls(trusted, anchors, unsealed_max_s)


NO_EXPECTATIONS: Final = SealExpectations()


async def verify(
    connection: Database,
    *,
    pending_max_s: float,
    beside: "Database | None" = None,
    seals: SealExpectations = NO_EXPECTATIONS,
    progress: Progress | None = None,
) -> VerificationReport:
    """Return what is wrong with the books, or that nothing is.

    `connection` has no command timeout (runtime.postgres.pool.connect), and neither has `beside`: a
    second one to the same database, on which the chain of seals is recomputed meanwhile. Without
    it one follows the other, and it takes twice as long. `progress` is called with the rows done
    and the rows in all, an estimate until the last call.
    """
    async with one_snapshot(connection, beside):
        verification = _Verification(connection, pending_max_s, seals, progress or _ignore)
        return await verification.run(chain_connection=beside or connection)


async def _both(
    first: Coroutine[Any, Any, First], second: Coroutine[Any, Any, Second]
) -> tuple[First, Second]:
    """Return what both give; when one fails, the other is ended and waited for."""
    tasks = (asyncio.ensure_future(first), asyncio.ensure_future(second))
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _ignore(done: int, total: int) -> None:
    """Nobody watches."""


@dataclass(slots=True)
class _WalletTotals:
    """What the walk over the wallets adds up."""

    wallets: int = 0
    by_currency: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    broken: list[tuple[UUID, int]] = field(default_factory=list)
    broken_entries: int = 0

    def add(self, row: Row) -> None:
        if row["currency"] is not None:
            self.wallets += 1
            self.by_currency[row["currency"]] += int(row["total"])
        if row["breaks"]:
            self.broken_entries += row["breaks"]
            if len(self.broken) < BROKEN_WALLETS_HELD_MAX:
                self.broken.append((row["wallet_id"], row["breaks"]))


@dataclass(frozen=True, slots=True)
class _TransactionCounts:
    """How many transactions there are, of those that are posted by where their legs stand."""

    by_status: Mapping[str, int]
    unposted_with_entries: int
    row_legs: int
    """Legs that stand on posted transactions' rows."""
    without_row_legs: int
    """Posted journals and reversals of journals, whose legs stand apart."""
    holds: int
    captures: int

    @classmethod
    def of(cls, rows: Sequence[Row]) -> "_TransactionCounts":
        """Add up the rows of `count_transactions`."""
        by_status: Counter[str] = Counter()
        posted: Counter[str] = Counter()
        apart = 0
        for row in rows:
            by_status[row["status"]] += row["transactions"]
            if row["status"] in POSTED_STATUSES:
                posted[row["type"]] += row["transactions"]
                apart += row["without_amount"] if row["type"] == _REVERSAL else 0
        on_row = sum(posted[one] for one in _WITH_ROW_LEGS) - apart
        return cls(
            by_status=dict(sorted(by_status.items())),
            unposted_with_entries=sum(row["unposted_with_entries"] for row in rows),
            row_legs=_LEGS * on_row,
            without_row_legs=posted[_JOURNAL] + apart,
            holds=posted[_HOLD],
            captures=posted[_CAPTURE],
        )


@dataclass(frozen=True, slots=True)
class _TableFigures:
    """How much there is of everything but seals."""

    wallets: int
    entries: int
    counts: _TransactionCounts


class _Verification:
    """One run: its connection, what it found, and how far it is."""

    def __init__(
        self,
        connection: Database,
        pending_max_s: float,
        seals: SealExpectations,
        progress: Progress,
    ) -> None:
        self._connection = connection
        self._pending_max_s = pending_max_s
        self._seals = seals
        self._progress = progress
        self._sql = load_queries("verification")
        self._findings = Findings()
        self._done = 0
        self._total = 0

    async def run(self, *, chain_connection: Database) -> VerificationReport:
        await self._connection.execute(self._sql["pin_verification"])
        [estimate] = await self._connection.fetch(self._sql["estimate_rows"])
        [sealed] = await self._connection.fetch(self._sql["count_sealed"])
        # Entries are read twice: beside their wallets, and beside their transactions.
        self._total = 2 * estimate["entries"] + estimate["transactions"] + sealed["transactions"]
        in_chain = Findings()
        if chain_connection is self._connection:
            figures = await self._check_tables()
            sealed_report = await self._check_chain(chain_connection, in_chain)
        else:
            figures, sealed_report = await _both(
                self._check_tables(), self._check_chain(chain_connection, in_chain)
            )
        self._findings.add(in_chain.held, total=in_chain.total)
        self._progress(self._done, self._done)
        return VerificationReport(
            wallets=figures.wallets,
            transactions=sum(figures.counts.by_status.values()),
            entries=figures.entries,
            by_status=figures.counts.by_status,
            seals=sealed_report,
            findings=self._findings.held,
            findings_total=self._findings.total,
        )

    async def _check_tables(self) -> _TableFigures:
        """Whatever needs no digest."""
        wallets = await self._check_wallets()
        counts = await self._check_transactions()
        await self._check_exceptional(counts.by_status)
        entries = await self._check_entries(counts)
        await self._check_holds(counts)
        await self._check_schedule(counts)
        for query, finding_of in (
            ("list_wrong_reversals", reversal_finding),
            ("list_unturned_reversals", unturned_finding),
            ("list_broken_batches", batch_finding),
        ):
            await self._list_with_total(query, finding_of)
        await self._check_set_aside()
        await self._check_unsealed()
        return _TableFigures(wallets, entries, counts)

    async def _check_wallets(self) -> int:
        """Balances, versions, sequences, chains and limits; return how many wallets there are."""
        totals = _WalletTotals()
        walk = await self._connection.cursor(self._sql["walk_wallets"])
        while rows := await walk.fetch(WALLETS_PER_PAGE):
            for row in rows:
                totals.add(row)
                self._findings.add(wallet_findings(row))
            self._advance(sum(row["entries"] for row in rows))
        self._findings.add(currency_findings(totals.by_currency))
        await self._list_breaks(totals)
        return totals.wallets

    async def _list_breaks(self, totals: _WalletTotals) -> None:
        listed = 0
        for wallet_id, breaks in totals.broken:
            if self._findings.room == 0:
                break
            rows = await self._connection.fetch(
                self._sql["list_chain_breaks"], wallet_id, self._findings.room
            )
            self._findings.add((chain_finding(wallet_id, row) for row in rows), total=breaks)
            listed += breaks
        self._findings.add((), total=totals.broken_entries - listed)

    async def _check_transactions(self) -> _TransactionCounts:
        """What names entries and may not, and age; return how many there are of each kind."""
        rows = await self._connection.fetch(self._sql["count_transactions"], self._pending_max_s)
        counts = _TransactionCounts.of(rows)
        overdue = sum(row["overdue"] for row in rows)
        await self._list("list_overdue", overdue, overdue_finding, self._pending_max_s)
        self._advance(sum(counts.by_status.values()))
        return counts

    async def _check_exceptional(self, by_status: Mapping[str, int]) -> None:
        """The side table agrees when every row of it is confirmed, and as many as there are."""
        rows = await self._connection.fetch(self._sql["count_exceptional"])
        listed = sum(row["listed"] for row in rows)
        confirmed = sum(row["confirmed"] for row in rows)
        rare = sum(by_status.get(status, 0) for status in RARE_STATUSES)
        differences = (listed - confirmed) + (rare - confirmed)
        await self._list("list_exceptional_differences", differences, exceptional_finding)

    async def _check_set_aside(self) -> None:
        """No event and no reply waits for an operator."""
        total = await self._connection.fetchval(self._sql["count_set_aside"], _SET_ASIDE)
        await self._list("list_set_aside", total, set_aside_finding, _SET_ASIDE)

    async def _check_entries(self, counts: _TransactionCounts) -> int:
        """Each entry one leg and each leg one entry, in one currency; return how many entries."""
        [row] = await self._connection.fetch(self._sql["match_entries"])
        [legs] = await self._connection.fetch(self._sql["count_legs"])
        matched = row["matched"]
        if legs["posted"]:
            matched += await self._connection.fetchval(self._sql["match_legs"])
        if legs["posted"] or counts.without_row_legs:
            await self._list_with_total("list_wrong_journals", journal_finding)
        unposted = counts.unposted_with_entries + legs["unposted_with_entries"]
        await self._list("list_unposted_with_entries", unposted, unposted_finding)
        missing = counts.row_legs + legs["posted"] - matched
        await self._list("list_missing_legs", missing, missing_leg_finding)
        strays = row["entries"] - matched
        await self._list("list_stray_entries", strays, stray_entry_finding)
        strangers = row["strangers"] + legs["strangers"]
        await self._list("list_strange_currencies", strangers, strange_currency_finding)
        self._advance(row["entries"])
        return int(row["entries"])

    async def _check_holds(self, counts: _TransactionCounts) -> None:
        """Right when every hold is confirmed, and as many as were posted; so their captures."""
        [row] = await self._connection.fetch(self._sql["count_holds"])
        found = (row["confirmed"], row["confirmed"], row["captures"])
        if found != (row["holds"], counts.holds, counts.captures):
            await self._list_with_total("list_wrong_holds", hold_finding)

    async def _check_schedule(self, counts: _TransactionCounts) -> None:
        """Right when every row of it is confirmed, and as many as are SCHEDULED."""
        [row] = await self._connection.fetch(self._sql["count_scheduled"], self._pending_max_s)
        if {row["confirmed"]} != {row["listed"], counts.by_status.get(_SCHEDULED, 0)}:
            await self._list_with_total(
                "list_wrong_schedules", schedule_finding, self._pending_max_s
            )

    async def _list_with_total(
        self, query: str, finding_of: Callable[[Row], Finding], *parameters: object
    ) -> None:
        """Bring out what a query finds wrong; each of its rows says how many there are in all."""
        room = max(1, self._findings.room)
        rows = await self._connection.fetch(self._sql[query], *parameters, room)
        if rows:
            self._findings.add((finding_of(row) for row in rows), total=rows[0]["total"])

    async def _check_unsealed(self) -> None:
        """Everything that ended is in one seal."""
        await self._connection.execute(self._sql["pin_merges"])
        bound = self._seals.unsealed_max_s
        [row] = await self._connection.fetch(self._sql["count_unsealed"], bound)
        await self._list("list_unsealed", row["missing"] + row["doubled"], unsealed_finding, bound)
        await self._list_with_total("list_unsealed_audit", unsealed_audit_finding, bound)

    async def _check_chain(self, connection: Database, findings: Findings) -> SealsReport:
        """Every seal recomputes from the tables, and follows from the one before."""
        await connection.execute(self._sql["pin_verification"])
        await connection.execute(self._sql["pin_merges"])
        leaves = await LeafStream.open(connection)
        await connection.execute(self._sql["pin_lookups"])
        walk = ChainWalk(trusted=self._seals.trusted, leaves=leaves, anchors=self._seals.anchors)
        while page := await walk.next_page(connection):
            findings.add(page.findings)
            self._advance(page.transactions)
        findings.add(walk.end_findings())
        end = walk.end
        return SealsReport(
            number=0 if end.last is None else end.last.number,
            transactions=end.transactions,
            signed=end.signed,
            are_signatures_checked=self._seals.trusted is not None,
            latest=None if end.last is None else str(Anchor(end.last.number, end.last.digest)),
        )

    async def _list(
        self,
        query: str,
        total: int,
        finding_of: Callable[[Row], Finding],
        *parameters: object,
    ) -> None:
        """Bring out what the counts have shown to be wrong; all is counted, the first kept."""
        if total == 0:
            return
        rows = await self._connection.fetch(self._sql[query], *parameters, self._findings.room)
        self._findings.add((finding_of(row) for row in rows), total=total)

    def _advance(self, rows: int) -> None:
        self._done += rows
        self._total = max(self._total, self._done)
        self._progress(self._done, self._total)


async def check_transactions(
    connection: Connection, transaction_ids: Sequence[UUID]
) -> list[Finding]:
    """Return what is wrong with these transactions as they are now, whatever is posted meanwhile.

    Each question is one statement, which sees one moment. `connection` looks up by index
    (reconciler.LOOKUP_SESSION). Ids without a row are no finding.
    """
    if not transaction_ids:
        return []
    sql = load_queries("verification")
    findings: list[Finding] = []
    for query, findings_of in _QUESTIONS:
        rows = await connection.fetch(sql[query], transaction_ids, WRONG_ROWS_MAX)
        for row in rows:
            findings.extend(findings_of(row))
    with_terms = [
        row["id"] for row in await connection.fetch(sql["list_with_terms"], transaction_ids)
    ]
    if with_terms:
        for query, finding_of in _QUESTIONS_OF_TERMS:
            rows = await connection.fetch(sql[query], with_terms, WRONG_ROWS_MAX)
            findings.extend(map(finding_of, rows))
    return findings


_QUESTIONS: Final[Sequence[tuple[str, Callable[[Row], Iterable[Finding]]]]] = (
    ("list_wrong_legs", leg_findings),
    ("list_wrong_wallets", touched_wallet_findings),
    ("list_wrong_statuses", status_findings),
)
_QUESTIONS_OF_TERMS: Final[Sequence[tuple[str, Callable[[Row], Finding]]]] = (
    ("list_wrong_journals_among", journal_finding),
    ("list_wrong_holds_among", hold_finding),
    ("list_wrong_reversals_among", reversal_finding),
    ("list_unturned_reversals_among", unturned_finding),
    ("list_broken_batches_among", batch_finding),
    ("list_wrong_schedules_among", schedule_finding),
)

"""A rule tried on history: what it would have hit, had it been enabled; nothing is changed.

What was posted is walked by the primary key, a page at a time, and decided as posting decides. What
the rule counts meanwhile stands in temporary tables of the session, so memory is bounded whatever
the history is. It counts from one window before the first moment on; whether one wallet has paid
another is looked at from the first transaction on.
"""

from collections import Counter as Tally
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Any, Final, TypeAlias
from uuid import UUID

import asyncpg

from contracts.book import instruction_of, legs_of
from contracts.identifiers import first_id_at
from ledger.screening import (
    SCREENED_TYPES,
    Check,
    Counter,
    CounterKey,
    Pair,
    Rule,
    Screened,
    Screening,
    applies,
    checks_of,
    screened,
)
from ledger.state import Terms
from ledger.words import RuleAction, RuleKind
from runtime.postgres.queries import load_queries

PAGE: Final = 2_000
"""Transactions that are read at once: a few megabytes."""
TOP: Final = 10
"""Wallets that the report names."""

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
Progress: TypeAlias = Callable[[float, int], None]
"""Told which part of the time is walked, and how many transactions that were."""
_BEGINNING: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class TrialReport:
    """What a rule would have done with what was posted in a span of time."""

    rule: str
    action: RuleAction
    transactions: int
    """Those of the span that the rule may apply to."""
    hits: int
    wallets: Sequence[tuple[UUID, int]]
    """The wallets that were hit most, and how often."""

    def to_json(self) -> dict[str, Any]:
        """Return it as the command line prints it."""
        return {
            "rule": self.rule,
            "action": self.action.value,
            "transactions": self.transactions,
            "hits": self.hits,
            "wallets": [{"wallet_id": str(one), "hits": hits} for one, hits in self.wallets],
        }


async def try_rule(
    connection: Connection,
    rule: Rule,
    *,
    since: datetime,
    until: datetime,
    progress: Progress | None = None,
) -> TrialReport:
    """Return what a rule would have hit of what was accepted in [since, until) and posted.

    `connection` has no command timeout; its session gets temporary tables, which end with the call.
    """
    sql = load_queries("runtime.screening")
    for query in ("make_trial_counters", "make_trial_pairs", "make_trial_hits"):
        await connection.execute(sql[query])
    try:
        return await _Trial(connection, rule, since, until).run(progress)
    finally:
        await connection.execute(sql["drop_trial"])


class _Trial:
    """One run: where it reads, and what it has found."""

    def __init__(
        self, connection: Connection, rule: Rule, since: datetime, until: datetime
    ) -> None:
        self._connection = connection
        self._rule = rule
        self._since, self._until = since, until
        self._transactions = 0
        self._hits = 0
        self._buckets = 0 if rule.velocity is None else rule.velocity.window.buckets
        self._sql = load_queries("runtime.screening")

    async def run(self, progress: Progress | None) -> TrialReport:
        start = self._start()
        after, end = UUID(int=first_id_at(start).int - 1), first_id_at(self._until)
        first, whole = after.int, max(1, end.int - after.int)
        while rows := await self._connection.fetch(
            self._sql["walk_posted"], after, end, [one.value for one in SCREENED_TYPES], PAGE
        ):
            after = rows[-1]["id"]
            await self._try(rows)
            if progress is not None:
                progress((after.int - first) / whole, self._transactions)
        top = await self._connection.fetch(self._sql["read_trial_hits"], TOP)
        wallets = [(row["wallet_id"], row["hits"]) for row in top]
        return TrialReport(
            self._rule.name, self._rule.action, self._transactions, self._hits, wallets
        )

    def _start(self) -> datetime:
        """Return from when on history counts."""
        velocity = self._rule.velocity
        if velocity is not None:
            window = velocity.window
            return self._since - timedelta(seconds=window.bucket_s * window.buckets)
        is_first = self._rule.kind is RuleKind.FIRST_DESTINATION
        return _BEGINNING if is_first else self._since

    async def _try(self, rows: Sequence[asyncpg.Record]) -> None:
        """Try the rule on a page."""
        owners = {}
        meant = [(row, _screened(row)) for row in rows]
        if self._rule.needs_owners:
            ids = {debit.wallet_id for _, one in meant for debit in one.debits if debit.wallet_id}
            found = await self._connection.fetch(self._sql["read_owners"], list(ids))
            owners = {row["id"]: row["owner_id"] for row in found}
        rules = [self._rule]
        checks = {
            one.id: checks_of(rules, one, owners)
            if applies(self._rule, one.type, one.client)
            else []
            for _, one in meant
        }
        applying = [(row, one) for row, one in meant if checks[one.id]]
        flat = [check for _, one in applying for check in checks[one.id]]
        rings, seen = await self._counters(flat), await self._pairs(flat)
        hits: Tally[UUID] = Tally()
        for bucket, group in groupby(applying, key=lambda pair: self._bucket(pair[0])):
            page = list(group)
            screening = self._screening(page, checks, rings, seen, bucket)
            for row, one in page:
                self._count(row, one, screening, hits)
            for key, more in screening.added.items():
                rings[key] = rings[key].plus(more, bucket, buckets=self._buckets)
            seen.update(screening.new_pairs)
        await self._keep(rings, seen, hits)

    def _bucket(self, row: asyncpg.Record) -> int:
        velocity = self._rule.velocity
        return 0 if velocity is None else velocity.window.bucket_at(row["completed_at"].timestamp())

    def _screening(
        self,
        page: Sequence[tuple[asyncpg.Record, Screened]],
        checks: dict[UUID, list[Check]],
        rings: dict[CounterKey, Counter],
        seen: set[Pair],
        bucket: int,
    ) -> Screening:
        """Return the screening of transactions that fall into one bucket."""
        keys = {key for _, one in page for check in checks[one.id] for key, _, _ in check.counted}
        totals = {key: rings[key].total_at(bucket, buckets=self._buckets) for key in keys}
        return Screening(checks, totals=totals, seen=seen)

    def _count(
        self, row: asyncpg.Record, one: Screened, screening: Screening, hits: Tally[UUID]
    ) -> None:
        flags = len(screening.flags)
        is_hit = screening.admit((one.id,)) is not None or len(screening.flags) > flags
        if not self._since <= row["created_at"] < self._until:
            return
        self._transactions += 1
        if is_hit:
            self._hits += 1
            hits.update({debit.wallet_id for debit in one.debits if debit.wallet_id})

    async def _counters(self, checks: Sequence[Check]) -> dict[CounterKey, Counter]:
        keys = {key for check in checks for key, _, _ in check.counted}
        rings = dict.fromkeys(keys, Counter())
        if keys:
            for key, bucket, amounts in await self._connection.fetch(
                self._sql["read_trial_counters"], list(keys)
            ):
                rings[key] = Counter.of(bucket, amounts)
        return rings

    async def _pairs(self, checks: Sequence[Check]) -> set[Pair]:
        pairs = {pair for check in checks for pair in check.pairs}
        if not pairs:
            return set()
        rows = await self._connection.fetch(
            self._sql["read_trial_pairs"], *zip(*pairs, strict=True)
        )
        return {(row[0], row[1]) for row in rows}

    async def _keep(
        self, rings: dict[CounterKey, Counter], seen: set[Pair], hits: Tally[UUID]
    ) -> None:
        if rings:
            await self._connection.executemany(
                self._sql["write_trial_counter"],
                [(key, one.bucket, one.text) for key, one in rings.items() if one.amounts],
            )
        if seen:
            await self._connection.executemany(self._sql["write_trial_pair"], list(seen))
        if hits:
            await self._connection.executemany(self._sql["write_trial_hit"], list(hits.items()))


def _screened(row: asyncpg.Record) -> Screened:
    terms = Terms(legs=legs_of(row["legs"]))
    return screened(instruction_of(row, terms), row["submitter"])

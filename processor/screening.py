"""Screening a batch in its database transaction: what rules look up is known, then written.

A counter is remembered as this poster's own batches left it, or read and locked in the order of the
keys and after the batch's wallets. It is written in the same commit as what it counts, over exactly
the row that it was decided on: where that is another by then, the batch is undone and decided again
on locked rows. So two batches never count the same room twice, what was undone was not counted, and
what is delivered twice is PENDING once.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NamedTuple
from uuid import UUID

from contracts.record import RecordedView
from ledger.screening import (
    SCREENED_TYPES,
    Checks,
    Counter,
    CounterKey,
    Pair,
    Screened,
    Screening,
    checks_of,
    screened,
    screened_move,
)
from ledger.state import Held, Instruction, Movement
from runtime.postgres.pool import Connection
from runtime.postgres.queries import load_queries
from runtime.screening.watch import CurrentRules

REMEMBERED_MAX: Final = 50_000
"""Owners of wallets, and pairs of wallets, that are kept in memory: neither ever changes. And
counters, some 500 bytes each."""
HISTORY_MAX: Final = 1_000
"""Transactions of either wallet of a pair among which an earlier one between both is looked for.
Where both have more, a pair may count as new although it is not: the strict side."""


@dataclass(frozen=True, slots=True)
class ReviewStates:
    """What operators have to say, or have said, on transactions of a batch."""

    held: frozenset[UUID]
    """Those that are held back for review."""
    approved: Mapping[UUID, Collection[UUID]]
    """By transactions' ids: the ids of rules that were overruled."""


NO_REVIEWS: Final = ReviewStates(frozenset(), {})


class KeptCounter(NamedTuple):
    """A counter, and the text that its row has."""

    counter: Counter
    text: str


class Counted(NamedTuple):
    """A counter that a batch changes, before and after."""

    key: CounterKey
    before: KeptCounter
    after: KeptCounter


@dataclass(frozen=True, slots=True)
class BatchScreening:
    """The screening of one batch, with the rows that it rests on."""

    version: int
    moment: datetime
    rings: Mapping[CounterKey, KeptCounter]
    now: Mapping[int, tuple[int, int]]
    """By the numbers of rules: which bucket is the current one, and how many a window has."""
    screening: Screening

    def counted(self) -> list[Counted]:
        """Return the counters that the batch changes, in the order of their keys."""
        found = []
        for key, more in sorted(self.screening.added.items()):
            bucket, count = self.now[_number_of(key)]
            before = self.rings[key]
            after = before.counter.plus(more, bucket, buckets=count)
            found.append(Counted(key, before, KeptCounter(after, after.text)))
        return found


def _counter_arrays(counted: Sequence[Counted]) -> tuple[str, ...]:
    """Return the arrays of `write_counters`, as texts."""
    return (
        array_text([one.key for one in counted]),
        _numbers_text(one.before.counter.bucket for one in counted),
        array_text([one.before.text for one in counted]),
        _numbers_text(one.after.counter.bucket for one in counted),
        array_text([one.after.text for one in counted]),
    )


def _numbers_text(numbers: Iterable[int]) -> str:
    return f"{{{','.join(map(str, numbers))}}}"


class Screener:
    """Screens the batches of one poster by the rules in force."""

    def __init__(self, rules: CurrentRules) -> None:
        self._rules = rules
        self._owners: dict[UUID, str | None] = {}
        self._seen: set[Pair] = set()
        self._rings: dict[CounterKey, KeptCounter] = {}
        self._written: Sequence[Counted] = ()
        self._sql = load_queries("processor")

    @property
    def is_on(self) -> bool:
        """Whether there is anything to enforce: then batches are posted under locks."""
        return self._rules.book.is_in_force

    @property
    def version(self) -> int:
        """The version of the rules that a batch is decided under now."""
        return self._rules.book.version

    async def read_rules(self, connection: Connection) -> None:
        """Read the rules anew: others were in force when a batch was to be written."""
        await self._rules.read(connection)

    def committed(self) -> None:
        """Remember the counters that were written last: their commit is done."""
        if not self._written:
            return
        if len(self._rings) > REMEMBERED_MAX:
            self._rings.clear()
        self._rings.update((one.key, one.after) for one in self._written)
        self._written = ()

    def forget(self) -> None:
        """Remember no counter: what was written last may be undone, or others' rows are there."""
        self._rings.clear()
        self._written = ()

    async def reviews_of(self, connection: Connection, ids: Sequence[UUID]) -> ReviewStates:
        """Return what was said of transactions that are, or were, held back."""
        rows = await connection.fetch(self._sql["read_reviews"], ids)
        return ReviewStates(
            frozenset(row["transaction_id"] for row in rows if row["is_held"]),
            {row["transaction_id"]: row["approved"] for row in rows},
        )

    async def begin_moves(
        self,
        connection: Connection,
        movements: Sequence[Movement],
        rows: Mapping[UUID, RecordedView],
    ) -> BatchScreening | None:
        """Lock and read what plain moves are screened on; None where nothing is enforced."""
        if not self.is_on:
            return None
        meant = [screened_move(one, rows[one.id]["submitter"]) for one in movements]
        return await self._begin(connection, meant, {})

    async def begin(
        self,
        connection: Connection,
        instructions: Sequence[Instruction],
        rows: Iterable[RecordedView],
        approved: Mapping[UUID, Collection[UUID]],
    ) -> BatchScreening | None:
        """The same for transactions of every type, which stand beside their rows."""
        if not self.is_on:
            return None
        meant = [
            screened(one, row["submitter"])
            for one, row in zip(instructions, rows, strict=True)
            if one.type in SCREENED_TYPES
        ]
        return await self._begin(connection, meant, approved)

    async def write(
        self, connection: Connection, batch: BatchScreening | None, held: Sequence[Held]
    ) -> None:
        """Write what a batch has counted, flagged and held back, where it has any of that."""
        if batch is None:
            return
        screening = batch.screening
        if not (screening.added or screening.flags or screening.new_pairs or held):
            return
        self._written = batch.counted()
        reviews = [(one.transaction_id, rule_id) for one in held for rule_id in one.rule_ids]
        await connection.execute(
            self._sql["write_screening"],
            batch.version,
            batch.moment,
            *_counter_arrays(self._written),
            [source for source, _ in screening.new_pairs],
            [destination for _, destination in screening.new_pairs],
            [transaction_id for transaction_id, _ in screening.flags],
            [rule.id for _, rule in screening.flags],
            [one.transaction_id for one in held],
            [transaction_id for transaction_id, _ in reviews],
            [rule_id for _, rule_id in reviews],
        )

    async def _begin(
        self,
        connection: Connection,
        meant: Sequence[Screened],
        approved: Mapping[UUID, Collection[UUID]],
    ) -> BatchScreening:
        book, self._written = self._rules.book, ()
        owners = await self._owners_of(connection, meant) if book.needs_owners else {}
        checks = {one.id: checks_of(book.rules_for(one), one, owners) for one in meant}
        rings = await self._counters(connection, checks)
        seen = await self._seen_among(connection, checks)
        moment: datetime = await connection.fetchval(self._sql["read_clock"])
        epoch_s = moment.timestamp()
        now = {
            number: (window.bucket_at(epoch_s), window.buckets)
            for number, window in book.windows.items()
        }
        totals = {}
        for key, ring in rings.items():
            bucket, buckets = now[_number_of(key)]
            totals[key] = ring.counter.total_at(bucket, buckets=buckets)
        screening = Screening(checks, totals=totals, seen=seen, approved=approved)
        return BatchScreening(book.version, moment, rings, now, screening)

    async def _owners_of(
        self, connection: Connection, meant: Sequence[Screened]
    ) -> Mapping[UUID, str | None]:
        """Return the owners of the wallets that transactions count for; those never change."""
        if len(self._owners) > REMEMBERED_MAX:
            self._owners.clear()
        ids = {debit.wallet_id for one in meant for debit in one.debits if debit.wallet_id}
        unknown = ids - self._owners.keys()
        if unknown:
            rows = await connection.fetch(self._sql["read_owners"], list(unknown))
            self._owners.update((row["id"], row["owner_id"]) for row in rows)
        return self._owners

    async def _counters(
        self, connection: Connection, checks: Checks
    ) -> dict[CounterKey, KeptCounter]:
        """Return the counters of a batch: remembered, or locked; what did not exist does now."""
        remembered = self._rings
        rings: dict[CounterKey, KeptCounter] = {}
        unknown: set[CounterKey] = set()
        for found in checks.values():
            for check in found:
                for key, _, _ in check.counted:
                    ring = remembered.get(key)
                    if ring is None:
                        unknown.add(key)
                    else:
                        rings[key] = ring
        if unknown:
            rings |= await self._locked(connection, unknown)
            missing = unknown - rings.keys()
            if missing:
                await connection.execute(self._sql["make_counters"], array_text(missing))
                rings |= await self._locked(connection, missing)
        return rings

    async def _locked(
        self, connection: Connection, keys: Iterable[CounterKey]
    ) -> dict[CounterKey, KeptCounter]:
        rows = await connection.fetch(self._sql["lock_counters"], array_text(keys))
        return {
            key: KeptCounter(Counter.of(bucket, amounts), amounts) for key, bucket, amounts in rows
        }

    async def _seen_among(self, connection: Connection, checks: Checks) -> Collection[Pair]:
        """Return the pairs of wallets that were posted before, of those that are looked for."""
        if len(self._seen) > REMEMBERED_MAX:
            self._seen.clear()
        wanted = {pair for found in checks.values() for check in found for pair in check.pairs}
        for query in ("read_seen", "read_seen_in_history"):
            unknown = wanted - self._seen
            if unknown:
                arguments: tuple[Any, ...] = tuple(zip(*unknown, strict=True))
                more = () if query == "read_seen" else (HISTORY_MAX,)
                rows = await connection.fetch(self._sql[query], *arguments, *more)
                self._seen.update((row[0], row[1]) for row in rows)
        return self._seen


def array_text(texts: Iterable[str]) -> str:
    """Return an array of texts as PostgreSQL reads it from one text."""
    joined = '","'.join([one.replace("\\", "\\\\").replace('"', '\\"') for one in texts])
    return f'{{"{joined}"}}' if joined else "{}"


def _number_of(key: CounterKey) -> int:
    return int(key[: key.index("|")])

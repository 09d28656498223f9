"""The checks: both journals are copied beside the books, and PostgreSQL compares them in sets."""

from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import islice
from operator import attrgetter
from typing import Any, Final, TypeAlias

import asyncpg

from runtime.postgres.pool import connect
from runtime.postgres.queries import load_queries
from tools.chaos.doors import Doors
from tools.chaos.events import EventRecorder
from tools.chaos.invariants.endings import endings
from tools.chaos.invariants.hearing import (
    QUEUE,
    STREAM,
    heard_breaches,
    hooks_of,
    told_in_queue,
    told_over_http,
)
from tools.chaos.invariants.verdict import LISTED_MAX, Breach, Verdict, others
from tools.chaos.journal import Journal, Promise
from tools.chaos.listening import Listeners
from verification.verify import verify

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

KEY_PREFIXES: Final = ("chaos-", "probe-")
"""What the clients' keys begin with. Others are none of ours."""
_PENDING_MAX_S: Final = 24 * 3600.0
"""T tells of what waits; verification shall not tell it again."""

_PROMISE_COLUMNS: Final = (
    "client", "door", "act", "key", "type", "source", "destination", "minor", "currency",
    "sent_s", "answered_s", "outcome", "transaction_id", "code", "is_batch", "is_after_loss",
    "other_key", "other_id", "expires_in_s", "is_final", "is_forced", "version",
    "available_at_least", "balance_at_most", "valid_until", "execute_at", "batch",
)  # fmt: skip
_CONTENT: Final = attrgetter(
    "type", "source_wallet_id", "destination_wallet_id", "minor", "currency"
)
_TERMS: Final = attrgetter(*_PROMISE_COLUMNS[16:])
_NO_CONTENT: Final = (None,) * 5
_NO_TERMS: Final = (None,) * len(_PROMISE_COLUMNS[16:])


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderTerms:
    """What the order of acceptance can mean in a run.

    What was answered with 202 is recorded, and keeps its place before all that was sent later. What
    the broker confirmed keeps its place before all that was sent later over AMQP, except
    (`is_confirmed_order_kept` False) where the hash exchange was made to lead wallets elsewhere.
    `losses`: spans (monotonic) in which an operator deleted a queue: what was announced in it may
    be posted late.
    """

    partitions: int = 1
    is_confirmed_order_kept: bool = True
    losses: Sequence[tuple[float, float]] = ()


async def check(
    doors: Doors,
    journal: Journal,
    events: EventRecorder,
    *,
    terms: OrderTerms,
    batch_size: int,
    listeners: Listeners | None = None,
) -> Verdict:
    """Return what is broken; for a system that is healed and drained.

    `batch_size` is what a full batch holds, to count them. L and D are about `listeners`.
    """
    async with copied(doors, journal, events, listeners) as connection:
        comparison = _Comparison(connection, doors, events)
        await comparison.run(terms)
        comparison.add(_open_breaches(journal))
        if listeners is not None:
            await comparison.hear()
            comparison.add(heard_breaches(listeners))
        counts = await connection.fetchrow(comparison.sql["count_all"], batch_size)
        kinds = await connection.fetch(comparison.sql["count_kinds"])
    return Verdict(
        breaches=comparison.breaches,
        late=comparison.late,
        crossed=comparison.crossed,
        counts=dict(counts or {}),
        kinds=dict(map(_kind, kinds)),
    )


@asynccontextmanager
async def copied(
    doors: Doors, journal: Journal, events: EventRecorder, listeners: Listeners | None = None
) -> AsyncIterator[Connection]:
    """Give a connection on which the journal and the events stand beside the books."""
    sql = load_queries(__package__)
    connection = await connect(doors.database_url, name="chaos-check")
    try:
        await connection.execute(sql["make_promises"])
        await connection.copy_records_to_table(
            "promises", records=map(_record, journal.read()), columns=list(_PROMISE_COLUMNS)
        )
        await connection.copy_records_to_table("promised_legs", records=_legs(journal))
        await connection.copy_records_to_table("endings", records=endings())
        await connection.copy_records_to_table("told", records=told_in_queue(events))
        if listeners is not None:
            await connection.copy_records_to_table("told", records=told_over_http(listeners))
            await connection.copy_records_to_table("hooks", records=hooks_of(listeners))
        await connection.execute(sql["analyze_promises"])
        await connection.execute(sql["join_promises"], doors.submitter)
        await connection.execute(sql["join_posted"])
        await connection.execute(sql["read_letters"])
        await connection.execute(sql["analyze_asked"])
        yield connection
    finally:
        await connection.close()


class _Comparison:
    """One check: where it reads, and what it found."""

    def __init__(self, connection: Connection, doors: Doors, events: EventRecorder) -> None:
        self.sql = load_queries(__package__)
        self.breaches: list[Breach] = []
        self.late = 0
        self.crossed = 0
        self._connection = connection
        self._submitter = doors.submitter
        self._began_at = events.began_at

    async def run(self, terms: OrderTerms) -> None:
        """Compare; one invariant after the other."""
        await self._conservation()
        await self._list("X", "doubled_keys", self._submitter)
        await self._list("X", "wrong_legs")
        await self._list("X", "unasked_transactions", self._submitter, list(KEY_PREFIXES))
        await self._list("T", "unfinished_promises")
        await self._list("T", "vanished_poison")
        await self._list("R", "different_answers")
        await self._list("R", "changed_content")
        await self._list("R", "unrefused_contents")
        await self._list("R", "refused_promises")
        await self._list("R", "refused_repetitions")
        await self._list("N", "overdrawn_entries")
        await self._list("F", "strange_endings")
        await self._list("H", "wrong_holds")
        await self._list("H", "wrong_rests")
        await self._list("H", "wrong_held")
        await self._list("V", "wrong_reversals")
        await self._list("V", "wrong_returns")
        await self._list("A", "torn_batches")
        await self._list("W", "broken_terms")
        await self._list("W", "wrong_cancellations")
        await self._events("E", QUEUE)
        await self._list("Q", "forgotten_letters")
        await self._order(terms)

    async def hear(self) -> None:
        """Compare what was heard over HTTP."""
        await self._events("L", STREAM)
        await self._list("L", "unfollowed_events")
        await self._list("D", "undelivered_events")
        await self._list("D", "unasked_deliveries")

    async def _events(self, invariant: str, listener: str) -> None:
        await self._list(invariant, "untold_transactions", self._began_at, listener)
        await self._list(invariant, "renamed_events", listener)
        await self._list(invariant, "shared_event_ids", listener)
        await self._list(invariant, "untrue_events", listener)

    def add(self, breaches: Iterable[Breach]) -> None:
        """Take breaches that were found elsewhere."""
        self.breaches.extend(breaches)

    async def _conservation(self) -> None:
        report = await verify(self._connection, pending_max_s=_PENDING_MAX_S)
        found = [
            Breach("C", finding.subject, f"{finding.check}: {finding.detail}")
            for finding in islice(report.findings, LISTED_MAX)
        ]
        self.add(found)
        self.add(others("C", "verify", report.findings_total - len(found)))
        await self._list("C", "wrong_balances")

    async def _list(self, invariant: str, query: str, *parameters: object) -> None:
        rows = await self._connection.fetch(self.sql[query], LISTED_MAX, *parameters)
        self._take(invariant, query, rows)

    async def _order(self, terms: OrderTerms) -> None:
        await self._connection.copy_records_to_table("losses", records=terms.losses)
        await self._connection.execute(self.sql["place_asked"], terms.partitions)
        await self._connection.execute(self.sql["analyze_placed"])
        query = "overtaken"
        rows = await self._connection.fetch(
            self.sql[query],
            LISTED_MAX,
            terms.partitions,
            terms.is_confirmed_order_kept,
        )
        self._take("O", query, [row for row in rows if not row["is_lost"]])
        # They are sorted behind the breaches: with very many of those, none of them is counted.
        self.late = next((row["total"] for row in rows if row["is_lost"]), 0)
        self.crossed = await self._connection.fetchval(self.sql["count_crossed"])

    def _take(self, invariant: str, query: str, rows: list[asyncpg.Record]) -> None:
        self.add(Breach(invariant, row["subject"], row["detail"]) for row in rows)
        total = rows[0]["total"] if rows else 0
        self.add(others(invariant, query, total - len(rows)))


def _kind(row: asyncpg.Record) -> tuple[str, Mapping[str, int]]:
    fields = dict(row)
    return fields.pop("name"), fields


def _open_breaches(journal: Journal) -> Iterator[Breach]:
    """What could not be learnt even from a healed system."""
    for promise in islice(journal.open.values(), LISTED_MAX):
        yield Breach(
            "T", f"key {promise.idempotency_key}", f"the outcome stayed open: {promise.code}"
        )
    yield from others("T", "open outcomes", len(journal.open) - LISTED_MAX)


def _record(promise: Promise) -> tuple[Any, ...]:
    command = promise.command
    terms = None if command is None else command.terms
    return (
        promise.client,
        promise.door.value,
        promise.act.value,
        promise.idempotency_key,
        *(_NO_CONTENT if command is None else _CONTENT(command)),
        promise.sent_s,
        promise.answered_s,
        promise.outcome.value,
        promise.transaction_id,
        promise.code,
        promise.is_batch,
        promise.is_after_loss,
        *(_NO_TERMS if terms is None else _TERMS(terms)),
    )


def _legs(journal: Journal) -> Iterator[tuple[Any, ...]]:
    """The legs of each journal, once."""
    seen: set[str] = set()
    for promise in journal.read():
        key, terms = promise.idempotency_key, promise.command and promise.command.terms
        if terms and terms.legs and key not in seen:
            seen.add(key)
            for position, leg in enumerate(terms.legs, start=1):
                yield key, position, leg.wallet_id, leg.minor, leg.currency

"""What else than the ledger refuses or holds back: permissions first, rules and limits last.

Which transactions are refused for their submitter is judged before the book is looked at. Those of
upstream systems are judged when they are posted, by the row, however they came to be posted: by
their message, by the reconciler, or by an operator. What came over HTTP was judged when it was
accepted; what was scheduled then, for up to a year ahead, is judged once more.

What nothing else refuses is screened in the database transaction that posts it: a counter's row is
locked, in the order of the keys and after the batch's wallets, before anything is decided on it,
and written in the same commit as what it counts. So two batches never count the same room twice,
what was undone was not counted, and what is delivered twice is PENDING once.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NamedTuple
from uuid import UUID

import asyncpg

from contracts.record import RecordedView
from contracts.requests.parties import Parties, currencies_of_legs, parties_of_row
from contracts.requests.transaction import Channel
from contracts.scopes import Reach
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
from ledger.words import FailureCode, TransactionType
from runtime.access.submitters import HttpSubmitters, UpstreamClient, UpstreamClients, owner_id_of
from runtime.access.wallets import Holder, Question, WalletAccess
from runtime.postgres.pool import Connection
from runtime.postgres.queries import load_queries
from runtime.screening.watch import CurrentRules

Terms = Mapping[UUID, asyncpg.Record]
"""Rows of `book_terms`, by the transactions' ids."""

# A plain text: compared with the enumeration's member each row would cost fifteen times as much.
_AMQP: Final = Channel.AMQP.value
_HTTP: Final = Channel.HTTP.value
_NOTHING: Final[Mapping[UUID, FailureCode]] = {}
REMEMBERED_MAX: Final = 50_000
"""Owners of wallets, and pairs of wallets, that are kept in memory: neither ever changes."""
HISTORY_MAX: Final = 1_000
"""Transactions of either wallet of a pair among which an earlier one between both is looked for.
Where both have more, a pair may count as new although it is not: the strict side."""


class Asked(NamedTuple):
    """What a transaction of a restricted submitter asks for."""

    id: UUID
    client: UpstreamClient
    kind: str
    currencies: frozenset[str]
    parties: Parties
    owner_id: str | None = None
    """A person's, as wallets have it."""

    @property
    def holder(self) -> Holder:
        """Whom its submitter's wallets belong to."""
        return Holder(self.client.name, self.owner_id)


class Permissions:
    """Judges transactions; whoever submits without restrictions costs nothing but a look."""

    def __init__(self) -> None:
        self._clients = UpstreamClients()
        self._submitters = HttpSubmitters()
        self._access = WalletAccess()
        self._sql = load_queries("processor")

    async def refusals(
        self, connection: Connection, rows: Sequence[RecordedView], terms: Terms
    ) -> Mapping[UUID, FailureCode]:
        """Return why PENDING rows are refused, by id, those that are."""
        upstream = {row["submitter"] for row in rows if row["channel"] == _AMQP}
        scheduled = [row for row in rows if _was_scheduled(row, terms)] if terms else ()
        if not upstream and not scheduled:
            return _NOTHING
        asked: list[Asked] = []
        if upstream:
            clients = await self._clients.restricted(connection, upstream)
            sent = [row for row in rows if row["channel"] == _AMQP]
            asked += await self._asked(connection, sent, terms, clients)
        if scheduled:
            names = {row["submitter"] for row in scheduled}
            submitters = await self._submitters.restricted(connection, names)
            asked += await self._asked(connection, scheduled, terms, submitters)
        if not asked:
            return _NOTHING
        theirs = await self._theirs(connection, asked)
        owners = await self._owners(connection, asked)
        codes = {one.id: refusal_of(one, theirs=theirs, owners=owners) for one in asked}
        return {transaction_id: code for transaction_id, code in codes.items() if code}

    async def _asked(
        self,
        connection: Connection,
        rows: Sequence[RecordedView],
        terms: Terms,
        clients: Mapping[str, UpstreamClient],
    ) -> list[Asked]:
        restricted = [row for row in rows if row["submitter"] in clients]
        journals = await self._reversed_journals(connection, restricted, terms)
        return [
            _asked_by(row, terms.get(row["id"]), journals.get(row["id"]), clients[row["submitter"]])
            for row in restricted
        ]

    async def _reversed_journals(
        self, connection: Connection, rows: Sequence[RecordedView], terms: Terms
    ) -> dict[UUID, str]:
        """Return the legs of the journals that transactions reverse, by the reversals' ids."""
        reversals = {
            row["id"]: terms[row["id"]]["reverses"]
            for row in rows
            if row["type"] == TransactionType.REVERSAL and row["id"] in terms
        }
        if not reversals:
            return {}
        found = await connection.fetch(self._sql["read_originals"], list(reversals.values()))
        legs = {one["id"]: one["legs"] for one in found}
        return {one: legs[other] for one, other in reversals.items() if legs.get(other)}

    async def _theirs(
        self, connection: Connection, asked: Sequence[Asked]
    ) -> Mapping[str, set[UUID]]:
        """Return the wallets of each submitter, of those that matter."""
        questions = [
            Question(one.holder, wallet_id)
            for one in asked
            if one.client.reach is Reach.OWN
            for wallet_id in one.parties.needed
        ]
        answers = await self._access.answers(connection, questions)
        theirs: dict[str, set[UUID]] = defaultdict(set)
        for one, is_theirs in zip(questions, answers, strict=True):
            if is_theirs:
                theirs[one.holder.name].add(one.wallet_id)
        return theirs

    async def _owners(
        self, connection: Connection, asked: Sequence[Asked]
    ) -> Mapping[UUID, str | None]:
        """Return the owners of the wallets of those who may move only some owners'."""
        ids = {
            wallet_id
            for one in asked
            if one.client.owners is not None
            for wallet_id in one.parties.needed
        }
        return await self._access.owners(connection, ids) if ids else {}


def _was_scheduled(row: RecordedView, terms: Terms) -> bool:
    """Whether a row came over HTTP to be executed later."""
    own = terms.get(row["id"])
    return own is not None and own["execute_at"] is not None and row["channel"] == _HTTP


def refusal_of(
    asked: Asked,
    *,
    theirs: Mapping[str, Collection[UUID]],
    owners: Mapping[UUID, str | None],
) -> FailureCode | None:
    """Return why a submitter may not ask for this, if so: a ladder; pure.

    `theirs`: the wallets of each submitter; `owners`: of the wallets that are needed.
    """
    client, parties = asked.client, asked.parties
    if client.is_disabled:
        return FailureCode.NOT_PERMITTED
    if client.types is not None and asked.kind not in client.types:
        return FailureCode.NOT_PERMITTED
    if client.reach is Reach.OWN and not parties.are_among(theirs.get(client.name, ())):
        return FailureCode.WALLET_NOT_FOUND
    if client.currencies is not None and not asked.currencies <= client.currencies:
        return FailureCode.NOT_PERMITTED
    if client.owners is not None and not {owners.get(one) for one in parties.needed} <= (
        client.owners
    ):
        return FailureCode.NOT_PERMITTED
    return None


def _asked_by(
    row: RecordedView,
    terms: asyncpg.Record | None,
    reversed_legs: str | None,
    client: UpstreamClient,
) -> Asked:
    return Asked(
        row["id"],
        client,
        row["type"],
        _currencies(row, terms, reversed_legs),
        parties_of_row(row, terms, reversed_legs),
        owner_id_of(row["submitter"]) if row["channel"] == _HTTP else None,
    )


def _currencies(
    row: RecordedView, terms: asyncpg.Record | None, reversed_legs: str | None
) -> frozenset[str]:
    if row["currency"] is not None:
        return frozenset({row["currency"]})
    legs = reversed_legs
    if legs is None and terms is not None:
        legs = terms["legs"]
    return currencies_of_legs(legs) if legs else frozenset()


@dataclass(frozen=True, slots=True)
class ReviewStates:
    """What operators have to say, or have said, on transactions of a batch."""

    held: frozenset[UUID]
    """Those that are held back for review."""
    approved: Mapping[UUID, Collection[UUID]]
    """By transactions' ids: the ids of rules that were overruled."""


NO_REVIEWS: Final = ReviewStates(frozenset(), {})


@dataclass(frozen=True, slots=True)
class BatchScreening:
    """The screening of one batch, with the rows that it rests on: they are locked."""

    version: int
    moment: datetime
    rings: Mapping[CounterKey, Counter]
    now: Mapping[int, tuple[int, int]]
    """By the numbers of rules: which bucket is the current one, and how many a window has."""
    screening: Screening

    def counted(self) -> tuple[str, str, str]:
        """Return the counters that the batch changes, as arrays that are texts."""
        keys, buckets, rings = [], [], []
        for key, more in self.screening.added.items():
            bucket, count = self.now[_number_of(key)]
            after = self.rings[key].plus(more, bucket, buckets=count)
            keys.append(key)
            buckets.append(str(after.bucket))
            rings.append(after.text)
        return array_text(keys), f"{{{','.join(buckets)}}}", array_text(rings)


class Screener:
    """Screens the batches of one poster by the rules in force."""

    def __init__(self, rules: CurrentRules) -> None:
        self._rules = rules
        self._owners: dict[UUID, str | None] = {}
        self._seen: set[Pair] = set()
        self._sql = load_queries("processor")

    @property
    def is_on(self) -> bool:
        """Whether there is anything to enforce: then batches are posted under locks."""
        book = self._rules.book
        return bool(book.rules or book.limits)

    @property
    def version(self) -> int:
        """The version of the rules that a batch is decided under now."""
        return self._rules.book.version

    async def read_rules(self, connection: Connection) -> None:
        """Read the rules anew: others were in force when a batch was to be written."""
        await self._rules.read(connection)

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
        self, connection: Connection, batch: BatchScreening, held: Sequence[Held]
    ) -> None:
        """Write what a batch has counted, flagged and held back, where it has any of that."""
        screening = batch.screening
        if not (screening.added or screening.flags or screening.new_pairs or held):
            return
        reviews = [(one.transaction_id, rule_id) for one in held for rule_id in one.rule_ids]
        await connection.execute(
            self._sql["write_screening"],
            batch.version,
            batch.moment,
            *batch.counted(),
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
        book = self._rules.book
        owners = await self._owners_of(connection, meant) if book.needs_owners else {}
        checks = {one.id: checks_of(book.rules_for(one), one, owners) for one in meant}
        rings = await self._lock(connection, checks)
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
            totals[key] = ring.total_at(bucket, buckets=buckets)
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

    async def _lock(self, connection: Connection, checks: Checks) -> dict[CounterKey, Counter]:
        """Return the counters of a batch, locked; those that did not exist do now."""
        keys = {key for found in checks.values() for check in found for key, _, _ in check.counted}
        if not keys:
            return {}
        rings = await self._locked(connection, keys)
        missing = keys - rings.keys()
        if missing:
            await connection.execute(self._sql["make_counters"], array_text(missing))
            rings |= await self._locked(connection, missing)
        return rings

    async def _locked(
        self, connection: Connection, keys: Iterable[CounterKey]
    ) -> dict[CounterKey, Counter]:
        rows = await connection.fetch(self._sql["lock_counters"], array_text(keys))
        return {key: Counter.of(bucket, amounts) for key, bucket, amounts in rows}

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

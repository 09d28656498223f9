"""Posting on the book: transactions of every type, decided on locked rows and written at once.

All that a decision rests on changes only under the locks of its wallets: balances, holds, and what
is left of a transaction to be reversed. So what is read behind those locks stays true until the
commit. What names which wallets to lock is read before; it never changes.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple
from uuid import UUID

import asyncpg
import orjson

from contracts.book import (
    hold_of,
    instruction_of,
    original_of,
    terms_of,
    wallet_ids_of,
    wallet_of,
)
from contracts.record import RecordedView
from contracts.representations.transaction import Row, format_moment
from ledger.book import post_book
from ledger.post import detail_of
from ledger.state import (
    NO_TERMS,
    BookPosting,
    Hold,
    Instruction,
    LedgerWallet,
    Original,
    Settled,
    WalletState,
)
from ledger.words import FailureCode, HoldStatus, TransactionStatus
from processor.events.buffer import BufferedViews
from processor.intake import BatchReader
from processor.restrictions import NO_REVIEWS, Permissions, ReviewStates, Screener
from runtime.postgres.pool import Connection
from runtime.postgres.queries import load_queries

LONG_AGO: Final = datetime(1970, 1, 1, tzinfo=UTC)


class _Referred(NamedTuple):
    """What transactions refer to."""

    holds: list[Hold]
    originals: list[Original]


@dataclass(frozen=True, slots=True)
class PostedBook:
    """A batch that is written: what it came to, and the rows that it was decided on."""

    posting: BookPosting
    completed_outbox_id: UUID | None
    rows: Mapping[UUID, RecordedView]
    terms: Mapping[UUID, asyncpg.Record]

    @property
    def views(self) -> "BookViews":
        """What was posted as `transaction_views` has it since the commit."""
        return BookViews(self)


class BookViews(BufferedViews):
    """The posted transactions of a batch on the book; each is written out when it is asked for."""

    def __init__(self, book: PostedBook) -> None:
        self._book = book
        self._posted = {one.transaction_id: one for one in book.posting.posted}
        self._holds = {hold.id: hold for hold in book.posting.holds}

    def __len__(self) -> int:
        """How many were posted."""
        return len(self._posted)

    def kind(self, transaction_id: UUID) -> tuple[str, str | None]:
        """Return type and currency of one; None where it has several."""
        row = self._book.rows[transaction_id]
        if row["currency"] is not None:
            return row["type"], row["currency"]
        currencies = {leg.currency for leg in self._posted[transaction_id].legs}
        return row["type"], currencies.pop() if len(currencies) == 1 else None

    def get(self, transaction_id: UUID) -> Row:
        """Return one as the view has it."""
        return _view(
            self._book.rows[transaction_id],
            self._book.terms.get(transaction_id),
            self._posted[transaction_id],
            self._book.posting.moment,
            self._holds.get(transaction_id),
        )


class BookPoster:
    """Decides and writes batches inside a database transaction of the caller's."""

    def __init__(
        self,
        partition: int,
        reader: BatchReader,
        permissions: Permissions,
        screener: Screener,
    ) -> None:
        self._partition = partition
        self._reader = reader
        self._permissions = permissions
        self._screener = screener
        self._sql = load_queries("processor")

    async def post(
        self,
        connection: Connection,
        rows: Sequence[RecordedView],
        terms: Mapping[UUID, asyncpg.Record],
        latest_change: datetime,
    ) -> "PostedBook":
        """Post PENDING rows in their order; raises PostingMismatchError.

        The members of an atomic batch are posted with the first of them, although others may not
        be among the rows. Nothing is posted before `latest_change`, so entries stay in time order.
        """
        rows, terms = await self._with_whole_batches(connection, rows, terms)
        refusals = await self._permissions.refusals(connection, rows, terms)
        instructions = [_instruction(row, terms, {}, refusals) for row in rows]
        hold_ids = [one["hold_id"] for one in terms.values() if one["hold_id"]]
        original_ids = [one["reverses"] for one in terms.values() if one["reverses"]]
        # A row names its hold's wallet, if it was there; of an original there may be more.
        unseen = [one.terms.hold_id for one in instructions if one.source_wallet_id is None]
        before = await self._referred(
            connection, [one for one in unseen if one], original_ids, (), latest_change
        )
        wallets, changed_at = await self._locked(connection, wallet_ids_of(instructions, *before))
        moment, reviews = await self._moment(connection, rows)
        moment = max(moment, changed_at, latest_change)
        rows = [row for row in rows if row["id"] not in reviews.held]
        instructions = [one for one in instructions if one.id not in reviews.held]
        holding = [one.id for one in wallets.values() if one.held]
        referred = await self._referred(connection, hold_ids, original_ids, holding, moment)
        # What a condition's amounts are is said by its wallet's currency.
        instructions = [
            _instruction(row, terms, wallets, refusals) if one.terms.conditions else one
            for row, one in zip(rows, instructions, strict=True)
        ]
        screened = await self._screener.begin(connection, instructions, rows, reviews.approved)
        posting = post_book(
            wallets.values(),
            *referred,
            instructions,
            moment=moment,
            screening=None if screened is None else screened.screening,
        )
        outbox_id = await connection.fetchval(
            self._sql["write_book"], *_writing_arguments(posting), self._screener.version
        )
        if screened is not None:
            await self._screener.write(connection, screened, posting.held)
        return PostedBook(posting, outbox_id, {row["id"]: row for row in rows}, terms)

    async def _moment(
        self, connection: Connection, rows: Sequence[RecordedView]
    ) -> tuple[datetime, ReviewStates]:
        """Return the database's clock and what was said of transactions that were held back.

        With all locks taken nobody holds back or approves any of them any more.
        """
        ids = [row["id"] for row in rows]
        [(moment, reviewed)] = await connection.fetch(self._sql["read_moment"], ids)
        if not reviewed:
            return moment, NO_REVIEWS
        return moment, await self._screener.reviews_of(connection, reviewed)

    async def _with_whole_batches(
        self,
        connection: Connection,
        rows: Sequence[RecordedView],
        terms: Mapping[UUID, asyncpg.Record],
    ) -> tuple[Sequence[RecordedView], Mapping[UUID, asyncpg.Record]]:
        """Return the rows with the members of each atomic batch side by side, all of them."""
        batch_ids = {one["batch_id"] for one in terms.values() if one["batch_id"]}
        if not batch_ids:
            return rows, terms
        members = await connection.fetch(self._sql["read_batch_members"], list(batch_ids))
        ids = [one["transaction_id"] for one in members]
        locked = await connection.fetch(self._sql["lock_pending"], ids, self._partition)
        pending = {row["id"]: row for row in locked}
        whole: dict[UUID, list[RecordedView]] = {one: [] for one in batch_ids}
        for one in members:
            if one["transaction_id"] in pending:
                whole[one["batch_id"]].append(pending[one["transaction_id"]])
        together: list[RecordedView] = []
        for row in rows:
            batch_id = terms[row["id"]]["batch_id"] if row["id"] in terms else None
            together += [row] if batch_id is None else whole.pop(batch_id, ())
        return together, await self._reader.read_terms(connection, together)

    async def _referred(
        self,
        connection: Connection,
        hold_ids: Sequence[UUID],
        original_ids: Sequence[UUID],
        wallet_ids: Sequence[UUID],
        moment: datetime,
    ) -> _Referred:
        """Return these holds, those of these wallets that have expired, and these originals."""
        holds: list[asyncpg.Record] = []
        originals: list[asyncpg.Record] = []
        if hold_ids or wallet_ids:
            holds = await connection.fetch(self._sql["read_holds"], hold_ids, wallet_ids, moment)
        if original_ids:
            originals = await connection.fetch(self._sql["read_originals"], original_ids)
        return _Referred([hold_of(one) for one in holds], [original_of(one) for one in originals])

    async def _locked(
        self, connection: Connection, wallet_ids: Iterable[UUID]
    ) -> tuple[dict[UUID, LedgerWallet], datetime]:
        """Return the wallets that exist, locked, and when one of them was changed last."""
        rows = await connection.fetch(self._sql["lock_book_wallets"], list(wallet_ids))
        changed_at = max((row["updated_at"] for row in rows), default=LONG_AGO)
        return {row["id"]: wallet_of(row) for row in rows}, changed_at


def _instruction(
    row: RecordedView,
    terms: Mapping[UUID, asyncpg.Record],
    wallets: Mapping[UUID, LedgerWallet],
    refusals: Mapping[UUID, FailureCode],
) -> Instruction:
    found = terms.get(row["id"])
    asked = NO_TERMS if found is None else terms_of(found, wallets)
    refusal = refusals.get(row["id"])
    return instruction_of(row, asked if refusal is None else replace(asked, refusal=refusal))


def _writing_arguments(posting: BookPosting) -> tuple[Any, ...]:
    """Return the arguments of the query `write_book`."""
    on_legs = [one for one in posting.posted if one.is_on_legs]
    return (
        posting.moment,
        [(w.id, w.balance, w.held, w.version, w.forced_overdraft) for w in posting.wallets],
        [entry for one in posting.posted for entry in one.entries],
        [_completion(one) for one in posting.posted],
        [line for one in on_legs for line in _leg_lines(one)],
        [_hold_state(one) for one in posting.holds],
        [hold.id for hold, _ in posting.expired],
        posting.reversed,
        [one.transaction_id for one in posting.refused],
        [one.code.value for one in posting.refused],
        [detail_of(one) for one in posting.refused],
        _states(posting),
        _reversal_states(posting),
    )


def _completion(one: Settled) -> tuple[Any, ...]:
    """Return a row of the type `completion`: the wallets of a plan are known by now."""
    debit, credit = (None, None) if one.is_on_legs or not one.entries else one.entries
    instruction = one.instruction
    return (
        one.transaction_id,
        instruction.source_wallet_id or (debit and debit.wallet_id),
        instruction.destination_wallet_id or (credit and credit.wallet_id),
        one.amount,
        debit and debit.sequence,
        credit and credit.sequence,
    )


def _view(
    row: RecordedView,
    terms: asyncpg.Record | None,
    one: Settled,
    moment: datetime,
    hold: Hold | None,
) -> Row:
    _, source, destination, amount, source_sequence, destination_sequence = _completion(one)
    debit, credit = (None, None) if one.is_on_legs or not one.entries else one.entries
    legs = [
        [str(leg.wallet_id), leg.currency, leg.amount, leg.is_external, line.sequence, line[-1]]
        for leg, line in (zip(one.legs, one.entries, strict=True) if one.is_on_legs else ())
    ]
    return {
        **dict(row.items()),
        "source_wallet_id": source,
        "destination_wallet_id": destination,
        "amount": amount,
        "status": TransactionStatus.COMPLETED,
        "failure_code": None,
        "failure_detail": None,
        "source_sequence": source_sequence,
        "destination_sequence": destination_sequence,
        "source_balance_after": debit and debit.balance_after,
        "destination_balance_after": credit and credit.balance_after,
        "completed_at": moment,
        "reversed_by": None,
        "reversals": None,
        "reversed_amount": None,
        "hold_id": terms and terms["hold_id"],
        "valid_until": terms and terms["valid_until"],
        "execute_at": terms and terms["execute_at"],
        "batch_id": terms and terms["batch_id"],
        "legs": orjson.dumps(legs).decode() if legs else None,
        "hold": hold and _hold_text(hold),
    }


def _hold_text(hold: Hold) -> str:
    """Return a hold as the column of the view has it, as it was opened."""
    return orjson.dumps([HoldStatus.OPEN, hold.amount, 0, format_moment(hold.expires_at)]).decode()


def _leg_lines(one: Settled) -> Iterable[tuple[Any, ...]]:
    for position, (leg, entry) in enumerate(zip(one.legs, one.entries, strict=True), start=1):
        yield (
            one.transaction_id,
            position,
            leg.wallet_id,
            leg.currency,
            leg.amount,
            leg.is_external,
            entry.sequence,
        )


def _hold_state(hold: Hold) -> tuple[Any, ...]:
    return (
        hold.id,
        hold.wallet_id,
        hold.destination_wallet_id,
        hold.currency,
        hold.amount,
        hold.captured,
        hold.remaining,
        hold.status.value,
        hold.expires_at,
    )


def _states(posting: BookPosting) -> str:
    """Return the JSON of the wallets as each transaction left them: see `outbox.wallets`."""
    return _states_json(
        {one.transaction_id: one.wallets for one in posting.posted}
        | {hold.id: (state,) for hold, state in posting.expired}
    )


def _reversal_states(posting: BookPosting) -> str:
    """Return the same of the transactions that are reversed, as the reversal left their wallets."""
    return _states_json(
        {
            reverses: one.wallets
            for one in posting.posted
            if (reverses := one.instruction.terms.reverses) is not None
            and reverses in posting.reversed
        }
    )


def _states_json(states: Mapping[UUID, Sequence[WalletState]]) -> str:
    written = {
        str(transaction_id): [[str(wallet_id), *numbers] for wallet_id, *numbers in wallets]
        for transaction_id, wallets in states.items()
    }
    return orjson.dumps(written).decode()

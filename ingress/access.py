"""Access: whose wallets and transactions a caller sees and moves, and what a person may ask for.

A caller that reaches all is asked nothing. For any other, what belongs to somebody else is what
there is not: the same answer, after the same query.
"""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Final
from uuid import UUID

from contracts.problems import ContractError, ProblemCode
from contracts.representations.transaction import Json, Row, render_transaction, shown_to
from contracts.requests.parties import Parties, wallets_of_row
from contracts.requests.wallet import RequestedKind, ValidWalletRequest, WalletChange
from contracts.scopes import Reach, Role
from ingress.authentication import Client
from ledger.words import WalletStatus
from runtime.access.wallets import Holder, Question, WalletAccess
from runtime.postgres.pool import Pool
from runtime.service.batcher import MicroBatcher

LOOKUP_MAX: Final = 500
"""Wallets that one query looks up."""
WAITING_MAX: Final = 20_000
WORKERS: Final = 2

Theirs = frozenset[UUID]
"""Of some wallets those that are a caller's."""


class Guard:
    """Looks up which wallets are a caller's; the questions of one instant share a query."""

    def __init__(self, pool: Pool, *, may_customers_deposit: bool = False) -> None:
        self._pool = pool
        self._may_customers_deposit = may_customers_deposit
        self._access = WalletAccess()
        self._lookups: MicroBatcher[Question, UUID | None] = MicroBatcher(
            self._look_up, group_max=LOOKUP_MAX, waiting_max=WAITING_MAX, workers=WORKERS
        )

    async def run(self) -> None:
        """Look up until cancelled."""
        await self._lookups.run()

    def look_up(
        self, client: Client, wallet_ids: Iterable[UUID]
    ) -> "asyncio.Future[Sequence[UUID | None]]":
        """Return what will hold those of some wallets that are a caller's, and None for others.

        Raises BatcherFullError.
        """
        holder = holder_of(client)
        questions = [Question(holder, one) for one in wallet_ids]
        if all(map(self._access.remembers, questions)):
            return self._lookups.answered([one.wallet_id for one in questions])
        return self._lookups.submit(questions)

    async def theirs(self, client: Client, wallet_ids: Iterable[UUID]) -> Theirs:
        """Return those of some wallets that are a caller's, LOOKUP_MAX of them at a time."""
        ids = list(wallet_ids)
        found: set[UUID | None] = set()
        for start in range(0, len(ids), LOOKUP_MAX):
            found.update(await self.look_up(client, ids[start : start + LOOKUP_MAX]))
        return _known(found)

    async def is_theirs(self, client: Client, wallet_id: UUID) -> bool:
        """Whether a caller sees a wallet, and may change it."""
        return client.reach is Reach.ALL or wallet_id in await self.theirs(client, [wallet_id])

    def judge(self, client: Client, parties: Parties, theirs: Iterable[UUID | None]) -> None:
        """Raise ContractError unless a caller to whom these wallets belong may ask for it.

        Whose they are comes first: of others' not even the kind of a transaction is told.
        """
        if not parties.are_among(_known(theirs)):
            raise not_theirs()
        if parties.is_deposit and client.role is Role.CUSTOMER and not self._may_customers_deposit:
            raise ContractError(
                ProblemCode.INSUFFICIENT_SCOPE,
                "customers may not bring money in from outside: no deposits, and no reversals of "
                "what was paid out",
            )
        if client.role is Role.CUSTOMER and parties.made_by not in {None, client.name}:
            raise _refused("end what another submitted: a hold, or what was scheduled")

    async def shown(self, client: Client, rows: Sequence[Row]) -> dict[UUID, Json]:
        """Return rows of `transaction_views`, by id, as a caller sees them; others' are left out.

        For callers that do not reach all.
        """
        theirs = await self.theirs(client, {one for row in rows for one in wallets_of_row(row)})
        return {
            row["id"]: shown(client, row, theirs) for row in rows if is_seen(client, row, theirs)
        }

    async def _look_up(self, questions: list[Question]) -> Sequence[UUID | None]:
        answers = await self._access.answers(self._pool, questions)
        return [
            question.wallet_id if is_theirs else None
            for question, is_theirs in zip(questions, answers, strict=True)
        ]


def holder_of(client: Client) -> Holder:
    """Return whom a caller's wallets belong to."""
    return Holder(client.name, None if client.user_id is None else str(client.user_id))


def is_seen(client: Client, row: Row, theirs: Iterable[UUID | None]) -> bool:
    """Whether a caller to whom these wallets belong sees a transaction."""
    return row["submitter"] == client.name or not wallets_of_row(row).isdisjoint(_known(theirs))


def shown(client: Client, row: Row, theirs: Iterable[UUID | None]) -> Json:
    """Return a transaction that a caller sees as it sees it."""
    texts = {str(one) for one in theirs if one is not None}
    return shown_to(render_transaction(row), name=client.name, theirs=texts)


def not_theirs() -> ContractError:
    """Return what is wrong with a request that needs wallets of others, or that there are not."""
    return ContractError(
        ProblemCode.WALLET_NOT_FOUND,
        "each wallet that is debited, held, deposited to or named in a condition has to be yours",
    )


def customers_wallet(client: Client, wanted: ValidWalletRequest) -> ValidWalletRequest:
    """Return the wallet that a caller asks for: a customer is the owner of theirs.

    Raises ContractError for what customers may not ask for.
    """
    if client.role is not Role.CUSTOMER:
        return wanted
    owner_id = holder_of(client).owner_id
    if wanted.owner_id not in (None, owner_id):
        raise _refused("make wallets of other owners than themselves")
    if wanted.kind is not RequestedKind.CUSTOMER:
        raise _refused("make internal wallets")
    if wanted.overdraft_limit:
        raise _refused("set overdraft_limit")
    return wanted.model_copy(update={"owner_id": owner_id})


def check_change(client: Client, change: WalletChange) -> None:
    """Raise ContractError for a change of a wallet that customers may not make."""
    named = change.model_fields_set & {"status", "overdraft_limit"}
    if client.role is Role.CUSTOMER and named:
        raise _refused(f"set {' or '.join(sorted(named))}")


def check_deletion(client: Client, status: str) -> None:
    """Raise ContractError for a wallet that customers may not delete, by its status."""
    if client.role is Role.CUSTOMER and status == WalletStatus.FROZEN:
        raise _refused("delete a frozen wallet")


def _refused(what: str) -> ContractError:
    return ContractError(ProblemCode.INSUFFICIENT_SCOPE, f"customers may not {what}")


def _known(ids: Iterable[UUID | None]) -> Theirs:
    return frozenset(one for one in ids if one is not None)

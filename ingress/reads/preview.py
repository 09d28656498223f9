"""Previews: what posting transactions now would do, decided by posting's own code, unwritten."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple
from uuid import UUID, uuid4

from contracts.book import drafted, hold_of, original_of, wallet_ids_of, wallet_of
from contracts.requests.transaction import TransactionCommand
from ledger.book import post_book
from ledger.state import BookPosting, Hold, LedgerWallet, Original, WalletState
from ledger.words import FailureCode, WalletKind
from runtime.postgres.pool import Connection, Pool
from runtime.postgres.queries import load_queries


class Preview(NamedTuple):
    """What each transaction would come to (None: COMPLETED), and the wallets that they name."""

    failures: list[FailureCode | None]
    wallets: list[WalletState]


class Previewer:
    """Decides on one snapshot of the book; nothing is locked or written."""

    def __init__(self, pool: Pool) -> None:
        """`pool` serves lists alone."""
        self._pool = pool
        self._sql = load_queries("ingress")

    async def preview(self, commands: Sequence[TransactionCommand]) -> Preview:
        """Return what posting these now, in their order and in one batch, would do.

        They know the wallets of what they name, and members of an atomic batch stand side by side.
        """
        async with (
            self._pool.acquire() as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            return await self._decide(connection, commands)

    async def _decide(
        self, connection: Connection, commands: Sequence[TransactionCommand]
    ) -> Preview:
        moment = await connection.fetchval(self._sql["read_clock"])
        ids = [uuid4() for _ in commands]
        terms = [one.terms for one in commands if one.terms is not None]
        hold_ids = [one.hold_id for one in terms if one.hold_id is not None]
        original_ids = [one.reverses for one in terms if one.reverses is not None]
        originals = await self._originals(connection, original_ids)
        holds = await self._holds(connection, hold_ids, (), moment)
        drafts = map(drafted, commands, ids, [{}] * len(ids))
        wallets = await self._wallets(connection, wallet_ids_of(drafts, holds, originals))
        holding = [one.id for one in wallets.values() if one.held]
        holds = await self._holds(connection, hold_ids, holding, moment)
        instructions = list(map(drafted, commands, ids, [wallets] * len(ids)))
        posting = post_book(wallets.values(), holds, originals, instructions, moment=moment)
        return _preview(ids, wallets, posting)

    async def _holds(
        self,
        connection: Connection,
        ids: Sequence[UUID],
        wallet_ids: Sequence[UUID],
        moment: object,
    ) -> list[Hold]:
        """Return these holds, and those of these wallets that have expired by a moment."""
        if not ids and not wallet_ids:
            return []
        rows = await connection.fetch(self._sql["read_book_holds"], ids, wallet_ids, moment)
        return [hold_of(row) for row in rows]

    async def _originals(self, connection: Connection, ids: Sequence[UUID]) -> list[Original]:
        rows = await connection.fetch(self._sql["read_book_originals"], ids) if ids else []
        return [original_of(row) for row in rows]

    async def _wallets(
        self, connection: Connection, ids: Iterable[UUID]
    ) -> dict[UUID, LedgerWallet]:
        rows = await connection.fetch(self._sql["read_book_wallets"], sorted(ids))
        return {row["id"]: wallet_of(row) for row in rows}


def _preview(
    ids: Sequence[UUID], wallets: dict[UUID, LedgerWallet], posting: BookPosting
) -> Preview:
    codes = {one.transaction_id: one.code for one in posting.refused}
    after = wallets | {one.id: one for one in posting.wallets}
    return Preview(
        [codes.get(one) for one in ids],
        [
            WalletState(
                one.id, one.version, one.balance, one.held, one.available, currency=one.currency
            )
            for one in after.values()
            if one.kind is not WalletKind.EXTERNAL
        ],
    )

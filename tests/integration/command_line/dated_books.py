"""Books with transactions on days of a test's choice, written as posting writes them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID, uuid4

from contracts.identifiers import external_wallet_id
from tests.conftest import Connection

_INSERT_TRANSACTION = """
INSERT INTO transactions (
    id, submitter, idempotency_key, fingerprint, channel, type, source_wallet_id,
    destination_wallet_id, amount, currency, status, source_sequence, destination_sequence,
    description, created_at, completed_at
)
VALUES (
    uuid_v7((extract(EPOCH FROM $1::timestamptz) * 1000000)::bigint, $2), 'dated', $3, '\\x00',
    'http', $4::transaction_type, $5, $6, $7, $8, 'COMPLETED', $9, $10, $11, $1, $1
)
RETURNING id
"""


@dataclass
class _Wallet:
    currency: str
    balance: int = 0
    version: int = 0


@dataclass
class DatedBook:
    """A book that is written to; its wallets by id."""

    connection: Connection
    wallets: dict[UUID, _Wallet] = field(default_factory=dict)
    posted: int = 0

    async def wallet(self, currency: str, *, kind: str = "customer", owner: str = "") -> UUID:
        """Make a wallet."""
        wallet_id = external_wallet_id(currency) if kind == "external" else uuid4()
        await self.connection.execute(
            "INSERT INTO wallets (id, currency, kind, owner_id, overdraft_limit) "
            "VALUES ($1, $2, $3::wallet_kind, nullif($4, ''), 1000000000)",
            *(wallet_id, currency, kind, owner),
        )
        self.wallets[wallet_id] = _Wallet(currency)
        return wallet_id

    async def post(
        self,
        moment: datetime,
        *legs: tuple[UUID, int],
        type_: str = "transfer",
        description: str | None = None,
    ) -> UUID:
        """Post two legs of one amount, or those of a journal."""
        self.posted += 1
        sequences = [await self._move(wallet_id, minor) for wallet_id, minor in legs]
        is_journal = type_ == "journal"
        (source, _), (destination, amount) = legs[0], legs[1]
        own = None if is_journal else self.wallets[source].currency
        transaction_id: UUID = await self.connection.fetchval(
            _INSERT_TRANSACTION,
            *(moment, self.posted, str(self.posted), type_),
            *((None,) * 3 if is_journal else (source, destination, amount)),
            own,
            *((None,) * 2 if is_journal else sequences),
            description,
        )
        await self._write_entries(transaction_id, moment, legs, sequences)
        if is_journal:
            await self._write_legs(transaction_id, legs, sequences)
        return transaction_id

    async def _move(self, wallet_id: UUID, minor: int) -> int:
        wallet = self.wallets[wallet_id]
        wallet.balance += minor
        wallet.version += 1
        await self.connection.execute(
            "UPDATE wallets SET balance = $2, version = $3 WHERE id = $1",
            *(wallet_id, wallet.balance, wallet.version),
        )
        return wallet.version

    async def _write_entries(
        self,
        transaction_id: UUID,
        moment: datetime,
        legs: Sequence[tuple[UUID, int]],
        sequences: Sequence[int],
    ) -> None:
        # No wallet stands twice in these transactions: its balance is already that after the leg.
        await self.connection.executemany(
            "INSERT INTO entries VALUES ($1, $2, $3, $4, $5, $6)",
            [
                (wallet, sequence, transaction_id, minor, self.wallets[wallet].balance, moment)
                for (wallet, minor), sequence in zip(legs, sequences, strict=True)
            ],
        )

    async def _write_legs(
        self, transaction_id: UUID, legs: Sequence[tuple[UUID, int]], sequences: Sequence[int]
    ) -> None:
        await self.connection.executemany(
            "INSERT INTO transaction_legs VALUES ($1, $2, $3, $4, $5, false, $6)",
            [
                (transaction_id, position, wallet, self.wallets[wallet].currency, minor, sequence)
                for position, ((wallet, minor), sequence) in enumerate(
                    zip(legs, sequences, strict=True), start=1
                )
            ],
        )

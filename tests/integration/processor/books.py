"""Books for posting tests: wallets and PENDING transactions written straight into a database."""

import random
from collections.abc import Sequence
from uuid import UUID

import asyncpg

from contracts.identifiers import external_wallet_id
from contracts.money import Money
from contracts.record import Submission, have_terms, recording_arguments
from contracts.requests.transaction import TransactionCommand, fingerprint_of_json
from ledger.words import TransactionType
from processor.intake import ItemOutcome, ItemRecord
from runtime.postgres.pool import KEYED_SESSION, Connection, Pool, create_pool


def open_pool(url: str, *, size: int = 4) -> Pool:
    """Return a pool as the processor has it."""
    return create_pool(
        url, name="test", size=size, statement_timeout_s=60, session=dict(KEYED_SESSION)
    )


async def add_wallets(connection: Connection, count: int, *, balance: int = 0) -> list[UUID]:
    """Add USD wallets; their opening balance is in minor units and has no entries."""
    await connection.execute(
        "INSERT INTO wallets (id, currency, kind) VALUES ($1, 'USD', 'external') "
        "ON CONFLICT DO NOTHING",
        external_wallet_id("USD"),
    )
    rows = await connection.fetch(
        "INSERT INTO wallets (id, currency, balance) "
        "SELECT uuid_v7(clock_us(), n % 1000), 'USD', $2 FROM generate_series(1, $1::integer) AS n "
        "RETURNING id",
        count,
        balance,
    )
    return [row["id"] for row in rows]


def transfer_command(key: str, source: UUID, destination: UUID, minor: int) -> TransactionCommand:
    """Return a valid transfer."""
    return TransactionCommand(
        idempotency_key=key,
        fingerprint=fingerprint_of_json([str(source), str(destination), minor]),
        type=TransactionType.TRANSFER,
        source_wallet_id=source,
        destination_wallet_id=destination,
        money=Money(minor, "USD"),
        description=None,
        metadata=b"{}",
    )


async def record(connection: Connection, commands: Sequence[TransactionCommand]) -> list[UUID]:
    """Record commands as the ingress does; return their ids in order."""
    submissions = [Submission("test", command) for command in commands]
    function = f"record_transactions{'_with_terms' if have_terms(submissions) else ''}"
    arguments = recording_arguments(submissions)
    places = ", ".join(f"${number}" for number in range(1, len(arguments) + 1))
    rows: list[asyncpg.Record] = await connection.fetch(
        f"SELECT request, id FROM {function}('http', {places}) ORDER BY request", *arguments
    )
    return [row["id"] for row in rows]


def random_transfers(
    wallets: Sequence[UUID], count: int, *, seed: int, prefix: str
) -> list[TransactionCommand]:
    """Return transfers between random wallets."""
    chance = random.Random(seed)
    made = []
    for number in range(count):
        source, destination = chance.sample(wallets, 2)
        amount = chance.randint(1, 50)
        made.append(transfer_command(f"{prefix}-{number}", source, destination, amount))
    return made


async def balances_of(connection: Connection, wallets: Sequence[UUID]) -> list[int]:
    """Return the balances of wallets, in minor units and in their order."""
    rows = await connection.fetch("SELECT id, balance FROM wallets WHERE id = ANY ($1)", wallets)
    by_id = {row["id"]: row["balance"] for row in rows}
    return [by_id[one] for one in wallets]


def recorded(outcomes: Sequence[ItemRecord]) -> list[ItemOutcome]:
    """Return the outcomes of a batch of which every item has a row."""
    found = [one for one in outcomes if isinstance(one, ItemOutcome)]
    assert len(found) == len(outcomes)
    return found

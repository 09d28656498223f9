"""Real postings, sealed without waiting, and an independent telling of the format."""

import hashlib
import struct
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeAlias
from uuid import UUID

import asyncpg

from processor.poster import Poster
from reconciler.sealing import Sealer
from runtime.postgres.pool import Connection, Pool
from tests.integration.processor.books import add_wallets, open_pool, random_transfers, record
from verification.checks import Check, VerificationReport
from verification.seal_keys import SealKeys
from verification.verify import SealExpectations, verify

Database: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

EPOCH: Final = datetime(2000, 1, 1, tzinfo=UTC)
UUID_OID, TEXT_OID, BYTEA_OID, BOOL_OID, INT8_OID, MOMENT_OID = 2950, 25, 17, 16, 20, 1184

# The tables guard themselves; whoever has the database's password takes the guards away.
UNGUARD: Final = """
ALTER TABLE entries DISABLE TRIGGER entries_append_only;
ALTER TABLE seals DISABLE TRIGGER seals_append_only;
GRANT UPDATE, DELETE ON entries, seals TO CURRENT_USER;
"""


def sealer_of(pool: Pool, keys: SealKeys | None = None, *, seal_max: int = 5000) -> Sealer:
    """Return a sealer that does not stay behind the present, nor waits for what is PENDING."""
    return Sealer(pool, keys=keys, interval_s=60, seal_max=seal_max, lag_s=0, patience_s=0)


async def seal_all(sealer: Sealer) -> int:
    """Seal until there is nothing left; return how many transactions that were."""
    sealed = 0
    for _ in range(1000):
        counts = await sealer.run_once()
        sealed += counts.sealed
        if counts.is_caught_up and not counts.sealed:
            return sealed
    raise AssertionError("it never catches up")


async def record_transfers(
    database: Database, count: int, *, wallets: int = 6, prefix: str = "sealed"
) -> list[UUID]:
    """Record transfers between new wallets that may overdraw, and return their ids."""
    ids = await add_wallets(database, wallets)
    await database.execute("UPDATE wallets SET overdraft_limit = 1000000")
    return await record(database, random_transfers(ids, count, seed=7, prefix=prefix))


async def post(database_url: str, transaction_ids: Sequence[UUID]) -> None:
    """Post them as the processor does."""
    async with open_pool(database_url) as pool:
        for start in range(0, len(transaction_ids), 1000):
            await Poster(pool).post(transaction_ids[start : start + 1000])


async def verified(
    database: Connection, seals: SealExpectations | None = None
) -> VerificationReport:
    """Return the report of `ackledger verify`."""
    assert isinstance(database, asyncpg.Connection)
    return await verify(database, pending_max_s=300, seals=seals or SealExpectations())


def checks_of(report: VerificationReport) -> set[Check]:
    """Return what was found."""
    return {finding.check for finding in report.findings}


def packed(*fields: tuple[int, bytes | None]) -> bytes:
    """Return a row as docs/seals.md describes it: type, length and value of each field."""
    parts = [struct.pack(">i", len(fields))]
    for oid, value in fields:
        parts.append(struct.pack(">Ii", oid, -1 if value is None else len(value)))
        parts.append(value or b"")
    return b"".join(parts)


def text(value: str | None) -> tuple[int, bytes | None]:
    """Return a text's field."""
    return TEXT_OID, None if value is None else value.encode()


def number(value: int | None) -> tuple[int, bytes | None]:
    """Return a 64-bit number's field."""
    return INT8_OID, None if value is None else struct.pack(">q", value)


def moment(value: datetime) -> tuple[int, bytes]:
    """Return a moment's field: microseconds since 2000."""
    return MOMENT_OID, struct.pack(">q", (value - EPOCH) // timedelta(microseconds=1))


def uuid(value: UUID | None) -> tuple[int, bytes | None]:
    """Return a UUID's field."""
    return UUID_OID, None if value is None else value.bytes


def entry_of(entry: Any) -> bytes:
    """Return an entry's row."""
    return packed(
        uuid(entry["wallet_id"]),
        number(entry["sequence"]),
        uuid(entry["transaction_id"]),
        number(entry["amount"]),
        number(entry["balance_after"]),
        moment(entry["created_at"]),
    )


def leaf_of(row: Any, legs: Sequence[Any], entries: Sequence[Any]) -> bytes:
    """Return a transaction's digest: of its row, its legs if it has any, and its entries."""
    outcome = "failed" if row["status"] == "FAILED" else "completed"
    content = packed(
        uuid(row["id"]),
        text(outcome),
        text(row["failure_code"]),
        text(row["failure_detail"]),
        text(row["type"]),
        text(row["submitter"]),
        text(row["idempotency_key"]),
        (BYTEA_OID, row["fingerprint"]),
        text(row["channel"]),
        uuid(row["source_wallet_id"]),
        uuid(row["destination_wallet_id"]),
        number(row["amount"]),
        text(row["currency"]),
        uuid(row["reverses"]),
        moment(row["created_at"]),
        moment(row["completed_at"]),
    )
    by_place = {(entry["wallet_id"], entry["sequence"]): entry_of(entry) for entry in entries}
    for side in ("source", "destination"):
        content += by_place.get((row[f"{side}_wallet_id"], row[f"{side}_sequence"]), b"")
    for leg in legs:
        content += packed(
            number(leg["position"]),
            uuid(leg["wallet_id"]),
            text(leg["currency"]),
            number(leg["amount"]),
            (BOOL_OID, bytes([leg["is_external"]])),
            number(leg["sequence"]),
        )
        content += by_place.get((leg["wallet_id"], leg["sequence"]), b"")
    return hashlib.sha256(content).digest()


def audit_leaf_of(record: Any) -> bytes:
    """Return the digest of a record of the audit log."""
    return hashlib.sha256(
        packed(
            uuid(record["id"]),
            moment(record["occurred_at"]),
            *(text(record[name]) for name in ("actor", "action", "subject", "detail")),
            text(record["address"]),
            text(record["request_id"]),
        )
    ).digest()


async def digest_from_tables(database: Connection, seal: Any) -> bytes:
    """Return a seal's digest, recomputed as an outsider would."""
    leaves, count = [], 0
    for transaction_id in seal["transaction_ids"]:
        row = await database.fetchrow("SELECT * FROM transactions WHERE id = $1", transaction_id)
        entries = await database.fetch(
            "SELECT * FROM entries WHERE transaction_id = $1", transaction_id
        )
        legs = await database.fetch(
            "SELECT * FROM transaction_legs WHERE transaction_id = $1 ORDER BY position",
            transaction_id,
        )
        leaves.append(leaf_of(row, legs, entries))
        count += len(entries)
    figures = [len(leaves), count]
    for audit_id in seal["audit_ids"] or ():
        record = await database.fetchrow("SELECT * FROM audit_log WHERE id = $1", audit_id)
        leaves.append(audit_leaf_of(record))
    if seal["audit_ids"]:
        figures.append(len(seal["audit_ids"]))
    micro = timedelta(microseconds=1)
    header = b"ackledger seal" + struct.pack(
        f">hqqq{len(figures)}q",
        2 if seal["audit_ids"] else 1,
        seal["number"],
        (seal["until"] - EPOCH) // micro,
        (seal["sealed_at"] - EPOCH) // micro,
        *figures,
    )
    return hashlib.sha256(header + seal["previous"] + b"".join(leaves)).digest()

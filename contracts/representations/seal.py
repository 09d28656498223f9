"""A seal as clients read it."""

from base64 import b64encode
from typing import Annotated

from pydantic import BaseModel, Field

from contracts.representations.pages import NextCursor
from contracts.representations.transaction import Count, Json, Row, Timestamp, format_moment

Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class Seal(BaseModel):
    """One link of the hash chain over all transactions that ended, and over the audit log."""

    number: Count = Field(ge=1, description="Counted from 1, without gaps")
    until: Timestamp = Field(
        description="What was accepted before this moment and had ended when the seal was made is "
        "in this seal or in one before it"
    )
    transactions: Count = Field(
        ge=0, description="How many it covers; 0 where it covers the audit log alone"
    )
    audit_records: Count = Field(ge=0, description="How many records of the audit log it covers")
    digest: Digest = Field(
        description="SHA-256 over the rows of its transactions, entries and audit records, its own "
        "figures and `previous`, in hexadecimals"
    )
    previous: Digest = Field(description="The digest of the seal before; zeros in the first one")
    sealed_at: Timestamp
    signature: str | None = Field(
        description="Ed25519 (RFC 8032) over the 32 bytes of `digest`, in base64; null where seals "
        "are not signed"
    )
    key_id: str | None = Field(
        description="Which key signed it: the first 16 hexadecimals of the public key's SHA-256"
    )


class SealPage(BaseModel):
    """Seals, the newest first."""

    items: list[Seal]
    next_cursor: NextCursor


def render_seal(row: Row) -> Json:
    """Return a row of the table of seals as `Seal` has it."""
    signature = row["signature"]
    return {
        "number": row["number"],
        "until": format_moment(row["until"]),
        "transactions": row["transactions"],
        "audit_records": row["audit_records"],
        "digest": row["digest"].hex(),
        "previous": row["previous"].hex(),
        "sealed_at": format_moment(row["sealed_at"]),
        "signature": None if signature is None else b64encode(signature).decode(),
        "key_id": row["key_id"],
    }

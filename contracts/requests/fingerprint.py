"""Fingerprints: what 'the same content' under one idempotency key means."""

import hashlib
from uuid import UUID

import orjson


def fingerprint_of(
    *,
    kind: str,
    source_wallet_id: UUID | None,
    destination_wallet_id: UUID | None,
    minor: int,
    currency: str,
    description: str | None,
    metadata: bytes,
) -> bytes:
    """Return 32 bytes (SHA-256) that are equal exactly when the content of two requests is.

    `metadata` is canonical JSON (sorted keys). The amount enters in minor units, so '1', '1.0' and
    '1.00' are the same content; the door it came through does not enter.
    """
    content = orjson.dumps(
        [
            kind,
            str(source_wallet_id),
            str(destination_wallet_id),
            minor,
            currency,
            description,
            metadata.decode(),
        ]
    )
    return hashlib.sha256(content).digest()


def fingerprint_of_json(value: object) -> bytes:
    """Return 32 bytes (SHA-256) of any JSON value, the order of its keys apart."""
    return hashlib.sha256(orjson.dumps(value, option=orjson.OPT_SORT_KEYS)).digest()

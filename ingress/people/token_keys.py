"""The keys that access tokens are signed with."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from runtime.service.key_directory import KeyDirectory, TrustedKey

ALGORITHM = "EdDSA"


class TokenKeys(KeyDirectory):
    """A directory of keys; retired ones leave it when the last token of theirs is over."""

    made_by = "ackledger keys rotate --for tokens"

    def public_keys(self, now: datetime) -> Mapping[str, Ed25519PublicKey]:
        """Return the public keys that are valid, by their ids; raises SigningKeyError."""
        return {
            key.key_id: Ed25519PublicKey.from_public_bytes(key.public_key)
            for key in _valid(self.listed(), now)
        }

    def published(self, now: datetime) -> dict[str, Any]:
        """Return the same as a JSON Web Key Set (RFC 7517, RFC 8037); raises SigningKeyError."""
        members = {"use": "sig", "alg": ALGORITHM}
        return {
            "keys": [
                {**jwt.algorithms.OKPAlgorithm.to_jwk(key, as_dict=True), **members, "kid": key_id}
                for key_id, key in self.public_keys(now).items()
            ]
        }

    def _kept(self, retired: list[TrustedKey], now: datetime) -> list[TrustedKey]:
        return _valid(retired, now)


def _valid(keys: "list[TrustedKey] | tuple[TrustedKey, ...]", now: datetime) -> list[TrustedKey]:
    return [key for key in keys if key.valid_until is None or key.valid_until > now]

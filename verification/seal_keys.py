"""The keys that seals are signed with, and the last seal that was made with them at hand.

`latest`, beside the keys, is that seal, so that a chain that was cut off is not continued as if
nothing had happened.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from runtime.service.key_directory import KeyDirectory, SigningKeyError, TrustedKey

SKEW: Final = timedelta(minutes=10)
"""How far the database's clock may be behind that of the machine where a key was made."""
_LATEST: Final = "latest"
_DIGEST_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class Anchor:
    """A seal that somebody has written down elsewhere: its number and digest."""

    number: int
    digest: bytes

    def __str__(self) -> str:
        """Return it as it is written: `number:digest`, the digest in hexadecimals."""
        return f"{self.number}:{self.digest.hex()}"

    @classmethod
    def of_text(cls, text: str) -> "Anchor":
        """Return the anchor in `number:digest`; raises ValueError for anything else."""
        number, _, digest = text.strip().partition(":")
        if not (number.isascii() and number.isdigit()) or int(number) < 1:
            raise ValueError(f"'{text}' is not number:digest")
        value = bytes.fromhex(digest)
        if len(value) != _DIGEST_BYTES:
            raise ValueError(f"'{text}' does not have a digest of 64 hexadecimals")
        return cls(int(number), value)


class TrustedKeys:
    """The public keys that a verifier believes."""

    def __init__(self, keys: Sequence[TrustedKey]) -> None:
        """`keys` are one or more."""
        # Imported where there are keys: it takes 20 ms, and a reconciler may have none.
        from cryptography.hazmat.primitives.asymmetric.ed25519 import (  # noqa: PLC0415
            Ed25519PublicKey,
        )

        self.keys = tuple(keys)
        self._by_id = {
            key.key_id: (key, Ed25519PublicKey.from_public_bytes(key.public_key)) for key in keys
        }

    @property
    def valid_from(self) -> datetime:
        """Since when seals have been signed: before that there may be none that are."""
        return min(key.valid_from for key in self.keys) + SKEW

    def problem_with(
        self, *, key_id: str | None, signature: bytes, digest: bytes, at: datetime
    ) -> str | None:
        """Return what is wrong with a signature over a digest that was made at a moment."""
        from cryptography.exceptions import InvalidSignature  # noqa: PLC0415  # as above

        if key_id not in self._by_id:
            return f"it is signed with a key that is not trusted: {key_id}"
        key, public_key = self._by_id[key_id]
        try:
            public_key.verify(signature, digest)
        except InvalidSignature:
            return f"its signature is not that of key {key_id}"
        is_too_late = key.valid_until is not None and at > key.valid_until
        if at < key.valid_from - SKEW or is_too_late:
            return f"it was signed at {at.isoformat()}, when key {key_id} was not valid"
        return None


class SealKeys(KeyDirectory):
    """The keys of the seals: retired ones stay listed for ever, as the seals do."""

    def trusted(self) -> TrustedKeys:
        """Return the public keys to believe; raises SigningKeyError."""
        return TrustedKeys(self.listed())

    def latest(self) -> Anchor | None:
        """Return the last seal that was made here; raises SigningKeyError if it cannot be read."""
        path = self._directory / _LATEST
        try:
            return Anchor.of_text(path.read_text(encoding="ascii"))
        except FileNotFoundError:
            return None
        except OSError as error:
            raise SigningKeyError(f"{path}: {error.strerror}") from None
        except ValueError as error:
            raise SigningKeyError(f"{path}: {error}") from None

    def note_latest(self, anchor: Anchor) -> None:
        """Write down a seal that is committed; raises SigningKeyError where that cannot be done."""
        try:
            self._replace(_LATEST, f"{anchor}\n".encode())
        except OSError as error:
            raise SigningKeyError(f"{self._directory / _LATEST}: {error.strerror}") from None

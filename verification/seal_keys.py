"""The keys that seals are signed with: a directory, outside of any database.

`signing.pem` is the private key (PKCS 8, mode 0600): whoever seals needs it, and nobody else.
`trusted.json` lists the public keys, today's and those before: whoever verifies needs it. `latest`
is the last seal that was made with this directory at hand, so that a chain that was cut off is not
continued as if nothing had happened.

Nothing here writes or says what is in a private key.
"""

import hashlib
import os
from base64 import b64decode, b64encode
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import orjson
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

OVERLAP: Final = timedelta(days=1)
"""How long seals of the key before are still believed after a rotation: every reconciler has the
new one by then."""
SKEW: Final = timedelta(minutes=10)
"""How far the database's clock may be behind that of the machine where a key was made."""
_SIGNING: Final = "signing.pem"
_TRUSTED: Final = "trusted.json"
_LATEST: Final = "latest"
_FOLDER_MODE: Final = 0o700
_FILE_MODE: Final = 0o600
_OTHERS: Final = 0o007
_KEY_ID_DIGITS: Final = 16
_DIGEST_BYTES: Final = 32


class SealKeyError(Exception):
    """A directory of keys that cannot be used; the message names the file and what to do."""


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


@dataclass(frozen=True, slots=True)
class TrustedKey:
    """A public key, and when seals may be signed with it; `valid_until` None: still today."""

    key_id: str
    public_key: bytes
    valid_from: datetime
    valid_until: datetime | None = None

    def to_json(self) -> dict[str, str | None]:
        """Return the key as `trusted.json` and `ackledger keys list` show it."""
        return {
            "key_id": self.key_id,
            "algorithm": "Ed25519",
            "public_key": b64encode(self.public_key).decode(),
            "valid_from": self.valid_from.isoformat(),
            "valid_until": None if self.valid_until is None else self.valid_until.isoformat(),
        }

    @classmethod
    def of_json(cls, value: Any) -> "TrustedKey":
        """Return the key; raises KeyError, TypeError or ValueError for what is none."""
        public_key = b64decode(value["public_key"], validate=True)
        if value["key_id"] != key_id_of(public_key):
            raise ValueError(f"{value['key_id']} is not the id of its key")
        until = value["valid_until"]
        return cls(
            key_id=value["key_id"],
            public_key=public_key,
            valid_from=datetime.fromisoformat(value["valid_from"]),
            valid_until=None if until is None else datetime.fromisoformat(until),
        )


class TrustedKeys:
    """The public keys that a verifier believes."""

    def __init__(self, keys: Sequence[TrustedKey]) -> None:
        """`keys` are one or more."""
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


class Signer:
    """The private key that is in use."""

    __slots__ = ("_private_key", "key_id", "public_key")

    def __init__(self, private_key: Ed25519PrivateKey) -> None:
        self._private_key = private_key
        self.public_key = private_key.public_key().public_bytes_raw()
        self.key_id = key_id_of(self.public_key)

    def sign(self, digest: bytes) -> bytes:
        """Return the signature over a digest: 64 bytes, as RFC 8032 has them."""
        return self._private_key.sign(digest)


class SealKeys:
    """A directory of keys. Files are replaced whole, so nobody ever reads half of one."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._signer: tuple[tuple[int, int], Signer] | None = None

    def signer(self) -> Signer:
        """Return today's key, read anew when its file was replaced; raises SealKeyError."""
        path = self._directory / _SIGNING
        try:
            status = path.stat()
            version = (status.st_ino, status.st_mtime_ns)
            if self._signer is None or self._signer[0] != version:
                self._signer = version, _read_signer(path)
        except OSError as error:
            raise SealKeyError(f"{path}: {error.strerror}; run: ackledger keys rotate") from None
        return self._signer[1]

    def trusted(self) -> TrustedKeys:
        """Return the public keys to believe; raises SealKeyError."""
        path = self._directory / _TRUSTED
        try:
            keys = [TrustedKey.of_json(one) for one in orjson.loads(path.read_bytes())["keys"]]
        except OSError as error:
            raise SealKeyError(f"{path}: {error.strerror}; run: ackledger keys rotate") from None
        except (KeyError, TypeError, ValueError) as error:
            raise SealKeyError(f"{path} is not a list of keys: {error}") from None
        if not keys:
            raise SealKeyError(f"{path} lists no key; run: ackledger keys rotate")
        return TrustedKeys(keys)

    def rotate(self, now: datetime) -> TrustedKey:
        """Make a key, sign with it from now on, and return it; the one before is retired.

        A private key that was retired is gone: what it signed needs the public one alone. Raises
        SealKeyError where the directory cannot be written.
        """
        private_key = Ed25519PrivateKey.generate()
        public_key = private_key.public_key().public_bytes_raw()
        made = TrustedKey(key_id_of(public_key), public_key, valid_from=now.astimezone(UTC))
        try:
            self._directory.mkdir(mode=_FOLDER_MODE, parents=True, exist_ok=True)
            known = self.trusted().keys if (self._directory / _TRUSTED).exists() else ()
            # First believed, then used: the other way round a seal could be one that nobody trusts.
            self._write_trusted([*(_retired(key, now) for key in known), made])
            pem = private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
            self._replace(_SIGNING, pem)
        except OSError as error:
            raise SealKeyError(f"{self._directory}: {error.strerror}") from None
        return made

    def latest(self) -> Anchor | None:
        """Return the last seal that was made here; raises SealKeyError where it cannot be read."""
        path = self._directory / _LATEST
        try:
            return Anchor.of_text(path.read_text(encoding="ascii"))
        except FileNotFoundError:
            return None
        except OSError as error:
            raise SealKeyError(f"{path}: {error.strerror}") from None
        except ValueError as error:
            raise SealKeyError(f"{path}: {error}") from None

    def note_latest(self, anchor: Anchor) -> None:
        """Write down a seal that is committed; raises SealKeyError where that cannot be done."""
        try:
            self._replace(_LATEST, f"{anchor}\n".encode())
        except OSError as error:
            raise SealKeyError(f"{self._directory / _LATEST}: {error.strerror}") from None

    def _write_trusted(self, keys: Sequence[TrustedKey]) -> None:
        document = {"keys": [key.to_json() for key in keys]}
        self._replace(_TRUSTED, orjson.dumps(document, option=orjson.OPT_INDENT_2) + b"\n")

    def _replace(self, name: str, content: bytes) -> None:
        draft = self._directory / f".{name}.{os.getpid()}"
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, _FILE_MODE)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(self._directory / name)


def key_id_of(public_key: bytes) -> str:
    """Return the name of a public key: the first 16 hexadecimals of its SHA-256."""
    return hashlib.sha256(public_key).hexdigest()[:_KEY_ID_DIGITS]


def _retired(key: TrustedKey, now: datetime) -> TrustedKey:
    if key.valid_until is not None:
        return key
    return replace(key, valid_until=(now + OVERLAP).astimezone(UTC))


def _read_signer(path: Path) -> Signer:
    if path.stat().st_mode & _OTHERS:
        raise SealKeyError(
            f"{path} can be read by every user of this machine; run: chmod 600 {path}"
        )
    try:
        private_key = load_pem_private_key(path.read_bytes(), password=None)
    except (TypeError, ValueError):
        # The library's own words may repeat what it read.
        raise SealKeyError(f"{path} is not a private key in PEM without a password") from None
    if not isinstance(private_key, Ed25519PrivateKey):
        raise SealKeyError(f"{path} is not an Ed25519 key")
    return Signer(private_key)

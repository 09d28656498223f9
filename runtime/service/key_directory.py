"""Keys that a service signs with: a directory, outside of any database.

`signing.pem` is the private key (PKCS 8, mode 0600): whoever signs needs it, and nobody else.
`trusted.json` lists the public keys, today's and those before: whoever verifies needs it.

Nothing here writes or says what is in a private key.
"""

import hashlib
import os
from base64 import b64decode, b64encode
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import orjson

if TYPE_CHECKING:
    # Imported where there is a key: it takes 20 ms, and a process may have none.
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

OVERLAP: Final = timedelta(days=1)
"""How long what the key before signs is still believed after a rotation: every process has the new
one by then, and no access token is valid for longer."""
_SIGNING: Final = "signing.pem"
_TRUSTED: Final = "trusted.json"
_FOLDER_MODE: Final = 0o700
_FILE_MODE: Final = 0o600
_OTHERS: Final = 0o007
_KEY_ID_DIGITS: Final = 16

_Version = tuple[int, int]


class SigningKeyError(Exception):
    """A directory of keys that cannot be used; the message names the file and what to do."""


@dataclass(frozen=True, slots=True)
class TrustedKey:
    """A public key, and when it may sign; `valid_until` None: still today."""

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


class Signer:
    """The private key that is in use."""

    __slots__ = ("key_id", "private_key", "public_key")

    def __init__(self, private_key: "Ed25519PrivateKey") -> None:
        self.private_key = private_key
        self.public_key = private_key.public_key().public_bytes_raw()
        self.key_id = key_id_of(self.public_key)

    def sign(self, digest: bytes) -> bytes:
        """Return the signature over a digest: 64 bytes, as RFC 8032 has them."""
        return self.private_key.sign(digest)


class KeyDirectory:
    """A directory of keys. Files are replaced whole, so nobody ever reads half of one."""

    made_by: str = "ackledger keys rotate"
    """The command that makes a first key."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._signer: tuple[_Version, Signer] | None = None
        self._listed: tuple[_Version, tuple[TrustedKey, ...]] | None = None

    def signer(self) -> Signer:
        """Return today's key, read anew when its file was replaced; raises SigningKeyError."""
        path = self._directory / _SIGNING
        try:
            version = _version_of(path)
            if self._signer is None or self._signer[0] != version:
                self._signer = version, _read_signer(path)
        except OSError as error:
            raise SigningKeyError(f"{path}: {error.strerror}; run: {self.made_by}") from None
        return self._signer[1]

    def listed(self) -> tuple[TrustedKey, ...]:
        """Return the public keys, the oldest first, read anew when their file was replaced.

        One or more; raises SigningKeyError.
        """
        path = self._directory / _TRUSTED
        try:
            version = _version_of(path)
            if self._listed is None or self._listed[0] != version:
                self._listed = version, _read_listed(path)
        except OSError as error:
            raise SigningKeyError(f"{path}: {error.strerror}; run: {self.made_by}") from None
        if not self._listed[1]:
            raise SigningKeyError(f"{path} lists no key; run: {self.made_by}")
        return self._listed[1]

    def rotate(self, now: datetime) -> TrustedKey:
        """Make a key, sign with it from now on, and return it; the one before is retired.

        A private key that was retired is gone: what it signed needs the public one alone. Raises
        SigningKeyError where the directory cannot be written.
        """
        from cryptography.hazmat.primitives.asymmetric.ed25519 import (  # noqa: PLC0415  # see above
            Ed25519PrivateKey,
        )

        private_key = Ed25519PrivateKey.generate()
        public_key = private_key.public_key().public_bytes_raw()
        made = TrustedKey(key_id_of(public_key), public_key, valid_from=now.astimezone(UTC))
        try:
            self._directory.mkdir(mode=_FOLDER_MODE, parents=True, exist_ok=True)
            known = self.listed() if (self._directory / _TRUSTED).exists() else ()
            # First believed, then used: the other way round nobody would trust what is signed.
            self._write_listed([*self._kept([_retired(key, now) for key in known], now), made])
            self._replace(_SIGNING, _pem_of(private_key))
        except OSError as error:
            raise SigningKeyError(f"{self._directory}: {error.strerror}") from None
        return made

    def _kept(self, retired: list[TrustedKey], now: datetime) -> list[TrustedKey]:  # noqa: ARG002
        """Return which of the retired keys are still listed: all of them."""
        return retired

    def _write_listed(self, keys: Sequence[TrustedKey]) -> None:
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


def _version_of(path: Path) -> _Version:
    """Return what is another one for each file that was ever put in its place."""
    status = path.stat()
    return status.st_ino, status.st_mtime_ns


def _read_listed(path: Path) -> tuple[TrustedKey, ...]:
    try:
        return tuple(TrustedKey.of_json(one) for one in orjson.loads(path.read_bytes())["keys"])
    except (KeyError, TypeError, ValueError) as error:
        raise SigningKeyError(f"{path} is not a list of keys: {error}") from None


def _pem_of(private_key: "Ed25519PrivateKey") -> bytes:
    from cryptography.hazmat.primitives.serialization import (  # noqa: PLC0415  # see above
        Encoding,
        NoEncryption,
        PrivateFormat,
    )

    return private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _read_signer(path: Path) -> Signer:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (  # noqa: PLC0415  # see above
        Ed25519PrivateKey,
    )
    from cryptography.hazmat.primitives.serialization import (  # noqa: PLC0415  # see above
        load_pem_private_key,
    )

    if path.stat().st_mode & _OTHERS:
        raise SigningKeyError(
            f"{path} can be read by every user of this machine; run: chmod 600 {path}"
        )
    try:
        private_key = load_pem_private_key(path.read_bytes(), password=None)
    except (TypeError, ValueError):
        # The library's own words may repeat what it read.
        raise SigningKeyError(f"{path} is not a private key in PEM without a password") from None
    if not isinstance(private_key, Ed25519PrivateKey):
        raise SigningKeyError(f"{path} is not an Ed25519 key")
    return Signer(private_key)

"""The keys that a private system seals with."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from runtime.service.key_directory import SigningKeyError
from tools.stack import Stack
from verification.seal_keys import SealKeys

VARIABLE: Final = "ACKLEDGER_SEAL_KEYS"


def seal_keys_of(stack: Stack) -> dict[str, str]:
    """Return the variable that names a private database's keys; nothing where there are none."""
    directory = _directory(stack)
    return {VARIABLE: str(directory)} if directory is not None and directory.exists() else {}


def make_seal_keys(stack: Stack) -> dict[str, str]:
    """Make a first key for a private database if it has none, and return the variable."""
    directory = _directory(stack)
    if directory is None:
        return {}
    keys = SealKeys(directory)
    try:
        keys.signer()
    except SigningKeyError:
        keys.rotate(datetime.now(tz=UTC))
    return seal_keys_of(stack)


def _directory(stack: Stack) -> Path | None:
    found = getattr(stack.postgres, "seal_keys", None)
    return found if isinstance(found, Path) else None

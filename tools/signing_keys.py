"""The keys that a private system seals with, and those that it signs access tokens with."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from ingress.people.token_keys import TokenKeys
from runtime.service.key_directory import KeyDirectory, SigningKeyError
from tools.stack import Stack
from verification.seal_keys import SealKeys

_KINDS: Final[dict[str, tuple[str, type[KeyDirectory]]]] = {
    "ACKLEDGER_SEAL_KEYS": ("seal_keys", SealKeys),
    "ACKLEDGER_TOKEN_KEYS": ("token_keys", TokenKeys),
}
"""Variable to the stack's name for the directory, and what is in it."""


def signing_keys_of(stack: Stack) -> dict[str, str]:
    """Return the variables that name a private database's keys; nothing where there are none."""
    return {
        variable: str(directory)
        for variable, directory, _ in _directories(stack)
        if directory.exists()
    }


def make_signing_keys(stack: Stack) -> dict[str, str]:
    """Make first keys for a private database that has none, and return the variables."""
    for _, directory, kind in _directories(stack):
        keys = kind(directory)
        try:
            keys.signer()
        except SigningKeyError:
            keys.rotate(datetime.now(tz=UTC))
    return signing_keys_of(stack)


def _directories(stack: Stack) -> Iterator[tuple[str, Path, type[KeyDirectory]]]:
    for variable, (name, kind) in _KINDS.items():
        found = getattr(stack.postgres, name, None)
        if isinstance(found, Path):
            yield variable, found, kind

"""Waiting for one transaction over the HTTP door."""

import time
from collections.abc import Callable
from typing import Any, Final

from cli.clients.http import ApiClient
from cli.failures import UnreachableError
from ledger.words import FINAL_STATUSES

SETTLED: Final = FINAL_STATUSES | {"QUARANTINED"}
"""What does not change by itself any more."""
_WAIT_S: Final = 10


async def await_final(
    client: ApiClient,
    transaction_id: str,
    *,
    timeout_s: float,
    since: Callable[[], float] | None = None,
) -> dict[str, Any]:
    """Return a transaction that is final or QUARANTINED.

    Raises UnreachableError `timeout_s` after the call, or after the last progress that `since`
    tells of (time.monotonic).
    """
    started = time.monotonic()
    while True:
        transaction = await client.read_transaction(transaction_id, wait_s=_WAIT_S)
        if transaction["status"] in SETTLED:
            return transaction
        check_patience(since() if since else started, timeout_s, waiting_for=transaction_id)


def check_patience(since: float, timeout_s: float, *, waiting_for: str) -> None:
    """Raise UnreachableError when nothing has moved for too long."""
    if time.monotonic() - since >= timeout_s:
        raise UnreachableError(
            f"nothing was posted for {timeout_s:g} s (waiting for {waiting_for}): "
            "does the processor run, or is it a dead letter (ackledger dead-letters list)?"
        )

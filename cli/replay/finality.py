"""Waiting for one transaction over the HTTP door."""

import time
from collections.abc import Callable
from typing import Any, Final

from ackledger.client.asynchronous import SETTLED, AsyncClient, preference
from cli.failures import UnreachableError

_WAIT_S: Final = 10


async def await_final(
    client: AsyncClient,
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
        answer = await client.call(
            "GET", f"/v1/transactions/{transaction_id}", headers=preference(_WAIT_S)
        )
        transaction: dict[str, Any] = answer.wanted()
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

"""Requests that need more than themselves: another transaction, or the rest of their batch; pure.

A capture or a release names a hold, a reversal the transaction that it reverses: whose wallets and
currency these are is known once that one is read. The members of an atomic batch name each other,
by the batch that each of them is recorded with.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final
from uuid import UUID

from contracts.identifiers import external_wallet_id
from contracts.money import AmountError, Money, amount_minor
from contracts.problems import ContractError, FieldError
from contracts.representations.transaction import Row
from contracts.requests.terms import RequestedTerms
from contracts.requests.transaction import TransactionCommand
from ledger.words import TransactionType


def other_id(command: TransactionCommand) -> UUID | None:
    """Return the transaction that has to be read before this one is recorded; None for none."""
    return None if command.terms is None else command.terms.other_id


def resolved(command: TransactionCommand, row: Row | None) -> TransactionCommand:
    """Return a command that names another transaction with its wallets, currency and amount.

    `row` is that transaction, as `transaction_views` or the table has it, None where there is none:
    then wallets, currency and amount stay unknown, and posting refuses it. Raises ContractError
    where the amount does not fit the currency. Any other command is returned as it is.
    """
    terms = command.terms
    if terms is None or terms.other_id is None:
        return command
    is_of_hold = terms.hold_id is not None
    if row is None or (is_of_hold and row["type"] != TransactionType.HOLD):
        return command._replace(source_wallet_id=None, destination_wallet_id=None, money=None)
    source, destination, currency = (
        row["source_wallet_id"],
        row["destination_wallet_id"],
        row["currency"],
    )
    if command.type is TransactionType.REVERSAL:
        source, destination = destination, source
    elif command.type is TransactionType.RELEASE:
        destination = None
    else:
        external = external_wallet_id(currency)
        if command.destination_wallet_id == external:
            detail = "must not be the external wallet: leave it out to pay the world outside"
            raise ContractError.invalid_fields([FieldError("/destination_wallet_id", detail)])
        destination = command.destination_wallet_id or destination or external
    return command._replace(
        source_wallet_id=source,
        destination_wallet_id=destination,
        money=_money(terms, row),
        terms=replace(terms, currency=currency),
    )


def _money(terms: RequestedTerms, row: Row) -> Money | None:
    if terms.amount is None:
        return None
    if row["type"] == TransactionType.JOURNAL:
        raise _amount_error("a journal can only be reversed as a whole")
    if row["currency"] is None:
        return None
    try:
        return Money(amount_minor(terms.amount, row["currency"]), row["currency"])
    except AmountError as error:
        raise _amount_error(str(error)) from None


def _amount_error(detail: str) -> ContractError:
    return ContractError.invalid_fields([FieldError("/amount", detail)])


_BATCH_VERSION: Final = 5
"""Of the UUIDs that name batches: made of a hash (RFC 9562)."""


def atomic(commands: Sequence[TransactionCommand], *, submitter: str) -> list[TransactionCommand]:
    """Return the members of an atomic batch: each is the same again only with all the others.

    The batch's id is made of the submitter, and of all keys and contents in their order, so a
    batch that is sent again has the same one. Raises ContractError, with pointers into
    `/transactions`, for members that cannot be posted together.
    """
    faults = _atomic_faults(commands)
    if faults:
        raise ContractError.invalid_fields(faults)
    whole = hashlib.sha256()
    for command in commands:
        # Keys have no NUL, and fingerprints always have 32 bytes: no two batches are written alike.
        whole.update(command.idempotency_key.encode() + b"\0" + command.fingerprint)
    digest = whole.digest()
    named = hashlib.sha256(submitter.encode() + b"\0" + digest).digest()
    batch_id = UUID(bytes=named[:16], version=_BATCH_VERSION)
    return [
        command._replace(
            fingerprint=hashlib.sha256(digest + command.fingerprint).digest(),
            terms=replace(command.terms or RequestedTerms(), batch_id=batch_id),
        )
        for command in commands
    ]


def _atomic_faults(commands: Sequence[TransactionCommand]) -> list[FieldError]:
    """What keeps transactions from being recorded and posted together."""
    faults = []
    seen: set[str] = set()
    execute_at = _execute_at(commands[0])
    for place, command in enumerate(commands):
        if command.idempotency_key in seen:
            detail = "stands twice in an atomic batch"
            faults.append(FieldError(f"/transactions/{place}/idempotency_key", detail))
        if _execute_at(command) != execute_at:
            detail = "must be the same for all of an atomic batch"
            faults.append(FieldError(f"/transactions/{place}/execute_at", detail))
        seen.add(command.idempotency_key)
    return faults


def _execute_at(command: TransactionCommand) -> datetime | None:
    return None if command.terms is None else command.terms.execute_at

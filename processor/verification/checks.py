"""The checks: rows in, findings out; no clock, no database."""

from collections.abc import Iterator, Mapping
from typing import Any, Final, Protocol

from contracts.messages import DeadLetterReason
from processor.verification.report import Check, Finding


class Row(Protocol):
    """A database row, its columns by name."""

    def __getitem__(self, name: str, /) -> Any:
        """Return a column's value."""


_CUSTOMER: Final = "customer"
_POSTED: Final = ("COMPLETED", "REVERSED")
_RARE: Final = ("FAILED", "QUARANTINED", "REVERSED")


def wallet_findings(row: Row) -> Iterator[Finding]:
    """Yield what is wrong with one wallet, given the sums of its entries (chain breaks apart)."""
    subject = f"wallet {row['wallet_id']}"
    entries, total = row["entries"], int(row["total"])
    if row["first_sequence"] != 1 or row["last_sequence"] != entries:
        span = f"{row['first_sequence']} to {row['last_sequence']}"
        yield Finding(Check.ENTRY_SEQUENCE, subject, f"{entries} entries are numbered {span}")
    if row["currency"] is None:
        yield Finding(Check.ENTRY_WALLET, subject, f"{entries} entries of a wallet that is not")
        return
    if row["balance"] != total:
        detail = f"the balance is {row['balance']}, the entries sum to {total}"
        yield Finding(Check.WALLET_BALANCE, subject, detail)
    if row["version"] != entries:
        detail = f"the version is {row['version']}, the entries are {entries}"
        yield Finding(Check.WALLET_VERSION, subject, detail)
    if row["kind"] == _CUSTOMER and row["available"] < 0:
        detail = f"{int(row['available'])} is available"
        yield Finding(Check.WALLET_AVAILABLE, subject, detail)


def chain_finding(wallet_id: object, row: Row) -> Finding:
    """Return the finding for an entry whose balance does not follow from the one before."""
    before = int(row["balance_before"])
    return Finding(
        Check.ENTRY_CHAIN,
        f"wallet {wallet_id} entry {row['sequence']}",
        f"balance_after is {row['balance_after']}, {before} + {row['amount']} "
        f"is {before + row['amount']}",
    )


def missing_leg_finding(row: Row) -> Finding:
    """Return the finding for a leg without its entry."""
    place = f"the {row['side']} leg ({row['amount']} on wallet {row['wallet_id']}"
    if row["sequence"] is None:
        problem = "names no entry"
    elif row["found_transaction_id"] is None:
        problem = "has no entry"
    elif row["found_transaction_id"] != row["id"]:
        problem = f"is an entry of transaction {row['found_transaction_id']}"
    else:
        problem = f"is an entry of {row['found_amount']}"
    return Finding(
        Check.TRANSACTION_LEGS,
        f"transaction {row['id']}",
        f"{place}, sequence {row['sequence']}) {problem}",
    )


def stray_entry_finding(row: Row) -> Finding:
    """Return the finding for an entry that is nobody's leg."""
    if row["status"] is None:
        problem = "does not exist"
    elif row["status"] in _POSTED:
        problem = "does not name it as a leg"
    else:
        problem = f"is {row['status']}"
    return Finding(
        Check.ENTRY_TRANSACTION,
        f"wallet {row['wallet_id']} entry {row['sequence']}",
        f"{row['amount']}: its transaction {row['transaction_id']} {problem}",
    )


def strange_currency_finding(row: Row) -> Finding:
    """Return the finding for an entry in another currency than its wallet."""
    return Finding(
        Check.ENTRY_CURRENCY,
        f"wallet {row['wallet_id']} entry {row['sequence']}",
        f"the wallet holds {row['currency']}, "
        f"transaction {row['transaction_id']} is in {row['transaction_currency']}",
    )


def unposted_finding(row: Row) -> Finding:
    """Return the finding for a transaction that is not posted and names entries."""
    return Finding(
        Check.UNPOSTED_LEGS, f"transaction {row['id']}", f"it is {row['status']} and names entries"
    )


def overdue_finding(row: Row) -> Finding:
    """Return the finding for a transaction that waits too long."""
    return Finding(
        Check.PENDING_AGE,
        f"transaction {row['id']}",
        f"PENDING since {row['created_at'].isoformat()}",
    )


def exceptional_finding(row: Row) -> Finding:
    """Return the finding for a rare state that the side table and the transaction disagree on."""
    if row["listed_status"] is None:
        detail = f"it is {row['status']} and not listed so"
    else:
        detail = f"it is listed as {row['listed_status']} and is not"
    return Finding(Check.EXCEPTIONAL_LIST, f"transaction {row['id']}", detail)


def set_aside_finding(row: Row) -> Finding:
    """Return the finding for an event or a reply that waits for an operator."""
    is_reply = row["reason"] == DeadLetterReason.REPLY_NOT_SENT
    return Finding(
        Check.REPLY_SET_ASIDE if is_reply else Check.EVENT_SET_ASIDE,
        f"dead letter {row['id']}",
        f"{row['reason']}: {row['detail']}",
    )


def currency_findings(totals: Mapping[str, int]) -> Iterator[Finding]:
    """Yield the currencies whose entries do not sum to zero."""
    for currency, total in sorted(totals.items()):
        if total != 0:
            detail = f"all entries sum to {total}"
            yield Finding(Check.CURRENCY_SUM, f"currency {currency}", detail)


def leg_findings(row: Row) -> Iterator[Finding]:
    """Yield what is wrong with one leg, its entry beside it and the entry before that."""
    if row["found_transaction_id"] != row["id"] or row["found_amount"] != row["amount"]:
        yield missing_leg_finding(row)
    elif row["balance_before"] is None:
        subject = f"wallet {row['wallet_id']}"
        yield Finding(Check.ENTRY_SEQUENCE, subject, f"none comes before entry {row['sequence']}")
    elif row["balance_after"] != int(row["balance_before"]) + row["amount"]:
        yield chain_finding(row["wallet_id"], row)
    if row["is_before_stray"]:
        yield stray_entry_finding(
            {
                "wallet_id": row["wallet_id"],
                "sequence": row["sequence"] - 1,
                "transaction_id": row["before_transaction_id"],
                "amount": row["before_amount"],
                "status": row["before_status"],
            }
        )


def touched_wallet_findings(row: Row) -> Iterator[Finding]:
    """Yield what is wrong with the wallet of a leg, its last entry beside it."""
    yield from wallet_findings(row)
    if row["currency"] is not None and row["currency"] != row["transaction_currency"]:
        yield strange_currency_finding(row)
    if row["is_last_stray"]:
        yield stray_entry_finding(
            {
                "wallet_id": row["wallet_id"],
                "sequence": row["last_sequence"],
                "transaction_id": row["last_transaction_id"],
                "amount": row["last_amount"],
                "status": row["last_status"],
            }
        )


def status_findings(row: Row) -> Iterator[Finding]:
    """Yield what is wrong with a transaction by itself."""
    if row["status"] in _RARE and row["listed_status"] is None:
        yield exceptional_finding(row)
    if row["status"] not in _POSTED and row["names_entries"]:
        yield unposted_finding(row)

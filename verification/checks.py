"""What is checked: rows in, findings out, and the report of them; no clock, no database."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, Protocol

from contracts.messages import DeadLetterReason

FINDINGS_HELD_MAX: Final = 10_000
"""Findings kept word by word; a ledger that has more needs a restore, not a longer list."""
_CUSTOMER: Final = "customer"
POSTED_STATUSES: Final = ("COMPLETED", "REVERSED")
RARE_STATUSES: Final = ("FAILED", "QUARANTINED", "REVERSED")


class Check(StrEnum):
    """What is checked; the name of each finding."""

    WALLET_BALANCE = "wallet_balance"
    """A wallet's balance is the sum of its entries."""
    WALLET_VERSION = "wallet_version"
    """A wallet's version is the number of its entries."""
    WALLET_AVAILABLE = "wallet_available"
    """No customer's wallet has less than nothing available, but for what a forced reversal took."""
    HELD = "held"
    """What is held of a wallet is what its open holds have left."""
    ENTRY_SEQUENCE = "entry_sequence"
    """A wallet's entries are numbered from 1 without a gap."""
    ENTRY_CHAIN = "entry_chain"
    """An entry's balance_after is the previous one's (0 before the first) + its amount."""
    ENTRY_WALLET = "entry_wallet"
    """Every entry's wallet exists."""
    ENTRY_TRANSACTION = "entry_transaction"
    """Every entry is the leg of a COMPLETED or REVERSED transaction that names it."""
    ENTRY_CURRENCY = "entry_currency"
    """A wallet's entries come from legs in its currency."""
    TRANSACTION_LEGS = "transaction_legs"
    """A COMPLETED or REVERSED transaction has exactly its legs: two, a journal's, or none."""
    UNPOSTED_LEGS = "unposted_legs"
    """A transaction in any other status names no entries; nor does the row of one without legs."""
    JOURNAL_SUM = "journal_sum"
    """A journal's legs sum to zero in each currency."""
    CURRENCY_SUM = "currency_sum"
    """All entries of a currency sum to zero."""
    HOLD_AMOUNTS = "hold_amounts"
    """A posted hold has its row, and what is captured of that is what its captures took."""
    REVERSALS = "reversals"
    """No more is reversed than there was, by the same legs; the whole exactly if REVERSED."""
    ATOMIC_BATCHES = "atomic_batches"
    """The members of an atomic batch end alike: all are posted, or all FAILED."""
    SCHEDULED = "scheduled"
    """A SCHEDULED transaction is on the schedule, for its own time, and not longer than that."""
    PENDING_AGE = "pending_age"
    """Nothing is PENDING longer than the limit."""
    EXCEPTIONAL_LIST = "exceptional_list"
    """The side table of rare states lists exactly the transactions in them."""
    EVENT_SET_ASIDE = "event_set_aside"
    """Every event is told, or an operator gave it up: none waits as a dead letter."""
    REPLY_SET_ASIDE = "reply_set_aside"
    """The same for results that senders asked for."""
    SEAL_DIGEST = "seal_digest"
    """A seal's transactions and entries are what they were when it was made."""
    SEAL_CHAIN = "seal_chain"
    """Seals are numbered from 1 without a gap, and each follows the one before."""
    SEAL_SIGNATURE = "seal_signature"
    """Seals are signed by keys that are trusted."""
    SEAL_MISSING = "seal_missing"
    """What has ended is sealed, once, and not much later."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong: which check, on what, and how. Amounts are in minor units."""

    check: Check
    subject: str
    detail: str

    def to_json(self) -> dict[str, str]:
        """Return the finding as the contract shows it."""
        return {"check": self.check.value, "subject": self.subject, "detail": self.detail}


class Findings:
    """Findings as they come: all of them counted, the first FINDINGS_HELD_MAX kept."""

    def __init__(self, *, held_max: int = FINDINGS_HELD_MAX) -> None:
        self._held_max = held_max
        self._held: list[Finding] = []
        self.total = 0

    @property
    def held(self) -> tuple[Finding, ...]:
        """The findings that were kept."""
        return tuple(self._held)

    @property
    def room(self) -> int:
        """How many more are kept."""
        return self._held_max - len(self._held)

    def add(self, findings: Iterable[Finding], *, total: int | None = None) -> None:
        """Take findings; `total` is their number when `findings` are only the first of them."""
        taken = list(findings)
        self._held.extend(taken[: self.room])
        self.total += max(len(taken), total or 0)


@dataclass(frozen=True, slots=True)
class SealsReport:
    """The chain of seals: how long it is, what it covers, and its end."""

    number: int
    transactions: int
    signed: int
    are_signatures_checked: bool
    latest: str | None
    """`number:digest` of the last one: what to write down elsewhere."""

    def to_json(self) -> dict[str, Any]:
        """Return it as `ackledger verify --json` prints it."""
        return {
            "number": self.number,
            "transactions": self.transactions,
            "signed": self.signed,
            "signatures_checked": self.are_signatures_checked,
            "latest": self.latest,
        }


@dataclass(frozen=True, slots=True)
class VerificationReport:
    """The outcome: clean exactly when nothing was found."""

    wallets: int
    transactions: int
    entries: int
    by_status: Mapping[str, int]
    seals: SealsReport
    findings: tuple[Finding, ...]
    findings_total: int

    @property
    def clean(self) -> bool:
        """Whether the books balance."""
        return self.findings_total == 0

    def to_json(self) -> dict[str, Any]:
        """Return the report as `ackledger verify --json` prints it."""
        return {
            "clean": self.clean,
            "wallets": self.wallets,
            "transactions": self.transactions,
            "entries": self.entries,
            "by_status": dict(self.by_status),
            "seals": self.seals.to_json(),
            "findings": [*(finding.to_json() for finding in self.findings), *self._omitted()],
        }

    def _omitted(self) -> list[dict[str, str]]:
        omitted = self.findings_total - len(self.findings)
        if omitted == 0:
            return []
        return [{"check": "omitted", "subject": "findings", "detail": f"{omitted} more"}]


class Row(Protocol):
    """A database row, its columns by name."""

    def __getitem__(self, name: str, /) -> Any:
        """Return a column's value."""


def wallet_findings(row: Row) -> Iterator[Finding]:
    """Yield what is wrong with one wallet, given the sums of its entries (chain breaks apart)."""
    subject = f"wallet {row['wallet_id']}"
    entries, total = row["entries"], int(row["total"])
    if row["held"] != row["on_hold"]:
        detail = f"{row['held']} is held, its open holds have {int(row['on_hold'])} left"
        yield Finding(Check.HELD, subject, detail)
    if row["first_sequence"] != 1 or row["last_sequence"] != entries:
        span = f"{row['first_sequence']} to {row['last_sequence']}"
        yield Finding(Check.ENTRY_SEQUENCE, subject, f"{entries} entries are numbered {span}")
    if row["currency"] is None and entries == 0:
        return
    if row["currency"] is None:
        yield Finding(Check.ENTRY_WALLET, subject, f"{entries} entries of a wallet that is not")
        return
    if row["balance"] != total:
        detail = f"the balance is {row['balance']}, the entries sum to {total}"
        yield Finding(Check.WALLET_BALANCE, subject, detail)
    if row["version"] != entries:
        detail = f"the version is {row['version']}, the entries are {entries}"
        yield Finding(Check.WALLET_VERSION, subject, detail)
    if row["kind"] == _CUSTOMER and row["available"] + row["forced_overdraft"] < 0:
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
    elif row["found_amount"] == row["amount"]:
        problem = "is the entry of a like leg"
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
    elif row["status"] in POSTED_STATUSES:
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
    """Return the finding for a transaction that names entries and may not."""
    return Finding(
        Check.UNPOSTED_LEGS,
        f"transaction {row['id']}",
        f"it is a {row['type']}, {row['status']}, and names entries",
    )


def overdue_finding(row: Row) -> Finding:
    """Return the finding for a transaction that waits too long."""
    return Finding(
        Check.PENDING_AGE,
        f"transaction {row['id']}",
        f"PENDING since {row['since'].isoformat()}",
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


def journal_finding(row: Row) -> Finding:
    """Return the finding for a journal without legs, or whose legs do not sum to zero."""
    subject = f"transaction {row['id']}"
    if row["legs"] == 0:
        return Finding(Check.TRANSACTION_LEGS, subject, "it has no legs")
    detail = f"its legs sum to {int(row['total_amount'])} {row['currency']}"
    return Finding(Check.JOURNAL_SUM, subject, detail)


def hold_finding(row: Row) -> Finding:
    """Return the finding for a hold that its transactions do not confirm."""
    subject = f"hold {row['id']}"
    if row["amount"] is None:
        detail = f"there is no such hold; {int(row['taken'])} was captured of it"
    elif not row["is_posted"]:
        detail = "no COMPLETED transaction posted it"
    elif (row["source_wallet_id"], row["posted_amount"]) != (row["wallet_id"], row["amount"]):
        detail = (
            f"it holds {row['amount']} of wallet {row['wallet_id']}, its transaction "
            f"{row['posted_amount']} of wallet {row['source_wallet_id']}"
        )
    else:
        detail = (
            f"{row['status']}: of {row['amount']} {row['captured']} is captured and "
            f"{row['remaining']} left; its captures took {int(row['taken'])}"
        )
    return Finding(Check.HOLD_AMOUNTS, subject, detail)


def reversal_finding(row: Row) -> Finding:
    """Return the finding for a transaction of which not that is reversed which its status says."""
    subject = f"transaction {row['id']}"
    if row["status"] is None:
        return Finding(Check.REVERSALS, subject, "it is reversed and does not exist")
    what = "a journal" if row["amount"] is None else str(row["amount"])
    detail = (
        f"it is {row['status']}; {row['reversals']} reversals of {what} "
        f"came to {int(row['reversed_amount'])}"
    )
    return Finding(Check.REVERSALS, subject, detail)


def unturned_finding(row: Row) -> Finding:
    """Return the finding for a reversal that moved other money than it reverses."""
    return Finding(
        Check.REVERSALS,
        f"transaction {row['id']}",
        f"its legs are not those of {row['reverses']} the other way round",
    )


def batch_finding(row: Row) -> Finding:
    """Return the finding for an atomic batch that was posted in part."""
    return Finding(
        Check.ATOMIC_BATCHES,
        f"batch {row['batch_id']}",
        f"of {row['members']} members {row['posted']} are posted and {row['failed']} FAILED",
    )


def schedule_finding(row: Row) -> Finding:
    """Return the finding for a SCHEDULED transaction and the schedule that disagree."""
    if not row["is_scheduled"]:
        detail = "it is on the schedule and not SCHEDULED"
    elif row["listed_at"] is None:
        detail = "it is SCHEDULED and not on the schedule for its time"
    elif row["listed_at"] != row["execute_at"]:
        detail = "it is on the schedule for another time than its own"
    else:
        detail = f"it is SCHEDULED still, for {row['listed_at'].isoformat()}"
    return Finding(Check.SCHEDULED, f"transaction {row['id']}", detail)


def unsealed_finding(row: Row) -> Finding:
    """Return the finding for a transaction that ended and is not in exactly one seal."""
    if row["times"]:
        detail = f"it is in {row['times']} seals"
    elif row["completed_at"] is None:
        detail = f"it is {row['status']}, and in no seal"
    else:
        detail = f"it is {row['status']} since {row['completed_at'].isoformat()}, and in no seal"
    return Finding(Check.SEAL_MISSING, f"transaction {row['id']}", detail)


def unsealed_audit_finding(row: Row) -> Finding:
    """Return the finding for a record of the audit log that is not in exactly one seal."""
    if row["times"]:
        detail = f"it is in {row['times']} seals"
    else:
        detail = f"it is of {row['occurred_at'].isoformat()}, and in no seal"
    return Finding(Check.SEAL_MISSING, f"audit record {row['id']}", detail)


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
    if None not in (row["currency"], row["transaction_currency"]) and (
        row["currency"] != row["transaction_currency"]
    ):
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
    if row["status"] in RARE_STATUSES and row["listed_status"] is None:
        yield exceptional_finding(row)
    if row["is_naming_entries"]:
        yield unposted_finding(row)

"""What a verification says: findings by check, and the counts of what was read."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

FINDINGS_HELD_MAX: Final = 10_000
"""Findings kept word by word; a ledger that has more needs a restore, not a longer list."""


class Check(StrEnum):
    """What is checked; the name of each finding."""

    WALLET_BALANCE = "wallet_balance"
    """A wallet's balance is the sum of its entries."""
    WALLET_VERSION = "wallet_version"
    """A wallet's version is the number of its entries."""
    WALLET_AVAILABLE = "wallet_available"
    """No customer's wallet has less than nothing available."""
    ENTRY_SEQUENCE = "entry_sequence"
    """A wallet's entries are numbered from 1 without a gap."""
    ENTRY_CHAIN = "entry_chain"
    """An entry's balance_after is the previous one's (0 before the first) + its amount."""
    ENTRY_WALLET = "entry_wallet"
    """Every entry's wallet exists."""
    ENTRY_TRANSACTION = "entry_transaction"
    """Every entry is the leg of a COMPLETED or REVERSED transaction that names it."""
    ENTRY_CURRENCY = "entry_currency"
    """A wallet's entries come from transactions in its currency."""
    TRANSACTION_LEGS = "transaction_legs"
    """A COMPLETED or REVERSED transaction has exactly its two legs."""
    UNPOSTED_LEGS = "unposted_legs"
    """A transaction in any other status names no entries."""
    CURRENCY_SUM = "currency_sum"
    """All entries of a currency sum to zero."""
    PENDING_AGE = "pending_age"
    """Nothing is PENDING longer than the limit."""
    EXCEPTIONAL_LIST = "exceptional_list"
    """The side table of rare states lists exactly the transactions in them."""
    EVENT_SET_ASIDE = "event_set_aside"
    """Every event is told, or an operator gave it up: none waits as a dead letter."""
    REPLY_SET_ASIDE = "reply_set_aside"
    """The same for results that senders asked for."""


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
class VerificationReport:
    """The outcome: clean exactly when nothing was found."""

    wallets: int
    transactions: int
    entries: int
    by_status: Mapping[str, int]
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
            "findings": [*(finding.to_json() for finding in self.findings), *self._omitted()],
        }

    def _omitted(self) -> list[dict[str, str]]:
        omitted = self.findings_total - len(self.findings)
        if omitted == 0:
            return []
        return [{"check": "omitted", "subject": "findings", "detail": f"{omitted} more"}]

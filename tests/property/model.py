"""The ledger as it should be, in memory and without a database: what the real one is held against.

Written from the contract, not from the code: it knows one transaction at a time, and of atomic
batches that they are tried on a copy.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from decimal import Decimal
from enum import Enum, auto
from itertools import groupby
from typing import NamedTuple
from uuid import UUID

from contracts.identifiers import external_wallet_id
from contracts.money import minor_units
from contracts.record import Submission
from contracts.requests.transaction import TransactionCommand
from ledger.words import HoldStatus, TransactionStatus, TransactionType, WalletStatus
from tests.property.strategies import CURRENCIES

PENDING, COMPLETED, FAILED, QUARANTINED, REVERSED = (
    TransactionStatus.PENDING,
    TransactionStatus.COMPLETED,
    TransactionStatus.FAILED,
    TransactionStatus.QUARANTINED,
    TransactionStatus.REVERSED,
)
OUTSIDE = frozenset(map(external_wallet_id, CURRENCIES))


@dataclass
class ModelWallet:
    """A wallet that clients name; amounts in minor units, `entries` counts what moved them."""

    currency: str
    overdraft_limit: int | None
    """None: an internal wallet's."""
    status: WalletStatus = WalletStatus.ACTIVE
    balance: int = 0
    held: int = 0
    entries: int = 0

    @property
    def available(self) -> int:
        """What it can pay, if it is not the house's own."""
        return self.balance - self.held + (self.overdraft_limit or 0)


class ModelLeg(NamedTuple):
    """What a transaction does to one wallet; `is_outside`: it may be an external one."""

    wallet_id: UUID
    currency: str
    minor: int
    held: int = 0
    is_outside: bool = False


@dataclass
class ModelHold:
    """What is left of a posted hold."""

    remaining: int
    captured: int = 0
    status: HoldStatus = HoldStatus.OPEN


@dataclass
class ModelTransaction:
    """What was recorded under a key; `code` says why it FAILED.

    Once it is posted: its legs, its amount (None for a journal), and how much was reversed.
    """

    id: UUID
    command: TransactionCommand
    status: TransactionStatus = PENDING
    code: str | None = None
    legs: list[ModelLeg] = field(default_factory=list)
    amount: int | None = None
    reversed: int = 0
    hold: ModelHold | None = None

    @property
    def batch_id(self) -> UUID | None:
        """The atomic batch that it is a member of."""
        return None if self.command.terms is None else self.command.terms.batch_id


class LetterState(Enum):
    """Where a dead letter stands."""

    OPEN = auto()
    REPLAYED = auto()
    DISCARDED = auto()


@dataclass
class ModelLetter:
    """A dead letter: of a transaction in quarantine, or of submissions nobody recorded."""

    key: str | None
    submissions: Sequence[Submission]
    state: LetterState = LetterState.OPEN


@dataclass
class Snapshot:
    """What of the books can be seen, here and in the database alike.

    Wallets: balance, what is held, and number of entries. Transactions by key: status and failure
    code. Holds by key: status, captured, remaining. Events by key and type: how often each is owed.
    """

    wallets: dict[UUID, tuple[int, int, int]]
    transactions: dict[str, tuple[str, str | None]]
    holds: dict[str, tuple[str, int, int]]
    events: Counter[tuple[str, str]]


@dataclass
class Model:
    """The books of one submitter."""

    wallets: dict[UUID, ModelWallet] = field(default_factory=dict)
    transactions: dict[str, ModelTransaction] = field(default_factory=dict)
    events: Counter[tuple[str, str]] = field(default_factory=Counter)

    def snapshot(self) -> Snapshot:
        """Return what can be seen of it."""
        return Snapshot(
            {one: (w.balance, w.held, w.entries) for one, w in self.wallets.items()},
            {key: (one.status.value, one.code) for key, one in self.transactions.items()},
            {
                key: (one.hold.status.value, one.hold.captured, one.hold.remaining)
                for key, one in self.transactions.items()
                if one.hold is not None
            },
            Counter(self.events),
        )

    @property
    def pending(self) -> set[UUID]:
        """The ids of what waits to be posted."""
        return {one.id for one in self.transactions.values() if one.status is PENDING}

    def is_same(self, command: TransactionCommand) -> bool:
        """Whether a recorded key stands for this content."""
        return self.transactions[command.idempotency_key].command == command

    def record(self, command: TransactionCommand, transaction_id: UUID) -> None:
        """Record a request, unless its key was used before."""
        made = ModelTransaction(transaction_id, command)
        self.transactions.setdefault(command.idempotency_key, made)

    def post(self, keys: Iterable[str]) -> None:
        """Post what of these is still PENDING, one after the other, members of a batch together."""
        pending = [key for key in keys if self.transactions[key].status is PENDING]
        for _, unit in groupby(pending, key=lambda key: self.transactions[key].batch_id or key):
            # Looked up one unit at a time: a batch that fails leaves a copy of what was before it.
            self._post_unit([self.transactions[key] for key in unit])

    def _post_unit(self, unit: Sequence[ModelTransaction]) -> None:
        before = (self.wallets, self.transactions, self.events)
        if len(unit) > 1:
            before = deepcopy(before)
        for one in unit:
            one.code = self._post(one)
            if one.code is not None:
                break
        else:
            return
        code = one.code
        self.wallets, self.transactions, self.events = before
        for each in unit:
            failed = self._by_id(each.id)
            assert failed is not None
            failed.status = FAILED
            failed.code = code if each is one else "batch_failed"
            self.events[each.command.idempotency_key, "failed"] += 1

    def _post(self, one: ModelTransaction) -> str | None:
        legs = self._plan(one.command)
        if isinstance(legs, str):
            return legs
        after = {leg.wallet_id: self.wallets[leg.wallet_id] for leg in legs if self._has(leg)}
        after = deepcopy(after)
        for leg in legs:
            if leg.wallet_id in after:
                after[leg.wallet_id].balance += leg.minor
                after[leg.wallet_id].held += leg.held
                after[leg.wallet_id].entries += leg.minor != 0
        code = self._refusal(one.command, legs) or self._refusal_after(one.command, after)
        if code is not None:
            return code
        self.wallets.update(after)
        one.status, one.legs = COMPLETED, legs
        self.events[one.command.idempotency_key, "completed"] += 1
        self._note(one)
        return None

    def _has(self, leg: ModelLeg) -> bool:
        return leg.wallet_id in self.wallets

    def expire(self, key: str) -> None:
        """Let an open hold's time be over."""
        one = self.transactions[key]
        if one.hold is not None and one.hold.status is HoldStatus.OPEN:
            self.wallets[one.legs[0].wallet_id].held -= one.hold.remaining
            one.hold.remaining, one.hold.status = 0, HoldStatus.EXPIRED
            self.events[key, "hold_expired"] += 1

    def quarantine(self, key: str) -> bool:
        """Set a transaction aside if it is PENDING; return whether it was."""
        transaction = self.transactions[key]
        if transaction.status is not PENDING:
            return False
        transaction.status = QUARANTINED
        self.events[key, "quarantined"] += 1
        return True

    def release(self, key: str) -> None:
        """Let a quarantined transaction be posted again."""
        if self.transactions[key].status is QUARANTINED:
            self.transactions[key].status = PENDING

    def give_up(self, key: str) -> None:
        """End a quarantined transaction."""
        transaction = self.transactions[key]
        if transaction.status is QUARANTINED:
            transaction.status, transaction.code = FAILED, "discarded"
            self.events[key, "failed"] += 1

    def _by_id(self, transaction_id: UUID | None) -> ModelTransaction | None:
        return next((one for one in self.transactions.values() if one.id == transaction_id), None)

    # What a transaction would do

    def _plan(self, command: TransactionCommand) -> list[ModelLeg] | str:
        """Return its legs, or why it has none."""
        terms, money = command.terms, command.money
        if terms is not None and command.type is TransactionType.REVERSAL:
            return self._plan_back(self._by_id(terms.reverses), terms.amount)
        if terms is not None and terms.hold_id is not None:
            return self._plan_of_hold(command, self._by_id(terms.hold_id))
        if terms is not None and command.type is TransactionType.JOURNAL:
            return [
                ModelLeg(leg.wallet_id, leg.currency, leg.minor, is_outside=leg.is_external)
                for leg in terms.legs
            ]
        assert money is not None
        outside = external_wallet_id(money.currency)
        source, destination = (
            command.source_wallet_id or outside,
            command.destination_wallet_id or outside,
        )
        if command.type is TransactionType.HOLD:
            if command.destination_wallet_id in OUTSIDE:
                return "not_permitted"
            return [ModelLeg(source, money.currency, 0, money.minor)]
        # The side that is not named is the currency's external wallet.
        return [
            ModelLeg(
                source,
                money.currency,
                -money.minor,
                is_outside=command.source_wallet_id is None,
            ),
            ModelLeg(
                destination,
                money.currency,
                money.minor,
                is_outside=command.destination_wallet_id is None,
            ),
        ]

    def _plan_of_hold(
        self, command: TransactionCommand, held: ModelTransaction | None
    ) -> list[ModelLeg] | str:
        hold = None if held is None else held.hold
        if hold is None or held is None or command.terms is None:
            return "hold_not_found"
        if hold.status is not HoldStatus.OPEN:
            return "hold_expired" if hold.status is HoldStatus.EXPIRED else "hold_closed"
        wallet_id, currency, *_ = held.legs[0]
        if command.type is TransactionType.RELEASE:
            return [ModelLeg(wallet_id, currency, 0, -hold.remaining)]
        minor = _minor(command.terms.amount, currency) or hold.remaining
        if minor > hold.remaining:
            return "amount_exceeds_hold"
        named = command.destination_wallet_id or held.command.destination_wallet_id
        freed = hold.remaining if command.terms.is_final else minor
        return [
            ModelLeg(wallet_id, currency, -minor, -freed),
            ModelLeg(named or external_wallet_id(currency), currency, minor, is_outside=not named),
        ]

    def _plan_back(
        self, original: ModelTransaction | None, amount: Decimal | None
    ) -> list[ModelLeg] | str:
        if original is None:
            return "transaction_not_found"
        if original.status is REVERSED:
            return "already_reversed"
        is_fit = original.command.type not in (
            TransactionType.HOLD,
            TransactionType.RELEASE,
            TransactionType.REVERSAL,
        )
        if original.status is not COMPLETED or not is_fit:
            return "not_reversible"
        legs = [leg._replace(held=0) for leg in original.legs]
        if original.amount is None:
            return [leg._replace(minor=-leg.minor) for leg in legs]
        left = original.amount - original.reversed
        minor = _minor(amount, legs[0].currency) or left
        if minor > left:
            return "amount_exceeds_reversible"
        if original.batch_id is not None and minor != original.amount:
            return "not_reversible"
        return [leg._replace(minor=minor if leg.minor < 0 else -minor) for leg in reversed(legs)]

    # Why it may not

    def _refusal(self, command: TransactionCommand, legs: Sequence[ModelLeg]) -> str | None:
        ids = [leg.wallet_id for leg in legs]
        if command.type is TransactionType.HOLD and command.destination_wallet_id in ids:
            return "same_wallet"
        may_repeat = (TransactionType.JOURNAL, TransactionType.REVERSAL)
        if command.type not in may_repeat and len(set(ids)) < len(ids):
            return "same_wallet"
        if not set(ids) <= self.wallets.keys() | OUTSIDE:
            return "wallet_not_found"
        if any(leg.wallet_id in OUTSIDE and not leg.is_outside for leg in legs):
            return "not_permitted"
        inside = [(leg, self.wallets[leg.wallet_id]) for leg in legs if self._has(leg)]
        if any(wallet.currency != leg.currency for leg, wallet in inside):
            return "currency_mismatch"
        if any(wallet.status is WalletStatus.CLOSED for _, wallet in inside):
            return "wallet_closed"
        # What is held may always be freed.
        changed = [wallet for leg, wallet in inside if leg.minor or leg.held > 0]
        if any(wallet.status is WalletStatus.FROZEN for wallet in changed):
            return "wallet_frozen"
        return None

    def _refusal_after(
        self, command: TransactionCommand, after: dict[UUID, ModelWallet]
    ) -> str | None:
        if any(one.overdraft_limit is not None and one.available < 0 for one in after.values()):
            return "insufficient_funds"
        for condition in () if command.terms is None else command.terms.conditions:
            wallet_id = UUID(condition["wallet_id"])
            before = self.wallets.get(wallet_id)
            if before is None:
                return "condition_failed"
            now = after.get(wallet_id, before)
            at_least = _minor(condition.get("available_at_least"), now.currency)
            at_most = _minor(condition.get("balance_at_most"), now.currency)
            if (
                condition.get("version", before.entries) != before.entries
                or (at_least is not None and now.available < at_least)
                or (at_most is not None and now.balance > at_most)
            ):
                return "condition_failed"
        return None

    # What it has done

    def _note(self, one: ModelTransaction) -> None:
        """Note what others may refer to, and what it does to what it refers to."""
        command, terms, first = one.command, one.command.terms, one.legs[0]
        one.amount = None if command.type is TransactionType.JOURNAL else abs(first.minor)
        if command.type is TransactionType.HOLD:
            one.hold = ModelHold(first.held)
        if terms is None:
            return
        held, original = self._by_id(terms.hold_id), self._by_id(terms.reverses)
        if held is not None and held.hold is not None:
            held.hold.captured -= first.minor
            held.hold.remaining += first.held
            if not held.hold.remaining:
                is_capture = command.type is TransactionType.CAPTURE
                held.hold.status = HoldStatus.CAPTURED if is_capture else HoldStatus.RELEASED
        if original is not None:
            original.reversed += abs(first.minor)
            if original.amount in (None, original.reversed):
                original.status = REVERSED
                self.events[original.command.idempotency_key, "reversed"] += 1


def _minor(amount: Decimal | str | None, currency: str) -> int | None:
    return None if amount is None else minor_units(Decimal(amount), currency)

"""Screening: rules that refuse, flag or hold back what the ledger would post. Pure.

A rule is asked last, of a transaction that nothing else refuses: so it counts what is posted, and
nothing else. Transactions are screened in their order, each on the counts that those before it
left: a batch is the same as its transactions one by one. The members of an atomic batch are
admitted together, or not at all.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Final, NamedTuple, TypeAlias
from uuid import UUID

from ledger.state import Held, Instruction, Leg, Movement, Refused
from ledger.words import (
    FailureCode,
    RuleAction,
    RuleKind,
    RuleSubject,
    TransactionType,
)

SCREENED_TYPES: Final = frozenset(
    {
        TransactionType.DEPOSIT,
        TransactionType.WITHDRAWAL,
        TransactionType.TRANSFER,
        TransactionType.HOLD,
        TransactionType.JOURNAL,
    }
)
"""What moves money anew. A capture was screened as its hold, and a release and a reversal give
back what was screened before."""
PAIRS_MAX: Final = 64
"""Pairs of wallets of one journal that are looked up; one with more counts as having a new one."""
# Named once: an enumeration answers for its member in a tenth of a microsecond, and is asked often.
_AMOUNT: Final = RuleKind.AMOUNT
_CLIENT: Final = RuleSubject.CLIENT
_DEPOSIT: Final = TransactionType.DEPOSIT
_HOLD: Final = TransactionType.HOLD
_TRANSFER: Final = TransactionType.TRANSFER
_TYPE: Final = RuleSubject.TYPE
_WALLET: Final = RuleSubject.WALLET

COUNT: Final = ""
"""The measure of a counter that counts transactions; of any other it is a currency."""


CounterKey: TypeAlias = str
"""One counter: of a rule, of transactions or of one currency's minor units, for one subject."""


def counter_key(rule_number: int, measure: str, subject: str) -> CounterKey:
    """Return the key of a counter; neither a number nor a measure has the separator in it."""
    return f"{rule_number}|{measure}|{subject}"


Pair: TypeAlias = tuple[UUID, UUID]
"""The wallet that pays and the one that is paid."""


@dataclass(frozen=True, slots=True)
class Window:
    """A window of time as a ring of buckets: what falls into one bucket leaves the window at once.

    The current bucket is one of them, so a window is never shorter than it should be, and longer by
    one bucket at the most.
    """

    bucket_s: int
    buckets: int

    def bucket_at(self, epoch_s: float) -> int:
        """Return the number of the bucket that a moment falls into."""
        return int(epoch_s // self.bucket_s)


class Counter(NamedTuple):
    """What a ring of buckets holds: `amounts[n]` is that of bucket `bucket - n`."""

    bucket: int = 0
    amounts: Sequence[int] = ()

    @classmethod
    def of(cls, bucket: int, text: str) -> "Counter":
        """Return what the database keeps of a ring."""
        return cls(bucket, [int(one) for one in text.split(",")])

    @property
    def text(self) -> str:
        """The amounts as the database keeps them."""
        return ",".join(map(str, self.amounts))

    def total_at(self, bucket: int, *, buckets: int) -> int:
        """Return what a window of so many buckets holds that ends with this one."""
        ahead = max(0, bucket - self.bucket)
        return sum(self.amounts[: buckets - ahead]) if ahead < buckets else 0

    def plus(self, amount: int, bucket: int, *, buckets: int) -> "Counter":
        """Return the ring with an amount more in a bucket; a clock set back moves nothing."""
        ahead = max(0, bucket - self.bucket)
        moved = [0] * min(ahead, buckets) + [*self.amounts][: max(0, buckets - ahead)] or [0]
        moved[0] += amount
        return Counter(self.bucket + ahead, moved)


@dataclass(frozen=True, slots=True)
class Velocity:
    """How many transactions, or how many minor units of currencies, a window may have."""

    subject: RuleSubject
    window: Window
    count_max: int | None = None
    sum_max: Mapping[str, int] = field(default_factory=dict)


class Bounds(NamedTuple):
    """The least and the most that one transaction may move, in minor units of one currency."""

    least: int | None
    most: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A rule, and what it applies to: an empty collection is no restriction."""

    id: UUID
    number: int
    """A short one for the keys of its counters."""
    name: str
    kind: RuleKind
    action: RuleAction
    types: frozenset[TransactionType] = SCREENED_TYPES
    wallets: frozenset[UUID] = frozenset()
    owners: frozenset[str] = frozenset()
    clients: frozenset[str] = frozenset()
    currencies: frozenset[str] = frozenset()
    velocity: Velocity | None = None
    bounds: Mapping[str, Bounds] = field(default_factory=dict)
    code: FailureCode = FailureCode.RULE_REFUSED
    detail: str = ""
    """What a client reads where it is refused: never how much the rule allows."""

    @property
    def needs_owners(self) -> bool:
        """Whether it looks at who owns a wallet."""
        return bool(self.owners) or (
            self.velocity is not None and self.velocity.subject is RuleSubject.OWNER
        )


class Debit(NamedTuple):
    """What a transaction moves, and whose wallet it counts for: None is the world outside's."""

    wallet_id: UUID | None
    amount: int
    currency: str


class Screened(NamedTuple):
    """A transaction as rules see it."""

    id: UUID
    type: TransactionType
    client: str
    debits: Sequence[Debit]
    pairs: Sequence[Pair]


class Check(NamedTuple):
    """One rule that applies to one transaction: what it would count, and what it looks up."""

    rule: Rule
    counted: Sequence[tuple[CounterKey, int, int]] = ()
    """Counters, what is added to each, and the most that it may come to."""
    pairs: Sequence[Pair] = ()
    is_hit: bool = False
    """Whether it is hit whatever was posted before."""


Checks: TypeAlias = Mapping[UUID, Sequence[Check]]
"""The checks of transactions, by their ids, in the order of the rules."""


def screened_move(movement: Movement | Instruction, client: str) -> Screened:
    """Return a transaction with one amount as rules see it.

    A deposit counts for the wallet that it credits, everything else for the one that it debits.
    """
    transaction_id, kind, source, destination, amount, currency, *_ = movement
    counts_for = destination if kind is _DEPOSIT else source
    debit = Debit(counts_for, amount or 0, currency or "")
    pairs: Sequence[Pair] = ()
    if (kind is _TRANSFER or kind is _HOLD) and source is not None and destination is not None:
        pairs = ((source, destination),)
    return Screened(transaction_id, kind, client, (debit,), pairs)


def screened(instruction: Instruction, client: str) -> Screened:
    """Return a transaction of any type as rules see it: a journal by each leg that it debits."""
    if instruction.type is not TransactionType.JOURNAL:
        return screened_move(instruction, client)
    legs = instruction.terms.legs
    debits = [
        Debit(None if leg.is_external else leg.wallet_id, -leg.amount, leg.currency)
        for leg in legs
        if leg.amount < 0
    ]
    return Screened(instruction.id, instruction.type, client, debits, _pairs_of(legs))


def _pairs_of(legs: Sequence[Leg]) -> Sequence[Pair]:
    """Return who pays whom in a journal, PAIRS_MAX + 1 of them at the most."""
    inside = [leg for leg in legs if not leg.is_external]
    pairs = (
        (debit.wallet_id, credit.wallet_id)
        for debit in inside
        for credit in inside
        if debit.amount < 0 < credit.amount and debit.currency == credit.currency
    )
    return list(islice(dict.fromkeys(pairs), PAIRS_MAX + 1))


def checks_of(
    rules: Iterable[Rule], transaction: Screened, owners: Mapping[UUID, str | None]
) -> list[Check]:
    """Return which of these rules concern a transaction, and what each counts of it.

    The rules are those that apply to its type and client (`applies`).
    """
    found = []
    for rule in rules:
        debits = transaction.debits
        if rule.wallets or rule.owners or rule.currencies:
            debits = [one for one in debits if _is_meant(rule, one, owners)]
            if not debits:
                continue
        if rule.velocity is not None:
            counted = _counted(rule, rule.velocity, transaction, debits, owners)
            found.append(Check(rule, counted))
        elif rule.kind is _AMOUNT:
            if any(_is_out_of(rule.bounds, one) for one in debits):
                found.append(Check(rule, is_hit=True))
        elif transaction.pairs:
            pairs = transaction.pairs
            found.append(Check(rule, (), pairs[:PAIRS_MAX], len(pairs) > PAIRS_MAX))
    return found


def applies(rule: Rule, kind: TransactionType, client: str) -> bool:
    """Whether a rule may concern transactions of a type and a client at all."""
    return kind in rule.types and (not rule.clients or client in rule.clients)


def _is_meant(rule: Rule, debit: Debit, owners: Mapping[UUID, str | None]) -> bool:
    wallet_id = debit.wallet_id
    if rule.currencies and debit.currency not in rule.currencies:
        return False
    if rule.wallets and wallet_id not in rule.wallets:
        return False
    if not rule.owners:
        return True
    return wallet_id is not None and owners.get(wallet_id) in rule.owners


def _is_out_of(bounds: Mapping[str, Bounds], debit: Debit) -> bool:
    found = bounds.get(debit.currency)
    if found is None:
        return False
    least, most = found
    return (least is not None and debit.amount < least) or (
        most is not None and debit.amount > most
    )


def _counted(
    rule: Rule,
    velocity: Velocity,
    transaction: Screened,
    debits: Sequence[Debit],
    owners: Mapping[UUID, str | None],
) -> Sequence[tuple[CounterKey, int, int]]:
    counted = []
    number, most = rule.number, velocity.count_max
    for debit in debits:
        subject = _subject(velocity.subject, transaction, debit, owners)
        if subject is None:
            continue
        if most is not None:
            counted.append((counter_key(number, COUNT, subject), 1, most))
        sum_max = velocity.sum_max.get(debit.currency)
        if sum_max is not None:
            counted.append((counter_key(number, debit.currency, subject), debit.amount, sum_max))
    return counted


def _subject(
    subject: RuleSubject,
    transaction: Screened,
    debit: Debit,
    owners: Mapping[UUID, str | None],
) -> str | None:
    """Return what a debit is counted by; None where that is the world outside."""
    if subject is _CLIENT:
        return transaction.client
    if subject is _TYPE:
        return transaction.type.value
    wallet_id = debit.wallet_id
    if wallet_id is None:
        return None
    if subject is _WALLET:
        return str(wallet_id)
    owner = owners.get(wallet_id)
    # A wallet without an owner is one of its own, and never escapes by having none.
    return f"wallet:{wallet_id}" if owner is None else f"owner:{owner}"


class Screening:
    """The rules' part in posting one batch; knows what the batch has counted so far."""

    __slots__ = ("_approved", "_checks", "_seen", "_totals", "added", "flags", "new_pairs")

    def __init__(
        self,
        checks: Checks,
        *,
        totals: Mapping[CounterKey, int] | None = None,
        seen: Collection[Pair] = frozenset(),
        approved: Mapping[UUID, Collection[UUID]] | None = None,
    ) -> None:
        """`totals`: what each counter's window holds before the batch; absent is nothing.

        `seen`: pairs of wallets that were posted before. `approved`: by transactions' ids the ids
        of rules that an operator has overruled.
        """
        self._checks = checks
        self._totals = totals or {}
        self._seen = seen
        self._approved = approved or {}
        self.added: dict[CounterKey, int] = {}
        self.new_pairs: dict[Pair, None] = {}
        self.flags: list[tuple[UUID, Rule]] = []

    def again(self) -> "Screening":
        """Return the same screening before anything was admitted."""
        return Screening(
            self._checks, totals=self._totals, seen=self._seen, approved=self._approved
        )

    def admit(self, unit: Sequence[UUID]) -> Sequence[Refused | Held] | None:
        """Count transactions that are posted together; else return what becomes of each of them.

        Whatever is refused or held back counts for nothing. A refusal of one member comes before
        the review of another.
        """
        draft = _Draft()
        for transaction_id in unit:
            checks = self._checks.get(transaction_id)
            if checks is None:
                continue
            refusal = self._screen(transaction_id, checks, draft)
            if refusal is not None:
                return [_refused(one, transaction_id, refusal) for one in unit]
        if draft.reviews:
            return [
                Held(one, tuple(rule_id for whose, rule_id in draft.reviews if whose == one))
                for one in unit
            ]
        for key, amount in draft.added.items():
            self.added[key] = self.added.get(key, 0) + amount
        self.new_pairs.update(draft.pairs)
        self.flags += draft.flags
        return None

    def _screen(
        self, transaction_id: UUID, checks: Sequence[Check], draft: "_Draft"
    ) -> Rule | None:
        """Count a transaction in a draft; return the rule that refuses it, if one does."""
        for check in checks:
            rule = check.rule
            is_hit = check.is_hit
            for key, amount, most in check.counted:
                counted = draft.added[key] = draft.added.get(key, 0) + amount
                is_hit |= self._totals.get(key, 0) + self.added.get(key, 0) + counted > most
            for pair in check.pairs:
                if pair not in self._seen and pair not in self.new_pairs:
                    is_hit |= pair not in draft.pairs
                    draft.pairs[pair] = None
            if not is_hit or rule.id in self._approved.get(transaction_id, ()):
                continue
            if rule.action is RuleAction.REFUSE:
                return rule
            if rule.action is RuleAction.REVIEW:
                draft.reviews.append((transaction_id, rule.id))
            else:
                draft.flags.append((transaction_id, rule))
        return None


class _Draft:
    """What the members of a unit would leave behind."""

    __slots__ = ("added", "flags", "pairs", "reviews")

    def __init__(self) -> None:
        self.added: dict[CounterKey, int] = {}
        self.pairs: dict[Pair, None] = {}
        self.flags: list[tuple[UUID, Rule]] = []
        self.reviews: list[tuple[UUID, UUID]] = []


def _refused(transaction_id: UUID, culprit_id: UUID, rule: Rule) -> Refused:
    if transaction_id == culprit_id:
        return Refused(transaction_id, rule.code, rule.detail)
    return Refused(transaction_id, FailureCode.BATCH_FAILED)

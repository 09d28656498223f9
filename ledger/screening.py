"""Screening: rules that refuse, flag or hold back what the ledger would post. Pure.

A rule is asked last, of a transaction that nothing else refuses: so it counts what is posted, and
nothing else. Transactions are screened in their order, each on the counts that those before it
left: a batch is the same as its transactions one by one. The members of an atomic batch are
admitted together, or not at all.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
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
COUNT: Final = ""
"""The measure of a counter that counts transactions; of any other it is a currency."""


class CounterKey(NamedTuple):
    """One counter: of a rule, for one subject, of transactions or of one currency's minor units."""

    rule_id: UUID
    subject: str
    measure: str


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


@dataclass(frozen=True, slots=True)
class Counter:
    """What a ring of buckets holds: `amounts[n]` is that of bucket `bucket - n`."""

    bucket: int = 0
    amounts: tuple[int, ...] = ()

    def at(self, bucket: int, *, buckets: int) -> "Counter":
        """Return the ring as it is at a bucket; a clock that was set back moves nothing."""
        ahead = max(0, bucket - self.bucket)
        empty = (0,) * min(ahead, buckets)
        return Counter(max(bucket, self.bucket), (*empty, *self.amounts)[:buckets])

    def plus(self, amount: int) -> "Counter":
        """Return the ring with an amount more in its current bucket."""
        current, *older = self.amounts or (0,)
        return Counter(self.bucket, (current + amount, *older))


@dataclass(frozen=True, slots=True)
class Velocity:
    """How many transactions, or how many minor units of currencies, a window may have."""

    subject: RuleSubject
    window: Window
    count_max: int | None = None
    sum_max: Mapping[str, int] = field(default_factory=dict)

    def limit_of(self, measure: str) -> int | None:
        """Return the most that a counter of this measure may come to; None: it is not counted."""
        return self.count_max if measure == COUNT else self.sum_max.get(measure)


class Bounds(NamedTuple):
    """The least and the most that one transaction may move, in minor units of one currency."""

    least: int | None
    most: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A rule, and what it applies to: an empty collection is no restriction."""

    id: UUID
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
    counted: Sequence[tuple[CounterKey, int]] = ()
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
    counts_for = destination if kind is TransactionType.DEPOSIT else source
    debit = Debit(counts_for, amount or 0, currency or "")
    is_inside = kind in _BETWEEN_WALLETS and source is not None and destination is not None
    pairs = [(source, destination)] if is_inside else []
    return Screened(transaction_id, kind, client, (debit,), pairs)  # type: ignore[arg-type]


_BETWEEN_WALLETS: Final = frozenset({TransactionType.TRANSFER, TransactionType.HOLD})


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
    """Return which rules apply to a transaction, and what each of them counts of it."""
    return [check for rule in rules if (check := _check(rule, transaction, owners)) is not None]


def _check(rule: Rule, transaction: Screened, owners: Mapping[UUID, str | None]) -> Check | None:
    if transaction.type not in rule.types or (
        rule.clients and transaction.client not in rule.clients
    ):
        return None
    debits = transaction.debits
    if rule.wallets or rule.owners or rule.currencies:
        debits = [one for one in debits if _is_meant(rule, one, owners)]
    if not debits:
        return None
    if rule.velocity is not None:
        return Check(rule, list(_counted(rule, rule.velocity, transaction, debits, owners)))
    if rule.kind is RuleKind.AMOUNT:
        return Check(rule, is_hit=any(_is_out_of(rule.bounds, one) for one in debits))
    pairs = transaction.pairs
    return Check(rule, pairs=pairs[:PAIRS_MAX], is_hit=len(pairs) > PAIRS_MAX)


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
) -> Iterator[tuple[CounterKey, int]]:
    for debit in debits:
        subject = _subject(velocity.subject, transaction, debit, owners)
        if subject is None:
            continue
        if velocity.count_max is not None:
            yield CounterKey(rule.id, subject, COUNT), 1
        if debit.currency in velocity.sum_max:
            yield CounterKey(rule.id, subject, debit.currency), debit.amount


def _subject(
    subject: RuleSubject,
    transaction: Screened,
    debit: Debit,
    owners: Mapping[UUID, str | None],
) -> str | None:
    """Return what a debit is counted by; None where that is the world outside."""
    match subject:
        case RuleSubject.CLIENT:
            return transaction.client
        case RuleSubject.TYPE:
            return transaction.type.value
        case RuleSubject.WALLET:
            return None if debit.wallet_id is None else str(debit.wallet_id)
        case RuleSubject.OWNER:
            if debit.wallet_id is None:
                return None
            owner = owners.get(debit.wallet_id)
            # A wallet without an owner is one of its own, and never escapes by having none.
            return f"wallet:{debit.wallet_id}" if owner is None else f"owner:{owner}"


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
            for key, amount in check.counted:
                is_hit |= self._count(rule, key, amount, draft.added)
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

    def _count(
        self, rule: Rule, key: CounterKey, amount: int, added: dict[CounterKey, int]
    ) -> bool:
        """Add to a counter in a draft; return whether that is more than the rule allows."""
        counted = added.get(key, 0) + amount
        added[key] = counted
        limit = None if rule.velocity is None else rule.velocity.limit_of(key.measure)
        before = self._totals.get(key, 0) + self.added.get(key, 0)
        return limit is not None and before + counted > limit


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

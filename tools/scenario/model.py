"""What a plan must come to: a few lines that know nothing of the ledger's code. Pure."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple, Self

from tools.scenario.steps import DOORS, NOWHERE, OUTSIDE, Door, Plan, PlannedWallet, Step

COMPLETED = "completed"
REVERSED = "reversed"
CANCELLED = "cancelled"
OPEN, CAPTURED, RELEASED, EXPIRED = "open", "captured", "released", "expired"
_MOST = 2**63 - 1
_NOT_REVERSIBLE = ("hold", "release", "reversal")


@dataclass(slots=True)
class Expectation:
    """Outcomes of new transactions by door, their types and holds, repeats, and every wallet.

    `reused` counts keys that were used before. Balances and what is held are in minor units.
    """

    outcomes: dict[Door, Counter[str]] = field(
        default_factory=lambda: {door: Counter() for door in DOORS}
    )
    kinds: dict[Door, Counter[str]] = field(
        default_factory=lambda: {door: Counter() for door in DOORS}
    )
    holds: dict[Door, Counter[str]] = field(
        default_factory=lambda: {door: Counter() for door in DOORS}
    )
    replays: Counter[Door] = field(default_factory=Counter)
    reused: Counter[Door] = field(default_factory=Counter)
    balances: dict[str, int] = field(default_factory=dict)
    held: dict[str, int] = field(default_factory=dict)

    @property
    def new(self) -> int:
        """How many transactions there must be in all."""
        return sum(outcomes.total() for outcomes in self.outcomes.values())

    @property
    def expiring(self) -> int:
        """How many holds expire."""
        return sum(holds[EXPIRED] for holds in self.holds.values())


def expectation_of(plan: Plan) -> Expectation:
    """Return what the plan comes to, played one transaction after the other."""
    books = _Books.of(plan.wallets)
    expected = Expectation(balances=books.balances, held=books.held)
    first: dict[str, tuple[Door, Step]] = {}
    for moment in plan.rounds:
        for door in DOORS:
            together = [batch.steps for batch in moment.batches[door]]
            for steps in [*((step,) for step in moment.steps[door]), *together]:
                known = first.get(steps[0].key)
                if known is None:
                    first.update((step.key, (door, step)) for step in steps)
                    books.play(steps)
                elif known[1] == steps[0]:
                    expected.replays[door] += len(steps)
                else:
                    expected.reused[door] += len(steps)
        books.let_expire()
    for key, (door, step) in first.items():
        expected.outcomes[door][books.outcomes[key]] += 1
        expected.kinds[door][step.kind] += 1
        if key in books.holds:
            expected.holds[door][books.holds[key].status] += 1
    return expected


class _Change(NamedTuple):
    """What a leg does to a wallet."""

    wallet: str
    currency: str
    minor: int
    held: int = 0


@dataclass(frozen=True, slots=True)
class _Hold:
    """A hold that was posted."""

    step: Step
    remaining: int
    status: str = OPEN


@dataclass(frozen=True, slots=True)
class _Done:
    """A transaction that moved money, and how much of it was moved back."""

    step: Step
    changes: list[_Change]
    amount: int | None
    reversed: int = 0


@dataclass(slots=True)
class _Books:
    """Wallets by name, holds and what was done by key, as they are so far."""

    wallets: dict[str, PlannedWallet]
    balances: dict[str, int]
    held: dict[str, int]
    versions: dict[str, int]
    holds: dict[str, _Hold] = field(default_factory=dict)
    done: dict[str, _Done] = field(default_factory=dict)
    outcomes: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, wallets: Sequence[PlannedWallet]) -> Self:
        """Return the books of empty wallets."""
        nothing = dict.fromkeys((wallet.name for wallet in wallets), 0)
        return cls(
            {wallet.name: wallet for wallet in wallets},
            balances=nothing,
            held=dict(nothing),
            versions=dict(nothing),
        )

    def play(self, steps: Sequence[Step]) -> None:
        """Post steps that succeed or fail together."""
        draft = self if len(steps) == 1 else self._draft()
        for step in steps:
            refusal = draft.post(step)
            if refusal is not None:
                self.outcomes.update((one.key, "batch_failed") for one in steps)
                self.outcomes[step.key] = refusal
                return
        if draft is not self:
            self._keep(draft)

    def let_expire(self) -> None:
        """Let every hold that is short expire: a round ends when that has happened."""
        for key, hold in self.holds.items():
            if hold.status == OPEN and hold.step.terms.expires_in_s is not None:
                self.held[hold.step.source or ""] -= hold.remaining
                self.holds[key] = replace(hold, remaining=0, status=EXPIRED)

    def post(self, step: Step) -> str | None:
        """Post one step, or return why it is refused; then nothing has changed."""
        if step.terms.is_cancelled:
            return CANCELLED
        if step.terms.valid_for_s is not None and step.terms.valid_for_s < 0:
            return "expired"
        changes = self._changes(step)
        if isinstance(changes, str):
            return changes
        refusal = self._refusal(step, changes)
        if refusal is not None:
            return refusal
        self._apply(changes)
        self._note(step, changes)
        self.outcomes[step.key] = COMPLETED
        return None

    def _changes(self, step: Step) -> list[_Change] | str:
        """What a step would change, or why it has nothing to change."""
        if step.kind in ("capture", "release"):
            return self._changes_of_hold(step)
        if step.kind == "reversal":
            return self._changes_back(step)
        if step.kind == "journal":
            return [_Change(leg.wallet, leg.currency, leg.minor) for leg in step.legs]
        minor = step.minor or 0
        if step.kind == "hold":
            return [_Change(step.source or "", step.currency, 0, minor)]
        sides = ((step.source, -minor), (step.destination, minor))
        return [_Change(name, step.currency, by) for name, by in sides if name is not None]

    def _changes_of_hold(self, step: Step) -> list[_Change] | str:
        hold = self.holds.get(step.terms.of or "")
        if hold is None:
            return "hold_not_found"
        if hold.status == EXPIRED:
            return "hold_expired"
        if hold.status != OPEN:
            return "hold_closed"
        wallet, currency = hold.step.source or "", hold.step.currency
        if step.kind == "release":
            return [_Change(wallet, currency, 0, -hold.remaining)]
        minor = hold.remaining if step.minor is None else step.minor
        if minor > hold.remaining:
            return "amount_exceeds_hold"
        freed = minor if step.terms.is_final is False else hold.remaining
        changes = [_Change(wallet, currency, -minor, -freed)]
        if hold.step.destination is not None:
            changes.append(_Change(hold.step.destination, currency, minor))
        return changes

    def _changes_back(self, step: Step) -> list[_Change] | str:
        key = step.terms.of or ""
        if self.outcomes.get(key) == REVERSED:
            return "already_reversed"
        if key not in self.outcomes:
            return "transaction_not_found"
        done = self.done.get(key)
        if done is None or done.step.kind in _NOT_REVERSIBLE:
            return "not_reversible"
        if done.amount is None:
            return [one._replace(minor=-one.minor) for one in done.changes]
        left = done.amount - done.reversed
        minor = left if step.minor is None else step.minor
        if minor > left:
            return "amount_exceeds_reversible"
        return [
            _Change(one.wallet, one.currency, minor if one.minor < 0 else -minor)
            for one in done.changes
        ]

    def _refusal(self, step: Step, changes: Sequence[_Change]) -> str | None:
        if step.kind == "transfer" and step.source == step.destination:
            return "same_wallet"
        if any(one.wallet == NOWHERE for one in changes):
            return "wallet_not_found"
        if any(one.wallet == OUTSIDE for one in changes) and step.kind != "journal":
            return "not_permitted"
        inside = [(one, self.wallets[one.wallet]) for one in changes if one.wallet != OUTSIDE]
        if any(wallet.currency != one.currency for one, wallet in inside):
            return "currency_mismatch"
        if any(wallet.status == "CLOSED" for _, wallet in inside):
            return "wallet_closed"
        if any(wallet.status == "FROZEN" for _, wallet in inside):
            return "wallet_frozen"
        return self._money_refusal(step, changes)

    def _money_refusal(self, step: Step, changes: Iterable[_Change]) -> str | None:
        by, held = Counter[str](), Counter[str]()
        for one in changes:
            by[one.wallet] += one.minor
            held[one.wallet] += one.held
        names = [name for name in by if name != OUTSIDE]
        available = {
            name: self.balances[name] + by[name] - self.held[name] - held[name] for name in names
        }
        if any(self.balances[name] + by[name] > _MOST for name in names):
            return "limit_exceeded"
        for name in names:
            is_less = by[name] - held[name] < 0
            is_bound = not (self.wallets[name].is_internal or step.terms.is_forced)
            if is_bound and is_less and available[name] < 0:
                return "insufficient_funds"
        return None if self._is_met(step, by, available) else "condition_failed"

    def _is_met(self, step: Step, by: Counter[str], available: dict[str, int]) -> bool:
        terms, name = step.terms, step.ordered_by
        if terms.version is not None and terms.version != self.versions[name]:
            return False
        if terms.available_at_least is not None and available[name] < terms.available_at_least:
            return False
        balance = self.balances[name] + by[name]
        return terms.balance_at_most is None or balance <= terms.balance_at_most

    def _apply(self, changes: Iterable[_Change]) -> None:
        for one in changes:
            if one.wallet == OUTSIDE:
                continue
            self.balances[one.wallet] += one.minor
            self.held[one.wallet] += one.held
            self.versions[one.wallet] += one.minor != 0

    def _note(self, step: Step, changes: list[_Change]) -> None:
        """Note what later steps may refer to, and what this one refers to."""
        of = step.terms.of or ""
        if step.kind == "hold":
            self.holds[step.key] = _Hold(step, remaining=step.minor or 0)
        elif step.kind in ("capture", "release"):
            hold = self.holds[of]
            left = hold.remaining + changes[0].held
            ended = CAPTURED if step.kind == "capture" else RELEASED
            self.holds[of] = replace(hold, remaining=left, status=OPEN if left else ended)
        elif step.kind == "reversal":
            done = self.done[of]
            back = done.reversed + abs(changes[0].minor)
            self.done[of] = replace(done, reversed=back)
            if done.amount in (None, back):
                self.outcomes[of] = REVERSED
        amount = None if step.kind == "journal" else abs(changes[0].minor)
        self.done[step.key] = _Done(step, changes, amount)

    def _draft(self) -> "_Books":
        """Return a copy, to try a batch on: what it holds is itself never changed."""
        return replace(
            self,
            balances=dict(self.balances),
            held=dict(self.held),
            versions=dict(self.versions),
            holds=dict(self.holds),
            done=dict(self.done),
            outcomes=dict(self.outcomes),
        )

    def _keep(self, draft: "_Books") -> None:
        """Become what a draft has become."""
        self.balances.update(draft.balances)
        self.held.update(draft.held)
        self.versions.update(draft.versions)
        self.holds.update(draft.holds)
        self.done.update(draft.done)
        self.outcomes.update(draft.outcomes)

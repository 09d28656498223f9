"""What a plan must come to: a few lines that know nothing of the ledger's code. Pure."""

from collections import Counter
from dataclasses import dataclass, field

from tools.scenario.plan import DOORS, NOWHERE, OUTSIDE, Door, Plan, PlannedWallet, Step

COMPLETED = "completed"
_MOST = 2**63 - 1


@dataclass(slots=True)
class Expectation:
    """Outcomes of new transactions by door, repeated ones, keys reused, and every balance."""

    outcomes: dict[Door, Counter[str]] = field(
        default_factory=lambda: {door: Counter() for door in DOORS}
    )
    replays: Counter[Door] = field(default_factory=Counter)
    reused: Counter[Door] = field(default_factory=Counter)
    balances: dict[str, int] = field(default_factory=dict)

    @property
    def new(self) -> int:
        """How many transactions there must be in all."""
        return sum(outcomes.total() for outcomes in self.outcomes.values())


def expectation_of(plan: Plan) -> Expectation:
    """Return what the plan comes to, played one transaction after the other."""
    wallets = {wallet.name: wallet for wallet in plan.wallets}
    expected = Expectation(balances=dict.fromkeys(wallets, 0))
    first: dict[str, Step] = {}
    for moment in plan.rounds:
        for door in DOORS:
            for step in moment.steps[door]:
                known = first.get(step.key)
                if known is None:
                    first[step.key] = step
                    expected.outcomes[door][_play(step, wallets, expected.balances)] += 1
                elif known == step:
                    expected.replays[door] += 1
                else:
                    expected.reused[door] += 1
    return expected


def _play(step: Step, wallets: dict[str, PlannedWallet], balances: dict[str, int]) -> str:
    refusal = _refusal(step, wallets, balances)
    if refusal is not None:
        return refusal
    if step.source is not None:
        balances[step.source] -= step.minor
    if step.destination is not None:
        balances[step.destination] += step.minor
    return COMPLETED


def _refusal(step: Step, wallets: dict[str, PlannedWallet], balances: dict[str, int]) -> str | None:
    named = [name for name in (step.source, step.destination) if name is not None]
    inside = [wallets[name] for name in named if name in wallets]
    if step.source == step.destination:
        return "same_wallet"
    if NOWHERE in named:
        return "wallet_not_found"
    if OUTSIDE in named:
        return "not_permitted"
    if any(wallet.currency != step.currency for wallet in inside):
        return "currency_mismatch"
    if any(wallet.status == "CLOSED" for wallet in inside):
        return "wallet_closed"
    if any(wallet.status == "FROZEN" for wallet in inside):
        return "wallet_frozen"
    if step.destination is not None and balances[step.destination] + step.minor > _MOST:
        return "limit_exceeded"
    if step.source is not None and balances[step.source] < step.minor:
        return "insufficient_funds"
    return None

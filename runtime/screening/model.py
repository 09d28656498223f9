"""Rules as the database has them, and as operators write them: rows in, rules out; pure."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Final, Protocol
from uuid import UUID

import orjson

from ledger.screening import (
    SCREENED_TYPES,
    Bounds,
    Rule,
    Screened,
    Velocity,
    Window,
    applies,
)
from ledger.words import (
    FailureCode,
    RuleAction,
    RuleKind,
    RuleSubject,
    TransactionType,
)

WINDOW_MIN_S: Final = 60
WINDOW_MAX_S: Final = 30 * 86_400
WINDOW_PARTS: Final = 12
"""Buckets that a window is divided into, beside the current one: so it is never shorter than it was
asked for, and a twelfth longer at the most. Fewer make that worse, more make counters larger."""
DAY_S: Final = 86_400
RULES_MAX: Final = 100
"""Rules that are enabled at once: each is looked at for each transaction."""
LISTED_MAX: Final = 100
"""Wallets, owners, clients and currencies that one rule may name, of each."""
LIMITED_CLIENTS_MAX: Final = 10_000
"""Clients with limits: all of them are read after a change."""

NAME: Final = re.compile(r"[a-z0-9][a-z0-9_.-]{0,62}")
PER_TRANSACTION: Final = 0
DAILY: Final = -1
"""The numbers of the rules that clients' limits are, whichever client it is."""
MEMORIZED_MAX: Final = 10_000
"""Pairs of type and client whose rules are kept in memory."""


class Row(Protocol):
    """A row of `rules`, its columns by name."""

    def __getitem__(self, name: str, /) -> Any:
        """Return a column's value."""


@dataclass(frozen=True, slots=True)
class RuleBook:
    """All that is enforced, as of one version of it."""

    version: int = 0
    rules: tuple[Rule, ...] = ()
    limits: Mapping[str, tuple[Rule, ...]] = field(default_factory=dict)
    """Those of clients that have any, by their names."""
    _applying: dict[tuple[TransactionType, str], tuple[Rule, ...]] = field(default_factory=dict)

    @property
    def needs_owners(self) -> bool:
        """Whether any rule looks at who owns a wallet."""
        return any(rule.needs_owners for rule in self.rules)

    def rules_for(self, transaction: Screened) -> Iterable[Rule]:
        """Return what applies to transactions of this type and client, limits first."""
        kind, client = transaction.type, transaction.client
        found = self._applying.get((kind, client))
        if found is None:
            all_of_them = (*self.limits.get(client, ()), *self.rules)
            found = tuple(one for one in all_of_them if applies(one, kind, client))
            if len(self._applying) >= MEMORIZED_MAX:
                self._applying.clear()
            self._applying[kind, client] = found
        return found

    @property
    def windows(self) -> dict[int, Window]:
        """The windows of all rules that count, by their numbers."""
        rules = (*self.rules, *chain.from_iterable(self.limits.values()))
        return {one.number: one.velocity.window for one in rules if one.velocity is not None}


def window_of(seconds: int) -> Window:
    """Return the ring of buckets of a window that is so long."""
    return Window(-(-seconds // WINDOW_PARTS), WINDOW_PARTS + 1)


def rule_of(row: Row) -> Rule:
    """Return a row of `rules`, whose `parameters` are JSON text or read already."""
    kind = RuleKind(row["kind"])
    given = row["parameters"]
    parameters: Mapping[str, Any] = orjson.loads(given) if isinstance(given, str) else given
    return Rule(
        id=UUID(str(row["id"])),
        number=row["number"],
        name=row["name"],
        kind=kind,
        action=RuleAction(row["action"]),
        types=frozenset(TransactionType(one) for one in row["types"] or SCREENED_TYPES),
        wallets=frozenset(UUID(str(one)) for one in row["wallets"] or ()),
        owners=frozenset(row["owners"] or ()),
        clients=frozenset(row["clients"] or ()),
        currencies=frozenset(row["currencies"] or ()),
        velocity=_velocity(parameters) if kind is RuleKind.VELOCITY else None,
        bounds=_bounds(parameters) if kind is RuleKind.AMOUNT else {},
        detail=f"the rule '{row['name']}' refuses the transaction",
    )


def limits_of(rows: Iterable[Row]) -> dict[str, tuple[Rule, ...]]:
    """Return the limits of clients as rules, by the clients' names."""
    return {
        row["name"]: (
            *_per_transaction(row["name"], row["per_transaction_max"]),
            *_daily(row["name"], row["daily_max"]),
        )
        for row in rows
    }


def _per_transaction(client: str, most: Mapping[str, int] | None) -> Sequence[Rule]:
    if not most:
        return ()
    rule = Rule(
        id=UUID(int=0),
        number=PER_TRANSACTION,
        name="per_transaction_max",
        kind=RuleKind.AMOUNT,
        action=RuleAction.REFUSE,
        clients=frozenset({client}),
        bounds={currency: Bounds(None, int(amount)) for currency, amount in most.items()},
        code=FailureCode.LIMIT_EXCEEDED,
        detail="the client's limit for one transaction is exceeded",
    )
    return (rule,)


def _daily(client: str, most: Mapping[str, int] | None) -> Sequence[Rule]:
    if not most:
        return ()
    rule = Rule(
        id=UUID(int=0),
        number=DAILY,
        name="daily_max",
        kind=RuleKind.VELOCITY,
        action=RuleAction.REFUSE,
        clients=frozenset({client}),
        velocity=Velocity(
            RuleSubject.CLIENT,
            Window(DAY_S, buckets=1),
            sum_max={currency: int(amount) for currency, amount in most.items()},
        ),
        code=FailureCode.LIMIT_EXCEEDED,
        detail="the client's limit for a day is exceeded",
    )
    return (rule,)


def _velocity(parameters: Mapping[str, Any]) -> Velocity:
    return Velocity(
        RuleSubject(parameters["by"]),
        window_of(int(parameters["window_s"])),
        parameters.get("count_max"),
        dict(parameters.get("sum_max") or {}),
    )


def _bounds(parameters: Mapping[str, Any]) -> dict[str, Bounds]:
    return {
        currency: Bounds(one.get("least"), one.get("most")) for currency, one in parameters.items()
    }

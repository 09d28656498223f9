"""What each act asks for, drawn from a client's seed alone. Pure.

What refers to another transaction (a capture, a release, a reversal) names one that the same client
asked for lately, by its key: some are still under way by then, some have failed, some are over.
"""

import random
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final
from uuid import UUID

from tools.chaos.command import Command, Leg, Terms
from tools.chaos.journal import Act
from tools.chaos.load.wallets import (
    COLD_MINOR,
    FOREIGN_CURRENCY,
    HOME_CURRENCY,
    OTHER_CURRENCY,
    Wallets,
)

LEGS_MOST: Final = 10
MEMBERS_MOST: Final = 6
_RECENT: Final = 12
"""How many holds, and how many moves, may be referred to: few, so that one is named several times
within seconds."""
_HOT_SHARE: Final = 0.5
_HOLDING_SHARE: Final = 0.15
"""Of plain moves: so many meet what holds and captures move."""
_MINOR_MOST: Final = 500
_BEYOND_ANY_BALANCE: Final = 10**12
_SHORT_S: Final = (1, 2, 3)
_VALID_FOR_S: Final = (-10.0, 0.05, 0.5, 3600.0)
_SOON_S: Final = (0.3, 3.0)
_FAR_S: Final = 24 * 3600.0
_FAR_SHARE: Final = 0.2
_MEMBERS: Final = (Act.TRANSFER, Act.TRANSFER, Act.DEPOSIT, Act.HOLD, Act.JOURNAL)
_REVERSIBLE: Final = frozenset({"deposit", "withdrawal", "transfer", "capture", "journal"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Later:
    """What a command lacks until it is sent: moments (as spans from then), a wallet's version."""

    valid_for_s: float | None = None
    due_in_s: float | None = None
    is_versioned: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One transaction to ask for."""

    act: Act
    key: str
    command: Command
    later: Later | None = None


class Contents:
    """Draws transactions; remembers the last ones, which are what others refer to."""

    def __init__(
        self, chance: random.Random, wallets: Wallets, *, holding_share: float = _HOLDING_SHARE
    ) -> None:
        """`holding_share`: of the plain moves, those of wallets of which money is held."""
        self._chance = chance
        self._wallets = wallets
        self._holding_share = holding_share
        self._holds: deque[Item] = deque(maxlen=_RECENT)
        self._moves: deque[Item] = deque(maxlen=_RECENT)
        self._spent: deque[Item] = deque(maxlen=_RECENT)
        self._scheduled: deque[Item] = deque(maxlen=_RECENT)

    def item(self, act: Act, key: str) -> Item:
        """Return a transaction of a kind; where it has nothing to refer to, one that others can."""
        item = self._DRAWN.get(act, Contents._transfer)(self, act, key)
        self._remember(item)
        return item

    def atomic(self, act: Act, key: str) -> tuple[Item, ...]:
        """Return the members of an atomic batch; a doomed one has a member that is refused."""
        count = self._chance.randint(2, MEMBERS_MOST)
        kinds = self._chance.choices(_MEMBERS, k=count)
        if act is Act.DOOMED_ATOMIC:
            kinds[self._chance.randrange(count)] = Act.INSUFFICIENT_FUNDS
        drawn = [
            self._DRAWN.get(kind, Contents._transfer)(self, kind, f"{key}.{number}")
            for number, kind in enumerate(kinds)
        ]
        members = tuple(
            replace(one, act=act, command=_with(one.command, batch=key)) for one in drawn
        )
        for member in members:
            self._remember(member)
        return members

    def cancelled(self) -> str | None:
        """Return the key of something scheduled lately, if there is any."""
        return self._chance.choice(self._scheduled).key if self._scheduled else None

    def _remember(self, item: Item) -> None:
        kind = item.command.type
        if kind == "hold":
            self._holds.append(item)
        elif item.act is Act.SCHEDULED:
            self._scheduled.append(item)
        elif item.command.destination_wallet_id in self._wallets.spent:
            self._spent.append(item)
        elif kind in _REVERSIBLE and item.command.source_wallet_id not in self._wallets.spent:
            self._moves.append(item)

    def _transfer(self, act: Act, key: str) -> Item:
        source, destination = self._neighbours()
        return Item(act=act, key=key, command=move("transfer", source, destination, self._minor()))

    def _deposit(self, act: Act, key: str) -> Item:
        return Item(
            act=act, key=key, command=move("deposit", None, self._neighbours()[1], self._minor())
        )

    def _withdrawal(self, act: Act, key: str) -> Item:
        return Item(
            act=act, key=key, command=move("withdrawal", self._neighbours()[0], None, self._minor())
        )

    def _refused(self, act: Act, key: str) -> Item:
        chance = self._chance
        source, destination = self._neighbours()
        minor, currency = self._minor(), HOME_CURRENCY
        if act is Act.INSUFFICIENT_FUNDS:
            minor += _BEYOND_ANY_BALANCE
        elif act is Act.UNKNOWN_WALLET:
            destination = UUID(int=chance.getrandbits(128), version=4)
        elif act is Act.FROZEN_WALLET:
            destination = chance.choice(self._wallets.frozen)
        else:
            currency = FOREIGN_CURRENCY
        command = move("transfer", source, destination, minor, currency)
        return Item(act=act, key=key, command=command)

    def _hold(self, act: Act, key: str) -> Item:
        source, destination = self._next_of(self._wallets.holding)
        expires_in_s = self._chance.choice(_SHORT_S) if act is Act.SHORT_HOLD else None
        paid_to = destination if self._chance.random() < 0.7 else None  # noqa: PLR2004
        command = move("hold", source, paid_to, self._minor())
        return Item(act=act, key=key, command=_with(command, expires_in_s=expires_in_s))

    def _of_hold(self, act: Act, key: str) -> Item:
        if not self._holds:
            return self._hold(Act.HOLD, key)
        hold = self._chance.choice(self._holds)
        held = hold.command
        if act is Act.RELEASE:
            command = move("release", held.source_wallet_id, None, None)
            return Item(act=act, key=key, command=_with(command, other_key=hold.key))
        minor = self._chance.choice([None, self._chance.randint(1, held.minor or 1)])
        is_final = self._chance.choice([None, True, False])
        command = move("capture", held.source_wallet_id, held.destination_wallet_id, minor)
        terms = _with(command, other_key=hold.key, is_final=is_final)
        return Item(act=act, key=key, command=terms)

    def _reversal(self, act: Act, key: str) -> Item:
        if not self._moves:
            return self._transfer(Act.TRANSFER, key)
        original = self._chance.choice(self._moves)
        command = original.command
        if command.terms is not None and command.terms.legs:
            # It has no one amount and no two wallets; the first is only where it is routed by.
            routed = next(leg.wallet_id for leg in command.terms.legs if leg.wallet_id)
            back = move("reversal", routed, None, None)
        else:
            part = self._chance.randint(1, command.minor or _MINOR_MOST)
            minor = self._chance.choice([None, part])
            source, destination = command.destination_wallet_id, command.source_wallet_id
            back = move("reversal", source, destination, minor, command.currency)
        return Item(act=act, key=key, command=_with(back, other_key=original.key))

    def _forced(self, act: Act, key: str) -> Item:
        """A deposit, its spending, or its reversal by force: in turns as chance has it."""
        wallet = self._chance.choice(self._wallets.spent)
        kind = self._chance.choice([Act.DEPOSIT, Act.WITHDRAWAL, act])
        if kind is Act.WITHDRAWAL:
            command = move("withdrawal", wallet, None, self._minor())
            return Item(act=kind, key=key, command=command)
        if kind is Act.DEPOSIT or not self._spent:
            command = move("deposit", None, wallet, self._minor())
            return Item(act=Act.DEPOSIT, key=key, command=command)
        original = self._chance.choice(self._spent)
        back = move("reversal", original.command.destination_wallet_id, None, None)
        return Item(act=act, key=key, command=_with(back, other_key=original.key, is_forced=True))

    def _journal(self, act: Act, key: str) -> Item:
        """Some wallets, perhaps one of them several times; fees or the world outside are even."""
        chance = self._chance
        legs = [
            Leg(
                wallet_id=self._neighbours()[0],
                minor=chance.choice([-1, 1]) * self._minor(),
                currency=HOME_CURRENCY,
            )
            for _ in range(chance.randint(1, LEGS_MOST - 1))
        ]
        rest = -sum(leg.minor for leg in legs)
        if rest:
            wallet = chance.choice([self._wallets.fees, None])
            legs.append(Leg(wallet_id=wallet, minor=rest, currency=HOME_CURRENCY))
        elif len(legs) == 1:
            legs.append(replace(legs[0], minor=-legs[0].minor))
        return self._of_legs(act, key, legs)

    def _exchange(self, act: Act, key: str) -> Item:
        wallets, minor, other_minor = self._wallets, self._minor(), self._minor()
        legs = [
            Leg(wallet_id=self._neighbours()[0], minor=-minor, currency=HOME_CURRENCY),
            Leg(wallet_id=wallets.exchange, minor=minor, currency=HOME_CURRENCY),
            Leg(wallet_id=wallets.exchange_other, minor=-other_minor, currency=OTHER_CURRENCY),
            Leg(
                wallet_id=self._chance.choice(wallets.travellers),
                minor=other_minor,
                currency=OTHER_CURRENCY,
            ),
        ]
        return self._of_legs(act, key, legs)

    def _of_legs(self, act: Act, key: str, legs: Sequence[Leg]) -> Item:
        command = move("journal", None, None, None)
        return Item(act=act, key=key, command=_with(command, legs=tuple(legs)))

    def _condition(self, act: Act, key: str) -> Item:
        chance = self._chance
        item = self._transfer(act, key)
        much = chance.randint(0, 2 * COLD_MINOR)
        match chance.choice(["version", "available_at_least", "balance_at_most"]):
            case "version":
                return replace(item, later=Later(is_versioned=True))
            case wanted:
                return replace(item, command=_with(item.command, **{wanted: much}))

    def _valid_until(self, act: Act, key: str) -> Item:
        later = Later(valid_for_s=self._chance.choice(_VALID_FOR_S))
        return replace(self._transfer(act, key), later=later)

    def _scheduled_one(self, act: Act, key: str) -> Item:
        is_far = self._chance.random() < _FAR_SHARE
        due_in_s = _FAR_S if is_far else self._chance.uniform(*_SOON_S)
        return replace(self._transfer(act, key), later=Later(due_in_s=due_in_s))

    def _minor(self) -> int:
        return self._chance.randint(1, _MINOR_MOST)

    def _neighbours(self) -> tuple[UUID, UUID]:
        """A wallet and the next one of its ring: hot ones meet all the time, cold ones rarely."""
        lot = self._chance.random()
        if lot < self._holding_share:
            return self._next_of(self._wallets.holding)
        is_hot = self._chance.random() < _HOT_SHARE
        return self._next_of(self._wallets.hot if is_hot else self._wallets.cold)

    def _next_of(self, ring: Sequence[UUID]) -> tuple[UUID, UUID]:
        place = self._chance.randrange(len(ring))
        return ring[place], ring[(place + 1) % len(ring)]

    _DRAWN: Final[Mapping[Act, Callable[["Contents", Act, str], Item]]] = {
        Act.DEPOSIT: _deposit,
        Act.WITHDRAWAL: _withdrawal,
        Act.INSUFFICIENT_FUNDS: _refused,
        Act.UNKNOWN_WALLET: _refused,
        Act.FROZEN_WALLET: _refused,
        Act.CURRENCY_MISMATCH: _refused,
        Act.HOLD: _hold,
        Act.SHORT_HOLD: _hold,
        Act.CAPTURE: _of_hold,
        Act.RELEASE: _of_hold,
        Act.REVERSAL: _reversal,
        Act.FORCED_REVERSAL: _forced,
        Act.JOURNAL: _journal,
        Act.EXCHANGE: _exchange,
        Act.CONDITION: _condition,
        Act.VALID_UNTIL: _valid_until,
        Act.SCHEDULED: _scheduled_one,
    }


def move(
    kind: str,
    source: UUID | None,
    destination: UUID | None,
    minor: int | None,
    currency: str = HOME_CURRENCY,
) -> Command:
    """Return a command without terms."""
    return Command(
        type=kind,
        source_wallet_id=source,
        destination_wallet_id=destination,
        minor=minor,
        currency=currency,
    )


def changed(command: Command) -> Command:
    """Return other content: another amount, or another text where it names no amount."""
    if command.minor is None:
        return replace(command, description="another")
    return replace(command, minor=command.minor + 1)


def _with(command: Command, **terms: object) -> Command:
    return replace(command, terms=replace(command.terms or Terms(), **terms))  # type: ignore[arg-type]  # by their names
